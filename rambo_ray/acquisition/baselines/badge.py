"""BADGE: k-means++ seeding on the gradients that f would see if its predictions were right.

Letters: N images in the pool, K classes, E numbers in an embedding, B images acquired. Image i has the
residual a_i [K] and the embedding e_i [E]; its gradient g_i = a_i (x) e_i has K * E numbers.
"""

from __future__ import annotations

import numpy as np

from rambo_ray.acquisition.baselines.inputs import StrategyInputs, check_budget, nothing, residuals


def badge(inputs: StrategyInputs, budget: int, generator: np.random.Generator) -> np.ndarray:
    """Diverse images with large gradients, int64 [B] (Ash et al. 2020).

    g_i = (softmax_i - onehot(argmax_i)) (x) e_i is the gradient of the last layer's weights for the
    predicted label. The first image has the largest |g_i|; each further one is drawn with probability
    proportional to the squared distance of g_i to the nearest gradient already chosen. Where all that
    is left coincides with what is chosen, the draw is uniform among those left.

    Gradients are never formed: |g_i - g_j|^2 = |a_i|^2 |e_i|^2 + |a_j|^2 |e_j|^2 - 2 (a_i.a_j)(e_i.e_j),
    N (K + E) multiplications per pick. Raises ValueError for a budget that is negative or exceeds the pool.
    """
    check_budget(budget, len(inputs))
    if budget == 0:
        return nothing()
    a = residuals(inputs.logits, inputs.logits.argmax(axis=1))
    e = inputs.embeddings.astype(np.float64)
    norms = np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", e, e)
    # The difference above loses at most this share of |g_i|^2 + |g_j|^2 to rounding. Less than that is
    # taken for coincidence, or copies of a chosen image would be drawn for their noise. The bound
    # compares the two gradients at hand only: far from a large centre, a small gradient is its own cluster.
    rounding = (a.shape[1] + e.shape[1] + 8) * np.finfo(np.float64).eps
    picked = np.empty(budget, dtype=np.int64)
    left = np.ones(len(a), dtype=bool)
    nearest = np.full(len(a), np.inf)
    for count in range(budget):
        position = int(norms.argmax()) if count == 0 else _draw(nearest, left, generator)
        picked[count] = position
        left[position] = False
        sums = norms + norms[position]
        squared = sums - 2 * (a @ a[position]) * (e @ e[position])
        squared[squared <= rounding * sums] = 0.0
        np.minimum(nearest, squared, out=nearest)
        nearest[position] = 0.0
    return picked


def _draw(weights: np.ndarray, left: np.ndarray, generator: np.random.Generator) -> int:
    """A position with probability proportional to weights [N]; all 0: uniform among those `left`."""
    cumulative = np.cumsum(weights)
    if cumulative[-1] == 0.0:
        return int(generator.choice(np.flatnonzero(left)))
    # The first whose cumulative weight exceeds the draw: never one of weight 0, since u < 1.
    return int(np.searchsorted(cumulative, generator.random() * cumulative[-1], side="right"))
