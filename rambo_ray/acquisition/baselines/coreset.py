"""CoreSet: greedy k-centre on the embeddings, with S_0 as the centres to start from.

Letters: N images in the pool, k in S_0, E numbers in an embedding, B images acquired.
"""

from __future__ import annotations

import numpy as np

from rambo_ray.acquisition.baselines.inputs import StrategyInputs, check_budget, nothing

_CHUNK = 64  # labelled images compared with the pool at a time: a few arrays of N * 64 float64


def coreset(inputs: StrategyInputs, budget: int, generator: np.random.Generator) -> np.ndarray:
    """The image farthest from all that is labelled or picked, again and again, int64 [B] (Sener & Savarese 2018).

    Euclidean distances between embeddings; of equally distant images the first. Without labelled images
    the first pick is uniformly random, the only random number drawn. Where all that is left coincides
    with what is picked, the order is that of the pool. Raises ValueError for a budget that is negative
    or exceeds the pool.
    """
    check_budget(budget, len(inputs))
    if budget == 0:
        return nothing()
    # Distances do not depend on the origin, and about the mean the least of them is lost to rounding.
    mean = inputs.embeddings.mean(axis=0, dtype=np.float64)
    points = inputs.embeddings - mean
    centres = inputs.labeled_embeddings - mean
    norms = np.einsum("ij,ij->i", points, points)
    nearest = np.full(len(points), np.inf)
    for start in range(0, len(centres), _CHUNK):
        some = centres[start : start + _CHUNK]
        squared = _squared(points, norms, some, np.einsum("ij,ij->i", some, some))
        np.minimum(nearest, squared.min(axis=1), out=nearest)
    picked = np.empty(budget, dtype=np.int64)
    for count in range(budget):
        first_of_all = count == 0 and len(centres) == 0
        position = int(generator.integers(len(points))) if first_of_all else int(nearest.argmax())
        picked[count] = position
        here = slice(position, position + 1)
        np.minimum(nearest, _squared(points, norms, points[here], norms[here])[:, 0], out=nearest)
        nearest[position] = -1.0  # below the 0 of its copies: nothing is picked twice
    return picked


def _squared(points: np.ndarray, norms: np.ndarray, centres: np.ndarray, their_norms: np.ndarray) -> np.ndarray:
    """Squared distances [N, c] of points [N, E] to centres [c, E], both with their squared norms.

    What rounding could have left of a coincidence is 0.
    """
    sums = norms[:, None] + their_norms
    squared = points @ centres.T
    squared *= -2
    squared += sums
    squared[squared <= (points.shape[1] + 8) * np.finfo(np.float64).eps * sums] = 0.0
    return squared
