"""The validation set's own term of a debiased distance, for any subset's schedule.

A subset widens the bounding box, hence the start scale d, hence every temperature of the fixed
schedule: strictly, the m x m self problem would have to be solved anew for every subset. But its
value depends on the subset through the number d alone, and smoothly so between the scales where
one more temperature enters. Each such piece is sampled at Chebyshev points once per process and
interpolated to rounding. The samples do not depend on which subsets came before.

Letters: m validation samples; d the start scale, a length in feature units.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.polynomial import Chebyshev

from .classes import Floats
from .sinkhorn import annealed_self, temperatures

_POINTS = 14
# Largest size, against the value, of the last coefficients of a series fit to be used.
_ROUNDING = 1e-13


class SelfTerm:
    """Half the annealed transport cost of `cost` [m, m] to itself, as a function of d (steps 3, 4).

    `lowest`, `highest`: the scales a subset of this pool can have.
    """

    def __init__(self, cost: Floats, entreg: float, lowest: float, highest: float) -> None:
        self._cost = cost
        self._entreg = entreg
        self._range = lowest, highest
        self._pieces: dict[int, Callable[[float], float]] = {}

    def at(self, scale: float) -> float:
        """The value at start scale d = `scale`, in cost units."""
        lowest, highest = self._range
        if not lowest <= scale <= highest or highest - lowest < 1e-9 * highest:
            return self._solve(scale)
        piece = len(temperatures(np.array([scale]), self._entreg)[0])
        if piece not in self._pieces:
            self._pieces[piece] = self._fit(piece)
        return float(self._pieces[piece](scale))

    def _fit(self, piece: int) -> Callable[[float], float]:
        """The series over the scales whose schedule has `piece` temperatures, or, should the value
        bend too much for that, the plain solution."""
        low, high = self._range
        above = piece - 2  # temperatures d^2 / 4^k above the regularisation
        if above > 0:
            low = max(low, np.sqrt(self._entreg) * 2.0 ** (above - 1) * (1 + 1e-15))
        high = min(high, np.sqrt(self._entreg) * 2.0**above)
        points = (low + high) / 2 - (high - low) / 2 * np.cos(np.pi * (np.arange(_POINTS) + 0.5) / _POINTS)
        values = [self._solve(d) for d in points]
        series = Chebyshev.fit(points, values, _POINTS - 1, domain=[low, high])
        if np.abs(series.coef[-3:]).max() <= _ROUNDING * np.abs(series.coef[0]):
            return series
        return self._solve

    def _solve(self, scale: float) -> float:
        m = len(self._cost)
        p = annealed_self(self._cost[None], np.full((1, m), 1 / m), np.array([scale]), self._entreg)
        return float(p.mean())
