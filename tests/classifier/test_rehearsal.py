"""f is rehearsed before a cluster is started: what would train passes, at no cost to anybody's random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rambo_ray.classifier import rehearsal
from rambo_ray.classifier.settings import TrainingSettings
from rambo_ray.config.schema import ClassifierConfig
from rambo_ray.errors import UserError
from rambo_ray.own import names

LABELS = np.array([0, 1, 0, 1, 0, 1, 0, 1, 2])


def settings(name: str, shape: tuple[int, int, int] = (1, 8, 8), **keys: Any) -> TrainingSettings:
    config = ClassifierConfig(name=name, **keys)
    grey = (0.5,) * shape[0]
    return TrainingSettings.from_config(config, mean=grey, std=grey, image_shape=shape, num_classes=3)


def normalised(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Of one image alone batch normalisation knows no variance; a training never gives it one."""
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, classes))


@pytest.mark.parametrize("name", ["mnist_net", "resnet18", "linear", "mlp"])
def test_ours_are_built_without_weights(name: str) -> None:
    state = torch.get_rng_state()
    rehearsal.rehearse(settings(name, (64, 1, 1) if name in ("linear", "mlp") else (1, 8, 8)), LABELS)
    assert torch.equal(torch.get_rng_state(), state)


def test_images_too_small_are_refused() -> None:
    with pytest.raises(UserError, match="5x5 pixels are too small, it needs 6x6; set data.image_size=6 or more"):
        rehearsal.rehearse(settings("mnist_net", (1, 5, 5)), LABELS)


def test_what_trains_passes_once_whatever_its_learning_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    train = rehearsal.train
    monkeypatch.setattr(rehearsal, "train", lambda *given, **named: steps.append(given) or train(*given, **named))
    name = names.given(normalised)
    state = torch.get_rng_state()
    for rate in (1e-3, 1e-1):
        rehearsal.rehearse(settings(name, learning_rate=rate, batch_size=20), LABELS)
    assert len(steps) == 1 and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "name",
    [
        "sklearn.linear_model:LogisticRegression",
        "sklearn.neighbors:KNeighborsClassifier",  # asks for five neighbours
        "sklearn.tree:DecisionTreeClassifier",
        "sklearn.naive_bayes:GaussianNB",
    ],
)
def test_estimators_that_fit_s_0_pass(name: str) -> None:
    rehearsal.rehearse(settings(name, (16, 1, 1)), LABELS)


def test_an_estimator_is_shown_no_more_of_a_class_than_there_is() -> None:
    """One that wants five of each class is refused for S_0 with a class of one, as every training would fail."""
    name = "sklearn.calibration:CalibratedClassifierCV"
    with pytest.raises(UserError, match=f"classifier.name={name}: fitting it on 9 embeddings raised ValueError"):
        rehearsal.rehearse(settings(name, (16, 1, 1)), LABELS)
    rehearsal.rehearse(settings(name, (16, 1, 1)), np.repeat(np.arange(3), 2000))


def test_a_state_that_cannot_be_copied_is_refused() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(64, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x.flatten(1))

        def get_extra_state(self) -> object:
            return {"epoch": 1}

    def odd(shape: tuple[int, int, int], classes: int) -> nn.Module:
        return Odd()

    with pytest.raises(UserError, match="copying what it has learned raised"):
        rehearsal.rehearse(settings(names.given(odd)), LABELS)
