"""Distances of many subsets of one pool to one validation set.

`Transport` holds what all subsets share: inner products with the pool's samples, the validation
set's class statistics, its inner label distances and its self term. A subset then costs a gather,
one batch of label distances and one n x m transport problem. `distances` is the same thing in one
call.

Letters: N pool samples, n of them in a subset with k1 classes; m validation samples in k2
classes; D features. A distance is in halved squared feature units, no square root is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rambo_ray.errors import UserError

from . import label_distances
from .classes import ClassOrder, Floats
from .gram import Gram, squared_distances
from .inputs import ITERATIONS, Terms, checked_dataset, checked_positions, kept_classes
from .label_distances import Cloud
from .newton import ConvergenceError, converged, converged_self
from .pot import emd, entropic
from .self_term import SelfTerm
from .sinkhorn import annealed, annealed_self


class Transport:
    """Optimal transport dataset distances of subsets of one pool to one validation set.

    `features` [N, D], `labels` [N], `val_features` [m, D], `val_labels` [m]; labels may be any
    values that sort. Features are read in place and not copied. Keywords:

    * `method`: label distances (step 1), `gaussian` from class means and covariances or `exact`
      from entropic transport between the classes' samples, regularised by `inner_entreg` (squared
      feature units) and free of its bias when `inner_debiased`.
    * `lambda_x`, `lambda_y`: weights of features and label distances in the cost (step 2).
    * `solver` of step 3: `reference` makes the definition's fixed number of annealed updates;
      `converged` iterates to the fixed point at the same regularisation; `sinkhorn` does so by POT,
      slower, but for the self terms; `emd`, by POT, has no regularisation. `entreg` is in halved squared
      feature units. Label distances are always those of the fixed schedule, whatever the solver.
    * `debiased` (step 4): take off half of each side's transport to itself, so that equal
      datasets are at distance 0 (with `exact`, only if `inner_debiased` too). No effect on `emd`,
      whose self terms are 0.
    * `tolerance`: what `converged` lets a full update move any potential, in cost units.
    * `max_iterations`: Newton steps and self updates of `converged` (default 1000), pivots of
      `emd` (default ten million) or updates of `sinkhorn` (default 100 000); reaching it raises
      `ConvergenceError`, never a silent result.
    * `min_class_count`: classes with fewer samples are dropped, on each side by itself, before
      anything else; 2 is the definition's cleaning. With 1 a lone sample is a class of zero
      covariance.
    * `cache_bytes`: most memory for inner products with the pool; beyond it they are computed for
      each subset.

    A class missing on one side, a single class, repeated images and identical sets need no
    special care: classes are never matched by name, so each is only a cloud at some distance from
    the others. The order of a subset's positions does not change a bit of the result.

    Raises UserError (a ValueError), in one line, for wrong arguments.
    """

    def __init__(
        self,
        features: ArrayLike,
        labels: ArrayLike,
        val_features: ArrayLike,
        val_labels: ArrayLike,
        *,
        method: str = "gaussian",
        solver: str = "converged",
        entreg: float = 0.1,
        inner_entreg: float = 0.1,
        debiased: bool = True,
        inner_debiased: bool = False,
        lambda_x: float = 1.0,
        lambda_y: float = 1.0,
        tolerance: float = 1e-8,
        max_iterations: int | None = None,
        min_class_count: int = 2,
        cache_bytes: int = 2**28,
    ) -> None:
        self._terms = Terms(
            method=method,
            solver=solver,
            entreg=entreg,
            inner_entreg=inner_entreg,
            debiased=debiased,
            inner_debiased=inner_debiased,
            lambda_x=lambda_x,
            lambda_y=lambda_y,
            tolerance=tolerance,
            max_iterations=ITERATIONS.get(solver, 1) if max_iterations is None else max_iterations,
            min_class_count=min_class_count,
        )
        self._features, self._labels = checked_dataset("features", features, "labels", labels)
        validation, val_classes = checked_dataset("val_features", val_features, "val_labels", val_labels)
        if validation.shape[1] != self._features.shape[1]:
            raise UserError(
                f"val_features has {validation.shape[1]} columns, features {self._features.shape[1]}: "
                "must be equal; use the same embedding for both"
            )
        order = kept_classes(val_classes, min_class_count, None, "val_labels")
        validation = validation[order.rows]
        self._gram = Gram(self._features, validation, cache_bytes)
        self._validation = Cloud(order, self._gram.validation(), *self._boxes(validation, order))
        self._val_within = self._between(self._validation, self._validation, self._validation.inner, True)

    def distance(self, subset: ArrayLike) -> float:
        """Distance of the samples at positions `subset` [n] to the validation set (steps 1 to 4).

        In halved squared feature units. Raises UserError for positions that are out of range,
        repeated, or leave no class with `min_class_count` samples; ConvergenceError when an
        iteration limit is reached.
        """
        t = self._terms
        order = self._kept(subset)
        cloud = self._cloud(order)
        cross = self._gram.cross(order.rows)
        w_cross = self._between(cloud, self._validation, cross)
        cost = self._cost(cloud, self._validation, cross, w_cross)
        if t.solver == "emd":
            return emd(cost, t.max_iterations)
        scale = self._scale(cloud) if t.solver == "reference" else 0.0
        value = self._cross_term(cost, scale)
        if t.debiased:
            value -= self._own_term(cloud, scale)
            value -= self._val_annealed.at(scale) if t.solver == "reference" else self._val_converged
        return value

    def distances(self, subsets: Sequence[ArrayLike]) -> Floats:
        """`distance` of each of `subsets`, as float64 [len(subsets)]."""
        values = np.empty(len(subsets))
        for i, subset in enumerate(subsets):
            try:
                values[i] = self.distance(subset)
            except (UserError, ConvergenceError) as error:
                raise type(error)(f"subset {i} of {len(subsets)}: {error}") from None
        return values

    def label_distances(self, subset: ArrayLike) -> Floats:
        """Step 1's block matrix of squared distances between classes, [k1 + k2, k1 + k2].

        Rows and columns are the subset's kept classes in the order of their labels, then the
        validation set's. In squared feature units. Raises as `distance` does.
        """
        order = self._kept(subset)
        cloud = self._cloud(order)
        between = self._between(cloud, self._validation, self._gram.cross(order.rows))
        within = self._between(cloud, cloud, cloud.inner, within=True)
        return np.block([[within, between], [between.T, self._val_within]])

    def _kept(self, subset: ArrayLike) -> ClassOrder:
        positions = checked_positions(subset, len(self._features))
        return kept_classes(self._labels, self._terms.min_class_count, positions, "subset")

    def _cross_term(self, cost: Floats, scale: float) -> float:
        """mean(f) + mean(g) of the n x m problem."""
        t = self._terms
        if t.solver == "sinkhorn":
            return entropic(cost, t.entreg, t.max_iterations)
        if t.solver == "converged":
            f, g = converged(cost, t.entreg, t.tolerance, t.max_iterations)
        else:
            a, b = (np.full((1, size), 1 / size) for size in cost.shape)
            f, g = annealed(cost[None], a, b, np.array([scale]), t.entreg)
        return float(f.mean() + g.mean())

    def _own_term(self, cloud: Cloud, scale: float) -> float:
        """mean(p) of the subset with itself."""
        t = self._terms
        within = self._between(cloud, cloud, cloud.inner, within=True)
        cost = self._self_cost(cloud, within)
        if t.solver != "reference":  # POT's two potentials take for ever on a problem with itself
            return float(converged_self(cost, t.entreg, t.tolerance, t.max_iterations).mean())
        weights = np.full((1, len(cost)), 1 / len(cost))
        return float(annealed_self(cost[None], weights, np.array([scale]), t.entreg).mean())

    @cached_property
    def _val_converged(self) -> float:
        t = self._terms
        cost = self._self_cost(self._validation, self._val_within)
        return float(converged_self(cost, t.entreg, t.tolerance, t.max_iterations).mean())

    @cached_property
    def _val_annealed(self) -> SelfTerm:
        """Between the scales of a subset inside the validation set's box and of the whole pool."""
        low, high = self._val_box
        pool_low = np.minimum(low, self._features.min(0))
        pool_high = np.maximum(high, self._features.max(0))
        k1, k2 = len(np.unique(self._labels)), len(self._validation.order.counts)
        cost = self._self_cost(self._validation, self._val_within)
        lowest, highest = _scale(low, high, k2), _scale(pool_low, pool_high, k1 + k2 - 1)
        return SelfTerm(cost, self._terms.entreg, lowest, highest)

    @cached_property
    def _val_box(self) -> tuple[Floats, Floats]:
        assert self._validation.low is not None and self._validation.high is not None
        return self._validation.low.min(0), self._validation.high.max(0)

    def _scale(self, cloud: Cloud) -> float:
        """Step 3's start scale: features of both sides, and one column of class numbers."""
        assert cloud.low is not None and cloud.high is not None
        low, high = self._val_box
        classes = len(cloud.order.counts) + len(self._validation.order.counts)
        return _scale(np.minimum(low, cloud.low.min(0)), np.maximum(high, cloud.high.max(0)), classes - 1)

    def _cloud(self, order: ClassOrder) -> Cloud:
        inner = self._gram.square(order.rows)
        if self._terms.solver == "reference" or self._terms.method == "exact":
            return Cloud(order, inner, *self._boxes(self._features[order.rows], order))
        return Cloud(order, inner)

    def _boxes(self, features: NDArray[Any], order: ClassOrder) -> tuple[Floats, Floats]:
        """Lowest and highest value of every column of `features` [n, D], sorted by `order`.

        [k, D] for each class where the label distances need it, else [1, D] for all together.
        """
        if self._terms.method == "exact":
            low = np.minimum.reduceat(features, order.starts, axis=0)
            high = np.maximum.reduceat(features, order.starts, axis=0)
        else:
            low, high = features.min(0, keepdims=True), features.max(0, keepdims=True)
        return low.astype(np.float64), high.astype(np.float64)

    def _between(self, a: Cloud, b: Cloud, cross: Floats, within: bool = False) -> Floats:
        """Step 1, [k1, k2]."""
        t = self._terms
        if t.method == "gaussian":
            return label_distances.gaussian(a, b, cross, within=within)
        return label_distances.exact(a, b, cross, t.inner_entreg, t.inner_debiased, within=within)

    def _cost(self, a: Cloud, b: Cloud, cross: Floats, between: Floats) -> Floats:
        """Step 2, [n, m]: lambda_x |x-x'|^2 / 2 + lambda_y W[y, y'] / 2."""
        cost = squared_distances(cross, a.norms, b.norms)
        cost *= self._terms.lambda_x / 2
        columns = np.repeat(between * (self._terms.lambda_y / 2), b.order.counts, axis=1)
        for c, (start, count) in enumerate(zip(a.order.starts, a.order.counts, strict=True)):
            cost[start : start + count] += columns[c]
        return cost

    def _self_cost(self, cloud: Cloud, within: Floats) -> Floats:
        cost = self._cost(cloud, cloud, cloud.inner, within)
        np.fill_diagonal(cost, 0.0)
        return cost


def distances(
    features: ArrayLike,
    labels: ArrayLike,
    subsets: Sequence[ArrayLike],
    val_features: ArrayLike,
    val_labels: ArrayLike,
    *,
    method: str = "gaussian",
    solver: str = "converged",
    entreg: float = 0.1,
    inner_entreg: float = 0.1,
    debiased: bool = True,
    inner_debiased: bool = False,
    lambda_x: float = 1.0,
    lambda_y: float = 1.0,
    tolerance: float = 1e-8,
    max_iterations: int | None = None,
    min_class_count: int = 2,
    cache_bytes: int = 2**28,
) -> Floats:
    """Optimal transport dataset distance of each subset to the validation set, [len(subsets)].

    `features` [N, D], `labels` [N]; each subset holds positions into them; `val_features` [m, D],
    `val_labels` [m]. In halved squared feature units. The keywords, the edge cases and what is
    raised are those of `Transport`, which to keep when subsets arrive one by one.
    """
    transport = Transport(
        features,
        labels,
        val_features,
        val_labels,
        method=method,
        solver=solver,
        entreg=entreg,
        inner_entreg=inner_entreg,
        debiased=debiased,
        inner_debiased=inner_debiased,
        lambda_x=lambda_x,
        lambda_y=lambda_y,
        tolerance=tolerance,
        max_iterations=max_iterations,
        min_class_count=min_class_count,
        cache_bytes=cache_bytes,
    )
    return transport.distances(subsets)


def _scale(low: Floats, high: Floats, class_range: int) -> float:
    ranges = high.astype(np.float64) - low
    return float(np.sqrt(ranges @ ranges + float(class_range) ** 2))
