"""Search spaces: which points there are, that more samples extend fewer, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.errors import UserError
from rambo_ray.sweep import search_space
from rambo_ray.sweep.search_space import Dimension, Space

ROOT = Path(__file__).parents[2]
BASE = loading.load(ROOT / "jobs/configs/fashion_mnist.yaml", ["method=paper"])
LAMBDA = "utility_model.lambda_ot"


def space(**content: Any) -> Space:
    return Space.model_validate({"keys": {LAMBDA: {"grid": [0.0, 1.0]}}, **content})


class TestPoints:
    def test_grid_is_the_product_in_the_order_of_the_file(self) -> None:
        made = space(keys={"acquisition.batch_size": {"grid": [50, 25]}, LAMBDA: {"grid": [0, 1.0]}})
        assert [tuple(p.values()) for p in search_space.points(made, BASE)] == [(50, 0), (50, 1), (25, 0), (25, 1)]

    def test_grid_times_draws(self) -> None:
        keys = {LAMBDA: {"grid": [0, 1.0]}, "acquisition.batch_size": {"randint": [10, 60]}}
        found = search_space.points(space(keys=keys, search={"samples": 5}), BASE)
        assert len(found) == 10
        for low, high in zip(found[::2], found[1::2], strict=True):  # a draw is the same for every grid value
            assert low["acquisition.batch_size"] == high["acquisition.batch_size"]

    @given(st.integers(1, 12), st.integers(1, 12))
    def test_more_samples_extend_fewer(self, few: int, more: int) -> None:
        keys = {LAMBDA: {"loguniform": [0.01, 10.0]}}
        one, other = (
            search_space.points(space(keys=keys, search={"method": "random", "samples": n}), BASE)
            for n in sorted((few, more))
        )
        assert other[: len(one)] == one

    def test_draws_follow_the_base_seed(self) -> None:
        made = space(keys={LAMBDA: {"uniform": [0, 1]}}, search={"method": "random", "samples": 3})
        assert search_space.points(made, BASE) == search_space.points(made, BASE)
        assert search_space.points(made, BASE) != search_space.points(made, BASE.model_copy(update={"seed": 1}))

    def test_remainder_divides_a_total(self) -> None:
        keys = {
            "acquisition.budget": {"remainder": {"of": 700, "minus": "data.num_labeled"}},
            "data.num_labeled": {"grid": [100, 250]},
        }
        found = search_space.points(space(keys=keys), BASE)
        assert [list(p.items()) for p in found] == [
            [("acquisition.budget", 600), ("data.num_labeled", 100)],
            [("acquisition.budget", 450), ("data.num_labeled", 250)],
        ]

    def test_equal_points_are_tried_once(self) -> None:
        keys = {"acquisition.batch_size": {"choice": [25, 50]}}
        assert len(search_space.points(space(keys=keys, search={"method": "random", "samples": 30}), BASE)) == 2


class TestDraws:
    @given(st.integers(0, 2**32 - 1))
    def test_randint_has_both_ends_and_keeps_to_its_step(self, seed: int) -> None:
        drawn = Dimension(randint=[10, 14], step=2.0).draw(np.random.default_rng(seed))
        assert drawn in (10, 12, 14) and isinstance(drawn, int)

    def test_both_ends_of_randint_come_up(self) -> None:
        generator = np.random.default_rng(0)
        assert {Dimension(randint=[1, 3]).draw(generator) for _ in range(100)} == {1, 2, 3}

    def test_loguniform_is_uniform_in_the_exponent(self) -> None:
        generator = np.random.default_rng(0)
        drawn = np.log10([Dimension(loguniform=[1e-3, 1e3]).draw(generator) for _ in range(4000)])
        assert abs(drawn.mean()) < 0.15 and abs(drawn.std() - 6 / math.sqrt(12)) < 0.1
        assert drawn.min() >= -3 and drawn.max() <= 3

    @given(st.floats(-5, 5), st.floats(0.01, 2))
    def test_rounded_values_stay_between_the_ends(self, value: float, step: float) -> None:
        rounded = Dimension(uniform=[-5.0, 5.0], step=step).rounded(value)
        assert -5 <= rounded <= 5 and abs(rounded - value) <= step


class TestConfigure:
    def test_sets_the_values_and_the_seed_and_nothing_else(self) -> None:
        made = search_space.configure(BASE, {LAMBDA: 3.0}, 7)
        assert (made.utility_model.lambda_ot, made.seed) == (3.0, 7)
        assert sorted(loading.differences(BASE, made)) == ["seed", LAMBDA]

    def test_seeds(self) -> None:
        assert space(seeds=2).seed_list(BASE.model_copy(update={"seed": 5})) == [5, 6]
        assert space(seeds=[3, 1]).seed_list(BASE) == [3, 1]

    @pytest.mark.parametrize(
        ("key", "retrains"),
        [
            ("data.num_labeled", True),
            ("classifier.batch_size", True),
            ("pretraining.tau_1", True),
            ("utility_model.features", True),
            (LAMBDA, False),
            ("acquisition.margin_pool", False),
        ],
    )
    def test_which_keys_retrain(self, key: str, retrains: bool) -> None:
        assert loading.needs_retraining(key) is retrains


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"keys": {"utility_model.lambda": {"grid": [1]}}}, "did you mean 'utility_model.lambda_ot'"),
    ({"keys": {LAMBDA: {"gird": [1]}}}, "did you mean 'grid'"),
    ({"keys": {LAMBDA: {"grid": []}}}, "keys: utility_model.lambda_ot: grid"),
    ({"keys": {LAMBDA: {}}}, "no kind"),
    ({"keys": {}}, "keys"),
    ({"keys": {LAMBDA: {"grid": [1], "choice": [2]}}}, "exactly one"),
    ({"keys": {LAMBDA: {"grid": [1.0, 1.0]}}}, "twice"),
    ({"keys": {LAMBDA: {"grid": ["x"]}}}, "utility_model.lambda_ot='x'"),
    ({"keys": {LAMBDA: {"grid": [-1.0]}}}, "utility_model.lambda_ot=-1.0"),
    ({"keys": {LAMBDA: {"loguniform": [0, 1]}}}, "low must be above 0"),
    ({"keys": {LAMBDA: {"uniform": [2, 1]}}}, "low must be below high"),
    ({"keys": {LAMBDA: {"grid": [1], "step": 2}}}, "step=2"),
    ({"keys": {"acquisition.batch_size": {"grid": [5000]}}}, "batch_size=5000 cannot be run"),
    ({"keys": {LAMBDA: {"uniform": [0, 1]}}}, "samples=null"),
    ({"search": {"method": "random", "samples": 3}}, "write 'choice'"),
    ({"search": {"methd": "grid"}}, "did you mean 'method'"),
    ({"keys": {"seed": {"grid": [1]}}}, "under 'seeds'"),
    ({"keys": {"cluster.num_workers": {"grid": [1]}}}, "not a setting"),
    ({"keys": {"data.name": {"grid": ["mnist"]}}}, "not a setting"),
    ({"seeds": [1, 1]}, "seed twice"),
    ({"seeds": 0}, "seeds"),
    ({"objective": {"simulated": 0, "ranking": 0}}, "both weights are 0"),
    ({"simulation": {"visible": 1.5}}, "simulation: visible=1.5"),
    ({"num_workers": 3}, "must divide utility_model.shards=2"),
    ({"sedes": 3}, "did you mean 'seeds'"),
    (
        {"keys": {"data.num_labeled": {"choice": [100]}}, "search": {"method": "optuna", "samples": 3}},
        "would retrain all utility samples",
    ),
    (
        {"keys": {"acquisition.batch_size": {"randint": [1, 5000]}}, "search": {"method": "optuna", "samples": 3}},
        "batch_size=5000 cannot be run",
    ),
    ({"keys": {"acquisition.budget": {"remainder": {"of": 7, "minus": "data.num_labeled"}}}}, "must be a key of this"),
]


@pytest.mark.parametrize(("content", "line"), REFUSED)
def test_what_is_wrong_is_said_in_one_line(content: dict[str, Any], line: str, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump({"keys": {LAMBDA: {"grid": [0.0, 1.0]}}, **content}))
    with pytest.raises(UserError) as error:
        search_space.load(path, BASE)
    assert "\n" not in str(error.value)
    assert line in str(error.value) and "--space" in str(error.value)


def test_a_ranking_objective_needs_held_out_subsets(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump({"keys": {LAMBDA: {"grid": [0.0]}}}))
    with pytest.raises(UserError, match="num_held_out=0; set it to 2 or more"):
        search_space.load(path, loading.parse({"method": "paper", "utility_samples": {"num_held_out": 0}}))
    path.write_text(yaml.safe_dump({"keys": {"acquisition.caution": {"grid": [0.0]}}}))
    with pytest.raises(UserError, match="num_held_out=4; set it to 5 or more"):
        search_space.load(path, loading.parse({"utility_samples": {"num_held_out": 4}}))


class TestKeysThatNobodyReads:
    """To sweep one would compute the same trial again and again, so it is an error at the door."""

    ROUNDS = loading.load(ROOT / "jobs/configs/fashion_mnist.yaml")

    def refused(self, keys: dict[str, Any], base: Config, tmp_path: Path) -> str | None:
        path = tmp_path / "space.yaml"
        path.write_text(yaml.safe_dump({"keys": keys}))
        try:
            search_space.load(path, base)
        except UserError as error:
            assert "\n" not in str(error)
            return str(error)
        return None

    @pytest.mark.parametrize(
        ("key", "values", "line"),
        [
            (LAMBDA, [0.0, 1.0], "not read where utility_model.architecture=quadratic; set method=paper, or"),
            ("pretraining.k_1", [20, 50], "not read where utility_samples.source=mock_rounds; set method=paper, or"),
            ("classifier.l2", [0.1, 1.0], "not read where classifier.name=mnist_net; set classifier.name=linear"),
        ],
    )
    def test_of_mock_rounds(self, key: str, values: list[float], line: str, tmp_path: Path) -> None:
        said = self.refused({key: {"grid": values}}, self.ROUNDS, tmp_path)
        assert said is not None and f"keys: {key}: is {line}" in said and said.endswith("leave it out of the space")
        paper = self.refused({key: {"grid": values}}, BASE, tmp_path)
        assert (paper is None) == key.startswith(("utility_model", "pretraining"))

    @pytest.mark.parametrize("key", ["acquisition.caution", "acquisition.temperatures", "utility_samples.max_round"])
    def test_of_the_paper_s(self, key: str, tmp_path: Path) -> None:
        values = {"acquisition.temperatures": [[0.1], [0.5, 1.0]], "utility_samples.max_round": [200, 250]}
        keys = {key: {"grid": values.get(key, [0.0, 1.0])}}
        assert self.refused(keys, self.ROUNDS, tmp_path) is None
        assert "not read where" in str(self.refused(keys, BASE, tmp_path))

    def test_where_the_key_that_decides_is_swept_too(self, tmp_path: Path) -> None:
        keys = {LAMBDA: {"grid": [0.0, 1.0]}, "utility_model.architecture": {"grid": ["network", "quadratic"]}}
        assert self.refused(keys, self.ROUNDS, tmp_path) is None
        assert self.refused({**keys, "method": {"grid": ["paper", "mock_rounds"]}}, self.ROUNDS, tmp_path) is not None
        del keys["utility_model.architecture"]
        assert self.refused({**keys, "method": {"grid": ["paper", "mock_rounds"]}}, self.ROUNDS, tmp_path) is None

    def test_a_scheduler_that_would_never_be_told_anything(self, tmp_path: Path) -> None:
        path = tmp_path / "space.yaml"
        keys = {"acquisition.caution": {"grid": [0.0, 1.0]}}
        path.write_text(yaml.safe_dump({"keys": keys, "scheduler": {"name": "asha"}}))
        with pytest.raises(UserError, match="scheduler.name=asha: looks at u_hat after outer epochs.*name=none"):
            search_space.load(path, self.ROUNDS)

    def test_a_space_may_vary_the_method(self) -> None:
        found = search_space.points(space(keys={"method": {"grid": ["paper", "mock_rounds"]}}), self.ROUNDS)
        made = [search_space.configure(self.ROUNDS, point, 0) for point in found]
        assert [config.utility_samples.source for config in made] == ["subsets", "mock_rounds"]


@pytest.mark.parametrize("path", sorted((ROOT / "tune_configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_spaces_that_come_along_load(path: Path) -> None:
    name = "digits" if "digits" in path.stem else "mnist"
    base: Config = loading.load(ROOT / f"jobs/configs/{name}.yaml", ["method=paper"])
    made = search_space.load(path, base)
    assert search_space.points(made, base) or made.search.method == "optuna"
