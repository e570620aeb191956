"""What u_hat wants: its coefficients as rows of bars.

Bars of the page's own, not a plot: class names may be long and of any script.

F numbers of evidence; w and a as in `rambo_ray.utility_model.quadratic`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rambo_ray.report.gallery import NAME_LETTERS, shortened
from rambo_ray.report.reading import signed
from rambo_ray.utility_model.quadratic import QuadraticModel

MOST_ROWS = 30
# Standard errors to each side: 95 % of a normal error.
ERRORS = 1.96


@dataclass(frozen=True)
class Lean:
    """A bar to the left or right of the middle of its track; start, length, low and high in percent of the track.

    From low to high is where the coefficient may truly be; sure: not on both sides of 0.
    """

    start: float
    length: float
    low: float
    high: float
    value: str
    sure: bool


@dataclass(frozen=True)
class Wish:
    """One number of evidence: how u_hat leans (w), and how it bends (a)."""

    name: str
    lean: Lean
    bend: Lean


def wishes(model: QuadraticModel, names: Sequence[str], budget: int, fraction: bool) -> list[Wish]:
    """A row per number of evidence, of many those with the largest coefficients, in their order.

    Coefficients are for a purchase of B images whose mean evidence is a standard deviation off, in points of accuracy
    where the utility is a fraction.
    """
    times = np.sqrt(budget) * (100.0 if fraction else 1.0)
    both = np.concatenate([model.w, model.a]) * times
    errors = ERRORS * np.sqrt(np.maximum(np.diag(model.covariance), 0.0)) * times
    longest = float((np.abs(both) + errors).max()) or 1.0
    width = len(model.w)
    shown = np.sort(np.argsort(-(np.abs(both[:width]) + np.abs(both[width:])), kind="stable")[:MOST_ROWS])
    decimals = 1 if longest >= 1 else 2

    def lean(i: int) -> Lean:
        value, error = float(both[i]), float(errors[i])
        middle, end = 50.0, 50.0 + 50.0 * value / longest
        low, high = (50.0 + 50.0 * (value + side * error) / longest for side in (-1, 1))
        return Lean(
            start=round(min(middle, end), 2),
            length=round(abs(end - middle), 2),
            low=round(low, 2),
            high=round(high, 2),
            value=f"{signed(value, decimals)} ± {error:.{decimals}f}",
            sure=abs(value) > error,
        )

    return [Wish(shortened(names[i], NAME_LETTERS), lean(i), lean(width + i)) for i in shown.tolist()]
