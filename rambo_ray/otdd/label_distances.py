"""Distances between classes: step 1 of the definition, for all pairs of classes at once.

Both methods give W [k1, k2] in squared feature units. `gaussian` compares class means and
covariances, `exact` the class clouds themselves. A pair is never treated as the same class
because its names agree; only within one dataset is a class at distance 0 from itself, which
the callers below see to by `within=True`.

Letters: n samples in k1 classes, m samples in k2 classes, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .classes import ClassOrder, Floats, Ints, Tile, class_means
from .gram import squared_distances
from .sinkhorn import annealed, annealed_self


@dataclass(frozen=True)
class Cloud:
    """One dataset as the label distances see it.

    `order`: its samples sorted by class; `inner` [n, n]: their inner products; `low`, `high`: the
    bounding boxes of its classes [k, D], which `exact` reads, or the one around all [1, D].
    """

    order: ClassOrder
    inner: Floats
    low: Floats | None = None
    high: Floats | None = None

    @property
    def norms(self) -> Floats:
        """[n]: squared norms."""
        return np.ascontiguousarray(self.inner.diagonal())


def gaussian(a: Cloud, b: Cloud, cross: Floats, *, within: bool = False) -> Floats:
    """Squared 2-Wasserstein distances of the Gaussians fitted to the classes, [k1, k2].

    `cross` [n, m] are the inner products of a's and b's samples. With centred class matrices X, Y
    (rows = samples, n1 and n2 of them) the definition's trace term, the square root of a product
    of covariance roots, is the sum of the singular values of X Y^T over sqrt((n1-1)(n2-1)): no
    D x D matrix is formed, and a class with fewer samples than features is no special case. A
    class of one sample has zero covariance.
    """
    squares_a, traces_a = _moments(a)
    squares_b, traces_b = _moments(b)
    means = squares_a[:, None] + squares_b - 2 * class_means(cross, a.order, b.order)
    freedom = np.sqrt(np.outer(np.maximum(a.order.counts - 1, 1), np.maximum(b.order.counts - 1, 1)))
    overlap = np.zeros(means.shape)
    for tile_a in a.order.tiles:
        for tile_b in b.order.tiles:
            block = _centred(_pairs(cross, tile_a, tile_b), tile_a, tile_b)
            where = np.ix_(tile_a.classes, tile_b.classes)
            if within and tile_a is tile_b:
                upper = np.triu_indices(len(tile_a.classes), 1)
                values = np.zeros(block.shape[:2])
                values[upper] = _singular_value_sums(block[upper])
                overlap[where] = values + values.T
            else:
                overlap[where] = _singular_value_sums(block)
    traces = traces_a[:, None] + traces_b - 2 * overlap / freedom
    return _finish(np.maximum(means, 0.0) + np.maximum(traces, 0.0), within)


def _moments(cloud: Cloud) -> tuple[Floats, Floats]:
    """[k] squared norms of the class means and [k] traces of the unbiased class covariances."""
    order = cloud.order
    squares = class_means(cloud.inner, order, order).diagonal()
    spread = np.add.reduceat(cloud.norms, order.starts) - order.counts * squares
    return squares, np.maximum(spread, 0.0) / np.maximum(order.counts - 1, 1)


def _pairs(values: Floats, a: Tile, b: Tile) -> Floats:
    """[n, m] -> [p, q, s, t]: the block of every pair of classes of two tiles."""
    return values[a.index[:, None, :, None], b.index[None, :, None, :]]


def _centred(block: Floats, a: Tile, b: Tile) -> Floats:
    """Inner products of class-centred samples; 0 on the padding, where it adds no singular value."""
    rows = (block @ b.weights[None, :, :, None])[..., 0]
    columns = (a.weights[:, None, None, :] @ block)[:, :, 0]
    means = (rows[:, :, None, :] @ a.weights[:, None, :, None])[..., 0, 0]
    block -= rows[..., None]
    block -= columns[:, :, None, :]
    block += means[..., None, None]
    block *= (a.weights > 0)[:, None, :, None]
    block *= (b.weights > 0)[None, :, None, :]
    return block


def _singular_value_sums(blocks: Floats) -> Floats:
    if blocks.size == 0:
        return np.zeros(blocks.shape[:-2])
    sums: Floats = np.linalg.svd(blocks, compute_uv=False).sum(-1)
    return sums


def exact(a: Cloud, b: Cloud, cross: Floats, entreg: float, debiased: bool, *, within: bool = False) -> Floats:
    """Entropic transport cost between the classes' clouds, cost |x-y|^2, annealed (step 3), [k1, k2].

    The start scale of a pair is the diagonal of the box around both classes. `debiased` takes off
    half of each cloud's transport to itself, on the same schedule. `cross` [n, m] are the inner
    products of a's and b's samples.
    """
    scales = _box_diagonals(a, b)
    cost = squared_distances(cross, a.norms, b.norms)
    distances = np.zeros(scales.shape)
    for tile_a in a.order.tiles:
        for tile_b in b.order.tiles:
            i, j = np.indices((len(tile_a.classes), len(tile_b.classes))).reshape(2, -1)
            if within:  # one of (c, c') and (c', c), which are equal
                first = tile_a.classes[i] < tile_b.classes[j]
                i, j = i[first], j[first]
            if len(i) == 0:
                continue
            pair = tile_a.classes[i], tile_b.classes[j]
            block = cost[tile_a.index[i][:, :, None], tile_b.index[j][:, None, :]]
            w_a, w_b = tile_a.weights[i], tile_b.weights[j]
            f, g = annealed(block, w_a, w_b, scales[pair], entreg)
            distances[pair] = (w_a * f).sum(1) + (w_b * g).sum(1)
            if debiased:
                distances[pair] -= _self_terms(a, tile_a, i, scales[pair], entreg)
                distances[pair] -= _self_terms(b, tile_b, j, scales[pair], entreg)
            if within:
                distances[pair[::-1]] = distances[pair]
    return _finish(distances, within)


def _self_terms(cloud: Cloud, tile: Tile, chosen: Ints, scale: Floats, entreg: float) -> Floats:
    """Half the entropic cost of each chosen class with itself, on its pair's schedule."""
    index, weights = tile.index[chosen], tile.weights[chosen]
    norms = cloud.norms
    cost = cloud.inner[index[:, :, None], index[:, None, :]] * -2.0
    cost += norms[index][:, :, None] + norms[index][:, None, :]
    np.maximum(cost, 0.0, out=cost)
    # A sample and the padding that repeats it are at distance 0 too, but weigh nothing.
    cost[:, np.arange(index.shape[1]), np.arange(index.shape[1])] = 0.0
    p = annealed_self(cost, weights, scale, entreg)
    return (weights * p).sum(1)


def _box_diagonals(a: Cloud, b: Cloud) -> Floats:
    """[k1, k2]: Euclidean diagonal of the bounding box around each pair of classes."""
    assert a.low is not None and a.high is not None and b.low is not None and b.high is not None
    ranges = np.maximum(a.high[:, None], b.high) - np.minimum(a.low[:, None], b.low)
    return np.sqrt(np.einsum("ijd,ijd->ij", ranges, ranges))


def _finish(distances: Floats, within: bool) -> Floats:
    if within:
        np.fill_diagonal(distances, 0.0)
    return distances
