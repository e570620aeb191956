"""MnistNet in float32 on a CPU: its training step with the gradient written out, and its outputs.

What autograd would do with `classifiers.MnistNet`, in the same order and with the same draws of
dropout, so equal but for rounding; half the time goes (`benchmarks/utility_samples.py`). The
convolutions are `rambo_ray.winograd`'s. The large weights of fc1 lie the way its product reads
them, and nothing large is allocated twice.

Letters: n images of a batch, N at hand, C channels, H x W pixels, F pooled values, K classes.
"""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor

from rambo_ray.classifiers import Classifier, MnistNet
from rambo_ray.winograd import UNITS, TiledConvolutions, where_positive

# Images that go through the convolutions at once outside training.
TILED = 10


def applies(model: Classifier, precision: str, device: torch.device) -> TypeGuard[MnistNet]:
    """Whether a classifier is one that this module can train and ask for outputs, there and in that precision."""
    return type(model) is MnistNet and precision == "float32" and device.type == "cpu"


class Weights:
    """Copies of MnistNet's weights in the layouts in which they are used.

    conv1 [9 C + 1, 32] with its bias as the last row, conv2 [9, 32, 64], bias2 [64], fc1 [F, 128] with
    F by row, column and channel, bias3 [128], fc2 [K, 128], bias4 [K].
    """

    def __init__(self, model: MnistNet) -> None:
        of = model.state_dict()
        p, q = model.pooled
        kernel, bias = of["conv1.weight"], of["conv1.bias"]
        self.conv1 = torch.cat([kernel.reshape(UNITS[0], -1).t(), bias[None]]).contiguous()
        self.conv2 = of["conv2.weight"].permute(2, 3, 1, 0).reshape(9, *UNITS).contiguous()
        self.bias2 = of["conv2.bias"].clone()
        fc1 = of["fc1.weight"].view(-1, UNITS[1], p, q)
        self.fc1 = fc1.permute(2, 3, 1, 0).reshape(p * q * UNITS[1], -1).contiguous()
        self.bias3 = of["fc1.bias"].clone()
        self.fc2 = of["fc2.weight"].clone()
        self.bias4 = of["fc2.bias"].clone()

    def all(self) -> list[Tensor]:
        """Every tensor, in the order of the layers."""
        return [self.conv1, self.conv2, self.bias2, self.fc1, self.bias3, self.fc2, self.bias4]

    def write(self, model: MnistNet) -> None:
        """Give the weights to a model of the same shape."""
        to = model.state_dict()
        p, q = model.pooled
        to["conv1.weight"].copy_(self.conv1[:-1].t().reshape(to["conv1.weight"].shape))
        to["conv1.bias"].copy_(self.conv1[-1])
        to["conv2.weight"].copy_(self.conv2.view(3, 3, *UNITS).permute(3, 2, 0, 1))
        to["conv2.bias"].copy_(self.bias2)
        fc1 = self.fc1.view(p, q, UNITS[1], -1).permute(3, 2, 0, 1)
        to["fc1.weight"].copy_(fc1.reshape(to["fc1.weight"].shape))
        to["fc1.bias"].copy_(self.bias3)
        to["fc2.weight"].copy_(self.fc2)
        to["fc2.bias"].copy_(self.bias4)


class Steps:
    """Training steps of one MnistNet by Adam on cross-entropy."""

    def __init__(self, model: MnistNet, images: Tensor, labels: Tensor, learning_rate: float) -> None:
        """images are float32 [N, C, H, W], best in the layout of `training.prepare`, labels int64 [N]."""
        self.model = model
        self.images = images.permute(0, 2, 3, 1).contiguous()
        self.labels = labels
        self.targets = torch.nn.functional.one_hot(labels, model.fc2.out_features).float()
        self.weights, self.gradients = Weights(model), Weights(model)
        for weight, gradient in zip(self.weights.all(), self.gradients.all(), strict=True):
            weight.grad = gradient
        self.adam = torch.optim.Adam(self.weights.all(), lr=learning_rate, fused=True)
        self.convolutions: dict[int, TiledConvolutions] = {}  # by size of batch: the full one and the last one

    @torch.no_grad()
    def step(self, rows: Tensor) -> Tensor:
        """One step on the images at these rows; returns how many of them were right, an int64 scalar."""
        w, g, n = self.weights, self.gradients, len(rows)
        after_pool, after_fc1 = self.model.dropout
        if n not in self.convolutions:
            self.convolutions[n] = TiledConvolutions(self.model.image_shape, n)
        convolutions = self.convolutions[n]
        x = self.images.index_select(0, rows)

        pooled = convolutions.forward(x, w.conv1, w.conv2)
        kept = torch.empty(n, 1, 1, UNITS[1]).bernoulli_(1 - after_pool).div_(1 - after_pool)
        h = (pooled + w.bias2).clamp_min_(0).mul_(kept)
        flat = h.view(n, -1)
        embedding = torch.addmm(w.bias3, flat, w.fc1).clamp_min_(0)
        embedding *= torch.empty_like(embedding).bernoulli_(1 - after_fc1).div_(1 - after_fc1)
        logits = torch.addmm(w.bias4, embedding, w.fc2.t())

        d_logits = torch.softmax(logits, 1).sub_(self.targets.index_select(0, rows)).div_(n)
        torch.mm(d_logits.t(), embedding, out=g.fc2)
        torch.sum(d_logits, 0, out=g.bias4)
        # A unit that dropout has cut is 0 here, as one that ReLU has cut, and neither has a gradient.
        d_embedding = d_logits @ w.fc2
        where_positive(d_embedding, embedding, out=d_embedding).div_(1 - after_fc1)
        torch.mm(flat.t(), d_embedding, out=g.fc1)
        torch.sum(d_embedding, 0, out=g.bias3)
        d_flat = d_embedding @ w.fc1.t()
        where_positive(d_flat, flat, out=d_flat).div_(1 - after_pool)
        torch.sum(d_flat.view(-1, UNITS[1]), 0, out=g.bias2)
        convolutions.backward(d_flat.view_as(h), g.conv1, g.conv2)
        self.adam.step()
        return (logits.argmax(1) == self.labels.index_select(0, rows)).sum()

    def trained(self) -> MnistNet:
        """The model, with the weights after the last step."""
        self.weights.write(self.model)
        return self.model


class Outputs:
    """`MnistNet.outputs` in eval mode."""

    def __init__(self, model: MnistNet) -> None:
        self.weights = Weights(model)
        self.convolutions = TiledConvolutions(model.image_shape, TILED)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [n, K] and embeddings [n, 128] of x float32 [n, C, H, W], n a multiple of TILED."""
        w = self.weights
        rows = x.permute(0, 2, 3, 1)
        flat = torch.empty(len(x), w.fc1.shape[0])
        for some, pooled in zip(rows.split(TILED), flat.split(TILED), strict=True):
            found = self.convolutions.forward(some, w.conv1, w.conv2)
            pooled.view(found.shape).copy_(found)
        flat.view(-1, UNITS[1]).add_(w.bias2).clamp_min_(0)
        embedding = torch.addmm(w.bias3, flat, w.fc1).clamp_min_(0)
        return torch.addmm(w.bias4, embedding, w.fc2.t()), embedding
