"""Definitions 2 to 4 against their closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.utility_model import losses

REAL = st.floats(-30, 30)
UTILITY = st.floats(0, 1)


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@given(UTILITY, UTILITY)
def test_targets(u_1: float, u_2: float) -> None:
    expected = 1.0 if u_1 > u_2 else 0.0 if u_1 < u_2 else 0.5
    assert losses.targets(tensor(u_1), tensor(u_2)).item() == expected


@given(REAL, REAL, st.sampled_from([0.0, 0.5, 1.0]))
def test_ranking_is_the_printed_cross_entropy(s_1: float, s_2: float, target: float) -> None:
    # log P_12 = -log(1 + exp(-(s_1 - s_2))) and log(1 - P_12) = -log(1 + exp(s_1 - s_2)).
    expected = target * math.log1p(math.exp(-(s_1 - s_2))) + (1 - target) * math.log1p(math.exp(s_1 - s_2))
    assert losses.ranking(tensor(s_1), tensor(s_2), tensor(target)).item() == pytest.approx(expected, rel=1e-12)


@given(REAL, REAL)
def test_swapping_the_members_of_a_pair_changes_nothing(s_1: float, s_2: float) -> None:
    one = losses.ranking(tensor(s_1), tensor(s_2), losses.targets(tensor(0.9), tensor(0.8)))
    other = losses.ranking(tensor(s_2), tensor(s_1), losses.targets(tensor(0.8), tensor(0.9)))
    assert one.item() == pytest.approx(other.item(), rel=1e-12)


@pytest.mark.parametrize("target", [0.0, 0.5, 1.0])
def test_equal_scores_cost_ln_2(target: float) -> None:
    assert losses.ranking(tensor(3.0), tensor(3.0), tensor(target)).item() == pytest.approx(math.log(2), rel=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_scores_stay_finite_in_value_and_gradient(dtype: torch.dtype) -> None:
    s = torch.tensor([1e4, -1e4, 1e4, -1e4], dtype=dtype, requires_grad=True)
    zero = torch.zeros(4, dtype=dtype)
    loss = losses.ranking(s, zero, torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=dtype))
    assert loss.tolist() == pytest.approx([0.0, 1e4, 1e4, 0.0], abs=1e-6)
    loss.sum().backward()
    assert s.grad is not None and s.grad.tolist() == pytest.approx([0.0, -1.0, 1.0, 0.0], abs=1e-6)


@given(REAL, REAL, st.sampled_from([0.0, 0.5, 1.0]))
def test_gradient_of_the_ranking_loss(s_1: float, s_2: float, target: float) -> None:
    first, second = tensor(s_1).requires_grad_(), tensor(s_2).requires_grad_()
    losses.ranking(first, second, tensor(target)).sum().backward()
    expected = 1 / (1 + math.exp(-(s_1 - s_2))) - target  # P_12 minus its target
    assert first.grad is not None and second.grad is not None
    assert first.grad.item() == pytest.approx(expected, abs=1e-12)
    assert second.grad.item() == pytest.approx(-expected, abs=1e-12)


def test_descent_raises_the_score_of_the_better_set() -> None:
    s = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    losses.ranking(s[:1], s[1:], losses.targets(tensor(0.7), tensor(0.6))).sum().backward()
    assert s.grad is not None
    assert s.grad[0] < 0 < s.grad[1]


@given(REAL, REAL, REAL, REAL)
def test_ot_distance_is_definition_3(p_1: float, p_2: float, ot_1: float, ot_2: float) -> None:
    # The paper's lambda_1 = lambda_2 = 0.5 and lambda_3 = 1, and min(., 0) enters with a minus sign.
    expected = 0.5 * (p_1 - ot_1) ** 2 + 0.5 * (p_2 - ot_2) ** 2 - 1.0 * (min(p_1, 0) + min(p_2, 0))
    value = losses.ot_distance(tensor(p_1), tensor(p_2), tensor(ot_1), tensor(ot_2)).item()
    assert value == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert value >= 0


def test_negative_predictions_are_pushed_up() -> None:
    p = tensor(-0.5, 0.5).requires_grad_()
    losses.ot_distance(p[:1], p[1:], tensor(-0.5), tensor(0.5)).sum().backward()  # both without squared error
    assert p.grad is not None and p.grad.tolist() == [-1.0, 0.0]


@given(REAL, REAL, REAL, REAL)
def test_regression_is_the_mean_squared_error_of_both(p_1: float, p_2: float, u_1: float, u_2: float) -> None:
    value = losses.regression(tensor(p_1), tensor(p_2), tensor(u_1), tensor(u_2)).item()
    assert value == pytest.approx(((p_1 - u_1) ** 2 + (p_2 - u_2) ** 2) / 2, rel=1e-12, abs=1e-12)


def test_one_value_per_pair() -> None:
    x = torch.arange(5, dtype=torch.float64)
    for value in (losses.ranking(x, x + 1, x / 5), losses.ot_distance(x, x, x, x), losses.regression(x, x, x, x)):
        assert value.shape == (5,)
