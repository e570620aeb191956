"""Samples sorted by class, and classes gathered into blocks of equal shape.

Letters: n samples in k classes; a tile holds p classes, each padded to s samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Tile:
    """Some classes of like size as one rectangular index.

    `classes` [p]: their numbers. `index` [p, s]: their samples as positions in the sorted order;
    a class with fewer than s samples repeats its first one. `weights` [p, s]: 1/size on real
    samples, 0 on the padding, so that a sum with these weights never sees it.
    """

    classes: Ints
    index: Ints
    weights: Floats


@dataclass(frozen=True)
class ClassOrder:
    """Samples sorted by class: class c owns positions starts[c] up to starts[c] + counts[c].

    `rows` [n]: which samples are kept, in that order. `counts` [k]: samples per class.
    """

    rows: Ints
    counts: Ints

    @cached_property
    def starts(self) -> Ints:
        return np.concatenate([[0], np.cumsum(self.counts)[:-1]])

    @cached_property
    def numbers(self) -> Ints:
        """[n]: class number, 0..k-1, of each kept sample."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @cached_property
    def tiles(self) -> list[Tile]:
        """The classes in groups within a factor of two in size, so padding at most doubles the work."""
        return [self._tile(group) for group in _alike(self.counts)]

    def _tile(self, classes: Ints) -> Tile:
        counts = self.counts[classes][:, None]
        column = np.arange(counts.max())
        real = column < counts
        return Tile(classes, self.starts[classes][:, None] + np.where(real, column, 0), real / counts)


def sort_by_class(labels: NDArray[Any], min_class_count: int, rows: Ints | None = None) -> ClassOrder:
    """Drop the classes with fewer than `min_class_count` samples among `rows` and sort the rest.

    `labels` [N]; `rows` [n]: the samples looked at, default all. Classes keep the order of their
    labels and samples of a class the order of their positions, so the result does not depend on
    the order of `rows`. This is the cleaning that precedes step 1.
    """
    rows = np.arange(len(labels)) if rows is None else np.sort(rows)
    own = labels[rows]
    values, inverse, counts = np.unique(own, return_inverse=True, return_counts=True)
    order = np.argsort(inverse, kind="stable")
    keep = counts >= min_class_count
    return ClassOrder(rows[order[keep[inverse[order]]]].astype(np.int64), counts[keep].astype(np.int64))


def _alike(counts: Ints) -> Iterator[Ints]:
    """Class numbers, largest first, cut where a class has less than half the first one's size."""
    order = np.argsort(-counts, kind="stable")
    begin = 0
    for i in range(1, len(order) + 1):
        if i == len(order) or 2 * counts[order[i]] < counts[order[begin]]:
            yield order[begin:i]
            begin = i


def class_means(values: Floats, a: ClassOrder, b: ClassOrder) -> Floats:
    """[n, m] over the samples of a and b -> [k1, k2]: the mean over each pair of classes."""
    sums = np.add.reduceat(np.add.reduceat(values, a.starts, axis=0), b.starts, axis=1)
    return sums / np.outer(a.counts, b.counts)
