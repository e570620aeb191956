"""Settings: what is written is what is run, and whatever is wrong is said in one line."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.config import loading, safe_yaml
from rambo_ray.config.schema import Config, PretrainingConfig, check_sizes, nested_sizes
from rambo_ray.errors import UserError

CONFIGS = sorted((Path(__file__).parents[2] / "jobs" / "configs").glob("*.yaml"))
# Control characters are left out: PyYAML itself does not read all of them back.
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=20)


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def complaint(*overrides: str) -> str:
    """The error of these overrides of the defaults; fails unless it is exactly one line."""
    with pytest.raises(UserError) as error:
        loading.load(None, overrides)
    line = str(error.value)
    assert line and line.splitlines() == [line]
    return line


class TestReading:
    def test_file_then_overrides_in_order(self, tmp_path: Path) -> None:
        path = written(tmp_path, "seed: 3\nacquisition:\n  budget: 300\n  margin_pool: 700\n")
        config = loading.load(path, ["acquisition.budget=120", "data.num_labeled=90", "acquisition.budget=110"])
        assert (config.seed, config.data.num_labeled) == (3, 90)
        assert (config.acquisition.budget, config.acquisition.margin_pool) == (110, 700)
        changed = {"seed", "data.num_labeled", "acquisition.budget", "acquisition.margin_pool"}
        assert set(loading.differences(config, Config())) == changed

    @pytest.mark.parametrize("text", ["", "# nothing yet\n", "data:\n", "data:\n  # name: mnist\nseed: 0\n", "{}"])
    def test_what_says_nothing_is_all_defaults(self, tmp_path: Path, text: str) -> None:
        assert loading.load(written(tmp_path, text)) == Config() == loading.load(None)

    @pytest.mark.parametrize(
        ("text", "value"), [("1e-3", 1e-3), ("2E+1", 20.0), (".5", 0.5), ("1.e-2", 0.01), ("1", 1.0), ("1_0.5", 10.5)]
    )
    def test_numbers_as_people_write_them(self, text: str, value: float) -> None:
        # YAML 1.1, as PyYAML reads it, makes a string of 1e-3.
        assert loading.load(None, [f"classifier.learning_rate={text}"]).classifier.learning_rate == value

    def test_values_of_overrides_are_yaml(self) -> None:
        overrides = ["data.download=false", "data.root=a=b", "data.pool_limit=null", 'output.dir="12"']
        config = loading.load(None, [*overrides, "cluster.address="])
        assert (config.data.download, config.data.root, config.output.dir) == (False, "a=b", "12")
        assert config.data.pool_limit is None and config.cluster.address is None

    def test_what_was_read_is_not_changed(self) -> None:
        content: dict[str, Any] = {"data": {"num_labeled": 80}, "output": None}
        result = loading.apply_overrides(content, ["data.num_labeled=90", "seed=4", "output.dir=x"])
        assert content == {"data": {"num_labeled": 80}, "output": None}
        assert result == {"data": {"num_labeled": 90}, "output": {"dir": "x"}, "seed": 4}

    def test_a_configuration_never_changes(self) -> None:
        with pytest.raises(ValueError, match="frozen"):
            Config().acquisition.budget = 3  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("text", "rule"),
        [
            ("- 1\n", "holds a list"),
            ("500", "holds a int"),
            ("data: {name: digits\n", "not valid YAML"),
            ("data:\n\tname: digits\n", "not valid YAML"),
            ("seed: 1\nseed: 2\n", "'seed' occurs twice"),
            ("data:\n  name: digits\n  name: mnist\n", "'name' occurs twice"),
            ("[1, 2]: 3\n", "is not a name"),
            ("seed: 1\n---\nseed: 2\n", "not valid YAML"),
            ("seed: !!python/name:os.system\n", "not valid YAML"),
            ("data:\n  name: 2020-13-45\n", "not valid YAML"),
            ("seed: 0x_\n", "not valid YAML"),
        ],
    )
    def test_a_file_that_holds_no_configuration(self, tmp_path: Path, text: str, rule: str) -> None:
        path = written(tmp_path, text)
        with pytest.raises(UserError) as error:
            loading.load(path)
        line = str(error.value)
        assert line.startswith(f"--config {path}: ") and rule in line and len(line.splitlines()) == 1

    def test_a_file_that_cannot_be_read_is_named_by_its_option(self, tmp_path: Path) -> None:
        (tmp_path / "latin.yaml").write_bytes(b"data:\n  name: caf\xe9\n")
        for name, rule in (("none.yaml", "No such file"), ("", "directory"), ("latin.yaml", "not UTF-8 text")):
            with pytest.raises(UserError, match=f"^--tune .*{name}: .*{rule}.*; give the path of a YAML file$"):
                loading.read_yaml(tmp_path / name, "--tune")


class TestUnknownKeys:
    @pytest.mark.parametrize(
        ("override", "answer"),
        [
            ("acquisition.buget=5", "acquisition.buget: unknown key; did you mean 'acquisition.budget'?"),
            ("acqisition.k=5", "acqisition: unknown key; did you mean 'acquisition'?"),
            ("budget=5", "budget: unknown key; did you mean 'acquisition.budget'?"),
            ("data.budget=5", "data.budget: unknown key; did you mean 'acquisition.budget'?"),
            ("sed=5", "sed: unknown key; did you mean 'seed'?"),
            ("seeds.a.b=5", "seeds: unknown key; did you mean 'seed'?"),
        ],
    )
    def test_the_nearest_key_is_named(self, override: str, answer: str) -> None:
        assert complaint(override) == answer

    def test_a_far_miss_lists_its_section_only(self) -> None:
        key = f"acquisition.{'z' * 30}"
        listed = ", ".join(sorted(known for known in loading.dotted_keys() if known.startswith("acquisition.")))
        assert complaint(f"{key}=5") == f"{key}: unknown key; allowed: {listed}"
        assert "acquisition, classifier, cluster, data, method, output" in complaint("zzz=5")

    def test_every_key_misspelt_is_known_again(self) -> None:
        for key in loading.dotted_keys():
            misspelt = key[:-1] + ("y" if key[-1] != "y" else "x") + "q"
            assert f"did you mean '{key}'?" in complaint(f"{misspelt}=1"), key

    @pytest.mark.parametrize("override", ["seed", "=5", "", "--seed"])
    def test_no_override_at_all(self, override: str) -> None:
        assert complaint(override).startswith(f"{override!r}: not an override; write section.key=value")

    @pytest.mark.parametrize("value", ["[1, 2", "'a", "{a: 1, a: 2}", "!!int abc", "2020-13-45", "@a"])
    def test_a_value_that_is_not_yaml(self, value: str) -> None:
        line, said = complaint(f"data.root={value}"), f"{f'data.root={value}'!r}: the value is not valid YAML ("
        assert line.startswith(said) and line.endswith("); quote it")

    @pytest.mark.parametrize("override", ["data=5", "data=", "data=[]", "data=digits", "data=true"])
    def test_a_section_is_no_value(self, override: str) -> None:
        assert complaint(override).startswith("data=") and "is a section" in complaint(override)

    def test_a_key_below_a_value(self) -> None:
        assert "seed" in complaint("seed.x=1")
        assert complaint("seed=1", "seed.x\n=1") == "seed.x: unknown key; did you mean 'seed'?"

    def test_the_first_is_explained_and_the_rest_counted(self) -> None:
        assert complaint("seed=-1", "data.num_labeled=0", "nothing=1").endswith("(and 2 more)")


class TestWrongValues:
    @pytest.mark.parametrize(
        ("override", "start"),
        [
            ('acquisition.budget="500"', "acquisition.budget='500': should be a valid integer"),
            ("acquisition.budget=1e3", "acquisition.budget=1000.0: should be a valid integer"),
            ("acquisition.budget=true", "acquisition.budget=True: should be a valid integer"),
            ("acquisition.budget=", "acquisition.budget=null: should be a valid integer"),
            ("acquisition.budget=0", "acquisition.budget=0: should be greater than or equal to 1"),
            ("acquisition.budget=[500]", "acquisition.budget=[500]: should be a valid integer"),
            ("classifier.learning_rate=0", "classifier.learning_rate=0: should be greater than 0"),
            ("classifier.learning_rate='1e-3'", "classifier.learning_rate='1e-3': should be a valid number"),
            ("classifier.learning_rate=.inf", "classifier.learning_rate=inf: should be a finite number"),
            ("classifier.learning_rate=.nan", "classifier.learning_rate=nan: should be a finite number"),
            ("classifier.stop_accuracy=1.01", "classifier.stop_accuracy=1.01: should be less than or equal to 1"),
            ("utility_model.dropout=1.0", "utility_model.dropout=1.0: should be less than 1"),
            ("utility_model.bilevel=1", "utility_model.bilevel=1: should be a valid boolean"),
            ("utility_model.bilevel='no'", "utility_model.bilevel='no': should be a valid boolean"),
            ("utility_samples.sizes=gauss", "utility_samples.sizes='gauss': should be 'uniform' or 'powerset'"),
            ("data.channels=2", "data.channels=2: should be 1 or 3"),
            ("data.name=5", "data.name=5: should be a valid string"),
            ("data.root=1e3", "data.root=1000.0: should be a valid string"),
            ("data.name=2020-01-01", "data.name=datetime.date(2020, 1, 1): should be a valid string"),
            ("pretraining.k_1=1", "pretraining.k_1=1: should be greater than or equal to 2"),
            ("seed=-1", "seed=-1: should be greater than or equal to 0"),
        ],
    )
    def test_key_value_rule_and_meaning(self, override: str, start: str) -> None:
        line = complaint(override)
        key = override.partition("=")[0]
        meaning = {name: text for name, _, text in loading.all_keys()}[key]
        assert line.startswith(start) and line.endswith(f"; it is: {meaning}")

    def test_no_key_takes_just_anything(self) -> None:
        for key in loading.dotted_keys():
            assert complaint(f"{key}={{a: 1}}").startswith(f"{key}={{'a': 1}}: "), key

    def test_every_key_has_a_meaning_of_one_line(self) -> None:
        for key, _, meaning in loading.all_keys():
            assert meaning and meaning.splitlines() == [meaning], key

    def test_a_long_value_is_cut_short(self) -> None:
        assert f"data.channels='{'x' * 56}...: should be 1 or 3" in complaint(f"data.channels={'x' * 500}")

    @given(st.sampled_from(["", "seed", "data", *loading.dotted_keys()]), st.text(max_size=8), st.text(max_size=8))
    def test_whatever_is_typed_is_an_answer_of_one_line(self, key: str, tail: str, value: str) -> None:
        try:
            config = loading.load(None, ["data.download=true", f"{key}{tail}={value}"])
        except UserError as error:
            assert len(str(error).splitlines()) == 1
        else:
            assert set(loading.differences(config, Config())) <= {f"{key}{tail}".partition("=")[0]}


class TestCombinations:
    @pytest.mark.parametrize(
        ("overrides", "parts"),
        [
            (["acquisition.batch_size=9", "acquisition.budget=8"], ["acquisition.batch_size=9", "budget=8", "lower"]),
            (
                ["acquisition.margin_pool=49", "acquisition.batch_size=50"],
                ["acquisition.batch_size=50", "acquisition.margin_pool=49", "raise M"],
            ),
            (["cluster.fit_workers=3"], ["cluster.fit_workers=3", "must divide", "set utility_model.shards=3"]),
            (["cluster.fit_workers=4", "utility_model.shards=10"], ["set utility_model.shards=8"]),
            (["method=paper", "pretraining.k_1=200"], ["pretraining.k_1=200", "below k=200", "lower pretraining.k_1"]),
            (
                ["method=paper", "pretraining.tau_1=4", "pretraining.batch_size=50"],
                ["pretraining.tau_1=4", "3 iterations", "leave"],
            ),
            (["data.labeled=x"], ["data.labeled=x", "only read when data.name=own"]),
            (["data.name=own", "data.labeled=x", "data.pool=y"], ["data.validation=null", "set data.validation=PATH"]),
            (["data.name=parquet"], ["data.root=null", "set data.root=PATH"]),
        ],
    )
    def test_what_cannot_be_is_refused_with_a_remedy(self, overrides: list[str], parts: list[str]) -> None:
        line = complaint(*overrides)
        assert all(part in line for part in parts), line

    @given(st.integers(1, 60), st.integers(1, 60))
    def test_a_batch_that_is_not_set_is_no_larger_than_it_can_be(self, budget: int, margin_pool: int) -> None:
        config = loading.load(None, [f"acquisition.budget={budget}", f"acquisition.margin_pool={margin_pool}"])
        assert config.acquisition.batch_size == min(50, budget, margin_pool)
        assert config.acquisition.model_fields_set == {"budget", "margin_pool"}
        assert loading.with_values(config, {"acquisition.budget": 500}).acquisition.batch_size == min(50, margin_pool)
        assert loading.parse(config.model_dump()) == config  # and as a file has it

    @pytest.mark.parametrize("workers", [1, 2, 3, 5, 8])
    def test_the_shards_it_names_do(self, workers: int) -> None:
        for shards in range(1, 20):
            overrides = [f"cluster.fit_workers={workers}", f"utility_model.shards={shards}"]
            if shards % workers == 0:
                loading.load(None, overrides)
            else:
                remedy = complaint(*overrides).rpartition("set ")[2]
                loading.load(None, [*overrides, remedy])

    def test_own_data_has_no_k_to_compare_with_yet(self) -> None:
        own = ["data.name=own", "data.labeled=a", "data.validation=b", "data.pool=c"]
        config = loading.load(None, [*own, "method=paper", "pretraining.k_1=5000"])
        with pytest.raises(ValueError, match=r"pretraining\.k_1=5000: must be below k=300"):
            check_sizes(config, num_labeled=300, num_pool=1000, num_classes=10)


class TestPrefixes:
    def test_sizes_of_figure_2(self) -> None:
        assert nested_sizes(PretrainingConfig(), 200) == [50, 100, 150, 200]
        assert nested_sizes(PretrainingConfig(k_1=50, batch_size=40), 200) == [50, 90, 130, 170, 200]
        assert nested_sizes(PretrainingConfig(k_1=20, tau_1=3), 100) == [20, 47, 74, 100]
        assert nested_sizes(PretrainingConfig(k_1=10), 30) == [10, 30]

    @pytest.mark.parametrize(
        ("k", "sizes"), [(51, [50, 51]), (50, [12, 25, 38, 50]), (40, [10, 20, 30, 40]), (9, [2, 5, 8, 9]), (3, [2, 3])]
    )
    def test_k_1_follows_from_few_labels_where_it_is_not_set(self, k: int, sizes: list[int]) -> None:
        assert nested_sizes(PretrainingConfig(), k) == sizes
        assert nested_sizes(PretrainingConfig(tau_1=1), k)[1:] == [k]

    def test_two_labels_are_too_few(self) -> None:
        with pytest.raises(ValueError, match=r"k_1=2: must be below k=2, .*; label more images"):
            nested_sizes(PretrainingConfig(), 2)

    @given(st.integers(2, 80), st.integers(1, 100), st.one_of(st.none(), st.integers(1, 40)), st.integers(0, 40))
    def test_from_k_1_to_k_in_steps_of_b(self, k_1: int, more: int, b: int | None, tau_1: int) -> None:
        k = k_1 + more
        pretraining = PretrainingConfig(k_1=k_1, batch_size=b, tau_1=tau_1 or None)
        try:
            sizes = nested_sizes(pretraining, k)
        except ValueError as error:  # tau_1 does not fit: the one that is named does
            remedy = int(str(error).partition("set pretraining.tau_1=")[2].split()[0])
            sizes = nested_sizes(pretraining.model_copy(update={"tau_1": remedy}), k)
            assert remedy != tau_1 and len(sizes) == remedy + 1
        assert sizes[0] == k_1 and sizes[-1] == k
        steps = [second - first for first, second in itertools.pairwise(sizes)]
        assert len(set(steps[:-1])) <= 1 and 0 < steps[-1] <= steps[0] <= (b or k)


class TestSizes:
    def check(self, *overrides: str, k: int = 200, pool: int = 1000, classes: int = 10) -> int:
        config = loading.load(None, ["method=paper", *overrides])
        return check_sizes(config, num_labeled=k, num_pool=pool, num_classes=classes)

    def test_smallest_subset(self) -> None:
        assert self.check() == 20  # twice the classes
        assert self.check(classes=90) == 100  # but at most half of S_0
        assert self.check("utility_samples.min_size=7") == 7

    @pytest.mark.parametrize(
        ("overrides", "parts"),
        [
            (["acquisition.budget=1001"], ["acquisition.budget=1001", "pool's 1000 images", "lower"]),
            (["utility_samples.min_size=200"], ["utility_samples.min_size=200", "below k=200"]),
            (["utility_samples.min_size=150", "utility_samples.sizes=powerset"], ["min_size=150", "have about 100"]),
        ],
    )
    def test_what_the_data_does_not_allow(self, overrides: list[str], parts: list[str]) -> None:
        with pytest.raises(ValueError) as error:
            self.check(*overrides)
        assert all(part in str(error.value) for part in parts) and len(str(error.value).splitlines()) == 1

    def test_powerset_is_allowed_where_pairs_can_be_drawn(self) -> None:
        # The share of pairs that can be used, counted one by one for a small k.
        k = 10
        for least in range(1, k):
            masks = [m for m in range(2**k) if least <= m.bit_count() < k]
            by_size = [sum(m.bit_count() == d for m in masks) for d in range(k)]
            share = sum(n * n for n in by_size) / 4**k
            override = ["utility_samples.sizes=powerset", f"utility_samples.min_size={least}"]
            sized = ["data.num_labeled=10", "pretraining.k_1=5", "acquisition.batch_size=5", *override]
            if share >= 1e-4 or math.isclose(share, 1e-4):
                assert self.check(*sized, k=k) == least
            else:
                with pytest.raises(ValueError, match="hardly ever"):
                    self.check(*sized, k=k)
        assert share < 1e-4  # both happened


class TestRoundTrip:
    @pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
    def test_every_configuration_of_the_jobs(self, path: Path, tmp_path: Path) -> None:
        config = loading.load(path)
        assert loading.load(written(tmp_path, loading.dump(config))) == config
        assert loading.differences(config, config) == []
        # Nothing a file says is lost on the way.
        for section, values in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            for key, value in values.items() if isinstance(values, dict) else ():
                found = loading.flatten(config)[f"{section}.{key}"]
                assert found == (float(value) if isinstance(found, float) else value)

    def test_there_are_configurations(self) -> None:
        names = {path.stem for path in CONFIGS}
        assert {"digits", "mnist", "fashion_mnist", "cifar10", "svhn"} <= names
        assert {f"{name}_smoke" for name in names if not name.endswith("_smoke")} <= names

    @given(TEXT, st.floats(1e-300, 1e300), st.integers(0, 2**63 - 1))
    def test_whatever_the_values(self, text: str, rate: float, seed: int) -> None:
        changes = {"seed": seed, "data": {"root": text}, "classifier": {"learning_rate": rate}}
        config = loading.parse({**changes, "output": {"dir": text}})
        assert loading.parse(safe_yaml.parsed(loading.dump(config))) == config

    @pytest.mark.parametrize("name", ["1e3", "12", "true", "null", "~", ".5", "-1E5", "2020-01-01", "a: b", "", " x"])
    def test_a_folder_with_the_name_of_something_else(self, tmp_path: Path, name: str) -> None:
        # A dump that reads back as a number would keep a run from going on in its own directory.
        config = loading.parse({"output": {"dir": name}})
        assert loading.load(written(tmp_path, loading.dump(config))).output.dir == name

    def test_flat_keys_are_all_keys_with_their_defaults(self) -> None:
        flat = loading.flatten(Config())
        assert list(flat) == loading.dotted_keys()
        assert [flat[key] for key, default, _ in loading.all_keys()] == [d for _, d, _ in loading.all_keys()]

    def test_differences_are_named_in_the_order_of_the_sections(self) -> None:
        a = loading.load(None, ["cluster.max_tries=5", "data.num_labeled=150", "seed=1"])
        assert loading.differences(a, Config()) == ["seed", "data.num_labeled", "cluster.max_tries"]
        assert loading.differences(Config(), a) == loading.differences(a, Config())
