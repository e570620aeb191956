"""What a distance is asked for, and every check of it: one line with the value, rule and remedy.

Letters: N samples, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rambo_ray.errors import UserError, nearest

from .classes import ClassOrder, Ints, sort_by_class

METHODS = ("gaussian", "exact")
SOLVERS = ("reference", "converged", "emd", "sinkhorn")
# Iteration limits used when none is given: Newton steps or self updates; POT's simplex counts pivots, its Sinkhorn
# updates.
ITERATIONS = {"reference": 1, "converged": 1000, "emd": 10_000_000, "sinkhorn": 100_000}


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a distance means; see `Transport` for each field."""

    method: str
    solver: str
    entreg: float
    inner_entreg: float
    debiased: bool
    inner_debiased: bool
    lambda_x: float
    lambda_y: float
    tolerance: float
    max_iterations: int
    min_class_count: int

    def __post_init__(self) -> None:
        for key, value, known in (("method", self.method, METHODS), ("solver", self.solver, SOLVERS)):
            if value not in known:
                raise UserError(f"{key}={value!r}: not a {key} of the dataset distance; {nearest(value, known)}")
        for key in ("entreg", "inner_entreg", "tolerance"):
            if not 0 < getattr(self, key) < np.inf:
                raise UserError(f"{key}={getattr(self, key)}: must be positive and finite; the default fits most")
        for key in ("lambda_x", "lambda_y"):
            if not 0 <= getattr(self, key) < np.inf:
                raise UserError(f"{key}={getattr(self, key)}: must be 0 or a positive finite weight; set it to 1")
        for key in ("max_iterations", "min_class_count"):
            if getattr(self, key) < 1:
                raise UserError(f"{key}={getattr(self, key)}: must be at least 1; raise it")


def checked_dataset(
    name: str, features: ArrayLike, label_name: str, labels: ArrayLike
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Features as a finite matrix [N, D] and labels [N], neither copied."""
    x, y = np.asarray(features), np.asarray(labels)
    if x.ndim != 2 or 0 in x.shape or x.dtype.kind not in "fiu":
        raise UserError(
            f"{name} of shape {x.shape} and type {x.dtype}: must be a matrix of numbers, samples by columns; "
            f"flatten each sample to one row"
        )
    if y.shape != (len(x),):
        raise UserError(f"{label_name} of shape {y.shape}: must hold one label per row of {name}, ({len(x)},)")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        row = int(np.flatnonzero(~np.isfinite(x).all(1))[0])
        raise UserError(f"{name} row {row} is not finite: every value must be a number; repair or drop the row")
    return x, y


def kept_classes(labels: NDArray[Any], least: int, rows: Ints | None, name: str) -> ClassOrder:
    """`sort_by_class`, refusing to leave nothing."""
    order = sort_by_class(labels, least, rows)
    if len(order.rows) == 0:
        raise UserError(
            f"{name}: no class has min_class_count={least} samples, nothing is left; add samples or lower "
            "min_class_count"
        )
    return order


def checked_positions(subset: ArrayLike, size: int) -> Ints:
    """A subset as distinct integer positions into `size` rows."""
    positions = np.asarray(subset)
    if positions.ndim != 1 or positions.size == 0 or positions.dtype.kind not in "iu":
        raise UserError(
            f"subset of shape {positions.shape} and type {positions.dtype}: must be a non-empty list of "
            "integer positions; pass positions into features"
        )
    outside = positions[(positions < 0) | (positions >= size)]
    if outside.size:
        raise UserError(f"subset position {outside[0]}: features has rows 0..{size - 1}; pass positions into features")
    ordered = np.sort(positions)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if repeated.size:
        raise UserError(f"subset position {repeated[0]} comes twice: positions must differ; drop one")
    return positions.astype(np.int64)
