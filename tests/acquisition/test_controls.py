"""The controls: the same filter and steps as RAMBO, with a coin, with turns, with noise, with the truth."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray import seeds
from rambo_ray.acquisition import candidates, controls
from rambo_ray.config.schema import AcquisitionConfig, UtilityModelConfig
from rambo_ray.utility_model.fitting import FitInput
from rambo_ray.utility_model.objective import Pairs
from rambo_ray.utility_model.quadratic import QuadraticInput


def ask(budget: int, b: int, m: int) -> AcquisitionConfig:
    return AcquisitionConfig(budget=budget, batch_size=b, margin_pool=m)


def margins(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(count).astype(np.float32)


class TestMarginRandom:
    def test_each_step_takes_a_batch_of_rambos_partition(self) -> None:
        pool, wanted = margins(60), ask(25, 10, 30)
        picked = controls.margin_m_random(pool, wanted, seed=4)
        ranked = np.argsort(pool, kind="stable")[:55]
        rows = np.arange(55)
        at = 0
        for j, b in enumerate((10, 10, 5)):
            batches = candidates.random_partition(rows[:30], b, seeds.generator(4, "partition", j))
            mine = picked[at : at + b]
            assert any(set(ranked[batch]) == set(mine) for batch in batches)
            rows = rows[~np.isin(ranked[rows], mine)]
            at += b

    def test_all_batches_are_equally_likely(self) -> None:
        # One step, M = 4, b = 1: each of the four smallest margins in a quarter of 400 seeds.
        pool = margins(20)
        firsts = [int(controls.margin_m_random(pool, ask(1, 1, 4), seed)[0]) for seed in range(400)]
        smallest = np.argsort(pool)[:4].tolist()
        counts = np.array([firsts.count(position) for position in smallest])
        assert counts.sum() == 400
        assert ((counts - 100) ** 2 / 100).sum() < 16.3  # chi squared, 3 degrees of freedom, 0.1 %

    @given(st.integers(0, 50), st.integers(1, 30))
    def test_exactly_b_distinct(self, seed: int, budget: int) -> None:
        picked = controls.margin_m_random(margins(40), ask(budget, min(7, budget), 12), seed)
        assert len(set(picked.tolist())) == budget


class TestFollowFilter:
    def test_is_margin_m_random_with_no_utility_to_tell_of(self) -> None:
        pool, wanted = margins(60), ask(25, 10, 30)
        found = controls.follow_filter(pool, wanted, seed=4)
        assert found.pool_index.tolist() == controls.margin_m_random(pool, wanted, seed=4).tolist()
        assert np.isnan(found.utility).all() and all(np.isnan(scores).all() for scores in found.step_scores)
        assert found.kinds == (candidates.FILTER,) * 3
        assert found.step.tolist() == [0] * 10 + [1] * 10 + [2] * 5
        assert found.margin.tolist() == pool[found.pool_index].tolist()

    def test_looks_at_no_setting_of_u_hat_s_candidates(self) -> None:
        pool, wanted = margins(60), ask(20, 10, 30)
        other = wanted.model_copy(update={"candidates": "mixed", "temperatures": (3.0,), "draws": 1, "caution": 0.0})
        one, same = (controls.follow_filter(pool, each, 4).pool_index for each in (wanted, other))
        assert np.array_equal(one, same)


class TestMarginBalanced:
    def test_classes_take_turns(self) -> None:
        pool = np.linspace(0, 1, 40).astype(np.float32)
        predicted = np.arange(40) % 4  # of the 16 smallest, four of each class
        picked = controls.margin_m_balanced(np.eye(4)[predicted], pool, ask(10, 5, 16), seed=1)
        assert picked.max() < 16
        assert np.bincount(predicted[picked], minlength=4).tolist() == [3, 3, 2, 2]
        assert sorted(predicted[picked[:4]]) == [0, 1, 2, 3]

    def test_a_class_that_runs_out_is_passed_over(self) -> None:
        pool = np.linspace(0, 1, 12).astype(np.float32)
        predicted = np.array([0, 0, 0, 0, 0, 0, 0, 1, 2, 2, 1, 1])
        picked = controls.margin_m_balanced(np.eye(3)[predicted], pool, ask(8, 2, 9), seed=1)
        assert np.bincount(predicted[picked], minlength=3).tolist() == [6, 1, 1]

    @given(st.integers(1, 30), st.integers(1, 40))
    def test_exactly_b_distinct_and_nested(self, budget: int, m: int) -> None:
        logits, pool = np.random.default_rng(1).normal(size=(40, 5)), margins(40)
        wanted = AcquisitionConfig(budget=budget, batch_size=1, margin_pool=m)
        picked = controls.margin_m_balanced(logits, pool, wanted, 3)
        assert len(set(picked.tolist())) == budget
        if budget <= m:
            smaller = controls.margin_m_balanced(logits, pool, wanted.model_copy(update={"budget": 1}), 3)
            assert smaller.tolist() == picked[:1].tolist()


def test_shuffled_deals_the_same_utilities_to_other_samples() -> None:
    utility, otdd = np.arange(20.0).reshape(10, 2), np.arange(20.0, 40.0).reshape(10, 2)
    subsets = tuple((i,) for i in range(10))
    task = FitInput(
        np.zeros((10, 3)), Pairs(subsets, subsets, utility, otdd), ((0,), (0, 1), (0, 1, 2)), (0.1, 0.2, 0.3), (),
        UtilityModelConfig(), 0,
    )  # fmt: skip
    dealt = controls.shuffled(task, seed=5)
    assert not np.array_equal(dealt.offline.utility, utility)
    assert np.array_equal(np.sort(dealt.offline.utility, axis=None), utility.reshape(-1))
    assert np.array_equal(dealt.offline.otdd, otdd) and dealt.offline.first == subsets
    assert sorted(dealt.nested_utilities) == [0.1, 0.2, 0.3]
    assert np.array_equal(controls.shuffled(task, seed=5).offline.utility, dealt.offline.utility)
    assert not np.array_equal(controls.shuffled(task, seed=6).offline.utility, dealt.offline.utility)
    assert np.array_equal(task.offline.utility, np.arange(20.0).reshape(10, 2))


def test_shuffled_mock_rounds_keep_all_but_their_utilities() -> None:
    generator = np.random.default_rng(0)
    task = QuadraticInput(
        generator.normal(size=(30, 4)), generator.integers(5, 9, 30).astype(float), np.arange(30) % 2.0,
        generator.random(30), np.ones(30), 7,
    )  # fmt: skip
    dealt = controls.shuffled(task, seed=5)
    assert isinstance(dealt, QuadraticInput)
    assert not np.array_equal(dealt.utilities, task.utilities)
    assert np.array_equal(np.sort(dealt.utilities), np.sort(task.utilities))
    for name in ("means", "sizes", "folds", "weights", "seed"):
        assert np.array_equal(getattr(dealt, name), getattr(task, name))
    again, other = (controls.shuffled(task, seed=seed) for seed in (5, 6))
    assert np.array_equal(again.utilities, dealt.utilities) and not np.array_equal(other.utilities, dealt.utilities)


class TestOracle:
    def test_takes_the_batch_that_truly_raises_the_accuracy_most(self) -> None:
        # The worth of a selection is the sum of its images' worths, so greedy steps can be written down.
        pool, worth = margins(30), np.random.default_rng(8).random(30)
        asked: list[int] = []

        def accuracy_of(positions: np.ndarray) -> float:
            asked.append(len(positions))
            return float(worth[positions].sum())

        picked = controls.oracle(pool, ask(9, 4, 12), 2, accuracy_of)
        rows, ranked, expected = np.arange(21), np.argsort(pool, kind="stable")[:21], []
        for j, b in enumerate((4, 4, 1)):
            batches = ranked[candidates.random_partition(rows[:12], b, seeds.generator(2, "partition", j))]
            best = batches[int(np.argmax(worth[batches].sum(axis=1)))]
            expected += best.tolist()
            rows = rows[~np.isin(ranked[rows], best)]
        assert sorted(picked.tolist()) == sorted(expected)
        # Every candidate was judged together with all that was picked before.
        assert asked == [4] * 3 + [8] * 3 + [9] * 12
