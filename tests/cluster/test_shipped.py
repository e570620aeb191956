"""Weights of frozen networks come from the driver's file, which no node needs to have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
import torch

from rambo_ray.cluster import tasks
from rambo_ray.cluster.session import Session
from rambo_ray.cluster.shipped import shipped, with_weights
from rambo_ray.config.schema import UtilityModelConfig
from rambo_ray.embeddings import weights
from rambo_ray.embeddings.weights import ResNetFile
from rambo_ray.errors import UserError
from rambo_ray.pipeline import plan
from rambo_ray.utility_model import features

from .problems import digits, smoke


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A ResNet-18 as it is before it has learned anything."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(resnet18(weights=None).state_dict(), path)
    return str(path)


def test_workers_need_no_file(session: Session, file: str, tmp_path: Path) -> None:
    problem, _ = digits()
    config = UtilityModelConfig(features="imagenet", imagenet_size=32)
    settings = plan.make(smoke(), problem).training
    pixels = problem.pool.pixels[:40]
    expected = features.Encoder("imagenet", settings, config, ResNetFile(file)).encode(pixels, {})
    gone = tmp_path / "resnet18.pth"
    gone.write_bytes(Path(file).read_bytes())
    travelling = shipped(ResNetFile(str(gone)))
    gone.unlink()
    encoder = features.Encoder("imagenet", settings, config, travelling)
    found = tasks.encodings(session, ray.put(pixels), np.arange(40), ray.put(encoder), ray.put({}))
    assert np.array_equal(found, expected) and found.shape == (40, 512)


def test_a_plan_s_weights_are_put_once(session: Session, file: str) -> None:
    problem, _ = digits()
    todo = plan.make(smoke(), problem)
    assert with_weights(todo) is todo, "which needs none"
    first, second = (with_weights(replace(todo, imagenet_weights=ResNetFile(file))) for _ in range(2))
    assert first.imagenet_weights is second.imagenet_weights
    assert first.imagenet_weights is not None and first.imagenet_weights.digest == ResNetFile(file).digest
    assert with_weights(first).imagenet_weights is first.imagenet_weights


def test_a_process_builds_the_network_once(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_built", {})
    built = weights.frozen_resnet(ResNetFile(file), 32)
    monkeypatch.setattr(ResNetFile, "state", lambda self: pytest.fail("it was read again"))
    assert weights.frozen_resnet(ResNetFile(file), 32) is built


@pytest.mark.parametrize("content", [b"", b"no weights", None])
def test_what_is_no_resnet_is_refused_in_a_line(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if content is None:
        torch.save({"conv1.weight": torch.zeros(1)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"^utility_model.imagenet_weights=.*not a state dict of torchvision's resnet18"
    ):
        weights.frozen_resnet(ResNetFile(str(path)), 32)
