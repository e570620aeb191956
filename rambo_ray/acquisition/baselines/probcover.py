"""ProbCover: as many images of the pool as possible within a ball around something labelled.

Letters: N images in the pool, k in S_0, K classes, E numbers in an embedding, B images acquired.
"""

from __future__ import annotations

import numpy as np

from rambo_ray.acquisition.baselines.clusters import k_means
from rambo_ray.acquisition.baselines.inputs import StrategyInputs, check_budget, nothing, unit

PURITY = 0.95
_SAMPLE = 1000  # balls from which the radius is estimated
_BLOCK = 2048  # rows and columns compared at a time; a multiple of the 8 bits of a byte
# The pair that sets the radius would lie on it, and rounding decide whether it is within: it is not.
_SHRINK = 1e-4
_FEW = 255  # rows of bits added up in a byte


def probcover(inputs: StrategyInputs, budget: int, generator: np.random.Generator) -> np.ndarray:
    """Greedy maximum coverage by balls of one radius, int64 [B] (Yehuda et al. 2022).

    Embeddings are scaled to length 1. A ball covers the images nearer to its centre than `radius`, and
    the centre. Images of S_0 cover first; then each pick covers the most images not covered yet, the
    first among equals. Once everything is covered, the rest is drawn uniformly from what is left.

    Exact: every covered image is subtracted once from the counts of all balls that hold it, N^2 bit
    operations in all. Memory is N^2 / 8 bytes. Distances are those of float32, good to about 1e-3 where
    they are small. Raises ValueError for a budget that is negative or exceeds the pool.
    """
    check_budget(budget, len(inputs))
    if budget == 0:
        return nothing()
    points, classes = unit(inputs.embeddings), inputs.logits.shape[1]
    delta = radius(points, k_means(points, min(classes, len(points)), generator), generator)
    balls, counts = _balls(points, delta)
    covered = _covered_by(unit(inputs.labeled_embeddings), points, delta)
    _subtract(counts, balls, np.flatnonzero(covered))
    picked: list[int] = []
    while len(picked) < budget and not covered.all():
        position = int(counts.argmax())  # covers something, hence was not picked before
        new = np.unpackbits(balls[position], count=len(points)).astype(bool) & ~covered
        covered |= new
        _subtract(counts, balls, np.flatnonzero(new))
        picked.append(position)
    first = np.array(picked, dtype=np.int64)
    rest = np.setdiff1d(np.arange(len(points), dtype=np.int64), first)
    return np.concatenate([first, generator.permutation(rest)])[:budget]


def radius(points: np.ndarray, classes: np.ndarray, generator: np.random.Generator) -> float:
    """The largest radius at which at least 95 % of open balls around points [N, E] hold one class of classes [N].

    A ball is pure up to its centre's distance to the nearest point of another class, so this is the 5 %
    quantile of those distances, less a ten-thousandth for rounding; over at most 1000 points, drawn by
    the generator. Infinite where there is a single class.
    """
    drawn = generator.permutation(len(points))[:_SAMPLE]
    nearest = np.full(len(drawn), np.inf)
    for start in range(0, len(points), _BLOCK):
        part = slice(start, start + _BLOCK)
        halves = _negative_halves(points[drawn], points[part])
        halves[classes[drawn][:, None] == classes[part]] = -np.inf
        np.minimum(nearest, np.sqrt(np.maximum(-2 * halves.max(axis=1), 0)), out=nearest)
    return float(np.sort(nearest)[int((1 - PURITY) * len(nearest))]) * (1 - _SHRINK)


def _negative_halves(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """-|x - y|^2 / 2 for rows x of some [m, E] and y of others [n, E], float32 [m, n], in one matrix product."""
    half, their_half = (np.einsum("ij,ij->i", x, x)[:, None] / 2 for x in (some, others))
    left = np.concatenate([some, -half, np.ones_like(half)], axis=1)
    return left @ np.concatenate([others, np.ones_like(their_half), -their_half], axis=1).T


def _balls(points: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """Which of points [N, E] are nearer than delta, N rows of N bits, and how many in each row, int32 [N].

    Only blocks on and above the diagonal are computed and mirrored: half the work, and rounding cannot
    make i hold j without j holding i.
    """
    n = len(points)
    bits = np.zeros((n, -(-n // 8)), dtype=np.uint8)
    counts = np.zeros(n, dtype=np.int32)
    for i in range(0, n, _BLOCK):
        for j in range(i, n, _BLOCK):
            near = _negative_halves(points[i : i + _BLOCK], points[j : j + _BLOCK]) > -(delta**2) / 2
            if i == j:
                near |= near.T
                np.fill_diagonal(near, True)
            _put(bits, counts, near, i, j)
            if i != j:
                _put(bits, counts, np.ascontiguousarray(near.T), j, i)
    return bits, counts


def _put(bits: np.ndarray, counts: np.ndarray, near: np.ndarray, row: int, column: int) -> None:
    """Write a block of booleans into `bits` at (row, column), and add its rows to `counts`."""
    packed = np.packbits(near, axis=1)
    rows = slice(row, row + len(near))
    bits[rows, column // 8 : column // 8 + packed.shape[1]] = packed
    counts[rows] += np.count_nonzero(near, axis=1)


def _covered_by(centres: np.ndarray, points: np.ndarray, delta: float) -> np.ndarray:
    """Which of points [N, E] are nearer than delta to one of centres [k, E], boolean [N]."""
    covered = np.zeros(len(points), dtype=bool)
    for i in range(0, len(points), _BLOCK):
        for j in range(0, len(centres), _BLOCK):
            near = _negative_halves(points[i : i + _BLOCK], centres[j : j + _BLOCK]) > -(delta**2) / 2
            covered[i : i + _BLOCK] |= near.any(axis=1)
    return covered


def _subtract(counts: np.ndarray, balls: np.ndarray, rows: np.ndarray) -> None:
    """Take the newly covered `rows` out of the counts [N] of every ball that holds them."""
    for start in range(0, len(rows), _FEW):
        held = np.unpackbits(balls[rows[start : start + _FEW]], axis=1, count=len(counts))
        counts -= held.sum(axis=0, dtype=np.uint8)
