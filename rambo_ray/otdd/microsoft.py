"""The same distance by Microsoft's `otdd`, for those who have installed it from its repository.

https://github.com/microsoft/otdd (MIT) is the program of the distance's authors; it is on no package index. Read at
commit 72f1b22: what it is known to get wrong or to lack, and what is done about it here:

- it calls a symmetric eigen-solver that torch 2.0 removed: it is given torch's present one while it runs;
- classes have to be numbered 0 to K - 1, and of the second dataset from K on: labels are numbered anew for it;
- a class of a single sample has no covariance, and is left out on either side, where the builtin keeps it;
- in single precision its eigen-solver may fail on the covariances of few samples: it runs in double;
- its loader fails where a dataset's last batch of 256 holds one sample, and it sums the samples of a class in an order
  that it draws from torch's generator: samples, and means and covariances of the classes, are handed over;
- its number of Sinkhorn iterations is fixed: values are those of the builtin's solver `reference`, a few per cent
  below the converged ones; there is no other solver.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.utils.data import TensorDataset

from rambo_ray.errors import UserError

from .inputs import checked_dataset, checked_positions, kept_classes

LEAST = 2  # samples of a class
_MODULE = "otdd.pytorch.distance"
_INNER = {"gaussian": "gaussian_approx", "exact": "exact"}
_KEY = "utility_samples.otdd_backend=microsoft"


def check(method: str) -> None:
    """Raise UserError, in one line, where the package is not installed or cannot compute a distance."""
    try:
        found = importlib.util.find_spec(_MODULE)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise UserError(
            f"{_KEY}: Microsoft's otdd is not installed; pip install git+https://github.com/microsoft/otdd, or set "
            "utility_samples.otdd_backend=builtin"
        )
    generator = np.random.default_rng(0)
    points, labels = generator.normal(size=(12, 3)), np.arange(12) % 2
    try:
        value = MicrosoftTransport(points[:6], labels[:6], points[6:], labels[6:], method=method).distance(np.arange(6))
    except Exception as error:  # whatever a program of somebody else raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"{_KEY}: the installed otdd does not run ({reason}); repair it, or set "
            "utility_samples.otdd_backend=builtin"
        ) from error
    if not np.isfinite(value):
        raise UserError(f"{_KEY}: the installed otdd computes {value} of 12 points; set it to builtin")


class MicrosoftTransport:
    """Distances of subsets of one pool to one validation set, as `Transport` has them.

    features [N, D], labels [N]; val_features [m, D], val_labels [m]; method: `gaussian` or `exact` label distances;
    entreg: of the outer problem, in halved squared feature units.
    """

    def __init__(
        self,
        features: ArrayLike,
        labels: ArrayLike,
        val_features: ArrayLike,
        val_labels: ArrayLike,
        *,
        method: str = "gaussian",
        entreg: float = 0.1,
    ) -> None:
        self._features, self._labels = checked_dataset("features", features, "labels", labels)
        validation, classes = checked_dataset("val_features", val_features, "val_labels", val_labels)
        self._validation = _numbered(validation, classes, None, "val_labels")
        self._terms: dict[str, Any] = {
            "inner_ot_method": _INNER[method],
            "debiased_loss": True,
            "p": 2,
            "entreg": entreg,
            "min_labelcount": LEAST,
            "device": "cpu",
            "precision": "double",
            "verbose": 0,
        }
        self._val_distances: Any = None

    def distance(self, subset: ArrayLike) -> float:
        """Distance of the samples at positions `subset` [n] to the validation set, in halved squared feature units.

        Raises UserError for positions that are out of range, repeated, or leave no class of two samples.
        """
        positions = checked_positions(subset, len(self._features))
        x, y = _numbered(self._features, self._labels, positions, "subset")
        val_x, val_y = self._validation
        found = importlib.import_module(_MODULE).DatasetDistance(
            TensorDataset(x, y), TensorDataset(val_x, val_y), **self._terms
        )
        found.X1, found.Y1, found.X2, found.Y2 = x, y, val_x, val_y + int(y.max()) + 1
        if self._terms["inner_ot_method"] == _INNER["gaussian"]:
            (mean, covariance), (val_mean, val_covariance) = _statistics(x, y), self._val_statistics
            found.Means, found.Covs = [mean, val_mean], [covariance, val_covariance]
        found._pwlabel_stats_2 = self._val_distances
        with _eigen_solver():
            value = float(found.distance(maxsamples=max(len(x), len(val_x))))
        self._val_distances = found._pwlabel_stats_2  # between the validation set's classes: the same for any subset
        return value

    @cached_property
    def _val_statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        return _statistics(*self._validation)


def _numbered(
    features: np.ndarray, labels: np.ndarray, positions: np.ndarray | None, name: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples of classes that have at least two, float64 [n, D], and their classes counted from 0, int64 [n]."""
    order = kept_classes(labels, LEAST, positions, name)
    numbers = np.repeat(np.arange(len(order.counts)), order.counts)
    return torch.tensor(features[order.rows], dtype=torch.float64), torch.tensor(numbers)


def _statistics(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Means [K, D] and unbiased covariances [K, D, D] of the classes of samples [n, D]."""
    classes = [x[y == number] for number in range(int(y.max()) + 1)]
    covariances = [torch.cov(own.T).reshape(x.shape[1], x.shape[1]) for own in classes]
    return torch.stack([own.mean(0) for own in classes]), torch.stack(covariances)


@contextmanager
def _eigen_solver() -> Iterator[None]:
    """torch with the symmetric eigen-solver that its version 2.0 removed."""

    def symeig(matrix: torch.Tensor, eigenvectors: bool = False, upper: bool = True) -> Any:
        return torch.linalg.eigh(matrix, UPLO="U" if upper else "L")

    before = torch.Tensor.__dict__.get("symeig")
    torch.Tensor.symeig = symeig  # type: ignore[method-assign, assignment, attr-defined, unused-ignore]
    try:
        yield
    finally:
        if before is None:
            del torch.Tensor.symeig
        else:
            torch.Tensor.symeig = before  # type: ignore[method-assign, unused-ignore]
