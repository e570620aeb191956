"""The quadratic u_hat: what a purchase is worth as a quadratic function of its mean evidence.

    u_hat(T) = c_fold + e log|T| + sqrt|T| (w . z + sum_i a_i z_i^2),    z the mean evidence of T

The squares are what knows balance: a set with too much of one class has a large mean there. It has 2 F + 3
numbers, so some hundred mock rounds determine it, and it is fitted to all of them, whatever their sizes, by
ridge regression, the ridge chosen by cross-validation. The network (B.1) needs pairs of equal size, and beyond
what it was fitted to it extrapolates.

Letters: F numbers of evidence, G sets.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy

from rambo_ray import seeds
from rambo_ray.utility_model import network

# Raise it when the same rounds would give another u_hat; see `pipeline.rules`.
RULE = 1

RIDGES = tuple(10.0**e for e in np.arange(-5.0, 1.01, 0.5))
CROSS_VALIDATION = 5
_ARRAYS = ("w", "a", "covariance")


@dataclass(frozen=True)
class QuadraticInput:
    """Mock rounds to fit to, as plain data.

    means [G, F]: mean standardised evidence of each T; sizes [G]: |T|; folds [G]; utilities [G]; weights [G]: of
    each sample in the regression, larger for what was measured with less noise.
    """

    means: np.ndarray
    sizes: np.ndarray
    folds: np.ndarray
    utilities: np.ndarray
    weights: np.ndarray
    seed: int


@dataclass(frozen=True)
class QuadraticModel:
    """A fitted quadratic u_hat: w [F], a [F], log_size e, offsets c of both folds; ridge and cross-validated R^2.

    covariance [2 F, 2 F]: how far (w, a) may be off, given the samples' number, noise and spread.
    """

    w: np.ndarray
    a: np.ndarray
    covariance: np.ndarray
    log_size: float
    offsets: tuple[float, float]
    ridge: float
    explained: float

    def score(self, means: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """u_hat of sets with mean evidence [G, F] and |T| [G], but for the folds' mean offset; float64 [G]."""
        found: np.ndarray = self._level(sizes) + np.sqrt(sizes) * self._shape(means)
        return found

    def cautious(self, means: np.ndarray, sizes: np.ndarray, reference: np.ndarray, caution: float) -> np.ndarray:
        """u_hat less `caution` standard errors of what it says beyond sets of the mean evidence `reference` [F], [G].

        A regression on few samples extrapolates: far from everything it was fitted to it promises the most. What it
        does not know better than by that many errors counts as nothing, so that where there is nothing to know the
        reference itself is the best.
        """
        moved = self._terms(means) - self._terms(reference[None])
        error = np.sqrt(np.maximum(((moved @ self.covariance) * moved).sum(axis=1), 0.0))
        found: np.ndarray = self._level(sizes) + np.sqrt(sizes) * (self._shape(means) - caution * error)
        return found

    def slope(self, mean: np.ndarray, evidence: np.ndarray, reference: np.ndarray, caution: float) -> np.ndarray:
        """How fast `cautious` grows from a set of mean evidence [F] towards each image of evidence [N, F], [N].

        In units of its own: sqrt|T| is left out, as it is the same for all images.
        """
        moved = (self._terms(mean[None]) - self._terms(reference[None]))[0]
        uncertain = self.covariance @ moved
        squared = float((moved * uncertain).sum())
        gradient = np.concatenate([self.w, self.a])
        if squared > 0:  # at the reference itself nothing is uncertain, in whatever direction
            gradient = gradient - caution * uncertain / np.sqrt(squared)
        width = len(self.w)
        found: np.ndarray = (evidence * (gradient[:width] + 2.0 * gradient[width:] * mean)).sum(axis=1)
        return found

    def _level(self, sizes: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.mean(self.offsets) + self.log_size * np.log(sizes)
        return found

    def _shape(self, means: np.ndarray) -> np.ndarray:
        # Sums in a fixed order: a tie must fall alike whatever stands beside it.
        found: np.ndarray = (means * self.w + means**2 * self.a).sum(axis=1)
        return found

    def _terms(self, means: np.ndarray) -> np.ndarray:
        return np.concatenate([means, means**2], axis=1)


@dataclass(frozen=True)
class QuadraticFit:
    """What a fit found; `interpolated` and `history` are what the network's fit has and this one has not."""

    fitted: QuadraticModel
    interpolated: tuple[np.ndarray, ...] = ()
    history: tuple[dict[str, float], ...] = ()

    def model(self) -> QuadraticModel:
        """u_hat itself."""
        return self.fitted


def fit(task: QuadraticInput) -> QuadraticFit:
    """Ridge regression of the utilities on the mean evidence and its squares; size and fold are free of the ridge.

    Raises ValueError for fewer than two samples per fold of the cross-validation.
    """
    check(len(task.utilities))
    free, shape = _design(task.means, task.sizes, task.folds)
    scale = shape.std(axis=0)
    scale[scale < 1e-12] = 1.0  # a number that is the same for all sets: its coefficient is pulled to 0
    shape = shape / scale
    # Both members of a pair go to one part: they have a size and a fold in common.
    order = seeds.generator(task.seed, "quadratic").permutation((len(task.utilities) + 1) // 2)
    part = np.repeat(order % CROSS_VALIDATION, 2)[: len(task.utilities)]
    errors = [_left_out(free, shape, task, part, ridge) for ridge in RIDGES]
    ridge = RIDGES[int(np.argmin(errors))]
    solved = _solve(free, shape, task.utilities, task.weights, ridge)
    spread = float(np.average((task.utilities - np.average(task.utilities, weights=task.weights)) ** 2,
                              weights=task.weights))  # fmt: skip
    found = solved[free.shape[1] :] / scale
    width, count = task.means.shape[1], free.shape[1]
    precision = _precision(np.concatenate([free, shape], axis=1), task.weights, count, ridge)
    of_shape = np.linalg.inv(precision)[count:, count:] / np.outer(scale, scale)
    return QuadraticFit(
        QuadraticModel(
            w=found[:width],
            a=found[width:],
            covariance=of_shape * min(errors) / len(task.utilities),
            log_size=float(solved[1]),
            offsets=(float(solved[0]), float(solved[0] + solved[2])),
            ridge=ridge,
            explained=1.0 - min(errors) / spread if spread > 0 else 0.0,
        )
    )


def check(samples: int) -> None:
    """Raise ValueError, in one line, for too few samples to fit to."""
    if samples < 2 * CROSS_VALIDATION:
        raise ValueError(
            f"utility_samples.num_pairs={samples // 2}: the quadratic u_hat is fitted to at least "
            f"{CROSS_VALIDATION} pairs; raise utility_samples.num_pairs"
        )


def _design(means: np.ndarray, sizes: np.ndarray, folds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is free of the ridge, [G, 3], and what is not, [G, 2 F]."""
    free = np.column_stack([np.ones(len(sizes)), np.log(sizes), folds])
    return free, np.concatenate([means, means**2], axis=1) * np.sqrt(sizes)[:, None]


def _left_out(free: np.ndarray, shape: np.ndarray, task: QuadraticInput, part: np.ndarray, ridge: float) -> float:
    """Mean weighted squared error on samples that were left out of the fit."""
    total = 0.0
    for number in range(CROSS_VALIDATION):
        kept, left = part != number, part == number
        solved = _solve(free[kept], shape[kept], task.utilities[kept], task.weights[kept], ridge)
        wrong = np.concatenate([free[left], shape[left]], axis=1) @ solved - task.utilities[left]
        total += float((task.weights[left] * wrong**2).sum())
    return total / float(task.weights.sum())


def _solve(free: np.ndarray, shape: np.ndarray, u: np.ndarray, weights: np.ndarray, ridge: float) -> np.ndarray:
    design = np.concatenate([free, shape], axis=1)
    weighted = design * (weights / weights.sum())[:, None]
    found: np.ndarray = np.linalg.solve(_precision(design, weights, free.shape[1], ridge), weighted.T @ u)
    return found


def _precision(design: np.ndarray, weights: np.ndarray, free: int, ridge: float) -> np.ndarray:
    """The matrix of the normal equations, of samples whose weights sum to 1; the first `free` columns have no ridge."""
    # A breath on the free ones, for samples of a single fold or size.
    penalty = np.concatenate([np.full(free, 1e-9), np.full(design.shape[1] - free, ridge)])
    found: np.ndarray = (design * (weights / weights.sum())[:, None]).T @ design + np.diag(penalty)
    return found


def save(model: QuadraticModel, folder: str | Path, extra: dict[str, object]) -> None:
    """Write utility_model.safetensors and utility_model.json (architecture and `extra`) into `folder`."""
    folder = Path(folder)
    arrays = {name: np.ascontiguousarray(getattr(model, name)) for name in _ARRAYS}
    numbers = {key: value for key, value in asdict(model).items() if key not in _ARRAYS}
    content = {"architecture": {"name": "quadratic", **numbers}, **extra}
    network.write(folder, safetensors.numpy.save(arrays), content)


def load(folder: str | Path) -> QuadraticModel:
    """The u_hat written by `save`."""
    folder = Path(folder)
    numbers = json.loads((folder / "utility_model.json").read_text())["architecture"]
    arrays = safetensors.numpy.load_file(folder / "utility_model.safetensors")
    offsets = tuple(numbers["offsets"])
    return QuadraticModel(
        **arrays, log_size=numbers["log_size"], offsets=offsets, ridge=numbers["ridge"], explained=numbers["explained"]
    )
