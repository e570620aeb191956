"""The two networks of Section 4 for G sets of weights at once, each model with its own images.

Every layer is one batched matrix product over the G models. A convolution multiplies the windows
of its input, laid side by side, by the kernels: nine times the activation's bytes, but the same
fast, deterministic kernel for all G models, where grouped convolutions depend on what a library
finds for that number of groups. Images are channels-last throughout, so nothing is transposed.

Letters: G models, b rows (images) of each, H x W pixels, C channels in, O out, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rambo_ray.classifier.networks import MnistNet

State = dict[str, Tensor]

EPS, MOMENTUM = 1e-5, 0.1  # of nn.BatchNorm2d, which `classifier.networks` leaves at their defaults


class Windows(torch.autograd.Function):
    """[B, H, W, C] -> [B, H', W', kernel^2 C]: what a convolution sees at each place, without padding.

    Its own backward adds each window's gradient in place; autograd would make a zero image for each.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: int, stride: int) -> Tensor:
        ctx.shape, ctx.kernel, ctx.stride = x.shape, kernel, stride
        return torch.cat([x[:, rows, columns] for rows, columns in _places(x.shape, kernel, stride)], dim=-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        found = gradient.new_zeros(ctx.shape)
        parts = gradient.split(ctx.shape[-1], dim=-1)
        for (rows, columns), part in zip(_places(ctx.shape, ctx.kernel, ctx.stride), parts, strict=True):
            found[:, rows, columns] += part
        return found, None, None


def _places(shape: torch.Size, kernel: int, stride: int) -> list[tuple[slice, slice]]:
    """For each element of a kernel, row by row: which pixels it meets as the kernel moves over an image."""
    _, height, width, _ = shape
    return [
        (slice(y, height - kernel + y + 1, stride), slice(x, width - kernel + x + 1, stride))
        for y in range(kernel)
        for x in range(kernel)
    ]


@dataclass(frozen=True)
class Layers:
    """The layers of G networks over their stacked weights, for one forward pass.

    `real` [G, b] is 1 for the rows that are images and 0 for those that fill a batch up: batch
    normalisation must not count them. In eval mode (`training` false) it uses the running
    statistics; in train mode it updates them in place.
    """

    state: Mapping[str, Tensor]
    real: Tensor
    training: bool

    def conv(self, name: str, x: Tensor, kernel: int = 3, stride: int = 1, padding: int = 0) -> Tensor:
        """[G, b, H, W, C] -> [G, b, H', W', O]."""
        models, rows = x.shape[:2]
        if padding:
            x = F.pad(x, (0, 0, padding, padding, padding, padding))
        windows = Windows.apply(x.flatten(0, 1), kernel, stride)
        height, width = windows.shape[1:3]
        return self._product(name, windows.reshape(models, rows * height * width, -1)).view(
            models, rows, height, width, -1
        )

    def linear(self, name: str, x: Tensor) -> Tensor:
        """[G, b, C] -> [G, b, O]."""
        return self._product(name, x)

    def _product(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state.get(f"{name}.bias")
        return torch.bmm(x, weight) if bias is None else torch.baddbmm(bias[:, None], x, weight)

    def norm(self, name: str, x: Tensor) -> Tensor:
        """Batch normalisation of [G, b, H, W, C], in the precision of its statistics: float32 under autocast, too."""
        places = (slice(None), None, None, None)
        mean, var = self.state[f"{name}.running_mean"], self.state[f"{name}.running_var"]
        x = x.to(mean.dtype)
        if self.training:
            real = self.real[:, :, None, None, None]
            count = self.real.sum(1)[:, None] * (x.shape[2] * x.shape[3])
            batch_mean = (x * real).sum((1, 2, 3)) / count
            batch_var = ((x - batch_mean[places]).square() * real).sum((1, 2, 3)) / count
            with torch.no_grad():
                mean.lerp_(batch_mean.detach(), MOMENTUM)
                var.lerp_(batch_var.detach() * (count / (count - 1)), MOMENTUM)
            mean, var = batch_mean, batch_var
        scale = torch.rsqrt(var + EPS) * self.state[f"{name}.weight"]
        return (x - mean[places]) * scale[places] + self.state[f"{name}.bias"][places]


def _mnist_net(layers: Layers, x: Tensor, masks: tuple[Tensor, ...]) -> Tensor:
    models, rows = x.shape[:2]
    x = F.relu(layers.conv("conv1", x))
    x = layers.conv("conv2", x).flatten(0, 1).permute(0, 3, 1, 2)
    x = F.relu(F.max_pool2d(x, 2))
    if layers.training:
        x = x * masks[0].view(models * rows, -1, 1, 1).to(x.dtype)
    x = F.relu(layers.linear("fc1", x.reshape(models, rows, -1)))
    if layers.training:
        x = x * masks[1].to(x.dtype)
    return layers.linear("fc2", x)


def _resnet18(layers: Layers, x: Tensor, masks: tuple[Tensor, ...]) -> Tensor:
    x = F.relu(layers.norm("norm1", layers.conv("conv1", x, padding=1)))
    for number in range(8):
        block = f"blocks.{number}"
        stride = 2 if number in (2, 4, 6) else 1
        y = F.relu(layers.norm(f"{block}.norm1", layers.conv(f"{block}.conv1", x, 3, stride, 1)))
        y = layers.norm(f"{block}.norm2", layers.conv(f"{block}.conv2", y, padding=1))
        if stride == 2:
            x = layers.norm(f"{block}.shortcut.1", layers.conv(f"{block}.shortcut.0", x, 1, stride))
        x = F.relu(y + x)
    return layers.linear("fc", x.mean((2, 3)))


@dataclass(frozen=True)
class Network:
    """Logits [G, b, K] of (layers, x [G, b, H, W, C], masks), and the dropout masks it wants.

    dropout: (units, probability) in the order in which the single network draws them; the masks
    passed to `logits` are float [G, b, units] and already divided by 1 - probability. smallest: the
    fewest images of a batch.
    """

    logits: Callable[[Layers, Tensor, tuple[Tensor, ...]], Tensor]
    dropout: tuple[tuple[int, float], ...] = ()
    smallest: int = 1


STACKED: dict[str, Network] = {
    "mnist_net": Network(_mnist_net, tuple(zip((64, 128), MnistNet.dropout, strict=True))),
    "resnet18": Network(_resnet18, smallest=2),
}


def stacked_state(models: Sequence[nn.Module]) -> State:
    """The weights of G networks of one kind as [G, ...] tensors, kernels as matrices [G, kernel^2 C, O].

    The counters of batch normalisation, which nothing here reads, are left out.
    """
    states = [model.state_dict() for model in models]
    return {
        key: torch.stack([as_matrix(state[key]) for state in states])
        for key in states[0]
        if not key.endswith("num_batches_tracked")
    }


def as_matrix(weight: Tensor) -> Tensor:
    """A kernel [O, C, h, w] or a matrix [O, C] as it multiplies windows from the right; others unchanged."""
    if weight.ndim == 4:
        return weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()
    return weight.T.contiguous() if weight.ndim == 2 else weight
