"""Whole batches that other strategies propose, so that u_hat also judges strategies.

Each strategy picks B of the candidates in its own order; a step of RAMBO is offered the next b of each.

Letters: C candidates, K classes, B images acquired.
"""

from __future__ import annotations

import numpy as np

from rambo_ray import seeds
from rambo_ray.acquisition.balance import posterior_balance
from rambo_ray.acquisition.baselines import NESTED, STRATEGIES
from rambo_ray.acquisition.baselines.inputs import StrategyInputs

# Picking like the filter is what the random partition is for already.
LEFT_OUT = frozenset({"random"})


def orders(
    inputs: StrategyInputs, budget: int, seed: int, posterior: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Each strategy's picks among the C candidates that `inputs` tells of, int64 [B] rows, in the order picked.

    posterior [C, K]: what classifiers that have seen S_val's labels think of the candidates; with it a further
    strategy, `posterior_balance`, takes part.
    """
    count = min(budget, len(inputs))
    found = {}
    for name in sorted(NESTED - LEFT_OUT):
        generator = seeds.generator(seed, "baseline", seeds.index_of(name))
        found[name] = STRATEGIES[name](inputs, count, generator)
    if posterior is not None:
        found["posterior_balance"] = posterior_balance(posterior, inputs.labels, count, np.arange(len(inputs)))
    return found
