"""Multinomial logistic regression, solved to convergence: the linear head on frozen embeddings.

For the n rows of a subset, x [n, D] with a 1 appended, and W [K, D + 1],

    J(W) = mean cross-entropy of softmax(x W') + l2 / 2 * |W|^2.

The bias is penalised like every weight. Without that, the bias of a class that the subset lacks would run to
minus infinity; with it J is strongly convex, so that there is one minimum whatever the start: a fit has no seed,
and its answer is a function of the subset alone.

Newton's method with a line search. Each step is solved for by conjugate gradients, as far as is worth it, and
these are preconditioned by the Hessian of softmax outputs p that were independent of x, and of components of x
that were independent of each other, as principal components nearly are: with M the mean of diag(p) - pp', it is
M (x) diag(x'x/n) + l2, whose inverse costs next to nothing. J and its gradient are computed in float64, and so is
the minimum; a direction to search along needs a few digits and is made in float32. A fit of 500 rows, D = 128 and
K = 10 takes some 40 products with x and its transpose (`benchmarks/heads.py`).

On a CPU every model is solved alone, in products whose shapes depend on its own rows only: not a bit of it
depends on the others of its group. On a GPU, which one such model leaves idle, the models of a group go in one
batch, filled up with rows of weight zero; a model stands still as soon as its own gradient is small enough, so
the others change its rounding only.

Letters: G models, n rows of a subset, N at hand, D numbers of an embedding, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rambo_ray.errors import RunError

# Of the gradient's norm, relative to the root of the mean square of x. The last Newton step usually goes far
# below; then no logit is off by as much as float32 rounds it.
TOLERANCE = 1e-7

STEPS = 100  # of Newton, at most; some eight are usual
SOLVES = 250  # steps of conjugate gradients for one of them, at most; some four are usual
HALVINGS = 40  # of a step

# A Newton step is solved for to this share of the gradient, and more precisely as the gradient falls.
FORCING = 0.3


def fit_heads(
    x: Tensor,
    labels: Tensor,
    subsets: Sequence[np.ndarray],
    num_classes: int,
    l2: float,
    *,
    at_once: int | None = None,
) -> tuple[Tensor, list[int]]:
    """The minima W of J, float64 [G, K, D + 1] with the bias as the last column, and each model's Newton steps.

    x is float [N, D] and labels int64 [N] on the same device; each subset holds int64 positions among the N. A
    position that occurs twice counts twice. at_once: models of a batch; default: on a GPU all, on a CPU 1. Raises
    ValueError for an empty subset and for labels outside 0..K-1, RunError where x is not finite.
    """
    if not all(len(subset) for subset in subsets):
        raise ValueError("an empty subset; a fit needs at least one row")
    if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= num_classes):
        raise ValueError(f"labels: {int(labels.min())}..{int(labels.max())}, not within 0..{num_classes - 1}")
    if at_once is None:
        at_once = max(len(subsets), 1) if x.device.type == "cuda" else 1
    weights, steps = [x.new_zeros((0, num_classes, x.shape[1] + 1), dtype=torch.float64)], []
    for first in range(0, len(subsets), at_once):
        found, taken = _solve(_gathered(x, labels, subsets[first : first + at_once], num_classes), l2)
        weights.append(found)
        steps += taken
    return torch.cat(weights), steps


@dataclass(frozen=True)
class _Rows:
    """The rows of G subsets: x [G, n, D + 1], also in float32; weight [G, 1, n] is 1/n, or 0 of what fills up.

    labels [G, 1, n]; target [G, K, D + 1] is what the mean of p x' has to be, but for l2.
    """

    x: Tensor
    single: Tensor
    weight: Tensor
    labels: Tensor
    target: Tensor

    def at(self, places: Tensor) -> _Rows:
        """The models at these places."""
        return _Rows(*(v[places] for v in (self.x, self.single, self.weight, self.labels, self.target)))


@dataclass(frozen=True)
class _State:
    """Where G models stand: W, J [G, 1, 1], its gradient [G, K, D + 1], and p = softmax(x W') [G, K, n]."""

    w: Tensor
    value: Tensor
    gradient: Tensor
    p: Tensor

    def at(self, places: Tensor) -> _State:
        """The models at these places."""
        return _State(*(v[places] for v in (self.w, self.value, self.gradient, self.p)))


def _gathered(x: Tensor, labels: Tensor, subsets: Sequence[np.ndarray], num_classes: int) -> _Rows:
    longest = max(map(len, subsets))
    positions = torch.zeros(len(subsets), longest, dtype=torch.int64)
    weight = torch.zeros(len(subsets), 1, longest, dtype=torch.float64)
    for place, subset in enumerate(subsets):
        positions[place, : len(subset)] = torch.tensor(np.asarray(subset, dtype=np.int64))
        weight[place, 0, : len(subset)] = 1 / len(subset)
    flat, weight = positions.flatten().to(x.device), weight.to(x.device)
    rows = torch.ones(*positions.shape, x.shape[1] + 1, dtype=torch.float64, device=x.device)
    rows[..., :-1] = x.index_select(0, flat).view(*positions.shape, -1)
    if not bool(torch.isfinite(rows).all()):
        raise RunError("embeddings that are not finite: no head can be fitted to them")
    chosen = labels.index_select(0, flat).view(len(subsets), 1, longest)
    hot = torch.zeros(len(subsets), num_classes, longest, dtype=torch.float64, device=x.device)
    return _Rows(rows, rows.float(), weight, chosen, hot.scatter_(1, chosen, weight) @ rows)


def _solve(rows: _Rows, l2: float) -> tuple[Tensor, list[int]]:
    """The minima [G, K, D + 1], and Newton steps per model."""
    result = torch.zeros_like(rows.target)
    state = _evaluated(rows, result, l2)
    squares = rows.weight @ rows.x.square()
    enough = TOLERANCE * squares.mean((1, 2), keepdim=True).sqrt()
    taken, members = [0] * len(result), torch.arange(len(result), device=result.device)
    for step in range(STEPS + 1):
        going = ~(_norm(state.gradient) <= enough).flatten()
        if not bool(going.all()):
            result[members[~going]] = state.w[~going]
            for place in members[~going].tolist():
                taken[place] = step
            if not bool(going.any()):
                return result, taken
            kept = going.nonzero()[:, 0]
            rows, state = rows.at(kept), state.at(kept)
            squares, enough, members = squares[kept], enough[kept], members[kept]
        if step < STEPS:
            state = _searched(rows, state, _newton_step(rows, state, squares.float(), enough, l2), l2)
    raise RunError(
        f"classifier.l2={l2:g}: {len(members)} of {len(result)} linear heads did not converge in {STEPS} Newton steps, "
        "as it is too small for values as large as the embeddings'; raise classifier.l2"
    )


def _evaluated(rows: _Rows, w: Tensor, l2: float) -> _State:
    p = torch.softmax(w @ rows.x.transpose(1, 2), dim=1)
    # Where p is too small for a float64 the loss is infinite, which is far from a minimum: a step is halved there.
    log_p = p.gather(1, rows.labels).log_()
    loss = l2 / 2 * _inner(w, w) - torch.where(rows.weight > 0, log_p * rows.weight, 0.0).sum(2, keepdim=True)
    return _State(w, loss, ((p * rows.weight) @ rows.x).sub_(rows.target).add_(w, alpha=l2), p)


def _newton_step(rows: _Rows, state: _State, squares: Tensor, enough: Tensor, l2: float) -> Tensor:
    """About -H^-1 times the gradient, [G, K, D + 1], by preconditioned conjugate gradients from 0.

    The gradient is brought to length 1 first, as that of a model almost there is too small for float32's range.
    """
    x, p = rows.single, state.p.float()
    weighted = p * rows.weight.float()
    of_classes, turn = torch.linalg.eigh(torch.diag_embed(weighted.sum(2)) - weighted @ p.transpose(1, 2))
    damped = 1 / (of_classes[:, :, None].clamp(min=0) * squares + l2)
    x_turned, turned = x.transpose(1, 2), turn.transpose(1, 2)

    norm = _norm(state.gradient)
    target = torch.maximum(norm.sqrt().clamp(max=FORCING), 0.1 * enough / norm)
    residual = (-state.gradient / norm).float()
    direction = turn @ ((turned @ residual) * damped)
    found, energy = torch.zeros_like(residual), _inner(residual, direction)
    going = torch.ones_like(energy, dtype=torch.bool)
    for _ in range(SOLVES):
        change = direction @ x_turned  # of the logits; then, along it, of p
        change = (change - (p * change).sum(1, keepdim=True)).mul_(weighted)
        bent = (change @ x).add_(direction, alpha=l2)
        length = torch.where(going, energy / _inner(direction, bent), 0.0)
        found.addcmul_(length, direction)
        residual.addcmul_(length, bent, value=-1)
        going = going & (_norm(residual) > target)
        if not bool(going.any()):
            break
        z = turn @ ((turned @ residual) * damped)
        energy, before = _inner(residual, z), energy
        direction = torch.where(going, z.addcmul_(energy / before, direction), direction)
    return found.double() * norm


def _searched(rows: _Rows, state: _State, step: Tensor, l2: float) -> _State:
    """The state after the step, halved for each model until J falls by a share of what its slope promises."""
    slope = _inner(state.gradient, step)
    length = torch.ones_like(slope)
    slack = 1e-14 * state.value.abs()  # what rounding makes of two equal sums
    for _ in range(HALVINGS):
        after = _evaluated(rows, state.w + length * step, l2)
        short = ~(after.value <= state.value + 1e-4 * length * slope + slack)
        if not bool(short.any()):
            break
        length = torch.where(short, length / 2, length)
    return after


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((1, 2), keepdim=True)


def _norm(a: Tensor) -> Tensor:
    return torch.linalg.vector_norm(a, dim=(1, 2), keepdim=True)
