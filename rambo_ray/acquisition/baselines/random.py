"""Random: the floor that every strategy has to beat."""

from __future__ import annotations

import numpy as np

from rambo_ray.acquisition.baselines.inputs import StrategyInputs, check_budget


def random(inputs: StrategyInputs, budget: int, generator: np.random.Generator) -> np.ndarray:
    """`budget` positions uniformly at random without replacement, int64 [B].

    The first of one permutation of the pool, so that a larger budget adds to a smaller one. Raises
    ValueError for a budget that is negative or exceeds the pool.
    """
    check_budget(budget, len(inputs))
    return generator.permutation(len(inputs))[:budget].astype(np.int64)
