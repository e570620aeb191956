"""The kernels in C against torch in double precision: every shape of image, every width of vectors."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from rambo_ray.classifier import kernels
from rambo_ray.classifier.mnist_steps import Adam, Layers, Weights
from rambo_ray.classifier.networks import MnistNet

from ..reference_training import closest_call

pytestmark = pytest.mark.skipif(kernels.library() is None, reason="needs a C compiler: cc, gcc, clang or $CC")

UNITS = 32, 64
PRECISIONS = ["float32", "bfloat16"]
each_precision = pytest.mark.parametrize("precision", PRECISIONS)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Equal but for float32's rounding, measured by the largest value."""
    largest = float(expected.abs().max())
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=tolerance * largest)


def drawn(n: int, channels: int, height: int, width: int) -> tuple[MnistNet, Weights, Tensor, Tensor]:
    """A network, its weights, images [n, H, W, C] and dropout's factors [n, 64].

    conv1's sums have so few digits that they are exact, so all round them to bfloat16 alike.
    """
    model = MnistNet((channels, height, width), 4)
    w = Weights(model)
    w.conv1.mul_(64).round_().div_(64)
    kept = torch.empty(n, UNITS[1]).bernoulli_(0.75).div_(0.75)
    return model, w, torch.randn(n, height, width, channels).mul_(16).round_().div_(16), kept


class Rounded(torch.autograd.Function):
    """A value as bfloat16 has it, whose gradient is that of the value."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.float().bfloat16().double()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class GradientRounded(torch.autograd.Function):
    """The value itself, with a gradient as bfloat16 has it."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.float().bfloat16().double()


def rounding(precision: str) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """What a precision does to the factors of a product in double precision, and to its gradient."""
    if precision == "float32":
        return torch.clone, torch.clone
    return Rounded.apply, GradientRounded.apply


def plainly(x: Tensor, w: Weights, precision: str) -> tuple[Tensor, Tensor]:
    """By torch's convolutions of x [n, H, W, C]: inputs of the first ReLU and of the pool, [n, units, H', W']."""
    factor, gradient = rounding(precision)
    conv1 = w.conv1[:-1].t().reshape(UNITS[0], x.shape[3], 3, 3)
    conv2 = w.conv2.view(3, 3, UNITS[1], UNITS[0]).permute(2, 3, 0, 1)
    hidden = F.conv2d(x.permute(0, 3, 1, 2), conv1, w.conv1[-1])
    return hidden, gradient(F.conv2d(factor(F.relu(hidden)), factor(conv2)))


def as_double(w: Weights, requires_grad: bool = True) -> Weights:
    """A copy in double precision."""
    copied = copy.copy(w)
    for name in (*w.shapes, "fc1"):
        setattr(copied, name, getattr(w, name).double().requires_grad_(requires_grad))
    return copied


def check_convolutions(model: MnistNet, w: Weights, x: Tensor, kept: Tensor, precision: str) -> None:
    """Values and all gradients, for an upstream gradient that is drawn."""
    exact = as_double(w)
    pooled = F.max_pool2d(plainly(x.double(), exact, precision)[1], 2).permute(2, 3, 0, 1).flatten(0, 1)
    expected = F.relu(pooled + exact.bias2) * kept
    upstream = torch.randn(expected.shape)
    expected.backward(upstream.double())
    layers, gradients = Layers(model, w, len(x), precision), w.gradients()
    close(layers.convolve(x, kept), expected.detach())
    layers.of_flat.copy_(upstream.flatten())
    layers.convolve_back(x, kept, gradients)
    for name in ("conv1", "conv2", "bias2"):
        close(getattr(gradients, name), getattr(exact, name).grad)


def clear_cut(x: Tensor, w: Weights, precision: str) -> bool:
    """Whether rounding cannot say who has a gradient."""
    exact = as_double(w, requires_grad=False)
    hidden, maps = plainly(x.double(), exact, precision)
    maps += exact.bias2[:, None, None]
    hidden = hidden[hidden != 0]  # these are exact, see drawn
    return min(closest_call(hidden, maps), float(F.max_pool2d(maps, 2).abs().min())) > 1e-5


@given(
    n=st.integers(1, 3), channels=st.integers(1, 3), height=st.integers(6, 19), width=st.integers(6, 19),
    seed=st.integers(0, 99),
)  # fmt: skip
@each_precision
def test_convolutions_are_torchs(precision: str, n: int, channels: int, height: int, width: int, seed: int) -> None:
    torch.manual_seed(seed)
    model, w, x, kept = drawn(n, channels, height, width)
    assume(clear_cut(x, w, precision))
    check_convolutions(model, w, x, kept, precision)


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["-mno-amx-bf16", "-mno-avx512bf16", "-mno-avx512f", "-mno-avx", "-O0"])
def test_narrower_vectors_compute_the_same(flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What older CPUs compile, and what a compiler that optimises nothing makes of it."""
    monkeypatch.setattr(kernels, "FLAGS", (*kernels.FLAGS, flag))
    try:
        narrow = kernels.opened(kernels.build(kernels.compiler(), tmp_path))
    except kernels.Unavailable as reason:
        pytest.skip(str(reason))
    monkeypatch.setattr(kernels, "library", lambda: narrow)
    torch.manual_seed(4)
    for precision in PRECISIONS:
        model, w, x, kept = drawn(2, 1, 12, 15)
        while not clear_cut(x, w, precision):
            model, w, x, kept = drawn(2, 1, 12, 15)
        check_convolutions(model, w, x, kept, precision)
        check_dense(7, precision)


@each_precision
def test_a_batch_leaves_nothing_behind(precision: str) -> None:
    """Sides that tiles do not divide: what fills them up must not become another batch's input."""
    torch.manual_seed(0)
    model, w, x, kept = drawn(4, 2, 11, 9)
    used, fresh = (Layers(model, w, 4, precision) for _ in range(2))
    for _ in range(2):
        used.convolve(100 * torch.randn(4, 11, 9, 2), kept)
        used.of_flat.normal_(std=100)
        used.convolve_back(100 * torch.randn(4, 11, 9, 2), kept, Weights(model))
    assert torch.equal(used.convolve(x, kept), fresh.convolve(x, kept))
    gradients = Weights(model), Weights(model)
    fresh.of_flat.normal_()
    used.of_flat.copy_(fresh.of_flat)
    used.convolve_back(x, kept, gradients[0])
    fresh.convolve_back(x, kept, gradients[1])
    for name in ("conv1", "conv2", "bias2"):
        assert torch.equal(getattr(gradients[0], name), getattr(gradients[1], name))


@each_precision
def test_a_smaller_batch_is_the_first_rows_of_a_larger(precision: str) -> None:
    """An image's bits depend neither on its company nor on its place."""
    torch.manual_seed(1)
    model, w, x, kept = drawn(9, 1, 28, 28)
    layers = Layers(model, w, 9, precision)
    together = layers.forward(x, kept)
    for i in range(9):
        assert torch.equal(layers.forward(x[i : i + 1], kept[i : i + 1]), together[i : i + 1])


@each_precision
def test_of_equal_values_the_first_has_the_gradient(precision: str) -> None:
    """Images without contrast, as torch's pool decides them."""
    model, w, x, kept = drawn(2, 1, 8, 8)
    w.conv2.zero_()
    w.bias2.fill_(1.0)
    layers = Layers(model, w, 2, precision)
    layers.convolve(x, kept)
    assert not layers.sources.any()


@each_precision
def test_what_is_not_a_number_stays_so(precision: str) -> None:
    """A training that diverged must not look like one of zeros."""
    model, w, x, kept = drawn(1, 1, 8, 8)
    w.conv1[0, 0] = float("nan")
    assert Layers(model, w, 1, precision).forward(x, torch.ones_like(kept)).isnan().all()


def check_dense(n: int, precision: str) -> None:
    """fc1 there and back, and everything after it, against autograd."""
    factor, gradient_rounded = rounding(precision)
    groups, features, units, classes, learning_rate = 3, 192, 128, 5, 1e-2
    inputs, fc1 = torch.randn(groups, n, features // groups).clamp_min(0), 0.1 * torch.randn(features, units)
    bias3, fc2, bias4 = torch.randn(units), 0.1 * torch.randn(classes, units), torch.randn(classes)
    kept = torch.empty(n, units).bernoulli_(0.5).div_(0.5)
    labels = torch.arange(n) % classes
    hidden, logits, of_hidden, of_inputs = (torch.empty(n, size) for size in (units, classes, units, features))
    of_bias3, of_fc2, of_bias4 = (torch.empty_like(w) for w in (bias3, fc2, bias4))
    exact = [w.double().requires_grad_() for w in (inputs, fc1, bias3, fc2, bias4)]
    products = factor(exact[0].permute(1, 0, 2).flatten(1)) @ factor(exact[1])
    embedding = F.relu(products + exact[2])
    expected = (embedding * kept) @ exact[3].t() + exact[4]
    F.cross_entropy(expected, labels).backward(retain_graph=True)

    work = torch.empty(kernels.call(f"work_floats_{precision}", n))
    kernels.call(f"dense_{precision}", n, features, inputs, fc1, hidden, work)
    close(hidden, products.detach())
    right = kernels.call(
        "head", n, classes, hidden, bias3, kept, fc2, bias4, labels, logits, of_hidden, of_bias3, of_fc2, of_bias4
    )
    close(logits, expected.detach())
    assert right == int((expected.argmax(1) == labels).sum())
    for found, weight in zip((of_bias3, of_fc2, of_bias4), exact[2:], strict=True):
        close(found, weight.grad)
    # The gradient that the kernel is given, so that both round the same.
    of_exact_inputs, of_fc1 = torch.autograd.grad(gradient_rounded(products), exact[:2], of_hidden.double())
    before, first, second = fc1.clone(), torch.zeros_like(fc1), torch.zeros_like(fc1)
    step = kernels.AdamStep(learning_rate, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0)  # moves against the gradient's sign
    kernels.call(
        f"dense_backward_{precision}", n, features, inputs, of_hidden, of_inputs, fc1, first, second, step, work
    )
    close(of_inputs.view_as(inputs), of_exact_inputs)
    close(first, of_fc1)
    close(second, of_fc1**2)
    large = of_fc1.abs() > 1e-3 * of_fc1.abs().max()
    close((fc1 - before)[large], -learning_rate * of_fc1.sign()[large], 1e-4)


@each_precision
@pytest.mark.parametrize("n", [1, 4, 5, 20, 23, 32, 71])
def test_dense_layers_are_autograds(n: int, precision: str) -> None:
    torch.manual_seed(n)
    check_dense(n, precision)


def test_adam_is_torchs_and_never_denormal() -> None:
    """Also where a gradient is 0 for so long that its moments fade away."""
    torch.manual_seed(0)
    weights = Weights(MnistNet((1, 6, 6), 3))
    w, expected = weights.small, torch.nn.Parameter(weights.small.clone())
    ours, theirs = Adam(weights, 1e-3), torch.optim.Adam([expected], lr=1e-3)
    gradient = torch.randn_like(w)
    for i in range(1200):
        if i == 100:
            gradient[::2] = 0
        expected.grad = gradient
        theirs.step()
        kernels.call("adam", w.numel(), w, gradient, *ours.small, ours.next())
    close(w, expected.detach(), 1e-4)
    smallest = np.finfo(np.float32).tiny
    assert (ours.small == 0).any()
    assert not ((ours.small != 0) & (ours.small.abs() < smallest)).any()
    assert float(torch.tensor(smallest) / 4) > 0, "arithmetic outside the kernels is as it was"


def test_wrong_arrays_are_refused() -> None:
    step = kernels.AdamStep(1e-3, 0.9, 0.1, 0.999, 0.001, 1.0, 1e-8)
    w = torch.zeros(4, 4)
    with pytest.raises(ValueError, match="adam: torch.float32 with strides \\(1, 4\\); expected float32, contiguous"):
        kernels.call("adam", 16, w.t(), w, w, w, step)
    with pytest.raises(ValueError, match="adam: torch.float64"):
        kernels.call("adam", 16, w, w.double(), w, w, step)
    with pytest.raises(ValueError, match="zip"):
        kernels.call("adam", 16, w, w, w, w)
