"""What an image is to u_hat: normalised pixels, f's embedding, or frozen ImageNet features (B.1).

Letters: N images of H x W x C, F features.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rambo_ray.classifier import prediction, training
from rambo_ray.classifier.networks import Classifier
from rambo_ray.classifier.training import Arrays, TrainingSettings
from rambo_ray.config.schema import UtilityModelConfig
from rambo_ray.errors import UserError
from rambo_ray.utility_model.network import UtilityModel

Features = Literal["pixels", "classifier", "imagenet"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_WEIGHTS_FILE = "resnet18-f37072fd.pth"

ENCODE_CHUNK = 512  # images; fixed, so that an encoding's bits do not depend on what it is computed with


def choose(config: UtilityModelConfig, shape: tuple[int, int, int]) -> Features:
    """The features for images of H, W, C: as configured; "auto" follows the paper's two kinds of data.

    Small grey images go through the conv extractor (B.1.1), others through a frozen ResNet-18 (B.1.2).
    """
    if config.features != "auto":
        return config.features
    height, width, channels = shape
    return "pixels" if channels == 1 and max(height, width) <= 28 else "imagenet"


def imagenet_weights(config: UtilityModelConfig) -> str:
    """Path of ResNet-18's ImageNet weights, downloaded by torchvision where needed and possible.

    Raises UserError where they cannot be had, naming the alternative.
    """
    remedy = (
        "set utility_model.imagenet_weights=FILE to a copy of them, or utility_model.features=classifier to use the "
        "base classifier's own embedding"
    )
    if config.imagenet_weights is not None:
        if not Path(config.imagenet_weights).is_file():
            raise UserError(f"utility_model.imagenet_weights={config.imagenet_weights}: no such file; {remedy}")
        return str(Path(config.imagenet_weights).resolve())
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if not (folder / _WEIGHTS_FILE).is_file():
        from torchvision.models import ResNet18_Weights

        try:
            ResNet18_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"utility_model.features=imagenet: ResNet-18's weights are not in {folder} and could not be "
                f"downloaded ({reason}); {remedy}"
            ) from error
    return os.fspath(folder / _WEIGHTS_FILE)


class FrozenResNet(nn.Module):
    """torchvision's ResNet-18 up to the pooled features; uint8 [N, H, W, C] in, [N, 512] out."""

    def __init__(self, weights: str, size: int) -> None:
        """Load `weights`, a state dict file; images are resized to `size` pixels. UserError for a wrong file."""
        super().__init__()
        from torchvision.models import resnet18

        self.net = resnet18(weights=None)
        try:
            self.net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        except Exception as error:
            reason = " ".join(str(error).split())[:120]
            raise UserError(
                f"utility_model.imagenet_weights={weights}: not a state dict of torchvision's resnet18 ({reason}); "
                "give the file that torchvision downloads, or set utility_model.features=classifier"
            ) from error
        self.net.fc = nn.Identity()
        self.size = size
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.eval()

    mean: torch.Tensor
    std: torch.Tensor

    @torch.no_grad()
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = pixels.permute(0, 3, 1, 2).float() / 255.0
        x = x.expand(-1, 3, -1, -1)
        x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        return self.net((x - self.mean) / self.std)


def extract(
    pixels: np.ndarray,
    kind: Features,
    settings: TrainingSettings,
    *,
    classifier: Classifier | None = None,
    frozen: FrozenResNet | None = None,
    device: str = "cpu",
    chunk: int = 64,
) -> np.ndarray:
    """u_hat's inputs for pixels uint8 [N, H, W, C]: [N, C, H, W] or [N, F], float32.

    "classifier" needs the trained base classifier, "imagenet" the frozen net. Images are taken in
    fixed chunks, so the bits do not depend on how many there are.
    """
    if kind == "pixels":
        x = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32) / 255.0
        mean, std = (np.array(v, dtype=np.float32)[:, None, None] for v in (settings.mean, settings.std))
        return (x - mean) / std
    if kind == "classifier":
        assert classifier is not None
        return prediction.predict(classifier, pixels, settings, device=device)[1]
    assert frozen is not None
    frozen = frozen.to(device)
    parts = [frozen(torch.from_numpy(pixels[i : i + chunk].copy()).to(device)) for i in range(0, len(pixels), chunk)]
    return torch.cat(parts).float().cpu().numpy()


@dataclass(frozen=True)
class Encoder:
    """What turns pixels into u_hat's inputs and, where u_hat is given, on into its encodings."""

    kind: Features
    training: TrainingSettings
    config: UtilityModelConfig
    weights: str | None = None  # file of the frozen ResNet-18
    model: UtilityModel | None = None

    def encode(self, pixels: np.ndarray, classifier: Arrays, device: str = "cpu") -> np.ndarray:
        """Inputs of u_hat, or encodings [N, D], float32, of pixels uint8 [N, H, W, C].

        `classifier` is the base classifier, which "classifier" features are the embedding of.
        """
        trained = training.from_arrays(classifier, self.training, device).model if self.kind == "classifier" else None
        frozen = None
        if self.kind == "imagenet":
            assert self.weights is not None
            frozen = FrozenResNet(self.weights, self.config.imagenet_size)
        model = None if self.model is None else self.model.to(device)
        parts = []
        for start in range(0, len(pixels), ENCODE_CHUNK):
            chunk = pixels[start : start + ENCODE_CHUNK]
            inputs = extract(chunk, self.kind, self.training, classifier=trained, frozen=frozen, device=device)
            if model is not None:
                with torch.no_grad():
                    inputs = model.encode(torch.tensor(inputs, device=device)).float().cpu().numpy()
            parts.append(inputs)
        return np.concatenate(parts)
