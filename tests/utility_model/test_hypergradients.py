"""Hypergradients against ridge regression's closed form, finite differences and explicit Hessians."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import hessian, jacobian

from rambo_ray.utility_model import hypergradients

ALL = sorted(hypergradients.HYPERGRADIENTS)
IMPLICIT = [name for name in ALL if name != "unroll"]
Tensors = Sequence[Tensor]


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Ridge:
    """L = mean (Xw - y)^2 + exp(lambda) |w|^2, E = mean (Zw - t)^2; w and dE/dlambda are known in closed form."""

    def __init__(self) -> None:
        self.x, self.y, self.z, self.t = normal(0, 12, 4), normal(1, 12), normal(2, 9, 4), normal(3, 9)

    def inner(self, w: Tensors, lambdas: Tensors) -> Tensor:
        return (self.x @ w[0] - self.y).square().mean() + hypergradients.regularizer(w, lambdas)

    def outer(self, w: Tensors) -> Tensor:
        return (self.z @ w[0] - self.t).square().mean()

    def hessian(self, lam: float) -> Tensor:
        return 2 * (self.x.T @ self.x / len(self.x) + math.exp(lam) * torch.eye(4, dtype=torch.float64))

    def solution(self, lam: float) -> Tensor:
        return torch.linalg.solve(self.hessian(lam), 2 * self.x.T @ self.y / len(self.x))

    def outer_gradient(self, w: Tensor) -> Tensor:
        return 2 * self.z.T @ (self.z @ w - self.t) / len(self.z)

    def hypergradient(self, lam: float, damping: float = 0.0) -> float:
        w = self.solution(lam)
        damped = self.hessian(lam) + damping * torch.eye(4, dtype=torch.float64)
        return -float(2 * math.exp(lam) * w @ torch.linalg.solve(damped, self.outer_gradient(w)))


class Logistic:
    """Logistic regression, bent by a product of its two weight tensors: not quadratic, convex at its minimum."""

    def __init__(self) -> None:
        self.x, self.z = normal(4, 30, 3), normal(5, 20, 3)
        self.y, self.t = (normal(6, 30) > 0).double(), (normal(7, 20) > 0).double()

    @staticmethod
    def _loss(x: Tensor, y: Tensor, w: Tensors) -> Tensor:
        logits = x @ w[0] + w[1] + 0.1 * w[1] * (x @ w[0])
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, y)

    def inner(self, w: Tensors, lambdas: Tensors) -> Tensor:
        return self._loss(self.x, self.y, w) + hypergradients.regularizer(w, lambdas)

    def outer(self, w: Tensors) -> Tensor:
        return self._loss(self.z, self.t, w)

    def solution(self, lambdas: Tensors) -> list[Tensor]:
        """By Newton's method, to rounding."""
        flat = torch.zeros(4, dtype=torch.float64)

        def loss(v: Tensor) -> Tensor:
            return self.inner([v[:3], v[3:]], lambdas)

        for _ in range(30):
            flat = flat - torch.linalg.solve(hessian(loss, flat), jacobian(loss, flat))
        assert jacobian(loss, flat).norm() < 1e-14
        assert torch.linalg.eigvalsh(hessian(loss, flat)).min() > 0
        return [flat[:3], flat[3:]]


def lambdas_of(*values: float) -> list[Tensor]:
    return [torch.tensor(v, dtype=torch.float64) for v in values]


def steps_for(name: str) -> dict[str, float]:
    # cg is exact after as many steps as there are unknowns; the series need the slowest one to die out.
    return {"steps": 8, "step_size": 0.0} if name == "cg" else {"steps": 3000, "step_size": 0.2}


class TestRidge:
    @pytest.mark.parametrize("name", ALL)
    @pytest.mark.parametrize("lam", [-3.0, 0.0, 1.0])
    def test_closed_form_at_the_solution(self, name: str, lam: float) -> None:
        ridge = Ridge()
        step = steps_for(name)
        step["step_size"] = 0.9 / float(torch.linalg.eigvalsh(ridge.hessian(lam)).max())
        step["steps"] = min(step["steps"], 400)
        w = ridge.solution(lam)
        (found,) = hypergradients.HYPERGRADIENTS[name]([w], lambdas_of(lam), ridge.inner, ridge.outer, **step)
        assert found.item() == pytest.approx(ridge.hypergradient(lam), rel=1e-9)

    def test_closed_form_is_the_derivative(self) -> None:
        ridge, h = Ridge(), 1e-5
        difference = ridge.outer([ridge.solution(0.3 + h)]) - ridge.outer([ridge.solution(0.3 - h)])
        assert ridge.hypergradient(0.3) == pytest.approx(float(difference) / (2 * h), rel=1e-7)

    @pytest.mark.parametrize("name", IMPLICIT)
    def test_damping_is_added_to_the_diagonal(self, name: str) -> None:
        ridge = Ridge()
        settings = {"steps": 500, "step_size": 0.1, "damping": 0.7}
        w = [ridge.solution(0.0)]
        (found,) = hypergradients.HYPERGRADIENTS[name](w, lambdas_of(0.0), ridge.inner, ridge.outer, **settings)
        assert found.item() == pytest.approx(ridge.hypergradient(0.0, damping=0.7), rel=1e-9)
        assert abs(ridge.hypergradient(0.0, damping=0.7) / ridge.hypergradient(0.0) - 1) > 0.05

    def test_unroll_takes_no_notice_of_damping(self) -> None:
        ridge = Ridge()
        w, settings = [ridge.solution(0.0)], {"steps": 4, "step_size": 0.1}
        one, other = (
            hypergradients.unroll(w, lambdas_of(0.0), ridge.inner, ridge.outer, damping=d, **settings)
            for d in (0.0, 0.7)
        )
        assert one == other

    @pytest.mark.parametrize("steps", [1, 2, 5])
    def test_neumann_and_fixed_point_sum_the_same_terms(self, steps: int) -> None:
        ridge, settings = Ridge(), {"steps": steps, "step_size": 0.05, "damping": 0.2}
        w = [normal(9, 4)]
        (one,) = hypergradients.neumann(w, lambdas_of(0.0), ridge.inner, ridge.outer, **settings)
        (other,) = hypergradients.fixed_point(w, lambdas_of(0.0), ridge.inner, ridge.outer, **settings)
        system = torch.eye(4, dtype=torch.float64) * (1 - 0.05 * 0.2) - 0.05 * ridge.hessian(0.0)
        v = sum(torch.linalg.matrix_power(system, j) for j in range(steps)) @ (0.05 * ridge.outer_gradient(w[0]))
        assert one.item() == pytest.approx(-2 * float(w[0] @ v), rel=1e-12)
        assert other.item() == pytest.approx(one.item(), rel=1e-12)


class TestAgainstFiniteDifferences:
    @pytest.mark.parametrize("name", ALL)
    def test_of_the_exactly_solved_inner_problem(self, name: str) -> None:
        problem, values, h = Logistic(), (-2.0, -1.0), 1e-5
        expected = []
        for i in range(2):
            ends = []
            for sign in (1, -1):
                moved = [v + sign * h * (j == i) for j, v in enumerate(values)]
                ends.append(float(problem.outer(problem.solution(lambdas_of(*moved)))))
            expected.append((ends[0] - ends[1]) / (2 * h))
        lambdas = lambdas_of(*values)
        step = steps_for(name) | {"step_size": 1.0, "steps": 8 if name == "cg" else 300}
        w = problem.solution(lambdas)
        found = hypergradients.HYPERGRADIENTS[name](w, lambdas, problem.inner, problem.outer, **step)
        assert min(abs(e) for e in expected) > 1e-4
        assert [f.item() for f in found] == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize("steps", [1, 2, 7])
    def test_of_the_same_truncated_path(self, steps: int) -> None:
        problem, values, size, h = Logistic(), (-2.0, -1.0), 0.3, 1e-5
        start = [normal(8, 3), normal(9, 1)]

        def end_of_path(lambdas: Tensors) -> float:
            w = [t.clone() for t in start]
            for _ in range(steps):
                leaves = [t.requires_grad_() for t in w]
                gradient = torch.autograd.grad(problem.inner(leaves, lambdas), leaves)
                w = [(t - size * g).detach() for t, g in zip(w, gradient, strict=True)]
            return float(problem.outer(w))

        expected = []
        for i in range(2):
            up, down = (
                end_of_path(lambdas_of(*[v + sign * h * (j == i) for j, v in enumerate(values)])) for sign in (1, -1)
            )
            expected.append((up - down) / (2 * h))
        found = hypergradients.unroll(
            start, lambdas_of(*values), problem.inner, problem.outer, steps=steps, step_size=size
        )
        assert [f.item() for f in found] == pytest.approx(expected, rel=1e-6)


class TestSecondOrder:
    def test_equals_the_explicit_matrices(self) -> None:
        problem = Logistic()
        flat, lam, v = normal(10, 4), torch.tensor([-2.0, -1.0], dtype=torch.float64), normal(11, 4)

        def gradient(w: Tensor, lambdas: Tensor) -> Tensor:
            loss = problem.inner([w[:3], w[3:]], list(lambdas.unbind()))
            return torch.autograd.grad(loss, w, create_graph=True)[0]

        in_w, in_lambda = jacobian(gradient, (flat.clone().requires_grad_(), lam))
        weights = [flat[:3], flat[3:]]
        product, mixed = hypergradients.second_order(weights, list(lam.unbind()), problem.inner, [v[:3], v[3:]])
        assert torch.allclose(torch.cat(product), in_w @ v, rtol=1e-12)
        assert torch.allclose(torch.stack(mixed), in_lambda.T @ v, rtol=1e-12)

    def test_a_weight_the_loss_does_not_reach_has_zeros(self) -> None:
        weights, lambdas = [normal(0, 2), normal(1, 3)], lambdas_of(0.0, 0.0)
        product, mixed = hypergradients.second_order(
            weights, lambdas, lambda w, lam: w[0].square().sum() * lam[0].exp(), [normal(2, 2), normal(3, 3)]
        )
        assert product[1].tolist() == [0.0] * 3 and mixed[1].item() == 0.0
        assert product[0].tolist() == pytest.approx((2 * normal(2, 2)).tolist())

    def test_inputs_are_left_alone(self) -> None:
        ridge = Ridge()
        for name in ALL:
            w, lam = normal(1, 4).requires_grad_(), lambdas_of(0.1)
            before = w.detach().clone()
            (found,) = hypergradients.HYPERGRADIENTS[name]([w], lam, ridge.inner, ridge.outer, steps=3, step_size=0.1)
            assert w.grad is None and torch.equal(w.detach(), before) and not found.requires_grad


class TestConjugateGradients:
    """H is diagonal here: curvature is read off, and E's gradient is chosen by hand."""

    @staticmethod
    def solve(curvatures: list[float], gradient: list[float], **settings: float) -> tuple[float, int]:
        h = torch.tensor(curvatures, dtype=torch.float64)
        g = torch.tensor(gradient, dtype=torch.float64)
        products = 0

        def inner(w: Tensors, lambdas: Tensors) -> Tensor:
            nonlocal products
            products += 1
            # d^2 L / dlambda dw = 1 everywhere, so that dE/dlambda is minus the sum of v.
            return 0.5 * (h * w[0].square()).sum() + lambdas[0] * w[0].sum()

        w, lambdas = [torch.ones(len(h), dtype=torch.float64)], lambdas_of(0.0)
        (found,) = hypergradients.cg(w, lambdas, inner, lambda w: (g * w[0]).sum(), **settings)  # type: ignore[arg-type]
        return found.item(), products - 1  # the last one is the mixed derivative's

    def test_two_different_curvatures_take_two_steps(self) -> None:
        found, steps = self.solve([1.0, 4.0, 4.0], [1.0, 2.0, 3.0], steps=50)
        assert found == pytest.approx(-(1 + 2 / 4 + 3 / 4), rel=1e-9)
        assert steps == 2

    def test_steps_are_a_limit(self) -> None:
        found, steps = self.solve([1.0, 4.0], [1.0, 2.0], steps=1)
        alpha = 5 / 17  # g.g / g.Hg
        assert found == pytest.approx(-3 * alpha) and steps == 1

    def test_damping(self) -> None:
        found, _ = self.solve([1.0, 4.0], [1.0, 2.0], steps=9, damping=1.0)
        assert found == pytest.approx(-(1 / 2 + 2 / 5), rel=1e-9)

    def test_negative_curvature_at_once_gives_the_gradient(self) -> None:
        found, steps = self.solve([-1.0, -2.0], [1.0, 2.0], steps=9)
        assert found == pytest.approx(-3.0) and steps == 1

    def test_negative_curvature_later_keeps_what_was_found(self) -> None:
        # The first direction (1, 1, 0.1) has curvature 4 - 0.005 > 0; a later one meets the negative axis.
        later, steps = self.solve([1.0, 3.0, -0.5], [1.0, 1.0, 0.1], steps=9)
        kept, _ = self.solve([1.0, 3.0, -0.5], [1.0, 1.0, 0.1], steps=steps - 1)
        assert 1 < steps < 9
        assert later == pytest.approx(kept, rel=1e-12)

    def test_enough_damping_makes_negative_curvature_harmless(self) -> None:
        found, _ = self.solve([-1.0, 2.0], [1.0, 2.0], steps=9, damping=1.5)
        assert found == pytest.approx(-(1 / 0.5 + 2 / 3.5), rel=1e-9)

    def test_a_zero_gradient_gives_zero_and_no_nan(self) -> None:
        found, steps = self.solve([1.0, 2.0], [0.0, 0.0], steps=9)
        assert found == 0.0 and steps == 0


def test_regularizer_is_a_weighted_sum_of_squares() -> None:
    weights = [normal(0, 2, 3), normal(1, 4), normal(2)]
    values = (-1.0, 0.5, 2.0)
    expected = sum(math.exp(v) * float((w**2).sum()) for v, w in zip(values, weights, strict=True))
    assert float(hypergradients.regularizer(weights, lambdas_of(*values))) == pytest.approx(expected, rel=1e-14)


def test_regularizer_refuses_unequal_lists() -> None:
    with pytest.raises(ValueError):
        hypergradients.regularizer([normal(0, 2)], lambdas_of(0.0, 1.0))
