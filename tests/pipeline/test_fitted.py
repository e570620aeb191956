"""Defaults that fit the data: what follows where nobody has set it, and what stays."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.cli import ready
from rambo_ray.config import loading
from rambo_ray.config.schema import Config, nested_sizes
from rambo_ray.data import datasets, memory
from rambo_ray.errors import UserError
from rambo_ray.pipeline import fitted, plan
from rambo_ray.pipeline.fitted import Sizes
from rambo_ray.pipeline.outputs import Output
from rambo_ray.utility_samples import mock_rounds

from .made_problems import own, problem

USUAL = Sizes(labeled=200, validation=1000, rejected=0, pool=20_000, classes=10)
METHODS = st.sampled_from(["mock_rounds", "paper"])


def changes(config: Config, sizes: Sizes) -> dict[str, Any]:
    """What was changed, by its dotted name."""
    found = fitted.fit(config, sizes).config
    return {key: loading.flatten(found)[key] for key in loading.differences(config, found)}


def fits_to(sizes: Sizes, *overrides: str) -> dict[str, Any]:
    return changes(own(*overrides), sizes)


class TestWhatRanBefore:
    @pytest.mark.parametrize("method", ["mock_rounds", "paper"])
    def test_stays(self, method: str) -> None:
        assert fitted.fit(own(f"method={method}"), USUAL) == (own(f"method={method}"), ())
        assert fits_to(replace(USUAL, labeled=51, validation=20, pool=500), f"method={method}") == {
            "acquisition.margin_pool": 500  # the same images as any M beyond the pool
        }

    def test_half_of_a_small_pool_is_left_for_its_margins(self) -> None:
        """Else the margin filter, which a run follows where u_hat is of no use, would pick at random."""
        found = fits_to(replace(USUAL, pool=1001), "acquisition.budget=100")
        assert found == {"acquisition.margin_pool": 501}
        assert fits_to(replace(USUAL, pool=1001), "acquisition.budget=300") == {"acquisition.margin_pool": 600}
        assert fits_to(replace(USUAL, pool=1001), "acquisition.budget=600") == {"acquisition.margin_pool": 1001}
        assert fits_to(replace(USUAL, pool=10_000), "acquisition.budget=600") == {}
        assert fits_to(replace(USUAL, pool=9_999), "acquisition.budget=600") == {}
        assert fits_to(replace(USUAL, pool=9_998), "acquisition.budget=600") == {"acquisition.margin_pool": 4999}

    @pytest.mark.parametrize("name", ready.known("config"))
    @pytest.mark.parametrize("method", [None, "paper"])
    def test_ready_configurations_stay(self, name: str, method: str | None) -> None:
        features = ["utility_model.features=pixels"] if method else []
        config = loading.load(ready.file("config", name), [f"method={method}", *features] if method else [])
        sizes = Sizes(config.data.num_labeled, config.data.num_validation, 0, config.data.pool_limit or 40_000, 10)
        assert fitted.fit(config, sizes) == (config, ())

    def test_a_benchmark_keeps_an_m_beyond_its_pool(self) -> None:
        """M is in the ids of its runs."""
        assert changes(Config(), replace(USUAL, pool=700)) == {}


class TestFewImages:
    def test_forty_labels(self) -> None:
        few = replace(USUAL, labeled=40)
        assert fits_to(few) == {}  # mock rounds look at no k_1
        assert fits_to(few, "method=paper") == {"pretraining.k_1": 10, "pretraining.batch_size": 10}
        assert fits_to(few, "method=paper", "pretraining.tau_1=2") == {"pretraining.k_1": 10}
        assert nested_sizes(fitted.fit(own("method=paper"), few).config.pretraining, 40) == [10, 20, 30, 40]

    def test_a_small_budget(self) -> None:
        config = own("acquisition.budget=40")
        found, said = fitted.fit(config, USUAL)
        assert found == config and found.acquisition.batch_size == 40
        assert said == ("acquisition.batch_size=40: no more than acquisition.budget (B); the default is 50",)

    def test_a_small_pool(self) -> None:
        found = fits_to(replace(USUAL, pool=60))
        assert found == {"acquisition.budget": 30, "acquisition.batch_size": 30, "acquisition.margin_pool": 60}
        assert fits_to(replace(USUAL, pool=1))["acquisition.budget"] == 1

    def test_a_small_validation_set(self) -> None:
        assert fits_to(replace(USUAL, validation=20)) == {}
        found = fits_to(replace(USUAL, validation=10))
        # Halves of 5 make 10 rounds of 2 and 10 of 3 images each, and 5 of 4 to hold out.
        assert found == {"utility_samples.num_pairs": 10, "utility_samples.num_held_out": 10}
        rejected = replace(USUAL, validation=4, rejected=16)
        assert fits_to(rejected)["utility_samples.evidence_folds"] == 4

    def test_few_subsets(self) -> None:
        sizes = Sizes(labeled=5, validation=100, rejected=0, pool=1000, classes=2)
        found = fits_to(sizes, "method=paper")
        # 10 subsets of 2 images, 10 of 3, 5 of 4; 5 of 4 to hold out.
        assert found["utility_samples.num_pairs"] == 25 // 4 and found["utility_samples.num_held_out"] == 5

    def test_a_line_per_change_with_value_and_reason(self) -> None:
        sizes = Sizes(labeled=10, validation=10, rejected=0, pool=30, classes=3)
        for method in ("mock_rounds", "paper"):
            config = own(f"method={method}")
            found, said = fitted.fit(config, sizes)
            for key in loading.differences(config, found):
                value = loading.flatten(found)[key]
                assert any(f"{key}={value}" in line.partition(": ")[0] for line in said), key
            assert all(line.partition(": ")[2] and "\n" not in line for line in said)


class TestAnySizes:
    @given(
        METHODS,
        st.builds(
            Sizes,
            st.integers(3, 300),
            st.integers(6, 300),
            st.integers(0, 40),
            st.integers(1, 6000),
            st.integers(2, 12),
        ),  # fmt: skip
        st.integers(1, 700) | st.none(),
    )
    def test_what_comes_out_can_be(self, method: str, sizes: Sizes, budget: int | None) -> None:
        config = own(f"method={method}", *([f"acquisition.budget={budget}"] if budget else []))
        found, _ = fitted.fit(config, sizes)
        assert fitted.fit(found, sizes).config == found, "once is enough"
        ask, samples = found.acquisition, found.utility_samples
        assert ask.batch_size <= min(ask.budget, ask.margin_pool, 50)
        assert ask.budget == budget if budget else ask.budget <= sizes.pool
        assert loading.parse(found.model_dump()) == found, "a rerun reads it back"
        if method == "paper":
            assert nested_sizes(found.pretraining, sizes.labeled)[-1] == sizes.labeled
        else:
            low, high = mock_rounds.round_sizes(samples, sizes.validation, sizes.playing[0])
            different = sum(math.comb(n, s) for n in sizes.playing for s in range(low, high + 1))
            assert samples.num_pairs == min(150, max(5, different // 4))
            assert samples.evidence_folds == min(5, sizes.validation)
        if sizes.labeled > 50 and sizes.validation >= 20 and (budget or 500) <= sizes.pool:
            assert set(loading.differences(config, found)) <= {"acquisition.margin_pool"}, "as it ran before"

    @given(METHODS, st.integers(3, 60), st.integers(6, 60), st.integers(1, 60))
    def test_what_is_set_stays(self, method: str, labeled: int, validation: int, pool: int) -> None:
        flat = loading.flatten(own(f"method={method}"))
        names = {"utility_samples": ("num_pairs", "num_held_out", "evidence_folds"), "pretraining": ("k_1",),
                 "acquisition": ("budget", "batch_size", "margin_pool")}  # fmt: skip
        keys = [f"{section}.{name}" for section, of_section in names.items() for name in of_section]
        config = own(f"method={method}", *(f"{key}={flat[key]}" for key in keys))
        assert fitted.fit(config, Sizes(labeled, validation, 0, pool, 3)) == (config, ())


class TestPlans:
    @pytest.mark.parametrize("method", ["mock_rounds", "paper"])
    def test_tiny_data_make_a_plan_and_the_same_again(self, method: str, tmp_path: Path) -> None:
        config, small = own(f"method={method}"), problem(10, [0, 1, 2] * 7, 30)
        todo = plan.make(config, small)
        assert todo.config.acquisition.budget == 15 and todo.said
        with Output.claim(tmp_path / "run", todo.config):
            pass
        assert loading.load(tmp_path / "run" / "config.yaml") == todo.config
        again = plan.make(config, small)
        with Output.claim(tmp_path / "run", again.config):
            pass
        assert again.all_samples == todo.all_samples
        # The resolved file says all keys: it gives the same run, of which there is nothing to say.
        stored = plan.make(loading.load(tmp_path / "run" / "config.yaml"), small)
        assert stored.config == todo.config and stored.all_samples == todo.all_samples

    def test_what_is_set_is_refused_as_before(self) -> None:
        small = problem(40, [0, 1, 2] * 20, 60)
        for overrides, line in (
            (["method=paper", "pretraining.k_1=50"], r"pretraining.k_1=50: must be below k=40"),
            (["acquisition.budget=61"], r"acquisition.budget=61: B must not exceed the pool's 60 images"),
            (["utility_samples.evidence_folds=61"], r"evidence_folds=61: must not exceed the 60 images"),
        ):
            with pytest.raises(UserError, match=line):
                plan.make(own(*overrides), small)

    def test_digits_by_the_defaults(self) -> None:
        """Labels that were refused for k_1, and a budget for b."""
        config = loading.load(None, ["method=paper", "data.num_labeled=40", "data.num_validation=100",
                                     "utility_samples.num_pairs=6", "acquisition.budget=40"])  # fmt: skip
        todo = plan.make(config, datasets.load(config.data, 0)[0])
        assert [s.size for s in todo.nested_sets] == [10, 20, 30, 40] and todo.config.acquisition.batch_size == 40


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["utility_samples.num_pairs=1000000"],
            r"num_pairs=1000000: 2,000,020 sets of images take 2.2 GB or more, but",
        ),
        (
            ["utility_samples.num_held_out=1000000"],
            "num_held_out=1000000: 1,001,000 sets of images take 1.1 GB or more",
        ),
        (["utility_samples.num_pairs=500000", "utility_samples.source=both"], "2,000,040 sets of images take 2.2 GB"),
    ],
)
def test_more_sets_than_memory_holds_are_refused(
    overrides: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted.fit(own("method=paper", *overrides), USUAL)
    monkeypatch.setattr(memory, "available", lambda: 10**9)
    with pytest.raises(UserError, match=words):
        fitted.fit(own("method=paper", *overrides), USUAL)
