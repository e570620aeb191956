"""What a method decides and what it leaves alone, which keys a configuration reads, what does not go together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.config import loading
from rambo_ray.config.schema import METHODS, Config
from rambo_ray.config.unread import unread
from rambo_ray.errors import UserError

DECIDED = {f"{section}.{key}": value for section, keys in METHODS["paper"].items() for key, value in keys.items()}
# The paper's, from before there was another: what it stands for may not change.
PAPER = {
    "utility_samples.source": "subsets",
    "utility_samples.num_pairs": 500,
    "utility_samples.utility": "accuracy",
    "utility_samples.num_held_out": 20,
    "utility_model.architecture": "network",
    "utility_model.fit_on": "pairs",
    "utility_model.features": "auto",
    "acquisition.candidates": "partition",
    "acquisition.margin_pool": 2000,
}
OTHERS: dict[str, Any] = {
    "utility_samples.num_pairs": 7,
    "utility_samples.utility": "neg_val_loss",
    "utility_samples.num_held_out": 3,
    "utility_model.features": "pixels",
    "acquisition.margin_pool": 900,
}


def complaint(*overrides: str) -> str:
    with pytest.raises(UserError) as error:
        loading.load(None, overrides)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


class TestMethod:
    def test_the_paper_s_is_what_it_was(self) -> None:
        assert DECIDED == PAPER
        found = loading.flatten(loading.load(None, ["method=paper"]))
        assert {key: found[key] for key in PAPER} == PAPER

    def test_decides_nothing_else(self) -> None:
        paper, default = loading.load(None, ["method=paper"]), Config()
        assert set(loading.differences(paper, default)) == {"method", *DECIDED}
        assert loading.load(None, ["method=mock_rounds"]) == default

    @given(st.sets(st.sampled_from(sorted(OTHERS))))
    def test_what_is_set_wins(self, names: set[str]) -> None:
        overrides = [f"{name}={OTHERS[name]}" for name in sorted(names)]
        found = loading.flatten(loading.load(None, ["method=paper", *overrides]))
        assert {key: found[key] for key in DECIDED} == {**PAPER, **{name: OTHERS[name] for name in names}}

    def test_what_a_file_sets_wins(self, tmp_path: Path) -> None:
        (tmp_path / "own.yaml").write_text("utility_samples:\n  num_pairs: 60\n")
        found = loading.load(tmp_path / "own.yaml", ["method=paper"])
        assert (found.utility_samples.num_pairs, found.utility_samples.source) == (60, "subsets")

    @pytest.mark.parametrize("value", ["papers", "5", "null", "[paper]", "{a: 1}"])
    def test_there_are_no_others(self, value: str) -> None:
        assert complaint(f"method={value}").startswith("method=") and "mock_rounds" in complaint(f"method={value}")

    @pytest.mark.parametrize("section", ["utility_samples=5", "acquisition=[1]"])
    def test_a_section_that_is_none_is_still_told_so(self, section: str) -> None:
        assert "is a section" in complaint("method=paper", section)

    def test_a_dump_is_read_back_whatever_the_method(self, tmp_path: Path) -> None:
        for config in (Config(), loading.load(None, ["method=paper", "utility_samples.num_pairs=9"])):
            (tmp_path / "config.yaml").write_text(loading.dump(config))
            assert loading.load(tmp_path / "config.yaml") == config


class TestWithValues:
    def test_another_method_decides_anew(self) -> None:
        paper = loading.with_values(Config(), {"method": "paper"})
        assert paper == loading.load(None, ["method=paper"])
        assert loading.with_values(paper, {"method": "mock_rounds"}) == Config()

    def test_what_a_method_decides_is_not_set(self) -> None:
        paper = loading.load(None, ["method=paper", "utility_samples.num_pairs=8"])
        assert paper.utility_samples.model_fields_set == {"num_pairs"}
        assert not paper.utility_model.model_fields_set | paper.acquisition.model_fields_set
        assert loading.with_values(paper, {"seed": 3}).utility_samples.model_fields_set == {"num_pairs"}

    def test_what_no_method_decides_stays(self) -> None:
        base = loading.load(None, ["seed=4", "acquisition.budget=90", "utility_samples.repeats=3"])
        found = loading.with_values(base, {"method": "paper", "utility_samples.num_pairs": 8})
        assert (found.seed, found.acquisition.budget, found.utility_samples.repeats) == (4, 90, 3)
        assert (found.utility_samples.num_pairs, found.utility_samples.num_held_out) == (8, 20)

    def test_without_a_method_nothing_is_decided(self) -> None:
        base = loading.load(None, ["method=paper", "utility_samples.num_pairs=8"])
        found = loading.with_values(base, {"seed": 1})
        assert loading.differences(found, base) == ["seed"]

    @pytest.mark.parametrize("key", ["acquisition.m", "acq.margin_pool", "budget", "seed.x", "acquisition"])
    def test_unknown_keys_are_named(self, key: str) -> None:
        with pytest.raises(UserError, match=f"{key}: unknown key"):
            loading.with_values(Config(), {key: 3})


class TestRefused:
    @pytest.mark.parametrize(
        ("overrides", "parts"),
        [
            (["utility_samples.source=subsets"], ["features=evidence", "source=subsets", "source=mock_rounds"]),
            (["utility_samples.source=both"], ["utility_model.features=evidence", "source=both", "features=auto"]),
            (["utility_model.features=pixels"], ["architecture=quadratic", "features=pixels", "architecture=network"]),
            (["utility_model.fit_on=pairs"], ["fit_on=pairs", "a regression on every sample", "fit_on=all"]),
            (["method=paper", "utility_model.features=evidence"], ["source=subsets", "features=auto"]),
            (["method=paper", "utility_model.architecture=quadratic"], ["architecture=quadratic", "features=auto"]),
            (["classifier.name=linear", "utility_samples.repeats=2"], ["repeats=2", "solved for", "repeats=1"]),
            (["utility_samples.evidence_folds=1"], ["utility_samples.evidence_folds=1", "greater than or equal to 2"]),
            (["acquisition.temperatures=[]"], ["acquisition.temperatures=()", "at least 1 item"]),
            (["acquisition.temperatures=[0.5, 0]"], ["acquisition.temperatures", "greater than 0"]),
            (["acquisition.temperatures=0.5"], ["acquisition.temperatures=0.5", "it is: tilted"]),
        ],
    )
    def test_what_does_not_go_together(self, overrides: list[str], parts: list[str]) -> None:
        line = complaint(*overrides)
        assert all(part in line for part in parts), line

    @pytest.mark.parametrize(
        "overrides",
        [
            ["utility_model.architecture=network"],
            ["utility_model.architecture=network", "utility_model.features=pixels"],
            ["utility_model.architecture=network", "utility_model.fit_on=pairs"],
            ["utility_model.architecture=network", "utility_model.features=auto", "utility_samples.source=both"],
            ["method=paper", "acquisition.candidates=mixed"],
            ["method=paper", "utility_model.fit_on=all"],
            ["classifier.name=mlp", "utility_samples.repeats=2"],
            ["data.num_labeled=20"],  # mock rounds look at no k_1
        ],
    )
    def test_what_does(self, overrides: list[str]) -> None:
        loading.load(None, overrides)


class TestUnread:
    def test_each_is_a_key_and_has_a_remedy(self) -> None:
        for overrides in ([], ["method=paper"], ["classifier.name=linear"], ["classifier.name=mlp"]):
            found = unread(loading.load(None, overrides))
            assert found.keys() <= set(loading.dotted_keys())
            for reason in found.values():
                assert loading.flatten(loading.load(None, overrides))[reason.decides] == reason.value
                assert str(reason).startswith("not read where ") and reason.remedy

    def test_who_reads_what(self) -> None:
        rounds, paper = unread(Config()), unread(loading.load(None, ["method=paper"]))
        assert {"utility_model.lambda_ot", "pretraining.k_1", "utility_samples.min_size"} <= rounds.keys()
        assert {"acquisition.caution", "utility_samples.evidence_folds", "acquisition.draws"} <= paper.keys()
        both = {"utility_samples.num_pairs", "acquisition.margin_pool", "acquisition.budget", "classifier.max_epochs"}
        assert not both & (rounds.keys() | paper.keys())

    def test_following_a_remedy_makes_the_key_read(self) -> None:
        """Every remedy that is a setting is tried: the key it was given for is then no longer among the unread."""
        for overrides in ([], ["method=paper"], ["classifier.name=linear"]):
            for key, reason in unread(loading.load(None, overrides)).items():
                setting = reason.remedy.removeprefix("set ").partition(",")[0]
                if "=" in setting:
                    kept = [o for o in overrides if o.partition("=")[0] != setting.partition("=")[0]]
                    assert key not in unread(loading.load(None, [*kept, setting])), (key, setting)

    @pytest.mark.parametrize("method", ["mock_rounds", "paper"])
    def test_what_nobody_reads_of_the_newer_keys_names_no_runs(self, method: str) -> None:
        """Of the keys that the paper's runs of before did not have: those it does not read are not in its ids."""
        config = loading.load(None, [f"method={method}"])
        newer = {"acquisition.caution", "acquisition.temperatures", "acquisition.draws", "utility_samples.min_round",
                 "utility_samples.max_round", "utility_samples.evidence_folds", "method"}  # fmt: skip
        kept = loading.relevant(config).keys()
        assert not kept & unread(config).keys() & newer and "method" not in kept
        if method == "paper":
            assert not kept & newer and "utility_samples.source" not in kept
