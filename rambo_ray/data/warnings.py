"""What is allowed in a problem's data, but seldom meant: said before a run, so that a person can look again."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from rambo_ray.data.problem import Problem
from rambo_ray.data.reading import Reading

SMALL_VALIDATION = 100  # images, on which an accuracy is known to within 5 points
_SHOWN = 6  # names
_SQUEEZED = 1.2  # times as wide, for its height, as another image of the set


def of(problem: Problem, reading: Reading | None) -> list[str]:
    """A line for each; `reading` is of one's own data."""
    return [*_of_classes(problem), *_of_size(problem), *_of_copies(problem), *_of_sizes(reading)]


def _of_classes(problem: Problem) -> Iterator[str]:
    known, judged = (
        np.bincount(part.labels, minlength=len(problem.class_names)) for part in (problem.labeled, problem.validation)
    )
    names = np.array(problem.class_names)
    if (known == 0).any():
        yield f"no labelled image of {_few(names[known == 0])}: f has an output for it that it never learns"
    if ((known > 0) & (judged == 0)).any():
        yield f"no validation image of {_few(names[(known > 0) & (judged == 0)])}: what it is worth cannot be seen"
    if (known == 1).any():
        yield f"a single labelled image of {_few(names[known == 1])}"


def _of_size(problem: Problem) -> Iterator[str]:
    count = len(problem.validation)
    if count < SMALL_VALIDATION:
        points = 100 * math.sqrt(0.25 / count)
        yield (
            f"S_val has only {count} images: an accuracy on it is known to within {points:.0f} points (one standard "
            "error, at 50 %), and mock rounds play with half of it"
        )


def _of_copies(problem: Problem) -> Iterator[str]:
    for what, items in (("labelled", problem.labeled), ("validation", problem.validation), ("pool", problem.pool)):
        copies = len(items) - len(set(items.digests()))
        if copies:
            yield f"{copies:,} of the {len(items):,} {what} images are exact copies of others in the set"


def _of_sizes(reading: Reading | None) -> Iterator[str]:
    for one in reading.sets if reading is not None else ():
        shapes = {round(width / height, 2) for width, height in one.sizes}
        if shapes and max(shapes) > _SQUEEZED * min(shapes):
            yield (
                f"{one.named}: images have {len(shapes)} aspect ratios, {min(shapes):g} to {max(shapes):g}, "
                "width to height; resizing to squares squeezes them differently"
            )


def _few(names: np.ndarray) -> str:
    more = f" and {len(names) - _SHOWN} more classes" if len(names) > _SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:_SHOWN]) + more
