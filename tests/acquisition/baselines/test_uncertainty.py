"""Margin, entropy and least confidence on cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rambo_ray.acquisition.baselines import uncertainty

from .drawn_inputs import inputs, of_pool
from .reference_baselines import softmax

GENERATOR = np.random.default_rng(0)


def of_probabilities(*rows: list[float]) -> np.ndarray:
    return np.log(np.array(rows))


class TestByHand:
    # Margins 0.1, 0.02, 0.2; entropies 0.69, 1.08, 1.06; largest probabilities 0.55, 0.36, 0.5.
    pool = of_pool(np.zeros((3, 1)), of_probabilities([0.55, 0.45, 1e-9], [0.36, 0.34, 0.30], [0.5, 0.3, 0.2]))

    def test_margin(self) -> None:
        assert uncertainty.margin(self.pool, 3, GENERATOR).tolist() == [1, 0, 2]

    def test_entropy(self) -> None:
        assert uncertainty.entropy(self.pool, 3, GENERATOR).tolist() == [1, 2, 0]

    def test_least_confidence(self) -> None:
        assert uncertainty.least_confidence(self.pool, 3, GENERATOR).tolist() == [1, 2, 0]


@pytest.mark.parametrize("name", ["margin", "entropy", "least_confidence"])
class TestAll:
    def test_against_a_loop(self, name: str) -> None:
        given = inputs(40, classes=4)
        measure = {
            "margin": lambda p: sorted(p)[-1] - sorted(p)[-2],
            "entropy": lambda p: sum(p * np.log(p)),
            "least_confidence": max,
        }[name]
        values = [measure(softmax(z)) for z in given.logits]
        expected = sorted(range(40), key=lambda i: values[i])[:25]
        assert getattr(uncertainty, name)(given, 25, GENERATOR).tolist() == expected

    def test_ties_by_position(self, name: str) -> None:
        logits = np.array([[0, 9], [0, 1], [0, 9], [0, 1], [0, 1], [0, 9]])
        assert getattr(uncertainty, name)(of_pool(np.zeros((6, 1)), logits), 6, GENERATOR).tolist() == [
            1,
            3,
            4,
            0,
            2,
            5,
        ]

    def test_probabilities_that_vanish(self, name: str) -> None:
        logits = np.array([[0, 3e38], [0, 1], [-3e38, 3e38]])
        assert getattr(uncertainty, name)(of_pool(np.zeros((3, 1)), logits), 3, GENERATOR).tolist() == [1, 0, 2]
