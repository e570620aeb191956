"""u_hat: the set network of Appendix B.1, which scores subsets of images.

An image is encoded by an extractor (B.1.1 for pixels, B.1.2 for frozen features), a set is the mean
of its images' encodings, and phi, an embedding in (0, 1)^q, is computed from that mean (B.1.3). On
phi stand the ranking score, the OT head and, for the ablation, a regression head.

Means of random sets differ by 1/sqrt(d) of the images' own spread, and a sigmoid flattens what is
left: built as printed, all sets get the same score and nothing is learnt. So the pooled encoding is
standardised before phi, feature by feature: m the mean and s the standard deviation of the
encodings of S_0, c = mean over the fitted subsets of (1/d - 1/k), the exact variance of a random
subset's mean in units of s^2:

    z(subset) = (mean of encodings - m) / (s sqrt(c))

A random subset then has about unit variance in every feature. m and s follow the weights while
fitting and are stored with them; they need only the images of S_0, not the pairs at hand, so they
are the same on every worker.

Letters: N images, D = extractor_width, q = phi_width, G sets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rambo_ray.config.schema import UtilityModelConfig
from rambo_ray.files import replacing


@dataclass(frozen=True)
class Architecture:
    """Everything that fixes the shapes of u_hat's weights."""

    features: Literal["pixels", "vector"]
    input_shape: tuple[int, ...]  # (C, H, W) of pixels, (F,) of frozen features
    channels: int
    extractor_width: int
    phi_width: int
    head_width: int
    dropout: float
    objective: Literal["ranknet", "regression"]

    @classmethod
    def from_config(cls, config: UtilityModelConfig, input_shape: Sequence[int]) -> Architecture:
        """The architecture for inputs of `input_shape`: three numbers for pixels, one for a vector."""
        return cls(
            features="pixels" if len(input_shape) == 3 else "vector",
            input_shape=tuple(input_shape),
            channels=config.channels,
            extractor_width=config.extractor_width,
            phi_width=config.phi_width,
            head_width=config.head_width,
            dropout=config.dropout,
            objective=config.objective,
        )


class PixelExtractor(nn.Module):
    """B.1.1 as listed: convolution, pool, ReLU, 2-D dropout, pool, ReLU, FC, ReLU, dropout, FC, ReLU.

    The list has one convolution and two poolings. The convolution is 5x5 and keeps the size, so
    that it serves images from 8x8 up. Both poolings are 2x2; ReLU and dropping whole channels
    commute with the maximum, so together they are one 4x4 pooling. The images of a fit never
    change: their 5x5 patches are laid out once (`prepare`), grouped by place in the pooling window,
    and the convolution is one matrix product.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        colours, height, width = architecture.input_shape
        self.conv = nn.Conv2d(colours, architecture.channels, 5, padding=2)
        self.hidden = nn.Linear(architecture.channels * (height // 4) * (width // 4), architecture.extractor_width)
        self.output = nn.Linear(architecture.extractor_width, architecture.extractor_width)
        self.dropout = architecture.dropout

    @staticmethod
    def prepare(images: Tensor) -> Tensor:
        """Patches [16, N, windows, 25 C] of images [N, C, H, W]: 16 places in each 4x4 pooling window."""
        n, _, height, width = images.shape
        rows, columns = height // 4, width // 4
        patches = F.unfold(images, 5, padding=2).view(n, -1, height, width)[:, :, : 4 * rows, : 4 * columns]
        windows = patches.reshape(n, -1, rows, 4, columns, 4).permute(3, 5, 0, 2, 4, 1)
        return windows.reshape(16, n, rows * columns, -1).contiguous()

    def forward(self, patches: Tensor) -> Tensor:
        places, n, windows, size = patches.shape
        x = patches.view(-1, size) @ self.conv.weight.view(-1, size).t()
        x = x.view(places, n * windows, -1).max(dim=0).values
        x = F.relu(x + self.conv.bias)  # type: ignore[operator]
        x = F.dropout1d(x.view(n, windows, -1).transpose(1, 2), self.dropout, self.training).flatten(1)
        x = F.dropout(F.relu(self.hidden(x)), self.dropout, self.training)
        return F.relu(self.output(x))


class VectorExtractor(nn.Module):
    """B.1.2: FC, ReLU, FC on frozen features; [N, F] -> [N, D]."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.hidden = nn.Linear(architecture.input_shape[0], architecture.extractor_width)
        self.output = nn.Linear(architecture.extractor_width, architecture.extractor_width)

    @staticmethod
    def prepare(features: Tensor) -> Tensor:
        """Frozen features need nothing more."""
        return features

    def forward(self, x: Tensor) -> Tensor:
        return self.output(F.relu(self.hidden(x)))


class UtilityModel(nn.Module):
    """The set network of B.1.3. Encode each image once, pool with `membership`, then ask the heads."""

    mean: Tensor
    deviation: Tensor
    spread: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        width, phi, head = architecture.extractor_width, architecture.phi_width, architecture.head_width
        make = PixelExtractor if architecture.features == "pixels" else VectorExtractor
        self.extractor = make(architecture)
        self.set_hidden = nn.Linear(width, width)
        self.set_output = nn.Linear(width, phi)
        if architecture.objective == "ranknet":
            # No bias: a constant cancels in every comparison.
            self.score_head: nn.Module = nn.Linear(phi, 1, bias=False)
        else:
            self.score_head = nn.Sequential(nn.Linear(phi, head), nn.ReLU(), nn.Linear(head, 1))
        self.ot_head = nn.Sequential(nn.Linear(phi, head), nn.ReLU(), nn.Linear(head, 1))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.register_buffer("spread", torch.ones(()))

    def prepare(self, images: Tensor) -> Tensor:
        """Whatever of the extractor's work does not depend on the weights, for images [N, ...]; done once."""
        return self.extractor.prepare(images)  # type: ignore[operator]

    def encode(self, images: Tensor) -> Tensor:
        """Encodings [N, D] of images [N, ...]."""
        return self.extractor(self.prepare(images))

    def embed(self, pooled: Tensor, mean: Tensor | None = None, deviation: Tensor | None = None) -> Tensor:
        """phi of sets, [G, q], from the means of their images' encodings, [G, D].

        While fitting, the `mean` and `deviation` of the current encodings of S_0 are passed in
        (see `standardisation`); afterwards those stored with the weights are used.
        """
        mean = self.mean if mean is None else mean
        deviation = self.deviation if deviation is None else deviation
        z = (pooled - mean) / (deviation * self.spread)
        return torch.sigmoid(self.set_output(F.relu(self.set_hidden(z))))

    def forward(
        self, x: Tensor, mean: Tensor | None = None, deviation: Tensor | None = None, of_sets: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Encodings of prepared images `x`; or, `of_sets`, the score and predicted OT of pooled encodings `x`.

        One entry for both halves, so that `torch.func.functional_call` reaches each with the
        weights it is given.
        """
        if not of_sets:
            return self.extractor(x)
        phi = self.embed(x, mean, deviation)
        return self.score(phi), self.ot(phi)

    def score(self, phi: Tensor) -> Tensor:
        """The ranking score (or the regressed utility) of sets, [G]; larger is better."""
        return self.score_head(phi).squeeze(-1)

    def ot(self, phi: Tensor) -> Tensor:
        """The predicted OTDD of sets, [G], in units of the offline samples' mean OTDD."""
        return self.ot_head(phi).squeeze(-1)


def standardisation(encodings: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per feature, [D] each, of the encodings of S_0, [k, D].

    A feature that is the same for every image (a dead ReLU) keeps a deviation of 1e-3, so that it
    stays zero instead of becoming noise.
    """
    variance = encodings.var(dim=0, unbiased=True)
    # Not sqrt(): on CPUs torch asks MKL for it, whose approximation differs from one vendor's CPU to another's.
    shifted = variance + 1e-6
    return encodings.mean(dim=0), shifted * shifted.rsqrt()


def spread(sizes: Sequence[int] | np.ndarray, k: int) -> float:
    """sqrt(c) of the module's text for subsets of these sizes of k images; positive."""
    d = np.asarray(sizes, dtype=np.float64)
    return float(np.sqrt(max(float(np.mean(1.0 / d - 1.0 / k)), 1e-12)))


def membership(subsets: Sequence[Sequence[int]], k: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """[G, k] matrix of `dtype` whose product with encodings [k, D] is the mean over each subset."""
    matrix = torch.zeros(len(subsets), k, dtype=dtype)
    for row, subset in enumerate(subsets):
        matrix[row, torch.as_tensor(subset, dtype=torch.long)] = 1.0 / len(subset)
    return matrix


def initialise(architecture: Architecture, seed: int) -> UtilityModel:
    """A new u_hat whose weights follow from `seed` alone; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UtilityModel(architecture)


def save(model: UtilityModel, folder: str | Path, extra: Mapping[str, object]) -> None:
    """Write utility_model.safetensors and utility_model.json (architecture and `extra`) into `folder`."""
    folder = Path(folder)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    content = {"architecture": asdict(model.architecture), **extra}
    write(folder, safetensors.torch.save(weights), content)


def write(folder: Path, weights: bytes, content: Mapping[str, object]) -> None:
    """Write utility_model.safetensors and utility_model.json, each whole or not at all."""
    with replacing(folder / "utility_model.safetensors") as temporary:
        temporary.write_bytes(weights)
    with replacing(folder / "utility_model.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def load(folder: str | Path) -> tuple[UtilityModel, dict[str, object]]:
    """The u_hat written by `save`, in evaluation mode, and the content of its JSON file."""
    folder = Path(folder)
    content = json.loads((folder / "utility_model.json").read_text())
    fields = dict(content["architecture"])
    fields["input_shape"] = tuple(fields["input_shape"])
    model = UtilityModel(Architecture(**fields))
    model.load_state_dict(safetensors.torch.load_file(folder / "utility_model.safetensors"))
    return model.eval(), content
