"""Selections of even classes, by posteriors and by the truth."""

from __future__ import annotations

import numpy as np
import pytest

from rambo_ray.acquisition import balance
from rambo_ray.data.problem import NONE


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes)[labels]


class TestPosteriorBalance:
    def test_of_certain_posteriors_the_classes_of_s_0_and_the_picks_come_out_even(self) -> None:
        true = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 50))
        own = np.repeat([0, 1, 2], [12, 5, 1])
        picked = balance.posterior_balance(one_hot(true, 4), own, 62, np.arange(200))
        assert np.bincount(true[picked]).tolist() == [8, 15, 19, 20]
        assert len(set(picked.tolist())) == 62

    def test_against_a_loop(self) -> None:
        rng = np.random.default_rng(1)
        p, own = rng.dirichlet([0.5] * 5, 80), rng.integers(5, size=20)
        among = rng.permutation(80)[:50]
        so_far, expected = np.bincount(own, minlength=5).astype(float), []
        for _ in range(30):
            best = min((i for i in among.tolist() if i not in expected), key=lambda i: float(p[i] @ so_far))
            expected.append(best)
            so_far = so_far + p[best]
        assert balance.posterior_balance(p, own, 30, among).tolist() == expected
        assert balance.posterior_balance(p, own, 7, among).tolist() == expected[:7]

    def test_too_few_to_pick(self) -> None:
        with pytest.raises(ValueError, match="budget=4: exceeds the 3 images that may be picked"):
            balance.posterior_balance(np.full((9, 3), 1 / 3), np.arange(3), 4, np.arange(3))


class TestOracleBalanced:
    def test_equal_numbers_until_a_class_runs_out_and_none_last(self) -> None:
        answers = np.random.default_rng(2).permutation(np.repeat([NONE, 0, 1, 2], [40, 3, 30, 30]))
        picked = balance.oracle_balanced(answers, 63, seed=0)
        assert np.bincount(answers[picked]).tolist() == [3, 30, 30]
        assert np.bincount(answers[picked[:9]]).tolist() == [3, 3, 3]
        assert (answers[balance.oracle_balanced(answers, 70, 0)] == NONE).sum() == 7
        assert sorted(balance.oracle_balanced(answers, 103, 0).tolist()) == list(range(103))

    def test_random_within_a_class_by_the_seed_and_nested(self) -> None:
        answers = np.arange(100) % 5
        assert balance.oracle_balanced(answers, 20, 1).tolist() == balance.oracle_balanced(answers, 50, 1)[:20].tolist()
        assert balance.oracle_balanced(answers, 20, 1).tolist() != balance.oracle_balanced(answers, 20, 2).tolist()

    def test_beyond_the_pool(self) -> None:
        with pytest.raises(ValueError, match="budget=6: exceeds the pool's 5 images"):
            balance.oracle_balanced(np.zeros(5, dtype=np.int64), 6, 0)


def test_in_turn_keeps_the_order_within_a_label() -> None:
    found = balance.in_turn(np.array([7, 3, 9, 1, 5, 2]), np.array([1, 1, NONE, 0, 1, 0]))
    assert found.tolist() == [1, 7, 2, 3, 5, 9]
