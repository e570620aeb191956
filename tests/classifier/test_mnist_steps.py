"""The written-out step of MnistNet against autograd: gradients, draws, trajectories and outputs."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rambo_ray.classifier import kernels, mnist_steps, training
from rambo_ray.classifier.networks import MnistNet, ResNet18
from rambo_ray.classifier.prediction import predict
from rambo_ray.classifier.training import TrainingSettings, prepare, train
from rambo_ray.config.schema import ClassifierConfig

from .reference_training import closest_call

pytestmark = pytest.mark.skipif(kernels.library() is None, reason="needs a C compiler: cc, gcc, clang or $CC")

SHAPES = [(1, 28, 28), (1, 8, 8), (3, 13, 10)]


def problem(shape: tuple[int, int, int], n: int, seed: int = 0) -> tuple[MnistNet, Tensor, Tensor]:
    torch.manual_seed(seed)
    x = torch.randn(n, *shape).contiguous(memory_format=torch.channels_last)
    return MnistNet(shape, 7).train(), x, torch.randint(0, 7, (n,))


@torch.no_grad()
def clear_cut_problem(shape: tuple[int, int, int], n: int) -> tuple[MnistNet, Tensor, Tensor]:
    """One in which no CPU's rounding changes a gradient: no maximum is close, no ReLU's input near 0."""
    for seed in range(1000):
        model, x, y = problem(shape, n, seed)
        net = copy.deepcopy(model).double()
        hidden = net.conv1(x.double())
        maps = net.conv2(F.relu(hidden))
        if min(closest_call(hidden, maps), float(F.max_pool2d(maps, 2).abs().min())) > 5e-6:
            return model, x, y
    raise AssertionError("no such problem")


def gradients_by_autograd(model: MnistNet, x: Tensor, y: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """In a precision of choice, with the dropout that float32 would draw."""
    net = copy.deepcopy(model).to(dtype)
    kept = torch.empty(len(x), 64, 1, 1).bernoulli_(0.75).div_(0.75).to(dtype)
    embedded = torch.empty(len(x), 128).bernoulli_(0.5).div_(0.5).to(dtype)
    h = F.relu(net.conv1(x.to(dtype)))
    h = F.relu(F.max_pool2d(net.conv2(h), 2)) * kept
    F.cross_entropy(net.fc2(F.relu(net.fc1(h.flatten(1))) * embedded), y).backward()
    return {key: value.grad for key, value in net.named_parameters()}


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_autograds(shape: tuple[int, int, int]) -> None:
    model, x, y = clear_cut_problem(shape, 3)
    torch.manual_seed(5)
    expected = gradients_by_autograd(model, x, y, torch.float64)
    steps = mnist_steps.CompiledSteps(model, x, y, 1e-3, 3, "float32")
    torch.manual_seed(5)
    steps.step(torch.arange(3))
    # fc1's gradient is used where it is computed: the first step's first moment is a tenth of it.
    steps.gradients.fc1 = 10 * steps.adam.fc1[0]
    holder = copy.deepcopy(model)
    steps.gradients.write(holder)
    for key, value in holder.named_parameters():
        # The longest sum has a term for each place of each image, 3 x 26 x 26; roundings, of half an eps each, add
        # up to about sqrt(2028) times as much, 2.7e-6, whatever the width of vectors. A wrong term is 1/2028.
        largest = float(expected[key].abs().max())
        torch.testing.assert_close(value.detach().double(), expected[key], rtol=0, atol=5e-6 * largest, msg=key)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_is_autograds_step(shape: tuple[int, int, int]) -> None:
    """As many right, the same draws taken, and the same weights after Adam's turn."""
    model, x, y = problem(shape, 23)
    settings = settings_of(shape)
    plain = training.AutogradSteps(copy.deepcopy(model), x, y, settings)
    tiled = mnist_steps.CompiledSteps(copy.deepcopy(model), x, y, settings.learning_rate, 20, "float32")
    for rows in (torch.arange(20), torch.tensor([22, 4, 21])):
        states = []
        for steps in (plain, tiled):
            torch.manual_seed(9)
            right = steps.step(rows)
            states.append((int(right), torch.get_rng_state()))
        assert states[0][0] == states[1][0]
        assert torch.equal(states[0][1], states[1][1])
    # Adam divides by the gradient's size, so where that is 0 but for rounding a weight moves by chance:
    # most weights are where they were, and none is further off than two steps can take it.
    moved, off = [], []
    for before, ours, theirs in zip(
        model.parameters(), tiled.trained().parameters(), plain.trained().parameters(), strict=True
    ):
        moved.append((theirs - before).detach().abs().flatten())
        off.append((theirs - ours).detach().abs().flatten())
    assert float(torch.cat(off).mean() / torch.cat(moved).mean()) < 1e-3
    assert float(torch.cat(off).max()) < 4.1 * settings.learning_rate


def settings_of(shape: tuple[int, int, int], **changes: object) -> TrainingSettings:
    channels = shape[0]
    settings = TrainingSettings.from_config(
        ClassifierConfig(precision="float32"),
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        image_shape=shape,
        num_classes=7,
    )
    return replace(settings, **changes)


def test_training_follows_autograd_for_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, 73)
    pixels = (rng.integers(0, 160, (73, 12, 12, 1)) + 10 * labels[:, None, None, None]).astype(np.uint8)
    settings = settings_of((1, 12, 12), max_epochs=5)
    tiled = train(pixels, labels, settings, 3)
    monkeypatch.setattr(mnist_steps, "applies", lambda *_: False)
    plain = train(pixels, labels, settings, 3)
    assert abs(tiled.train_accuracy - plain.train_accuracy) < 1.5 / 73  # one borderline image may fall to either side
    x = prepare(pixels, settings)
    ours, theirs = (trained.model.outputs(x)[0].detach() for trained in (tiled, plain))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.02 * float(theirs.abs().max()))


def test_in_bfloat16_a_training_is_as_near_to_float32_as_autocasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no CPU at hand has tiles: the kernels then compute the same one by one."""
    monkeypatch.setattr(kernels, "tiles", lambda: True)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, 73)
    pixels = (rng.integers(0, 160, (73, 12, 12, 1)) + 10 * labels[:, None, None, None]).astype(np.uint8)
    settings = settings_of((1, 12, 12), max_epochs=2)
    exact, rounded = (train(pixels, labels, replace(settings, precision=p), 3) for p in ("float32", "bfloat16"))
    theirs, ours = (predict(t.model, pixels, settings)[0] for t in (exact, rounded))
    again = predict(exact.model, pixels, replace(settings, precision="bfloat16"))[0]
    assert 0 < np.abs(again - theirs).max() < 0.02 * np.abs(theirs).max()
    monkeypatch.setattr(mnist_steps, "applies", lambda *_: False)
    autocast = train(pixels, labels, replace(settings, precision="bfloat16"), 3)
    by_autocast = predict(autocast.model, pixels, settings)[0]
    assert 0 < np.abs(ours - theirs).mean() < 1.5 * np.abs(by_autocast - theirs).mean()


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_come_back_as_they_went(shape: tuple[int, int, int]) -> None:
    model, _, _ = problem(shape, 1)
    other = MnistNet(shape, 7)
    mnist_steps.Weights(model).write(other)
    for key, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key


@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_are_the_modules(shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    channels, height, width = shape
    pixels = np.random.default_rng(1).integers(0, 256, (61, height, width, channels), dtype=np.uint8)
    model, settings = MnistNet(shape, 7).eval(), settings_of(shape)
    tiled = predict(model, pixels, settings)
    monkeypatch.setattr(mnist_steps, "applies", lambda *_: False)
    for ours, theirs in zip(tiled, predict(model, pixels, settings), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_where_it_applies(monkeypatch: pytest.MonkeyPatch) -> None:
    class Child(MnistNet):
        pass

    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    shape = (1, 8, 8)
    assert mnist_steps.applies(MnistNet(shape, 3), "float32", cpu)
    assert mnist_steps.applies(MnistNet(shape, 3), "bfloat16", cpu) == kernels.tiles()
    assert not mnist_steps.applies(MnistNet(shape, 3), "float32", cpu, "off")
    assert not mnist_steps.applies(MnistNet(shape, 3), "float32", gpu)
    assert not mnist_steps.applies(ResNet18(shape, 3), "float32", cpu)
    assert not mnist_steps.applies(Child(shape, 3), "float32", cpu)
    monkeypatch.setattr(kernels, "library", lambda: None)
    assert not mnist_steps.applies(MnistNet(shape, 3), "float32", cpu)
