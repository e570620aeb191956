"""The optimal transport dataset distance as its definition reads: slow, plain, the tests' oracle.

Nothing is precomputed, shared or batched here. Covariances are formed, their roots taken by
eigendecomposition, every Sinkhorn update is a log-sum-exp of its own, and iterating to a fixed
point is plain alternation.

Letters: n samples of the first dataset in k1 classes, m samples of the second in k2 classes,
D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp


@dataclass(frozen=True)
class Plan:
    """The choices a distance depends on; the names are those of `rambo_ray.otdd.distances`."""

    method: str = "gaussian"
    solver: str = "converged"
    entreg: float = 0.1
    inner_entreg: float = 0.1
    debiased: bool = True
    inner_debiased: bool = False
    lambda_x: float = 1.0
    lambda_y: float = 1.0
    tolerance: float = 1e-9
    max_iterations: int = 200_000


def cleaned(features, labels, min_class_count=2):
    """Drop the classes below `min_class_count` samples and renumber what is left 0..k-1."""
    values, counts = np.unique(labels, return_counts=True)
    kept = values[counts >= min_class_count]
    rows = np.isin(labels, kept)
    return np.asarray(features, np.float64)[rows], np.searchsorted(kept, np.asarray(labels)[rows])


def squared_distances(x, y):
    """[n, D], [m, D] -> [n, m]: coordinate differences, row by row."""
    return np.stack([((row - y) ** 2).sum(1) for row in x])


def temperatures(scale, entreg):
    """d^2 twice, then its quarters above the regularisation, then the regularisation."""
    sequence, e = [scale**2], scale**2
    while e > entreg:
        sequence.append(e)
        e /= 4
    return [*sequence, entreg]


def softmin(cost, h, e):
    """[n, m], [m] -> [n]: -e log sum_j exp(h_j - cost_ij / e)."""
    return -e * logsumexp(h[None, :] - cost / e, axis=1)


def annealed(cost, scale, entreg):
    """Step 3 between two datasets of uniform weights: f [n], g [m]."""
    n, m = cost.shape
    log_a, log_b = np.full(n, -np.log(n)), np.full(m, -np.log(m))
    sequence = temperatures(scale, entreg)
    f, g = softmin(cost, log_b, sequence[0]), softmin(cost.T, log_a, sequence[0])
    for e in sequence:
        f_new, g_new = softmin(cost, log_b + g / e, e), softmin(cost.T, log_a + f / e, e)
        f, g = (f + f_new) / 2, (g + g_new) / 2
    e = entreg
    return softmin(cost, log_b + g / e, e), softmin(cost.T, log_a + f / e, e)


def annealed_self(cost, scale, entreg):
    """Step 3 of a dataset with itself: p [n]."""
    log_a = np.full(len(cost), -np.log(len(cost)))
    sequence = temperatures(scale, entreg)
    p = softmin(cost, log_a, sequence[0])
    for e in sequence:
        p = (p + softmin(cost, log_a + p / e, e)) / 2
    return softmin(cost, log_a + p / entreg, entreg)


def fixed_point(cost, scale, entreg, tolerance, max_iterations):
    """Alternate updates at `entreg`, from the annealed start, until f moves less than `tolerance`."""
    n, m = cost.shape
    log_a, log_b = np.full(n, -np.log(n)), np.full(m, -np.log(m))
    f, g = annealed(cost, scale, entreg)
    for _ in range(max_iterations):
        g = softmin(cost.T, log_a + f / entreg, entreg)
        f_new = softmin(cost, log_b + g / entreg, entreg)
        moved, f = np.abs(f_new - f).max(), f_new
        if moved < tolerance:
            break
    return f, g


def fixed_point_self(cost, scale, entreg, tolerance, max_iterations):
    """Averaged updates of a dataset with itself at `entreg` until p moves less than `tolerance`."""
    log_a = np.full(len(cost), -np.log(len(cost)))
    p = annealed_self(cost, scale, entreg)
    for _ in range(max_iterations):
        p_new = softmin(cost, log_a + p / entreg, entreg)
        moved, p = np.abs(p_new - p).max(), (p + p_new) / 2
        if moved < tolerance:
            break
    return p


def bounding_box(*clouds):
    """Ranges of every column over all clouds together."""
    points = np.concatenate(clouds)
    return points.max(0) - points.min(0)


def root(matrix):
    """Square root of a covariance; eigenvalues within rounding of 0 are 0."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(_clipped(values))) @ vectors.T


def _clipped(values):
    values = np.where(values > values.max() * len(values) * np.finfo(float).eps, values, 0.0)
    return np.maximum(values, 0.0)


def gaussian_label_distance(x, y):
    """Squared 2-Wasserstein distance of the Gaussians fitted to x [n, D] and y [m, D]."""
    s1, s2 = _covariance(x), _covariance(y)
    r = root(s1)
    trace = np.sqrt(_clipped(np.linalg.eigvalsh(r @ s2 @ r))).sum()
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + max(0.0, np.trace(s1) + np.trace(s2) - 2 * trace)


def _covariance(x):
    if len(x) == 1:
        return np.zeros((x.shape[1], x.shape[1]))
    return np.atleast_2d(np.cov(x, rowvar=False))


def exact_label_distance(x, y, entreg, debiased):
    """Entropic optimal transport between two clouds, squared Euclidean cost, annealed."""
    scale = np.linalg.norm(bounding_box(x, y))
    f, g = annealed(squared_distances(x, y), scale, entreg)
    value = f.mean() + g.mean()
    if debiased:
        for z in (x, y):
            value -= annealed_self(squared_distances(z, z), scale, entreg).mean()
    return value


def emd_label_distance(x, y):
    """Optimal transport between two clouds, squared Euclidean cost, no entropy."""
    return emd(squared_distances(x, y))


def label_distances(x, x_labels, y, y_labels, plan, cache=None):
    """Step 1: the blocks [k1, k1], [k1, k2] and [k2, k2]. `cache` may keep the last one."""

    def between(u, v):
        if plan.method == "gaussian":
            return gaussian_label_distance(u, v)
        if plan.method == "emd":
            return emd_label_distance(u, v)
        return exact_label_distance(u, v, plan.inner_entreg, plan.inner_debiased)

    a = [x[x_labels == c] for c in range(x_labels.max() + 1)]
    b = [y[y_labels == c] for c in range(y_labels.max() + 1)]

    def within(classes):
        w = np.zeros((len(classes), len(classes)))
        for i in range(len(classes)):
            for j in range(i):
                w[i, j] = w[j, i] = between(classes[i], classes[j])
        return w

    cache = {} if cache is None else cache
    if "w_bb" not in cache:
        cache["w_bb"] = within(b)
    return within(a), np.array([[between(u, v) for v in b] for u in a]), cache["w_bb"]


def emd(cost):
    """Linear programme of optimal transport between uniform weights, by POT."""
    import ot

    n, m = cost.shape
    return ot.emd2(np.full(n, 1 / n), np.full(m, 1 / m), cost, numItermax=10_000_000)


def start_scale(x, x_labels, y, y_labels):
    """Step 3's d: features and one column of class numbers, A's before B's."""
    numbers = np.concatenate([x_labels, x_labels.max() + 1 + y_labels])
    return np.linalg.norm([*bounding_box(x, y), numbers.max() - numbers.min()])


def distance(x, x_labels, y, y_labels, plan, *, min_class_count=2, cache=None):
    """The dataset distance of (x [n, D], x_labels [n]) to (y [m, D], y_labels [m])."""
    x, x_labels = cleaned(x, x_labels, min_class_count)
    y, y_labels = cleaned(y, y_labels, min_class_count)
    blocks = label_distances(x, x_labels, y, y_labels, plan, cache)
    return given_label_distances(x, x_labels, y, y_labels, blocks, plan)


def given_label_distances(x, x_labels, y, y_labels, blocks, plan):
    """Steps 2 to 4, for cleaned datasets and the blocks of step 1."""
    w_aa, w_ab, w_bb = blocks

    def cost(u, u_labels, v, v_labels, w):
        return (plan.lambda_x * squared_distances(u, v) + plan.lambda_y * w[np.ix_(u_labels, v_labels)]) / 2

    c_ab = cost(x, x_labels, y, y_labels, w_ab)
    if plan.solver == "emd":
        return emd(c_ab)
    scale = start_scale(x, x_labels, y, y_labels)
    if plan.solver == "reference":
        f, g = annealed(c_ab, scale, plan.entreg)
    else:
        f, g = fixed_point(c_ab, scale, plan.entreg, plan.tolerance, plan.max_iterations)
    value = f.mean() + g.mean()
    if plan.debiased:
        for z, z_labels, w in ((x, x_labels, w_aa), (y, y_labels, w_bb)):
            c = cost(z, z_labels, z, z_labels, w)
            if plan.solver == "reference":
                value -= annealed_self(c, scale, plan.entreg).mean()
            else:
                value -= fixed_point_self(c, scale, plan.entreg, plan.tolerance, plan.max_iterations).mean()
    return value
