"""Pairs of picked images that are close to each other: two labels for the price of two, where one would do.

Close is what f finds close: the distance of two images is that of their embeddings by f, in terms of what is usual
among the picked ones. Images whose numbers are the same are copies whatever f says.

P picked images that were looked at, E numbers in an embedding.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from rambo_ray.acquisition.pool_view import evenly_apart
from rambo_ray.data.problem import Problem
from rambo_ray.report.content import ReportContent
from rambo_ray.report.gallery import Picture, pool_picture

MOST_PAIRS = 9
MOST_BYTES = 250_000
# Nearer than this share of the usual distance is near.
NEAR = 0.1
_ROWS = 256  # whose distances to all others are computed at a time
_USUAL = 400  # images among which the usual distance is taken


@dataclass(frozen=True)
class Pair:
    """Two picked images, the places in the order picked, and their distance as a share of the usual one."""

    first: Picture
    second: Picture
    orders: tuple[int, int]
    distance: float
    copies: bool


@dataclass(frozen=True)
class NearCopies:
    """The closest pairs among `count` picked images, and how many images have one near; copies: exact ones beyond
    the first of each."""

    pairs: list[Pair]
    count: int
    near: int
    copies: int


def near_copies(content: ReportContent) -> NearCopies | None:
    """The closest pairs of the picked images; None where there are not two or nobody looked."""
    view, problem = content.view, content.problem
    if view is None or len(view.picked) < 2:
        return None
    embeddings = view.embeddings[view.rows(view.picked)].astype(np.float64)
    usual = usual_distance(embeddings)
    found, nearest = closest(embeddings, MOST_PAIRS)
    made, left = [], MOST_BYTES
    for i, j, distance in found:
        one, other = (int(view.picked[at]) for at in (i, j))
        pictures = pool_picture(problem, one), pool_picture(problem, other)
        left -= sum(each.most_bytes for each in pictures)
        if left < 0:
            break
        same = bool(np.array_equal(problem.pool.array[one], problem.pool.array[other]))
        made.append(Pair(*pictures, (i, j), distance / usual if usual else 0.0, same))
    near = int((nearest < NEAR * usual).sum()) if usual else len(nearest)
    return NearCopies(made, len(view.picked), near, _copies(problem, content.selection.pool_index))


def usual_distance(embeddings: np.ndarray) -> float:
    """The median distance between two of embeddings [P, E]."""
    some = evenly_apart(np.arange(len(embeddings)), _USUAL)
    distances = _distances(embeddings[some], embeddings[some])
    return float(np.median(distances[np.triu_indices(len(some), 1)]))


def closest(embeddings: np.ndarray, count: int) -> tuple[list[tuple[int, int, float]], np.ndarray]:
    """The `count` pairs i < j of embeddings [P, E] with the smallest distances, and each one's to its nearest [P].

    Smallest first, equal ones by position.
    """
    nearest = np.full(len(embeddings), np.inf)
    pairs: list[tuple[float, int, int]] = []
    for start in range(0, len(embeddings), _ROWS):
        distances = _distances(embeddings[start : start + _ROWS], embeddings)
        rows = np.arange(len(distances))
        distances[rows, start + rows] = np.inf
        nearest[start : start + _ROWS] = distances.min(axis=1)
        later = np.where(np.arange(len(embeddings))[None] > start + rows[:, None], distances, np.inf)
        smallest = np.argsort(later, axis=None, kind="stable")[:count]
        for row, column in zip(*np.unravel_index(smallest, later.shape), strict=True):
            if np.isfinite(later[row, column]):
                pairs.append((float(later[row, column]), start + int(row), int(column)))
    return [(i, j, distance) for distance, i, j in sorted(pairs)[:count]], nearest


def _distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Euclidean distances [n, m] of rows [n, E] and [m, E]."""
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * one @ other.T
    found: np.ndarray = np.sqrt(np.maximum(squares, 0.0))
    return found


def _copies(problem: Problem, picked: np.ndarray) -> int:
    """How many of the picked images are the same, number by number, as one that was picked before."""
    counted = Counter(problem.pool.array[index].tobytes() for index in picked)
    return sum(counted.values()) - len(counted)
