"""The pool in two dimensions: the principal components of f's embeddings, as a drawing of the page's own.

SVG and not a picture: it follows the page's colours by day and night, stays sharp, and names what one points at.

P points, E numbers in an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rambo_ray.report.content import ReportContent
from rambo_ray.report.gallery import ID_LETTERS, shortened

WIDTH, HEIGHT, EDGE = 720, 440, 14
# Points with a name to them take a hundred bytes each; of more classes the names would hide the points.
MOST_NAMED, MOST_CLASSES = 1000, 12
NAME_LETTERS = 24


@dataclass(frozen=True)
class Dot:
    """A picked image on the map: where, its place in the order picked, its name."""

    x: float
    y: float
    order: int
    id: str


@dataclass(frozen=True)
class Name:
    """The name of a class where f sees most of it."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class PoolMap:
    """What is drawn: the pool, S_0 and the unnamed picked images as paths of dots, the picked ones, and names.

    share: of the embeddings' variance over the pool, that the two directions hold.
    """

    pool: str
    labeled: str
    others: str
    dots: list[Dot]
    names: list[Name]
    share: float
    width: int = WIDTH
    height: int = HEIGHT


def pool_map(content: ReportContent) -> PoolMap | None:
    """The map of a run; None where nobody looked or all images are the same to f."""
    view = content.view
    if view is None:
        return None
    evenly, picked = view.rows(view.evenly), view.rows(view.picked)
    found = plane(view.embeddings[evenly], [view.embeddings[evenly], view.embeddings[picked], view.labeled])
    if found is None:
        return None
    (pool, chosen, labeled), share = found
    placed = _placed(np.concatenate([pool, chosen, labeled]))
    pool, chosen, labeled = np.split(placed, [len(pool), len(pool) + len(chosen)])
    ids = content.problem.pool.ids
    dots = [
        Dot(x, y, order, shortened(ids[index], ID_LETTERS))
        for order, ((x, y), index) in enumerate(zip(chosen[:MOST_NAMED].tolist(), view.picked.tolist(), strict=False))
    ]
    guesses = view.probabilities[evenly].argmax(axis=1)
    return PoolMap(
        pool=_path(pool),
        labeled=_path(labeled),
        others=_path(chosen[MOST_NAMED:]),
        dots=dots,
        names=_names(pool, guesses, content.problem.class_names),
        share=share,
    )


def plane(fitted: np.ndarray, shown: Sequence[np.ndarray]) -> tuple[list[np.ndarray], float] | None:
    """Each of `shown` [P, E] in the plane of `fitted`'s first two principal components, [P, 2], and their share.

    None where `fitted` does not vary. The same numbers give the same plane: no part of it is random.
    """
    from sklearn.decomposition import PCA  # only here: it takes a second to load

    fitted = fitted.astype(np.float64)
    if len(fitted) < 2 or not fitted.var(axis=0).any():
        return None
    size = min(2, *fitted.shape)
    model = PCA(size, svd_solver="full").fit(fitted)
    flat = [model.transform(part.astype(np.float64)) if len(part) else np.zeros((0, size)) for part in shown]
    if size < 2:
        flat = [np.column_stack([part, np.zeros(len(part))]) for part in flat]
    return flat, float(model.explained_variance_ratio_.sum())


def _placed(points: np.ndarray) -> np.ndarray:
    """Points [P, 2] on the drawing, in pixels to a tenth: one scale for both directions, in the middle."""
    low, high = points.min(axis=0), points.max(axis=0)
    room = np.array([WIDTH - 2 * EDGE, HEIGHT - 2 * EDGE])
    scale = (room / np.maximum(high - low, 1e-12)).min()
    middle = np.array([WIDTH, HEIGHT]) / 2
    placed = middle + (points - (low + high) / 2) * scale * np.array([1, -1])
    return np.round(placed, 1)


def _path(points: np.ndarray) -> str:
    """Dots as one path: each a line of no length, whose round ends are drawn."""
    return "".join(f"M{x:g} {y:g}h0" for x, y in points.tolist())


def _names(points: np.ndarray, classes: np.ndarray, names: Sequence[str]) -> list[Name]:
    """The name of each class at the median of its points [P, 2], of which `classes` [P] says the class."""
    if len(names) > MOST_CLASSES:
        return []
    made = []
    for number, name in enumerate(names):
        own = points[classes == number]
        if len(own):
            x, y = np.round(np.median(own, axis=0), 1).tolist()
            made.append(Name(x, y, shortened(name, NAME_LETTERS)))
    return made
