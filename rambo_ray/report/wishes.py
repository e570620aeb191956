"""What u_hat wants, and what it got: its coefficients and the picked images' mean evidence, as rows of bars.

Bars of the page's own, not a plot: class names may be long and of any script.

F numbers of evidence, B picked; w and a as in `rambo_ray.utility_model.quadratic`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rambo_ray.report.gallery import NAME_LETTERS, Bar, shortened
from rambo_ray.report.reading import signed
from rambo_ray.utility_model.evidence import ComparedEvidence
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


@dataclass(frozen=True)
class Share:
    """A share of the picked images as a bar, marked where it would end were they like the pool; the others in words."""

    bar: Bar
    filtered: str


def expected_shares(compared: ComparedEvidence, names: Sequence[str]) -> list[Share]:
    """The classes that images are of, by the second opinions, and how many f errs on: of many the largest shares.

    `names`: of the F numbers, the last four of which are none of classes.
    """
    classes = len(names) - 4
    by_share = np.argsort(-np.maximum(compared.picked[:classes], compared.pool[:classes]), kind="stable")
    rows = [*np.sort(by_share[: MOST_ROWS - 1]).tolist(), len(names) - 1]
    longest = max(float(compared.picked[rows].max()), float(compared.pool[rows].max())) or 1.0
    return [
        Share(
            Bar(
                name="f errs"
                if i >= classes
                else shortened(names[i].removeprefix("p(").removesuffix(")"), NAME_LETTERS),
                length=round(100 * max(0.0, float(compared.picked[i])) / longest, 2),
                value=_percent(compared.picked[i]),
                mark=round(100 * float(compared.pool[i]) / longest, 2),
                second=_percent(compared.pool[i]),
            ),
            _percent(compared.filtered[i]),
        )
        for i in rows
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
