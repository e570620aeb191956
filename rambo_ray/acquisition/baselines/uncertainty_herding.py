"""Uncertainty Herding: cover the images that f is unsure of, with a kernel about everything labelled.

Letters: N images in the pool, k in S_0, V in S_val, E numbers in an embedding, B images acquired, m images
that the coverage is summed over. Image n has the uncertainty u_n and the coverage c_n, both in [0, 1].
"""

from __future__ import annotations

import numpy as np

from rambo_ray.acquisition.baselines.inputs import StrategyInputs, check_budget, nothing, unit
from rambo_ray.classifier.probabilities import margins, probabilities

SAMPLE = 4096  # m at most
TEMPERATURES = np.logspace(-1, 1, 41)
BINS = 15
_FEW = 64  # gains computed anew at a time
_BLOCK = 256  # gains, or labelled images, at a time where all of them are gone through
_COINCIDENT = 4 * np.finfo(np.float32).eps  # squared distance that rounding leaves of two equal unit vectors


def uncertainty_herding(inputs: StrategyInputs, budget: int, generator: np.random.Generator) -> np.ndarray:
    """Greedily the largest uncertainty coverage, int64 [B] (Bae, Oliveira & Sutherland 2025).

    Coverage is sum_n u_n max_x' exp(-|x_n - x'|^2 / sigma^2) over x' in S_0 and the picks, of embeddings scaled
    to length 1; u_n = 1 - margin of f's probabilities at the `temperature` that calibrates them on S_val;
    sigma is the `bandwidth` of S_0. Each pick raises coverage the most, the first among equals. As S_0 grows
    dense sigma falls, and the method goes from covering the pool to plain margins.

    Ours: the paper calibrates on splits of the labelled images, we on S_val, which every method here may
    use; and beyond SAMPLE images the sum is that over the image itself and, scaled up, over m others drawn by
    the generator. Gains only fall as coverage grows, so just the largest old ones are computed anew (Minoux
    1978): N m E multiplications at first, then N E per pick and a few times m E. Memory is N * 256 numbers.
    Raises ValueError for a budget that is negative or exceeds the pool.
    """
    check_budget(budget, len(inputs))
    if budget == 0:
        return nothing()
    scale = temperature(inputs.validation_logits, inputs.validation_labels)
    u = 1 - margins(inputs.logits / scale)
    coverage = _Coverage(unit(inputs.embeddings), u, bandwidth(unit(inputs.labeled_embeddings)), generator)
    coverage.add(unit(inputs.labeled_embeddings))
    everyone = np.arange(len(u))
    bounds = np.concatenate([coverage.gains(everyone[i : i + _BLOCK]) for i in range(0, len(u), _BLOCK)])
    picked = np.empty(budget, dtype=np.int64)
    for count in range(budget):
        fresh = np.zeros(len(u), dtype=bool)
        while True:
            best = int(bounds.argmax())  # the first of equals
            if fresh[best]:
                break
            some = np.argpartition(-bounds, min(_FEW, len(u)) - 1)[:_FEW]
            some = np.union1d(some, [best])
            some = some[~fresh[some] & np.isfinite(bounds[some])]
            bounds[some] = coverage.gains(some)
            fresh[some] = True
        picked[count] = best
        bounds[best] = -np.inf
        coverage.add(coverage.points[best : best + 1])
    return picked


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature, of 41 from 0.1 to 10, by which f is best calibrated on logits [V, K] and labels [V].

    That with the smallest expected calibration error in 15 bins of equal width, the nearest to 1 among
    equals; 1 where there are no labels.
    """
    if len(labels) == 0:
        return 1.0
    ordered = TEMPERATURES[np.argsort(np.abs(np.log(TEMPERATURES)), kind="stable")]
    right = logits.argmax(axis=1) == labels
    errors = []
    for scale in ordered:
        confidence = probabilities(logits / scale).max(axis=1)
        bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
        errors.append(np.abs(np.bincount(bins, weights=right - confidence, minlength=BINS)).sum())
    return float(ordered[int(np.argmin(np.round(errors, 9)))])


def bandwidth(points: np.ndarray) -> float:
    """sigma: the smallest distance above 0 between two of points [k, E] of length 1; 1 where there is none."""
    smallest = np.inf
    for start in range(0, len(points), _BLOCK):
        squared = _squared(points[start : start + _BLOCK].astype(np.float64), points.astype(np.float64))
        apart = squared[squared > _COINCIDENT]
        smallest = min(smallest, apart.min(initial=np.inf))
    return float(np.sqrt(smallest)) if np.isfinite(smallest) else 1.0


class _Coverage:
    """Uncertainty coverage of points [N, E] of length 1, float32, by those added so far."""

    def __init__(self, points: np.ndarray, u: np.ndarray, sigma: float, generator: np.random.Generator) -> None:
        n = len(points)
        self.points, self.u, self.sigma = points, u, sigma
        self.sample = np.arange(n) if n <= SAMPLE else np.sort(generator.permutation(n)[:SAMPLE])
        self.place = np.full(n, -1)  # of an image in the sample
        self.place[self.sample] = np.arange(len(self.sample))
        self.sampled = points[self.sample]
        self.nearest = np.full(n, np.inf)  # squared distance to what covers

    def add(self, points: np.ndarray) -> None:
        """More points [c, E] cover."""
        for start in range(0, len(points), _BLOCK):
            squared = _squared(self.points, points[start : start + _BLOCK])
            np.minimum(self.nearest, squared.min(axis=1), out=self.nearest)

    def gains(self, positions: np.ndarray) -> np.ndarray:
        """By how much each of the images at `positions` [c] would raise coverage, float64 [c]."""
        covered = np.exp(-self.nearest[self.sample] / self.sigma**2)
        kernel = np.exp(_squared(self.points[positions], self.sampled) / -np.float32(self.sigma**2))
        place = self.place[positions]
        within = place >= 0
        kernel[np.flatnonzero(within), place[within]] = 0.0  # the image itself is counted apart
        others = np.maximum(kernel - covered.astype(np.float32), 0) @ self.u[self.sample]
        count = len(self.sample) - within
        scale = np.divide(len(self.points) - 1, count, out=np.zeros(len(count)), where=count > 0)
        own = self.u[positions] * -np.expm1(-self.nearest[positions] / self.sigma**2)
        return np.asarray(own + scale * others, dtype=np.float64)


def _squared(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared distances [c, n] of rows of some [c, E] and others [n, E], 0 where rounding could have left them."""
    norms = np.einsum("ij,ij->i", some, some)[:, None] + np.einsum("ij,ij->i", others, others)
    squared = norms - 2 * (some @ others.T)
    squared[squared <= _COINCIDENT] = 0.0
    return np.asarray(squared)
