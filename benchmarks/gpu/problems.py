"""What the sections measure on: images, labels, subsets and the package's training rule.

Images come from the packed file (`benchmarks/pack_images.py`); without one they are made: a pattern per class
and noise, on which trainings end about as late, so seconds mean something and accuracies do not.

Letters: N images, n of a subset, H x W x C an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from images import first_rows

from gpu.record import Section
from rambo_ray.classifier import training
from rambo_ray.classifier.training import TrainingSettings
from rambo_ray.config.schema import ClassifierConfig, Config
from rambo_ray.data.datasets import BENCHMARKS
from rambo_ray.data.problem import LabeledArrays
from rambo_ray.utility_samples.measuring import MeasurementSettings

SHAPES = {"mnist": (28, 28, 1), "fashion_mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
SMOKE_SIDE = 12  # pixels of an image's side in smoke runs
CLASSIFIER = {"mnist": "mnist_net", "fashion_mnist": "mnist_net", "cifar10": "resnet18"}
PRECISIONS = ("bfloat16", "float32")  # what `auto` takes on a GPU comes first
VALIDATION = 1000


@dataclass(frozen=True)
class Problem:
    """S_0 and S_val of a dataset; source: its name, or "made"."""

    name: str
    source: str
    labeled: LabeledArrays
    validation: LabeledArrays

    def settings(self, device: str, precision: str = "auto", **changes: Any) -> TrainingSettings:
        """How f is trained on it on a device, with fields of `TrainingSettings` changed."""
        height, width, channels = self.labeled.inputs.shape[1:]
        mean, std = BENCHMARKS[self.name].normalisation or ((0.5,) * channels, (0.25,) * channels)
        made = TrainingSettings.from_config(
            ClassifierConfig.model_validate({"name": CLASSIFIER[self.name], "precision": precision}),
            mean=mean, std=std, image_shape=(channels, height, width), num_classes=10, device=device,
        )  # fmt: skip
        return replace(made, **changes)

    def measuring(self, settings: TrainingSettings) -> MeasurementSettings:
        """How subsets are measured: the package's defaults."""
        return MeasurementSettings.from_config(Config(), settings)

    def prepared(self, settings: TrainingSettings, device: str) -> tuple[Any, Any]:
        """The images of S_0 and S_val as `training.prepare` makes them."""
        sets = (self.labeled, self.validation)
        labeled, validation = (training.prepare(part.inputs, settings, device) for part in sets)
        return labeled, validation


def load(section: Section, name: str, count: int, validation: int = VALIDATION) -> Problem:
    """S_0 of `count` images and S_val of a dataset, its first rows; made where there are no files."""
    pixels, labels = pictures(section, name, count + validation)
    first, rest = slice(validation), slice(validation, None)
    return Problem(
        name, name if section.root else "made", LabeledArrays(pixels[rest], labels[rest]),
        LabeledArrays(pixels[first], labels[first]),
    )  # fmt: skip


def pictures(section: Section, name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 [N, H, W, C] and labels int64 [N]: the first rows of a dataset, or made ones; cut in smoke runs."""
    pixels, labels = first_rows(section.root, name, count) if section.root else _made(name, count)
    if section.smoke:
        pixels = np.ascontiguousarray(pixels[:, 8 : 8 + SMOKE_SIDE, 8 : 8 + SMOKE_SIDE])
    return pixels, labels.astype(np.int64)


def _made(name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, count)
    patterns = rng.integers(0, 256, (10, *SHAPES[name]))
    noise = rng.integers(0, 256, (count, *SHAPES[name]))
    return (0.3 * patterns[labels] + 0.7 * noise).astype(np.uint8), labels


def repeated(pixels: np.ndarray, count: int) -> np.ndarray:
    """`count` images by repeating those at hand, [count, H, W, C]."""
    return np.resize(pixels, (count, *pixels.shape[1:]))


def subsets(count: int, n: int, k: int, seed: int = 0) -> list[np.ndarray]:
    """So many random subsets of n of k images, sorted positions [n] each."""
    rng = np.random.default_rng(seed)
    return [np.sort(rng.choice(k, n, replace=False)) for _ in range(count)]


def fixed_epochs(settings: TrainingSettings, epochs: int) -> TrainingSettings:
    """The same rule, but every training goes on for so many epochs."""
    return replace(settings, max_epochs=epochs, stop_accuracy=2.0)


def mean(values: Sequence[float]) -> float:
    """Their mean, a plain float."""
    return float(np.mean(values))
