"""Which classes the picked images are expected to be of, beside those of the pool, of S_0 and of S_val.

By the second opinions where there are any, else by f. Bars of the page's own, not a plot: class names may be long and
of any script.

K classes; K' = K, or K + 1 where something was rejected.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rambo_ray.data.problem import LabeledArrays, Problem
from rambo_ray.report.content import ReportContent
from rambo_ray.report.gallery import NAME_LETTERS, NO_CLASS, Bar, shortened

MOST_ROWS = 30
# Of the pool's share and the picked images' a difference that is worth a word, and words for as many.
_NOTABLE, _MOST_NOTABLE = 0.02, 3


@dataclass(frozen=True)
class Shares:
    """Shares of the classes, [K'] each: picked, filtered (None where nobody asked) and pool are expected ones,
    labeled and validation are of labels. errs: how many f is expected to err on: of the picked, filtered and pool."""

    names: list[str]
    picked: np.ndarray
    filtered: np.ndarray | None
    pool: np.ndarray
    labeled: np.ndarray
    validation: np.ndarray
    errs: tuple[float, float, float] | None


@dataclass(frozen=True)
class Row:
    """A class: the picked images' share as a bar, marked where it would end were they like the pool; others in words.

    filtered: "" where nobody asked; labeled and validation: "" in the row of f's errors.
    """

    bar: Bar
    filtered: str
    labeled: str
    validation: str


def shares(content: ReportContent) -> Shares | None:
    """The shares of a run; None where nobody was asked about the pool."""
    problem, compared, view = content.problem, content.compared, content.view
    names = list(problem.class_names)
    counted = {
        part: _counted(LabeledArrays.of(getattr(problem, part)).labels, problem) for part in ("labeled", "validation")
    }
    if compared is not None:
        count = len(compared.picked) - 4  # the last four numbers of evidence are of no class
        names += [NO_CLASS] * (count - len(names))
        errs = (float(compared.picked[-1]), float(compared.filtered[-1]), float(compared.pool[-1]))
        parts = (compared.picked[:count], compared.filtered[:count], compared.pool[:count])
        return Shares(names, *parts, _to(counted["labeled"], count), _to(counted["validation"], count), errs)
    if view is None:
        return None
    picked, pool = (view.probabilities[view.rows(part)].mean(axis=0) for part in (view.picked, view.evenly))
    return Shares(names, picked, None, pool, counted["labeled"], counted["validation"], None)


def rows(found: Shares) -> list[Row]:
    """A row per class, of many the largest shares, and one of f's errors."""
    largest = np.argsort(-np.maximum(found.picked, found.pool), kind="stable")
    shown = np.sort(largest[:MOST_ROWS]).tolist()
    ends = [float(found.picked[shown].max()), float(found.pool[shown].max()), *(found.errs or ())]
    longest = max(ends) or 1.0

    def bar(name: str, picked: float, pool: float) -> Bar:
        length, mark = (round(100 * max(0.0, value) / longest, 2) for value in (picked, pool))
        return Bar(name, length, _percent(picked), mark, _percent(pool))

    made = [
        Row(
            bar(shortened(found.names[c], NAME_LETTERS), float(found.picked[c]), float(found.pool[c])),
            "" if found.filtered is None else _percent(float(found.filtered[c])),
            _percent(float(found.labeled[c])),
            _percent(float(found.validation[c])),
        )
        for c in shown
    ]
    if found.errs is not None:
        picked, filtered, pool = found.errs
        made.append(Row(bar("f errs", picked, pool), _percent(filtered), "", ""))
    return made


def sentence(found: Shares, things: str = "images") -> str:
    """Of which classes there are notably more among the picked images than in the pool, and of which fewer."""
    change = found.picked - found.pool
    said = []
    for word, sign in (("more", 1), ("fewer", -1)):
        order = np.argsort(-sign * change, kind="stable")[:_MOST_NOTABLE]
        named = []
        for c in order.tolist():
            if sign * change[c] >= _NOTABLE:
                name, both = shortened(found.names[c], NAME_LETTERS), (found.picked[c], found.pool[c])
                named.append(f"{name} ({' instead of '.join(map(_percent, both))})")
        if named:
            said.append(f"{word} of {', '.join(named)}")
    if not said:
        return f"The picked {things} are divided among the classes about as the pool is."
    return f"Compared with the pool there are {'; '.join(said)}."


def _counted(labels: np.ndarray, problem: Problem) -> np.ndarray:
    count: np.ndarray = np.bincount(labels, minlength=len(problem.class_names)) / len(labels)
    return count


def _to(values: np.ndarray, count: int) -> np.ndarray:
    """`values` with zeros behind them, `count` in all."""
    return np.pad(values, (0, count - len(values)))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
