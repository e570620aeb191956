"""Optimal transport by POT: without entropy by its network simplex, with it by its Sinkhorn; imported when asked for.

Letters: n samples against m samples, uniform weights 1/n and 1/m.
"""

from __future__ import annotations

import warnings

import numpy as np

from .classes import Floats
from .newton import ConvergenceError

_TOLERANCE = 1e-7  # of the weights, as POT measures them; rounding lets it stall at some 1e-9


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


def entropic(cost: Floats, eps: float, max_iterations: int) -> float:
    """Entropic transport of weights 1/n onto weights 1/m at `cost` [n, m] and regularisation `eps`, in cost units.

    mean(f) + mean(g) of POT's potentials, which at its fixed point are those of `newton.converged`. Raises
    `ConvergenceError` when `max_iterations` updates leave the weights too far off.
    """
    import ot

    n, m = cost.shape
    a, b = np.full(n, 1 / n), np.full(m, 1 / m)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # says what is raised below
        _, log = ot.bregman.sinkhorn_log(
            a, b, cost, eps, numItermax=max_iterations, stopThr=_TOLERANCE, log=True, warn=False
        )
    if not log["err"][-1] <= _TOLERANCE:
        raise ConvergenceError(
            f"sinkhorn solver: weights are {log['err'][-1]:.1e} off after max_iterations={max_iterations} updates; "
            "raise max_iterations or entreg"
        )
    f, g = eps * (log["log_u"] - np.log(a)), eps * (log["log_v"] - np.log(b))
    return float(f.mean() + g.mean())
