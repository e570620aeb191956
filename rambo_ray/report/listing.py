"""What is listed on the page: every picked image as a row, and a sample of what the margin filter removed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rambo_ray.report.content import ReportContent
from rambo_ray.report.gallery import ID_LETTERS, NAME_LETTERS, Picture, pool_picture, shortened

MOST_ROW_BYTES = 400_000
MOST_PICTURE_BYTES = 250_000


@dataclass(frozen=True)
class Row:
    """A picked image: numbers as they are shown, "–" where there is none; guess: the class that f finds likeliest."""

    order: int
    id: str
    margin: str
    guess: str
    utility: str
    step: int


def rows(content: ReportContent) -> list[Row]:
    """The picked images in the order picked, fewer where their rows would take too much of the page."""
    selection, view, names = content.selection, content.view, content.problem.class_names
    guesses: list[str] = []
    if view is not None:
        classes = view.probabilities[view.rows(view.picked)].argmax(axis=1)
        guesses = [shortened(names[number], NAME_LETTERS) for number in classes]
    made, left = [], MOST_ROW_BYTES
    for order, index in enumerate(selection.pool_index.tolist()):
        row = Row(
            order,
            shortened(content.problem.pool.ids[index], ID_LETTERS),
            _shown(float(selection.margin[order]), 3),
            guesses[order] if order < len(guesses) else "–",
            _shown(float(selection.utility[order]), 4),
            int(selection.step[order]),
        )
        left -= 100 + 5 * (len(row.id) + len(row.guess))
        if left < 0:
            break
        made.append(row)
    return made


@dataclass(frozen=True)
class Removed(Picture):
    """An image that the margin filter removed: what f takes it for, how surely, and its margin."""

    guess: str
    probability: float
    margin: float


def removed(content: ReportContent) -> list[Removed]:
    """A sample of what no step could pick, from the smallest margin to the largest."""
    view = content.view
    if view is None:
        return []
    made, left = [], MOST_PICTURE_BYTES
    for index, row in zip(view.removed.tolist(), view.rows(view.removed).tolist(), strict=True):
        seen = pool_picture(content.problem, index)
        left -= seen.most_bytes
        if left < 0:
            break
        p: np.ndarray = view.probabilities[row]
        name = shortened(content.problem.class_names[int(p.argmax())], NAME_LETTERS)
        made.append(Removed(**vars(seen), guess=name, probability=float(p.max()), margin=float(content.margins[index])))
    return made


def _shown(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}" if math.isfinite(value) else "–"
