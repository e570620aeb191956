"""Whole batches that other strategies propose: their own picks, on the candidates that u_hat looks at."""

from __future__ import annotations

import numpy as np
import pytest

from rambo_ray import seeds
from rambo_ray.acquisition import proposals
from rambo_ray.acquisition.balance import posterior_balance
from rambo_ray.acquisition.baselines import NESTED, STRATEGIES

from .baselines.drawn_inputs import inputs as drawn


@pytest.mark.parametrize("budget", [1, 12])
def test_each_strategy_picks_as_it_would_alone(budget: int) -> None:
    inputs = drawn(40)
    found = proposals.orders(inputs, budget, seed=5)
    assert set(found) == NESTED - {"random"}
    for name, order in found.items():
        generator = seeds.generator(5, "baseline", seeds.index_of(name))
        assert order.tolist() == STRATEGIES[name](inputs, budget, generator).tolist()
        assert len(set(order.tolist())) == budget and max(order) < len(inputs)


def test_with_a_posterior_balance_takes_part() -> None:
    inputs = drawn(40)
    classes = inputs.logits.shape[1]
    posterior = np.random.default_rng(1).dirichlet(np.ones(classes), len(inputs))
    found = proposals.orders(inputs, 10, 5, posterior)
    alone = posterior_balance(posterior, inputs.labels, 10, np.arange(len(inputs)))
    assert found["posterior_balance"].tolist() == alone.tolist()
    assert "posterior_balance" not in proposals.orders(inputs, 10, 5)


def test_fewer_candidates_than_the_budget_are_all_proposed() -> None:
    inputs = drawn(40).take(np.arange(7))
    assert all(sorted(order.tolist()) == [*range(7)] for order in proposals.orders(inputs, 10, 5).values())
