"""MnistNet on a CPU: its training step with the gradient written out, and its outputs.

What autograd would do with `networks.MnistNet`, with the same draws of dropout, so equal but for
rounding, in a fraction of the time (`benchmarks/utility_samples.py`). All but the draws is done by
`rambo_ray.classifier.kernels`, on one thread. In bfloat16, for CPUs with AMX, what conv2 and fc1 multiply is
rounded, as by autocast; sums, weights, moments and all else are float32.

Letters: n images of a batch, N at hand, C channels, H x W pixels, P pooled positions, K classes.
"""

from __future__ import annotations

import copy
import math
from typing import TypeGuard

import torch
from torch import Tensor

from rambo_ray.classifier import kernels
from rambo_ray.classifier.abilities import Abilities
from rambo_ray.classifier.kernels import AdamStep
from rambo_ray.classifier.networks import Classifier, MnistNet

UNITS = (32, 64)  # of conv1 and conv2


def compiles(
    network: type[Classifier] | None,
    precision: str,
    device: torch.device,
    setting: str = "auto",
    abilities: Abilities | None = None,
) -> bool:
    """Whether such networks train there, and in that precision, in compiled kernels: may they, and can the machine.

    setting: what `classifier.kernels` says, auto or off; abilities: of the machines in question, default: this one's.
    """
    if setting == "off" or network is not MnistNet or device.type != "cpu":
        return False
    if abilities is not None:
        return abilities.tiles if precision == "bfloat16" else abilities.kernels
    return kernels.tiles() if precision == "bfloat16" else kernels.library() is not None


def applies(model: Classifier, precision: str, device: torch.device, setting: str = "auto") -> TypeGuard[MnistNet]:
    """Whether a classifier is one that this module can train and ask for outputs, there and in that precision."""
    return compiles(type(model), precision, device, setting)


class Weights:
    """Copies of MnistNet's weights in the layouts in which they are used, the small ones in one piece.

    conv1 [9 C + 1, 32] with its bias as the last row, conv2 [9, 64, 32], bias2 [64], bias3 [128],
    fc2 [K, 128] and bias4 [K] are views of small; fc1 is [F, 128] with F by row, column and channel.
    """

    def __init__(self, model: MnistNet) -> None:
        of = model.state_dict()
        p, q = model.pooled
        kernel, bias = of["conv1.weight"], of["conv1.bias"]
        small = {
            "conv1": torch.cat([kernel.reshape(UNITS[0], -1).t(), bias[None]]),
            "conv2": of["conv2.weight"].permute(2, 3, 0, 1).reshape(9, UNITS[1], UNITS[0]),
            "bias2": of["conv2.bias"],
            "bias3": of["fc1.bias"],
            "fc2": of["fc2.weight"],
            "bias4": of["fc2.bias"],
        }
        self.shapes = {name: value.shape for name, value in small.items()}
        self.small = torch.cat([value.flatten() for value in small.values()])
        self._cut()
        fc1 = of["fc1.weight"].view(-1, UNITS[1], p, q)
        self.fc1 = fc1.permute(2, 3, 1, 0).flatten(0, 2).contiguous()

    def _cut(self) -> None:
        sizes = [shape.numel() for shape in self.shapes.values()]
        views = [part.view(shape) for part, shape in zip(self.small.split(sizes), self.shapes.values(), strict=True)]
        self.conv1, self.conv2, self.bias2, self.bias3, self.fc2, self.bias4 = views

    def gradients(self) -> Weights:
        """Memory for the gradients of all but fc1, whose own is used up where it arises."""
        made = copy.copy(self)
        made.small = torch.empty_like(self.small)
        made._cut()
        del made.fc1
        return made

    def write(self, model: MnistNet) -> None:
        """Give the weights to a model of the same shape."""
        to = model.state_dict()
        p, q = model.pooled
        to["conv1.weight"].copy_(self.conv1[:-1].t().reshape(to["conv1.weight"].shape))
        to["conv1.bias"].copy_(self.conv1[-1])
        to["conv2.weight"].copy_(self.conv2.view(3, 3, UNITS[1], UNITS[0]).permute(2, 3, 0, 1))
        to["conv2.bias"].copy_(self.bias2)
        to["fc1.weight"].view(-1, UNITS[1], p, q).copy_(self.fc1.view(p, q, UNITS[1], -1).permute(3, 2, 0, 1))
        to["fc1.bias"].copy_(self.bias3)
        to["fc2.weight"].copy_(self.fc2)
        to["fc2.bias"].copy_(self.bias4)


class Layers:
    """conv1 to fc1, for batches of at most `limit` images, with memory that every batch uses."""

    def __init__(self, model: MnistNet, weights: Weights, limit: int, precision: str) -> None:
        self.weights, self.precision, (p, q) = weights, precision, model.pooled
        self.positions = p * q
        self.flat = torch.empty(limit * p * q * UNITS[1])  # conv2's outputs [P, n, 64] after pool, ReLU and dropout
        self.of_flat = torch.empty_like(self.flat)
        self.sources = torch.empty(self.flat.shape, dtype=torch.int8)  # pixels that the pool took
        self.scratch = torch.zeros(self._call("scratch_floats", *model.image_shape))
        self.work = torch.empty(self._call("work_floats", limit))

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        """fc1's products with the pooled values, without its bias, [n, 128].

        x is float32 [n, H, W, C], kept [n, 64] dropout's factor of every channel of conv2.
        """
        self.convolve(x, kept)
        products = torch.empty(len(x), len(self.weights.bias3))
        self._call("dense", len(x), self.positions * UNITS[1], self.flat, self.weights.fc1, products, self.work)
        return products

    def convolve(self, x: Tensor, kept: Tensor) -> Tensor:
        """The pooled values [P, n, 64] after ReLU and dropout, a view that the next call overwrites."""
        w, (n, height, width, channels) = self.weights, x.shape
        self._call(
            "forward", n, channels, height, width, x, w.conv1, w.conv2, w.bias2, kept, self.flat, self.sources,
            self.scratch,
        )  # fmt: skip
        return self.flat[: n * self.positions * UNITS[1]].view(self.positions, n, UNITS[1])

    def backward(
        self, x: Tensor, kept: Tensor, gradient: Tensor, gradients: Weights, adam: Adam, step: AdamStep
    ) -> None:
        """From the gradient [n, 128] of what forward just gave: fc1 after Adam's step, the convolutions' gradients."""
        self._call(
            "dense_backward", len(x), self.positions * UNITS[1], self.flat, gradient, self.of_flat, self.weights.fc1,
            *adam.fc1, step, self.work,
        )  # fmt: skip
        self.convolve_back(x, kept, gradients)

    def convolve_back(self, x: Tensor, kept: Tensor, gradients: Weights) -> None:
        """The convolutions' gradients for the last batch, from that of the pooled values in `of_flat`."""
        w, g, (n, height, width, channels) = self.weights, gradients, x.shape
        self._call(
            "backward", n, channels, height, width, x, w.conv1, w.conv2, self.of_flat, self.flat, self.sources, kept,
            g.conv1, g.conv2, g.bias2, self.scratch,
        )  # fmt: skip

    def _call(self, name: str, *arguments: int | Tensor | AdamStep) -> int:
        return kernels.call(f"{name}_{self.precision}", *arguments)


class Adam:
    """Moments and step sizes of Adam (Kingma and Ba 2015), as torch's."""

    def __init__(self, weights: Weights, learning_rate: float) -> None:
        self.learning_rate = learning_rate
        self.steps = 0
        self.small, self.fc1 = (torch.zeros(2, *w.shape) for w in (weights.small, weights.fc1))  # both moments

    def next(self, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> AdamStep:
        """The numbers of the next step, with torch's default constants."""
        self.steps += 1
        rate = self.learning_rate / (1 - beta1**self.steps)
        root = 1 / math.sqrt(1 - beta2**self.steps)
        return AdamStep(rate, beta1, 1 - beta1, beta2, 1 - beta2, root, epsilon)


class CompiledSteps:
    """Training steps of one MnistNet by Adam on cross-entropy."""

    def __init__(
        self, model: MnistNet, images: Tensor, labels: Tensor, learning_rate: float, batch_size: int, precision: str
    ) -> None:
        """images are float32 [N, C, H, W], best in the layout of `training.prepare`, labels int64 [N]."""
        self.model = model
        self.images = images.permute(0, 2, 3, 1).contiguous()
        self.labels = labels
        self.weights = Weights(model)
        self.gradients = self.weights.gradients()
        self.layers = Layers(model, self.weights, min(batch_size, len(labels)), precision)
        self.adam = Adam(self.weights, learning_rate)

    @torch.no_grad()
    def step(self, rows: Tensor) -> int:
        """One step on the images at these rows; returns how many of them were right."""
        w, g, n = self.weights, self.gradients, len(rows)
        after_pool, after_fc1 = self.model.dropout
        x = self.images.index_select(0, rows)

        kept = _kept(n, UNITS[1], after_pool)
        hidden = self.layers.forward(x, kept)
        of_hidden = torch.empty_like(hidden)
        right = kernels.call(
            "head", n, len(w.bias4), hidden, w.bias3, _kept(n, len(w.bias3), after_fc1), w.fc2, w.bias4,
            self.labels.index_select(0, rows), torch.empty(n, len(w.bias4)), of_hidden, g.bias3, g.fc2, g.bias4,
        )  # fmt: skip

        adam, step = self.adam, self.adam.next()
        self.layers.backward(x, kept, of_hidden, g, adam, step)
        kernels.call("adam", w.small.numel(), w.small, g.small, *adam.small, step)
        return right

    def trained(self) -> MnistNet:
        """The model, with the weights after the last step."""
        self.weights.write(self.model)
        return self.model


class Outputs:
    """`MnistNet.outputs` in eval mode."""

    def __init__(self, model: MnistNet, limit: int, precision: str) -> None:
        """Of at most `limit` images at once."""
        self.weights = Weights(model)
        self.layers = Layers(model, self.weights, limit, precision)
        self.kept = torch.ones(limit, UNITS[1])

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [n, K] and embeddings [n, 128] of x float32 [n, C, H, W]."""
        w = self.weights
        products = self.layers.forward(x.permute(0, 2, 3, 1).contiguous(), self.kept[: len(x)])
        embedding = (products + w.bias3).clamp_min_(0)
        return torch.addmm(w.bias4, embedding, w.fc2.t()), embedding


def _kept(n: int, units: int, dropout: float) -> Tensor:
    """Dropout's factors [n, units], drawn as torch's layers draw them."""
    return torch.empty(n, units).bernoulli_(1 - dropout).div_(1 - dropout)
