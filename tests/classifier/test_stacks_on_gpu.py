"""The GPU's stack, on a CPU: its layers and networks, and its models against others trained on the same draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rambo_ray.classifier import training
from rambo_ray.classifier.networks import build
from rambo_ray.classifier.stacks import STACKED, draws, layers, models_that_fit
from rambo_ray.classifier.stacks.batched import BATCHED, Layout, Pass
from rambo_ray.classifier.stacks.networks import as_matrix
from rambo_ray.classifier.stacks.on_gpu import Stack, _enough
from rambo_ray.classifier.stacks.schedule import Schedule
from rambo_ray.classifier.training import TrainingSettings

from .test_stacks import images_for, settings_for, subsets_of

CPU = torch.device("cpu")


def rows_of(layout: Layout, models: list[nn.Module]) -> Tensor:
    """The weights of single networks in a stack's rows [G, P]."""
    rows = []
    for model in models:
        state = model.state_dict()
        first = state["conv1.weight"]
        parts = [_as_stacked(name, state).flatten() for name in layout.products]
        parts += [first.new_zeros(layout.filled)] + [state[name].flatten() for name in layout.scales]
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def _as_stacked(name: str, state: dict[str, Tensor]) -> Tensor:
    weight = as_matrix(state[name])
    if name != "fc1.weight":
        return weight
    channels = state["conv2.bias"].shape[0]  # a stack reads pixels by row, column and channel
    return weight.view(channels, -1, weight.shape[1]).transpose(0, 1).flatten(0, 1).contiguous()


class TestLayers:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    @pytest.mark.parametrize("channels", [3, 8])
    @pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (1, 2, 0), (3, 1, 0)])
    def test_a_convolution_and_its_gradients(
        self, kernel: int, stride: int, padding: int, channels: int, dtype: torch.dtype
    ) -> None:
        """Against torch's own in float64; 8 channels are copied 16 bytes at a time, and few rows take the other way."""
        torch.manual_seed(0)
        for rows in (1, 6):
            x = torch.randn(2, rows, 6, 8, channels).to(dtype).requires_grad_()
            weight = torch.randn(2, 5, channels, kernel, kernel).to(dtype)
            matrices = torch.stack([as_matrix(w) for w in weight]).requires_grad_()
            got = layers.Conv.apply(x, matrices, kernel, stride, padding)
            other = torch.randn(got.shape).to(dtype)
            found = torch.autograd.grad((got * other).sum(), (x, matrices))
            for g in range(2):
                x_g, w_g = x[g].detach().double().requires_grad_(), weight[g].double().requires_grad_()
                want = F.conv2d(x_g.permute(0, 3, 1, 2), w_g, stride=stride, padding=padding).permute(0, 2, 3, 1)
                dx, dw = torch.autograd.grad((want * other[g].double()).sum(), (x_g, w_g))
                for ours, theirs in ((got[g], want), (found[0][g], dx), (found[1][g], as_matrix(dw))):
                    close = 1e-9 if dtype == torch.float64 else 0.03 * float(theirs.detach().abs().max())
                    torch.testing.assert_close(ours.double(), theirs, atol=close, rtol=0)

    @pytest.mark.parametrize("relu", [True, False])
    def test_normalisation_does_not_count_what_fills_up(self, relu: bool) -> None:
        torch.manual_seed(0)
        x, other = torch.randn(2, 4, 3, 3, 5).double(), torch.randn(2, 4, 3, 3, 5).double()
        weight, bias = torch.randn(2, 5).double(), torch.randn(2, 5).double()
        places = torch.tensor([6, 7])  # the second model has two images
        for value in (x, other):
            value.flatten(0, 1)[places] = 0
        count = torch.tensor([[36.0], [18.0]]).double()
        batch = layers.Batch(1 / count, 36 - count, places)
        inputs = [v.requires_grad_() for v in (x, weight, bias, other)]
        y, mean, var = layers.Norm.apply(*inputs, batch, relu)
        up = torch.randn_like(y)
        up.flatten(0, 1)[places] = 0  # as comes from a ReLU behind
        found = torch.autograd.grad((y * up).sum(), inputs)
        for g, rows in enumerate((4, 2)):
            own = [v[g].detach().requires_grad_() for v in inputs]
            x_g = own[0][:rows].permute(0, 3, 1, 2)
            want = F.batch_norm(x_g, None, None, own[1], own[2], True).permute(0, 2, 3, 1) + own[3][:rows]
            want = F.relu(want) if relu else want
            torch.testing.assert_close(y[g, :rows], want)
            torch.testing.assert_close(mean[g], x_g.mean((0, 2, 3)))
            torch.testing.assert_close(var[g], x_g.var((0, 2, 3), correction=0))
            for place, one in enumerate(torch.autograd.grad((want * up[g, :rows]).sum(), own)):
                ours = found[place][g]
                torch.testing.assert_close(
                    ours[:rows] if place in (0, 3) else ours, one[:rows] if place in (0, 3) else one
                )
        if relu:
            assert not y.flatten(0, 1)[places].any()

    @pytest.mark.parametrize("masked", [True, False])
    def test_bias_relu_and_mask(self, masked: bool) -> None:
        torch.manual_seed(0)
        x, bias = torch.randn(2, 3, 4, 4, 5).double(), torch.randn(2, 5).double()
        mask = torch.randint(0, 2, (2, 3, 1, 1, 5)).float() * 1.25 if masked else None
        inputs = [x.requires_grad_(), bias.requires_grad_()]
        y = layers.Activated.apply(*inputs, mask)
        want = F.relu(x + bias[:, None, None, None]) * (1.0 if mask is None else mask)
        torch.testing.assert_close(y, want)
        up = torch.randn_like(y)
        got, expected = (torch.autograd.grad((v * up).sum(), inputs) for v in (y, want))
        torch.testing.assert_close(got, expected)


class TestNetworks:
    @pytest.mark.parametrize("name", BATCHED)
    def test_gradients_and_statistics_are_the_single_networks(self, name: str) -> None:
        """Two models in double precision, the second with rows that are not images."""
        settings = settings_for(name)
        layout = Layout.of(settings)
        torch.manual_seed(0)
        models = [build(name, settings.image_shape, 10).double().train(name != "mnist_net") for _ in range(2)]
        flat = rows_of(layout, models).requires_grad_()
        x, y = torch.randn(2, 6, *SHAPE[name]).double(), torch.randint(0, 10, (2, 6))
        x[1, 4:] = 0
        real, places = torch.tensor([6.0, 4.0]).double(), torch.tensor([10, 11])
        masks = tuple(torch.ones(2, 6, units) for units, _ in STACKED[name].dropout)
        forward = Pass(layout.views(flat, torch.float64), None, real, places, masks)
        statistics = layout.statistics(2, torch.float64, CPU)
        logits = BATCHED[name](forward, x.permute(0, 1, 3, 4, 2).contiguous())
        (F.cross_entropy(logits[0], y[0]) + F.cross_entropy(logits[1, :4], y[1, :4])).backward()
        forward.update(layout, statistics)
        for g, (model, rows) in enumerate(zip(models, (6, 4), strict=True)):
            alone = model(x[g, :rows])
            torch.testing.assert_close(logits[g, :rows], alone, atol=1e-9, rtol=1e-9)
            F.cross_entropy(alone, y[g, :rows]).backward()
            state = dict(model.state_dict())
            for key, parameter in model.named_parameters():
                state[key] = parameter.grad  # type: ignore[assignment]
            conv = {"conv2.bias": model.state_dict()["conv2.bias"]} if name == "mnist_net" else {}
            want = torch.cat(
                [_as_stacked(k, state | conv if k == "fc1.weight" else state).flatten() for k in layout.products]
                + [torch.zeros(layout.filled).double()]
                + [state[k].flatten() for k in layout.scales]
            )
            assert flat.grad is not None
            torch.testing.assert_close(flat.grad[g], want, atol=1e-9, rtol=1e-6)
            for key, (mean, var) in layout.running(statistics).items():
                torch.testing.assert_close(mean[g], state[f"{key}.running_mean"])
                torch.testing.assert_close(var[g], state[f"{key}.running_var"])
            with torch.no_grad():
                again = Pass(layout.views(flat, torch.float64), layout.running(statistics))
                torch.testing.assert_close(
                    BATCHED[name](again, x.permute(0, 1, 3, 4, 2).contiguous())[g], model.eval()(x[g])
                )

    @pytest.mark.parametrize("name", BATCHED)
    def test_initial_weights_are_distributed_as_torchs(self, name: str) -> None:
        settings = settings_for(name)
        layout = Layout.of(settings)
        flat = layout.drawn(draws.starts([5, 6], draws.WEIGHTS))
        assert torch.equal(flat[1:], layout.drawn(draws.starts([6], draws.WEIGHTS)))
        views = layout.views(flat, torch.float32)
        torch.manual_seed(0)
        model = build(name, settings.image_shape, 10)
        named = dict(model.named_parameters())
        assert set(views) == set(named)
        for key, weight in named.items():
            ours, theirs = views[key], as_matrix(weight)
            assert ours.shape[1:] == theirs.shape
            if weight.numel() > 500:
                ours, theirs = ours.detach(), theirs.detach()
                assert float(ours.abs().max()) == pytest.approx(float(theirs.abs().max()), rel=0.02)
                assert float(ours.std()) == pytest.approx(float(theirs.std()), rel=0.1)
            elif "norm" in key or "shortcut.1" in key:
                assert torch.equal(ours[0], theirs)


SHAPE = {"mnist_net": (1, 8, 8), "resnet18": (3, 8, 8)}


def reference(
    stack: Stack, settings: TrainingSettings, seed: int, labels: np.ndarray, subset: np.ndarray
) -> tuple[int, float, Tensor, Tensor]:
    """One model trained epoch by epoch on the same draws: its epochs, accuracy, weights and statistics."""
    layout = stack.layout
    flat = layout.drawn(draws.starts([seed], draws.WEIGHTS)).to(torch.float64).requires_grad_()
    statistics = layout.statistics(1, torch.float64, CPU)
    network = STACKED[settings.classifier]
    bounds = training.batch_bounds(len(subset), settings.batch_size, network.smallest)
    schedule = Schedule([subset], [bounds], [seed], settings.batch_size, settings.max_epochs, network.dropout, CPU)
    adam = torch.optim.Adam([flat], lr=settings.learning_rate)
    epoch = correct = 0
    while epoch < settings.max_epochs and (epoch == 0 or correct / len(subset) < settings.stop_accuracy):
        epoch, correct = epoch + 1, 0
        for step in schedule.steps(len(bounds)):
            held = int(step.real[0])
            rows = step.rows[:, :held]
            masks = tuple(mask[:, :held] for mask in step.masks)
            forward = Pass(layout.views(flat, torch.float64), None, step.real.double(), None, masks)
            logits = BATCHED[settings.classifier](forward, stack.images[rows])[0]
            y = torch.tensor(labels)[rows[0]]
            adam.zero_grad()
            F.cross_entropy(logits, y).backward()
            adam.step()
            with torch.no_grad():
                forward.update(layout, statistics)
            correct += int((logits.argmax(1) == y).sum())
    return epoch, correct / len(subset), flat.detach(), statistics


SLOW = pytest.param("resnet18", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", ["mnist_net", SLOW])
def test_models_of_all_sizes_are_those_trained_alone(name: str) -> None:
    """In double precision: each stops after an epoch of its own, and nothing that the others do reaches it."""
    limits = (
        {"stop_accuracy": 0.4, "max_epochs": 16, "learning_rate": 4e-3}
        if name == "mnist_net"
        else {"max_epochs": 2, "batch_size": 4}
    )
    settings, sizes = settings_for(name, **limits), [41, 9, 25, 60] if name == "mnist_net" else [9, 16, 5]
    pixels, labels = images_for(name, 80)
    x, seeds = training.prepare(pixels, settings), [3, 1, 4, 15][: len(sizes)]
    subsets = subsets_of(sizes, 80)
    stack = Stack(x, labels, settings, seeds, subsets, CPU, torch.float64)
    found = stack.train(x[:20])
    epochs = set()
    for g, (seed, subset) in enumerate(zip(seeds, subsets, strict=True)):
        epoch, accuracy, flat, statistics = reference(stack, settings, seed, labels, subset)
        assert (found[g][1], found[g][2]) == (epoch, accuracy)
        # Adam makes a step of a gradient that is 0 but for rounding, so single weights may be off by more.
        for ours, theirs in ((stack.final[0][g], flat[0]), (stack.final[1][g], statistics[0])):
            assert float((ours - theirs).norm()) <= 1e-6 * float(theirs.norm())
        want = stack.logits(stack.laid_out(x[:20]), flat, statistics)
        np.testing.assert_allclose(found[g][0], want[0], atol=1e-4)
        epochs.add(epoch)
    assert name != "mnist_net" or len(epochs) > 2


@pytest.mark.parametrize("name", ["mnist_net", SLOW])
def test_in_bfloat16_a_stack_learns_as_well(name: str) -> None:
    settings = settings_for(name, max_epochs=2 if name == "resnet18" else 8, batch_size=8)
    pixels, labels = images_for(name, 40)
    x = training.prepare(pixels, settings)
    subsets = subsets_of([13, 24], 40)
    losses = []
    for precision in ("float32", "bfloat16"):
        own = settings_for(name, max_epochs=settings.max_epochs, batch_size=8, precision=precision)
        found = Stack(x, labels, own, [0, 1], subsets, CPU).train(x)
        losses.append([float(F.cross_entropy(torch.tensor(v[0]), torch.tensor(labels))) for v in found])
        assert all(v[0].dtype == np.float32 and np.isfinite(v[0]).all() for v in found)
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.25)


def test_enough_is_what_a_share_says() -> None:
    for n in (1, 3, 7, 100, 2500):
        for accuracy in (0.0, 0.1, 0.6, 0.9, 0.99, 1.0):
            enough = _enough(n, accuracy)
            assert enough / n >= accuracy and (enough == 0 or (enough - 1) / n < accuracy)
    assert _enough(10, 2.0) > 10


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_model_of_a_stack_needs_about_what_a_gpu_was_measured_to_take(precision: str) -> None:
    """At 28 x 28 an H200's peak in training was 17 MB (33 in float32) beyond weights and moments, which are 14 MB."""
    settings = replace(settings_for("mnist_net", precision=precision), image_shape=(1, 28, 28))
    measured = {"bfloat16": 31e6, "float32": 47e6}[precision]
    assert 1.0 < 1e12 / models_that_fit(settings, 1e12) / measured < 3.0
