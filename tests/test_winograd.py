"""The convolutions in tiles against torch's own in double precision, on every shape an image may have."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from rambo_ray.winograd import POINTS, TiledConvolutions, transforms

from .reference_training import closest_call


def weights_of(channels: int) -> tuple[Tensor, Tensor]:
    """Weights of both layers in the layouts of `forward`, of usual sizes."""
    return 0.3 * torch.randn(9 * channels + 1, 32), 0.1 * torch.randn(9, 32, 64)


def plainly(x: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """By torch's convolutions of x [n, H, W, C]: inputs of the ReLU and of the pool, [n, units, rows, columns]."""
    conv1 = first[:-1].t().reshape(32, x.shape[3], 3, 3)
    conv2 = second.view(3, 3, 32, 64).permute(3, 2, 0, 1)
    hidden = F.conv2d(x.permute(0, 3, 1, 2), conv1, first[-1])
    return hidden, F.conv2d(F.relu(hidden), conv2)


def compare(found: Tensor, expected: Tensor) -> None:
    """Equal but for float32's rounding, measured by the largest value."""
    largest = float(expected.abs().max())
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5 * largest)


def compare_with_plain(x: Tensor, first: Tensor, second: Tensor) -> None:
    """Values and both gradients, for an upstream gradient that is drawn."""
    of_first, of_second = first.double().requires_grad_(), second.double().requires_grad_()
    expected = F.max_pool2d(plainly(x.double(), of_first, of_second)[1], 2).permute(0, 2, 3, 1)
    upstream = torch.randn(expected.shape)
    expected.backward(upstream.double())
    n, height, width, channels = x.shape
    tiled = TiledConvolutions((channels, height, width), n)
    compare(tiled.forward(x, first, second), expected.detach())
    found = torch.empty_like(first), torch.empty_like(second)
    tiled.backward(upstream, *found)
    compare(found[0], of_first.grad)
    compare(found[1], of_second.grad)


@pytest.mark.parametrize("points", [POINTS, (0.0, 1.0, -1.0, 2.0, -2.0)])
def test_transforms_are_a_correlation(points: tuple[float, ...]) -> None:
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=6), rng.normal(size=3)
    inputs, filters, outputs = transforms(points)
    assert outputs @ ((filters @ weights) * (inputs @ values)) == pytest.approx(np.correlate(values, weights))


@given(
    n=st.integers(1, 3), channels=st.integers(1, 3), height=st.integers(6, 19), width=st.integers(6, 19),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_values_and_gradients_are_those_of_plain_convolutions(
    n: int, channels: int, height: int, width: int, seed: int
) -> None:
    torch.manual_seed(seed)
    x = torch.randn(n, height, width, channels)
    first, second = weights_of(channels)
    assume(closest_call(*plainly(x.double(), first.double(), second.double())) > 1e-5)
    compare_with_plain(x, first, second)


def test_a_batch_leaves_nothing_behind() -> None:
    """Sides that tiles do not divide: what fills them up must not become another batch's input."""
    torch.manual_seed(0)
    shape = (2, 11, 9)
    used, (first, second) = TiledConvolutions(shape, 4), weights_of(2)
    gradients = torch.empty_like(first), torch.empty_like(second)
    for _ in range(2):
        used.forward(100 * torch.randn(4, 11, 9, 2), first, second)
        used.backward(100 * torch.randn(4, 3, 2, 64), *gradients)
    fresh, again = TiledConvolutions(shape, 4), (torch.empty_like(first), torch.empty_like(second))
    x, upstream = torch.randn(4, 11, 9, 2), torch.randn(4, 3, 2, 64)
    assert torch.equal(used.forward(x, first, second), fresh.forward(x, first, second))
    used.backward(upstream, *gradients)
    fresh.backward(upstream, *again)
    assert torch.equal(gradients[0], again[0])
    assert torch.equal(gradients[1], again[1])


def test_images_without_contrast() -> None:
    """All values under a window are equal, so rounding says who has the gradient: the weights' must not change."""
    torch.manual_seed(1)
    compare_with_plain(torch.full((3, 12, 12, 1), -0.4), *weights_of(1))


def test_an_image_has_the_same_bits_wherever_it_is() -> None:
    torch.manual_seed(2)
    first, second = weights_of(1)
    x = torch.randn(10, 28, 28, 1)
    tiled = TiledConvolutions((1, 28, 28), 10)
    expected = tiled.forward(x, first, second).clone()
    for shift in range(1, 10):
        assert torch.equal(tiled.forward(x.roll(shift, 0), first, second), expected.roll(shift, 0))
