"""What an image is to u_hat: normalised pixels, f's embedding, or frozen ImageNet features (B.1).

Letters: N images of H x W x C, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from rambo_ray.classifier import prediction, training
from rambo_ray.classifier.networks import Classifier
from rambo_ray.classifier.training import Arrays, TrainingSettings
from rambo_ray.config.schema import UtilityModelConfig, is_head
from rambo_ray.embeddings.networks import FrozenResNet
from rambo_ray.embeddings.weights import ResNetFile, ResNetWeights, frozen_resnet, imagenet_weights
from rambo_ray.errors import UserError
from rambo_ray.utility_model.network import UtilityModel

Features = Literal["evidence", "pixels", "classifier", "imagenet"]

__all__ = ["ENCODE_CHUNK", "Encoder", "Features", "choose", "extract", "frozen_weights"]

ENCODE_CHUNK = 512  # images; fixed, so that an encoding's bits do not depend on what it is computed with


def choose(config: UtilityModelConfig, shape: tuple[int, ...], classifier: str = "mnist_net") -> Features:
    """The features for images of H, W, C: as configured; "auto" follows the paper's two kinds of data.

    Small grey images go through the conv extractor (B.1.1), others through a frozen ResNet-18 (B.1.2). Where f is a
    head (`classifier` is its name), what f sees of an image is its frozen embedding, and that u_hat sees, too.
    Raises UserError where other features are asked for there.
    """
    if is_head(classifier):
        if config.features in ("pixels", "imagenet"):
            raise UserError(
                f"utility_model.features={config.features}: classifier.name={classifier} sees frozen embeddings, no "
                "images; set utility_model.features=auto to use those embeddings"
            )
        return "classifier" if config.features == "auto" else config.features
    if config.features != "auto":
        return config.features
    height, width, channels = shape
    return "pixels" if channels == 1 and max(height, width) <= 28 else "imagenet"


def frozen_weights(kind: Features, config: UtilityModelConfig) -> ResNetFile | None:
    """The weights that u_hat's features want; None for others. Raises UserError where they cannot be had or used."""
    if kind != "imagenet":
        return None
    found = ResNetFile(imagenet_weights(config))
    frozen_resnet(found, config.imagenet_size)  # now, and not after the utility samples
    return found


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
    weights: ResNetWeights | None = None  # of the frozen ResNet-18
    model: UtilityModel | None = None

    def encode_inputs(self, inputs: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Encodings [N, D], float32, of inputs [N, ...] that u_hat can look at as they are."""
        assert self.model is not None
        model, parts = self.model.to(device), []
        for start in range(0, len(inputs), ENCODE_CHUNK):
            with torch.no_grad():
                part = torch.tensor(inputs[start : start + ENCODE_CHUNK], device=device)
                parts.append(model.encode(part).float().cpu().numpy())
        return np.concatenate(parts)

    def encode(self, pixels: np.ndarray, classifier: Arrays, device: str = "cpu") -> np.ndarray:
        """Inputs of u_hat, or encodings [N, D], float32, of pixels uint8 [N, H, W, C].

        `classifier` is the base classifier, which "classifier" features are the embedding of.
        """
        trained = training.from_arrays(classifier, self.training, device).model if self.kind == "classifier" else None
        frozen = None
        if self.kind == "imagenet":
            assert self.weights is not None
            frozen = frozen_resnet(self.weights, self.config.imagenet_size)
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
