"""The digits and small settings, which tests of trainings and of predictions share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from sklearn.datasets import load_digits

from rambo_ray.classifier.training import TrainingSettings
from rambo_ray.config.schema import ClassifierConfig


def read_only_digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 [1797, 8, 8, 1], not to be written, and labels int64 [1797]."""
    bunch = load_digits()
    pixels = (bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    pixels.setflags(write=False)
    return pixels, bunch.target.astype(np.int64)


def settings_of(**changes: object) -> TrainingSettings:
    """Settings for the digits in float32."""
    settings = TrainingSettings.from_config(
        ClassifierConfig(precision="float32"),
        mean=(0.1307,),
        std=(0.3081,),
        image_shape=(1, 8, 8),
        num_classes=10,
    )
    return replace(settings, **changes)  # type: ignore[arg-type]
