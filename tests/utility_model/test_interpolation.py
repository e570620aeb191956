"""Definition 5 against its closed forms and bounds."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.utility_model.interpolation import alpha, interpolate

DISTANCE = st.one_of(st.just(0.0), st.floats(1e-300, 1e3))
PHI = st.lists(st.floats(0, 1), min_size=3, max_size=3)
UTILITY = st.floats(-5, 5)


def tensor(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@given(DISTANCE, DISTANCE)
def test_alpha_is_the_printed_ratio_and_a_weight(d_i: float, d_next: float) -> None:
    value = alpha(tensor([d_i]), tensor([d_next])).item()
    assert value == (0.5 if d_i == d_next == 0 else d_next / (d_next + d_i))
    assert 0 <= value <= 1


@given(PHI, PHI, UTILITY, UTILITY)
def test_on_a_prefix_the_utility_is_that_prefix_s(a: list[float], b: list[float], u_i: float, u_next: float) -> None:
    values = interpolate(tensor([a, b]), tensor(a), tensor(b), u_i, u_next)
    if a == b or (tensor(a) - tensor(b)).norm() == 0:
        assert values.tolist() == pytest.approx([(u_i + u_next) / 2] * 2)
    else:
        assert values.tolist() == [u_i, u_next]


@given(st.lists(PHI, min_size=1, max_size=4), PHI, PHI, UTILITY, UTILITY)
def test_formula_and_bounds(
    phi: list[list[float]], phi_i: list[float], phi_next: list[float], u_i: float, u_next: float
) -> None:
    values = interpolate(tensor(phi), tensor(phi_i), tensor(phi_next), u_i, u_next).tolist()
    assert len(values) == len(phi)
    for point, value in zip(phi, values, strict=True):
        d_i, d_next = math.dist(point, phi_i), math.dist(point, phi_next)
        weight = d_next / (d_next + d_i) if d_i + d_next > 1e-150 else 0.5
        assert value == pytest.approx(weight * u_i + (1 - weight) * u_next, abs=1e-9)
        assert min(u_i, u_next) - 1e-12 <= value <= max(u_i, u_next) + 1e-12


def test_three_quarters_of_the_way() -> None:
    value = interpolate(tensor([[3.0, 0.0]]), tensor([0.0, 0.0]), tensor([4.0, 0.0]), 0.4, 0.8)
    assert value.item() == pytest.approx(0.25 * 0.4 + 0.75 * 0.8)


def test_distances_are_euclidean() -> None:
    # By the sum of absolute differences the two distances would be 7 and 7, and the weight 1/2.
    value = interpolate(tensor([[3.0, 4.0]]), tensor([0.0, 0.0]), tensor([10.0, 4.0]), 1.0, 0.0)
    assert value.item() == pytest.approx(7 / 12)


def test_float32_embeddings_that_coincide_give_no_nan() -> None:
    phi = torch.full((2, 4), 0.3)
    assert interpolate(phi, phi[0], phi[0], 0.2, 0.6).tolist() == pytest.approx([0.4, 0.4])
