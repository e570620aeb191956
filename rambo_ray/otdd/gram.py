"""Inner products of samples, the one place where the feature dimension is paid for.

Every cost, mean and covariance a distance needs is a function of inner products, so a subset
only gathers rows of two matrices: pool x validation and pool x pool. Both are filled in fixed
blocks, when a subset first touches them. Fixed blocks, because a product's last bit depends on
the shape it was computed in: filled this way a distance is the same whichever subsets came before.

Letters: N pool samples, n of them in a subset, m validation samples, D features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .classes import Floats, Ints

_BLOCK = 256


class Gram:
    """Inner products in float64 of features centred at the validation mean.

    Centring changes no distance and keeps |x|^2 + |y|^2 - 2 x.y from cancelling when features
    sit far from the origin. Above `cache_bytes` for both matrices nothing is kept and each subset
    pays for its own products.
    """

    def __init__(self, features: NDArray[Any], val_features: NDArray[Any], cache_bytes: int) -> None:
        self._features = features
        validation = np.asarray(val_features, np.float64)
        self._center = validation.mean(0)
        self._validation = validation - self._center
        size, m = len(features), len(validation)
        self._cached = 8 * size * (size + m) <= cache_bytes
        if self._cached:
            blocks = -(-size // _BLOCK)
            # Untouched pages of an empty array take no memory, so an unused block costs nothing.
            self._cross: Floats = np.empty((size, m))
            self._square: Floats = np.empty((size, size))
            self._cross_done = np.zeros(blocks, bool)
            self._square_done = np.zeros((blocks, blocks), bool)

    def validation(self) -> Floats:
        """[m, m]: validation with itself."""
        return self._validation @ self._validation.T

    def cross(self, rows: Ints) -> Floats:
        """[n, m]: the pool samples at `rows` with the validation samples."""
        if not self._cached:
            return self._centred(rows) @ self._validation.T
        for i in np.unique(rows // _BLOCK):
            if not self._cross_done[i]:
                block = self._slice(i)
                np.matmul(self._centred(block), self._validation.T, out=self._cross[block])
                self._cross_done[i] = True
        return self._cross[rows]

    def square(self, rows: Ints) -> Floats:
        """[n, n]: the pool samples at `rows` with each other, exactly symmetric."""
        if not self._cached:
            x = self._centred(rows)
            return x @ x.T
        blocks = np.unique(rows // _BLOCK)
        for i in blocks:
            missing = [j for j in blocks[blocks >= i] if not self._square_done[i, j]]
            if missing:
                x = self._centred(self._slice(i))
                for j in missing:
                    self._fill_square(x, i, j)
        return self._square[rows[:, None], rows]

    def _fill_square(self, x: Floats, i: int, j: int) -> None:
        tile = x @ (x if i == j else self._centred(self._slice(j))).T
        self._square[self._slice(i), self._slice(j)] = tile
        self._square[self._slice(j), self._slice(i)] = tile.T
        self._square_done[i, j] = True

    def _slice(self, block: int) -> slice:
        return slice(int(block) * _BLOCK, min(len(self._features), (int(block) + 1) * _BLOCK))

    def _centred(self, rows: Ints | slice) -> Floats:
        return self._features[rows].astype(np.float64) - self._center


def squared_distances(inner: Floats, norms_a: Floats, norms_b: Floats) -> Floats:
    """Inner products [n, m] and squared norms [n], [m] -> squared Euclidean distances [n, m]."""
    distances = inner * -2.0
    distances += norms_a[:, None]
    distances += norms_b
    return np.maximum(distances, 0.0, out=distances)
