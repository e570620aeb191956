"""Acquisition simulated inside S_0: disjoint folds, sizes that keep their proportions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.config import loading
from rambo_ray.config.schema import Config, nested_sizes
from rambo_ray.data import datasets
from rambo_ray.errors import UserError
from rambo_ray.sweep.simulation import FoldScale, fold, fold_config, scale

DIGITS = Path(__file__).parents[2] / "jobs/configs/digits.yaml"
BASE = loading.load(DIGITS, ["method=paper"])
ROUNDS = loading.load(DIGITS)
PROBLEM, _ = datasets.load(BASE.data, 0)


class TestFold:
    @given(st.integers(1, 5), st.integers(20, 80), st.integers(0, 3))
    def test_visible_and_hidden_are_all_of_S_0(self, count: int, visible: int, seed: int) -> None:
        for index in range(count):
            made, answers = fold(PROBLEM, index, count, visible, seed)
            assert len(made.labeled) == visible
            ids = [*made.labeled.ids, *made.pool.ids]
            assert sorted(ids) == sorted(PROBLEM.labeled.ids) and len(set(ids)) == len(ids)
            assert made.validation is PROBLEM.validation
            assert (made.mean, made.std) == (PROBLEM.mean, PROBLEM.std)
            label = dict(zip(PROBLEM.labeled.ids, PROBLEM.labeled.labels.tolist(), strict=True))
            assert answers.pool_labels.tolist() == [label[name] for name in made.pool.ids]
            assert answers.test is None

    def test_what_was_rejected_stays_known(self) -> None:
        assert fold(PROBLEM, 0, 2, 50, 0)[0].rejected is None
        config = loading.load(DIGITS, ["data.scenario=off_target"])
        problem, _ = datasets.load(config.data, 0)
        assert problem.rejected is not None and fold(problem, 0, 2, 50, 0)[0].rejected is problem.rejected

    def test_two_halves_hide_every_label_once(self) -> None:
        one, other = (fold(PROBLEM, i, 2, 50, 0)[0] for i in range(2))
        assert set(one.pool.ids) == set(other.labeled.ids)

    def test_seeds_differ_and_repeat(self) -> None:
        assert fold(PROBLEM, 0, 2, 50, 1)[0].labeled.ids == fold(PROBLEM, 0, 2, 50, 1)[0].labeled.ids
        assert fold(PROBLEM, 0, 2, 50, 1)[0].labeled.ids != fold(PROBLEM, 0, 2, 50, 2)[0].labeled.ids


class TestScale:
    def test_shares_where_k_and_B_stay(self) -> None:
        # k=100, B=100: 50 visible, 0.2 of the other 50 acquired, so b and M shrink by 10.
        assert scale(BASE, [BASE], 100, visible=0.5, budget=0.2) == FoldScale(0.5, pytest.approx(0.1))

    def test_one_number_where_they_are_divided(self) -> None:
        other = loading.load(DIGITS, ["method=paper", "data.num_labeled=60", "acquisition.budget=140"])
        made = scale(BASE, [BASE, other], 100, visible=0.5, budget=0.2)
        assert made.labeled == made.acquired == pytest.approx(100 / (60 + 2 * 140))
        small = fold_config(other, 100, made)
        assert (small.data.num_labeled, small.acquisition.budget) == (18, 41)


class TestFoldConfig:
    def test_everything_that_counts_images_shrinks(self) -> None:
        small = fold_config(BASE, 100, FoldScale(0.5, 0.1))
        assert small.data.num_labeled == 50
        assert (small.acquisition.budget, small.acquisition.batch_size, small.acquisition.margin_pool) == (10, 2, 40)
        assert nested_sizes(small.pretraining, 50) == [20, 30, 40, 50]  # 40, 60, 80, 100 of S_0
        assert small.utility_samples.num_held_out == 0
        assert (small.utility_model, small.classifier, small.seed) == (BASE.utility_model, BASE.classifier, BASE.seed)

    @pytest.mark.parametrize("base", [BASE, ROUNDS], ids=["paper", "mock_rounds"])
    @given(st.floats(0.1, 0.9), st.floats(0.01, 0.4))
    def test_is_always_a_configuration_that_can_run(self, base: Config, labeled: float, acquired: float) -> None:
        try:
            small = fold_config(base, 100, FoldScale(labeled, acquired))
        except UserError as error:
            assert "simulation" in str(error) and "\n" not in str(error)
            return
        loading.parse(small.model_dump())  # its own rules hold
        ask, pool = small.acquisition, 100 - small.data.num_labeled
        assert 1 <= ask.batch_size <= ask.budget <= pool and ask.batch_size <= ask.margin_pool <= pool

    def test_nothing_to_buy_is_refused(self) -> None:
        with pytest.raises(UserError, match="acquire 0 of the other 50"):
            fold_config(BASE, 100, FoldScale(0.5, 0.001))

    def test_your_own_images_keep_their_k(self) -> None:
        own = loading.parse(
            {"data": {"name": "own", "labeled": "a", "validation": "b", "pool": "c"}, "pretraining": {"k_1": 30}}
        )
        assert fold_config(own, 120, FoldScale(0.5, 0.1)).data.num_labeled == 60
        # Mock rounds look at no k_1, so it need not be below k.
        small = fold_config(loading.with_values(own, {"pretraining.k_1": 200}), 120, FoldScale(0.5, 0.1))
        assert small.pretraining.k_1 == 200 and small.utility_samples.source == "mock_rounds"


def test_labels_of_hidden_images_do_not_reach_the_fold() -> None:
    made, _ = fold(PROBLEM, 0, 2, 50, 0)
    assert not hasattr(made.pool, "labels")
    assert np.isin(made.labeled.labels, range(10)).all()
