"""Hypergradients: how the outer loss at the inner solution changes with the hyperparameters.

The inner problem is w(lambda) = argmin_w L(w, lambda), the outer min_lambda E(w(lambda)); here L is
the loss on the shorter pairs plus Omega_lambda and E the loss on the longer ones (Section 3.2).
Four estimators of dE/dlambda with one signature, so that swapping them is swapping a name:

    unroll       reverse mode through `steps` gradient steps (Franceschi et al. 2018, truncated);
                 memory grows with `steps`; honest where w is not yet a solution
    cg           implicit differentiation, (H + damping I) v = dE/dw solved by conjugate gradients
    neumann      implicit, v = step_size * sum_j (I - step_size H)^j dE/dw
    fixed_point  implicit, v = (I - step_size H) v + step_size dE/dw iterated (Grazzi et al. 2020)

with H the Hessian of L in w at the given w and dE/dlambda = -(d^2 L / dlambda dw) v. After the same
number of terms neumann and fixed_point agree; they are kept as the two ways to sum one series (the
first can stop by the size of the last term, the second restarts from any v).

w and lambda are lists of tensors. A loss may communicate between workers as long as it and its
derivatives come out the same on each: nothing here knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

InnerLoss = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]
OuterLoss = Callable[[Sequence[Tensor]], Tensor]
Hypergradient = Callable[..., list[Tensor]]


def regularizer(weights: Sequence[Tensor], lambdas: Sequence[Tensor]) -> Tensor:
    """Omega_lambda(w) = sum over tensors l of exp(lambda_l) |w_l|^2."""
    terms = [lam.exp() * w.square().sum() for w, lam in zip(weights, lambdas, strict=True)]
    return torch.stack(terms).sum()


def unroll(
    weights: Sequence[Tensor],
    lambdas: Sequence[Tensor],
    inner: InnerLoss,
    outer: OuterLoss,
    *,
    steps: int,
    step_size: float,
    damping: float = 0.0,
) -> list[Tensor]:
    """dE/dlambda through `steps` gradient descent steps of `step_size` that start at `weights`.

    Exact for E at the last of those steps, with `weights` taken as fixed; `damping` is not used.
    The path is stored and the adjoint carried back by Hessian-vector products, one per step.
    """
    path = [_detached(weights)]
    for _ in range(steps):
        gradient = _gradient(path[-1], lambdas, inner)
        path.append([w - step_size * g for w, g in zip(path[-1], gradient, strict=True)])
    adjoint = _outer_gradient(path.pop(), outer)
    total = [torch.zeros_like(lam) for lam in lambdas]
    for w in reversed(path):
        hessian, mixed = second_order(w, lambdas, inner, adjoint)
        total = [t - step_size * m for t, m in zip(total, mixed, strict=True)]
        adjoint = [a - step_size * h for a, h in zip(adjoint, hessian, strict=True)]
    return total


def cg(
    weights: Sequence[Tensor],
    lambdas: Sequence[Tensor],
    inner: InnerLoss,
    outer: OuterLoss,
    *,
    steps: int,
    step_size: float = 0.0,
    damping: float = 0.0,
    tolerance: float = 1e-10,
) -> list[Tensor]:
    """dE/dlambda at `weights` by at most `steps` conjugate-gradient iterations; `step_size` is not used.

    Iterations end early when the residual has shrunk by `tolerance`, or at a direction of
    non-positive curvature, where the quadratic model has no minimum and what was found so far is
    kept (for the first direction: the gradient itself).
    """
    w = _detached(weights)
    gradient = _outer_gradient(w, outer)
    v = [torch.zeros_like(g) for g in gradient]
    residual, direction = [g.clone() for g in gradient], [g.clone() for g in gradient]
    start = rho = _dot(residual, residual)
    for iteration in range(steps):
        if rho <= tolerance**2 * start:
            break
        hessian, _mixed = second_order(w, lambdas, inner, direction)
        product = [h + damping * d for h, d in zip(hessian, direction, strict=True)]
        curvature = _dot(direction, product)
        if curvature <= 0:
            v = direction if iteration == 0 else v
            break
        alpha = rho / curvature
        v = [x + alpha * d for x, d in zip(v, direction, strict=True)]
        residual = [r - alpha * p for r, p in zip(residual, product, strict=True)]
        rho, previous = _dot(residual, residual), rho
        direction = [r + (rho / previous) * d for r, d in zip(residual, direction, strict=True)]
    return _implicit(w, lambdas, inner, v)


def neumann(
    weights: Sequence[Tensor],
    lambdas: Sequence[Tensor],
    inner: InnerLoss,
    outer: OuterLoss,
    *,
    steps: int,
    step_size: float,
    damping: float = 0.0,
) -> list[Tensor]:
    """dE/dlambda at `weights` by the first `steps` terms of the Neumann series of the inverse Hessian.

    Converges where 0 < step_size * (eigenvalues of H + damping I) < 2.
    """
    w = _detached(weights)
    term = [step_size * g for g in _outer_gradient(w, outer)]
    v = [t.clone() for t in term]
    for _ in range(steps - 1):
        hessian, _mixed = second_order(w, lambdas, inner, term)
        term = [(1 - step_size * damping) * t - step_size * h for t, h in zip(term, hessian, strict=True)]
        v = [x + t for x, t in zip(v, term, strict=True)]
    return _implicit(w, lambdas, inner, v)


def fixed_point(
    weights: Sequence[Tensor],
    lambdas: Sequence[Tensor],
    inner: InnerLoss,
    outer: OuterLoss,
    *,
    steps: int,
    step_size: float,
    damping: float = 0.0,
) -> list[Tensor]:
    """dE/dlambda at `weights` by `steps` applications of v -> (I - step_size H) v + step_size dE/dw.

    This is the adjoint of the gradient step w -> w - step_size dL/dw at its fixed point; converges
    where `neumann` does.
    """
    w = _detached(weights)
    gradient = _outer_gradient(w, outer)
    v = [torch.zeros_like(g) for g in gradient]
    for _ in range(steps):
        hessian, _mixed = second_order(w, lambdas, inner, v)
        v = [x - step_size * (h + damping * x - g) for x, h, g in zip(v, hessian, gradient, strict=True)]
    return _implicit(w, lambdas, inner, v)


HYPERGRADIENTS: dict[str, Hypergradient] = {
    "unroll": unroll,
    "cg": cg,
    "neumann": neumann,
    "fixed_point": fixed_point,
}


def second_order(
    weights: Sequence[Tensor], lambdas: Sequence[Tensor], inner: InnerLoss, vector: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """(H v, (d^2 L / dlambda dw) v) at `weights`: both products with one `vector` v from one backward pass."""
    w = [t.detach().requires_grad_() for t in weights]
    lam = [t.detach().requires_grad_() for t in lambdas]
    gradient = torch.autograd.grad(inner(w, lam), w, create_graph=True, materialize_grads=True)
    along = torch.stack([(g * v).sum() for g, v in zip(gradient, vector, strict=True)]).sum()
    products = torch.autograd.grad(along, [*w, *lam], materialize_grads=True)
    return list(products[: len(w)]), list(products[len(w) :])


def _implicit(w: list[Tensor], lambdas: Sequence[Tensor], inner: InnerLoss, v: Sequence[Tensor]) -> list[Tensor]:
    return [-m for m in second_order(w, lambdas, inner, v)[1]]


def _gradient(w: list[Tensor], lambdas: Sequence[Tensor], inner: InnerLoss) -> list[Tensor]:
    leaves = [t.detach().requires_grad_() for t in w]
    lam = [t.detach() for t in lambdas]
    return list(torch.autograd.grad(inner(leaves, lam), leaves, materialize_grads=True))


def _outer_gradient(w: list[Tensor], outer: OuterLoss) -> list[Tensor]:
    leaves = [t.detach().requires_grad_() for t in w]
    return list(torch.autograd.grad(outer(leaves), leaves, materialize_grads=True))


def _detached(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [t.detach().clone() for t in tensors]


def _dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()
