"""The images that f is least sure of, by three measures of its probabilities.

Each takes the B images that come first by its measure, equal ones by position, and draws no random
number. Letters: N images in the pool, K classes, B images acquired, p_(1) >= p_(2) >= ... probabilities.
"""

from __future__ import annotations

import numpy as np

from rambo_ray.acquisition.baselines.inputs import StrategyInputs, check_budget
from rambo_ray.classifier.probabilities import margins, probabilities


def _smallest(values: np.ndarray, budget: int) -> np.ndarray:
    """Positions of the `budget` smallest of values [N], smallest first, equal ones by position."""
    return np.argsort(values, kind="stable")[:budget].astype(np.int64)


def margin(inputs: StrategyInputs, budget: int, generator: np.random.Generator) -> np.ndarray:
    """The smallest margins p_(1) - p_(2), int64 [B] (Scheffer et al. 2001).

    Raises ValueError for a budget that is negative or exceeds the pool.
    """
    check_budget(budget, len(inputs))
    return _smallest(margins(inputs.logits), budget)


def entropy(inputs: StrategyInputs, budget: int, generator: np.random.Generator) -> np.ndarray:
    """The largest entropies -sum p log p, int64 [B] (Shannon 1948, as used by Settles 2009).

    Raises ValueError for a budget that is negative or exceeds the pool.
    """
    check_budget(budget, len(inputs))
    z = inputs.logits.astype(np.float64)
    z -= z.max(axis=1, keepdims=True, initial=-np.inf)
    # log p from the logits is finite even where p has gone to 0, and 0 times it is the limit of p log p.
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return _smallest((np.exp(log_p) * log_p).sum(axis=1), budget)


def least_confidence(inputs: StrategyInputs, budget: int, generator: np.random.Generator) -> np.ndarray:
    """The smallest p_(1), int64 [B] (Lewis & Gale 1994).

    Raises ValueError for a budget that is negative or exceeds the pool.
    """
    check_budget(budget, len(inputs))
    return _smallest(probabilities(inputs.logits).max(axis=1, initial=0.0), budget)
