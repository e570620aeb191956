"""The linear head: the minimum it should have found, by other means, and what it must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from rambo_ray.classifier import logistic
from rambo_ray.classifier.logistic import fit_heads
from rambo_ray.errors import RunError

L2 = 0.05


def clusters(count: int, width: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """x float32 [count, width] around the mean of each row's class, and labels int64 [count]."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    x = rng.normal(size=(classes, width))[labels] + rng.normal(size=(count, width))
    return torch.tensor(x, dtype=torch.float32), torch.tensor(labels)


def objective(w: Tensor, x: Tensor, labels: Tensor, l2: float) -> Tensor:
    """J, as its definition reads; w is [K, D + 1] with the bias last."""
    logits = x.double() @ w[:, :-1].T + w[:, -1]
    return torch.nn.functional.cross_entropy(logits, labels) + l2 / 2 * w.square().sum()


def gradient(w: Tensor, x: Tensor, labels: Tensor, l2: float) -> Tensor:
    w = w.clone().requires_grad_()
    objective(w, x, labels, l2).backward()
    assert w.grad is not None
    return w.grad


@given(
    count=st.integers(1, 40),
    width=st.integers(1, 12),
    classes=st.integers(2, 6),
    l2=st.sampled_from([1e-3, 0.05, 10.0]),
    scale=st.sampled_from([1e-2, 1.0, 30.0]),
    seed=st.integers(0, 1000),
)
def test_the_gradient_is_zero_there(count: int, width: int, classes: int, l2: float, scale: float, seed: int) -> None:
    """J is strongly convex, so this is the whole proof; few rows leave classes out and can be separated."""
    x, labels = clusters(count, width, classes, seed)
    x *= scale
    w, steps = fit_heads(x, labels, [np.arange(count)], classes, l2)
    size = float(torch.cat([x, torch.ones(count, 1)], 1).double().square().mean().sqrt())
    assert float(gradient(w[0], x, labels, l2).norm()) <= 1.01 * logistic.TOLERANCE * size
    assert w.dtype == torch.float64 and w.shape == (1, classes, width + 1) and 0 <= steps[0] < 40


def test_two_classes_in_one_dimension() -> None:
    """By symmetry both classes' weights are opposite, which leaves two numbers for another's minimiser."""
    x, labels = clusters(30, 1, 2)

    def of(values: np.ndarray) -> float:
        half = torch.tensor(values)
        return float(objective(torch.stack([half, -half]), x, labels, L2))

    expected = minimize(of, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-15}).x
    w = fit_heads(x, labels, [np.arange(30)], 2, L2)[0][0]
    np.testing.assert_allclose(w[0].numpy(), expected, atol=1e-7)
    np.testing.assert_allclose(w[1].numpy(), -expected, atol=1e-7)


@pytest.mark.parametrize("l2", [1e-3, 0.05, 1.0])
def test_the_minimum_of_scikit_learn(l2: float) -> None:
    x, labels = clusters(200, 20, 5)
    w = fit_heads(x, labels, [np.arange(200)], 5, l2)[0][0]
    with_bias = np.concatenate([x.double().numpy(), np.ones((200, 1))], axis=1)
    model = LogisticRegression(C=1 / (200 * l2), fit_intercept=False, tol=1e-9, max_iter=10_000)
    theirs = torch.tensor(model.fit(with_bias, labels.numpy()).coef_)
    ours, other = (float(objective(value, x, labels, l2)) for value in (w, theirs))
    assert ours <= other + 1e-12 and abs(ours - other) < 1e-6
    assert float((w - theirs).abs().max()) < 1e-4


def test_alone_or_in_a_group_the_same_bits() -> None:
    x, labels = clusters(300, 17, 4)
    rng = np.random.default_rng(1)
    subsets = [rng.choice(300, size, replace=False) for size in (5, 40, 40, 133, 300)]
    together, steps = fit_heads(x, labels, subsets, 4, L2)
    for place in (4, 1, 0, 3, 2):
        alone, (taken,) = fit_heads(x, labels, subsets[place : place + 1], 4, L2)
        assert torch.equal(alone[0], together[place]) and taken == steps[place]
    assert torch.equal(fit_heads(x, labels, subsets[::-1], 4, L2)[0], together.flip(0))


def test_a_batch_differs_from_its_models_by_rounding() -> None:
    """What GPUs do; models of a batch have other sizes, and are there after other numbers of steps."""
    x, labels = clusters(300, 17, 4)
    rng = np.random.default_rng(1)
    subsets = [rng.choice(300, size, replace=False) for size in (1, 5, 40, 40, 133, 300)]
    alone, steps = fit_heads(x, labels, subsets, 4, L2)
    batched, batched_steps = fit_heads(x, labels, subsets, 4, L2, at_once=4)
    assert len(set(steps)) > 1 and len(batched_steps) == len(subsets)
    assert float((alone - batched).abs().max()) < 1e-5
    for one, subset in zip(batched, subsets, strict=True):
        assert float(gradient(one, x[subset], labels[subset], L2).norm()) <= 1.01 * logistic.TOLERANCE * 2


def test_the_order_of_rows_counts_for_rounding_only() -> None:
    x, labels = clusters(60, 8, 3)
    order = np.random.default_rng(0).permutation(60)
    (straight, shuffled), _ = fit_heads(x, labels, [np.arange(60), order], 3, L2)
    assert float((straight - shuffled).abs().max()) < 1e-6


def test_a_repeated_position_counts_twice() -> None:
    x, labels = clusters(20, 3, 2)
    once, twice = (fit_heads(x, labels, [rows], 2, L2)[0][0] for rows in (np.arange(20), np.repeat(np.arange(20), 2)))
    assert float((once - twice).abs().max()) < 1e-6, "all of them twice: the same mean"


def test_absent_classes_are_never_said() -> None:
    x, labels = clusters(50, 6, 3)
    w = fit_heads(x, labels, [np.arange(50)], 5, L2)[0][0]
    assert bool(torch.isfinite(w).all())
    logits = x.double() @ w[:, :-1].T + w[:, -1]
    assert int(logits.argmax(1).max()) < 3
    assert torch.allclose(w[3], w[4]), "nothing tells them apart"


def test_one_class_alone_is_always_said() -> None:
    x, _ = clusters(10, 4, 2)
    w = fit_heads(x, torch.ones(10, dtype=torch.int64), [np.arange(10)], 3, L2)[0][0]
    assert bool(((x.double() @ w[:, :-1].T + w[:, -1]).argmax(1) == 1).all())


def test_no_subsets() -> None:
    x, labels = clusters(10, 4, 2)
    w, steps = fit_heads(x, labels, [], 2, L2)
    assert w.shape == (0, 2, 5) and steps == []


def test_what_cannot_be_fitted() -> None:
    x, labels = clusters(10, 4, 2)
    everything = [np.arange(10)]
    with pytest.raises(ValueError, match="an empty subset"):
        fit_heads(x, labels, [np.arange(0)], 2, L2)
    with pytest.raises(ValueError, match=r"labels: 0\.\.1, not within 0\.\.0"):
        fit_heads(x, labels, everything, 1, L2)
    x[3, 1] = float("nan")
    with pytest.raises(RunError, match="not finite"):
        fit_heads(x, labels, everything, 2, L2)


def test_what_does_not_converge_is_not_passed_off(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = clusters(10, 4, 2)
    monkeypatch.setattr(logistic, "STEPS", 1)
    with pytest.raises(RunError, match=r"^classifier.l2=0.05: 1 of 1 linear heads did not converge in 1 Newton steps"):
        fit_heads(x, labels, [np.arange(10)], 2, L2)
