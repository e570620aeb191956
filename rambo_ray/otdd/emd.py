"""Optimal transport without entropy, by POT's network simplex; imported only when asked for.

Letters: n samples against m samples, uniform weights 1/n and 1/m.
"""

from __future__ import annotations

import warnings

import numpy as np

from .classes import Floats
from .newton import ConvergenceError


def emd(cost: Floats, max_iterations: int) -> float:
    """Smallest total cost of carrying weights 1/n onto weights 1/m at `cost` [n, m], in cost units.

    The exact transport cost of step 2's cost. A dataset's transport to itself costs 0 (every
    sample stays where it is), so there is nothing to debias. Raises `ConvergenceError` when
    `max_iterations` pivots were not enough.
    """
    import ot

    n, m = cost.shape
    a, b = np.full(n, 1 / n), np.full(m, 1 / m)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # says what is raised below
        value, log = ot.emd2(a, b, np.ascontiguousarray(cost), numItermax=max_iterations, log=True)
    if log["warning"] is not None:
        raise ConvergenceError(
            f"emd solver: not optimal after max_iterations={max_iterations} pivots; raise max_iterations"
        )
    return float(value)
