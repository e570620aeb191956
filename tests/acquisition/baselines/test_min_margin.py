"""Min-Margin against a loop, and the bootstraps that its classifiers are trained on."""

from __future__ import annotations

import numpy as np
import pytest

from rambo_ray.acquisition.baselines.min_margin import bootstrap, min_margin

from .reference_baselines import softmax


def logits(count: int, n: int = 30, classes: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, n, classes)).astype(np.float32)


class TestMinMargin:
    @pytest.mark.parametrize("count", [1, 2, 7])
    def test_against_a_loop(self, count: int) -> None:
        given = logits(count)
        smallest = [min(np.diff(np.sort(softmax(one[i]))[-2:])[0] for one in given) for i in range(30)]
        expected = sorted(range(30), key=lambda i: smallest[i])
        assert min_margin(given, 30).tolist() == expected
        assert min_margin(iter(given), 11).tolist() == expected[:11]

    def test_one_classifier_that_is_unsure_is_enough(self) -> None:
        sure = np.array([[9.0, 0.0], [9.0, 0.0], [1.0, 0.0]])
        other = np.array([[9.0, 0.0], [0.1, 0.0], [9.0, 0.0]])
        assert min_margin([sure, other], 3).tolist() == [1, 2, 0]

    def test_ties_by_position(self) -> None:
        assert min_margin([np.zeros((5, 3))], 4).tolist() == [0, 1, 2, 3]

    def test_what_cannot_be(self) -> None:
        with pytest.raises(ValueError, match="at least one classifier"):
            min_margin([], 0)
        with pytest.raises(ValueError, match="budget=31: exceeds the pool's 30 images"):
            min_margin(logits(2), 31)


class TestBootstrap:
    def test_as_many_as_s_0_with_replacement_sorted(self) -> None:
        labels = np.arange(200) % 10
        drawn = bootstrap(labels, np.random.default_rng(0))
        assert len(drawn) == 200 and (np.diff(drawn) >= 0).all() and drawn.min() >= 0 and drawn.max() < 200
        shares = [len(np.unique(bootstrap(labels, np.random.default_rng(i)))) / 200 for i in range(50)]
        assert np.mean(shares) == pytest.approx(1 - np.exp(-1), abs=0.01)

    def test_never_of_one_class_where_there_are_two(self) -> None:
        labels = np.array([0, 0, 0, 1])
        for seed in range(60):
            assert len(np.unique(labels[bootstrap(labels, np.random.default_rng(seed))])) == 2

    def test_of_one_class_there_is_nothing_else(self) -> None:
        assert len(bootstrap(np.zeros(5, dtype=np.int64), np.random.default_rng(0))) == 5
