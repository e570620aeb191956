"""Networks of torchvision, timm and the user's own: built, known by their source, refused in a line."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rambo_ray.classifier import training
from rambo_ray.classifier.networks import build
from rambo_ray.classifier.settings import TrainingSettings
from rambo_ray.config.schema import ClassifierConfig
from rambo_ray.errors import UserError
from rambo_ray.own import names


def settings(name: str, shape: tuple[int, int, int] = (3, 32, 32), **keys: Any) -> TrainingSettings:
    grey = (0.5,) * shape[0]
    config = ClassifierConfig(name=name, precision="float32", **keys)
    return TrainingSettings.from_config(config, mean=grey, std=grey, image_shape=shape, num_classes=4)


class TestByName:
    @pytest.mark.parametrize(
        ("name", "embedding"),
        [("torchvision:resnet18", 512), ("torchvision:mobilenet_v3_small", 1024), ("torchvision:vit_b_16", 768),
         ("torchvision:googlenet", 1024)],
    )  # fmt: skip
    def test_of_torchvision(self, name: str, embedding: int) -> None:
        net = build(name, (3, 32, 32), 4).eval()
        with torch.no_grad():
            logits, seen = net.outputs(torch.zeros(2, 3, 32, 32))
        assert logits.shape == (2, 4) and seen.shape == (2, embedding)

    @pytest.mark.parametrize("name", ["timm:convnext_atto", "timm:vit_tiny_patch16_224"])
    def test_of_timm_with_grey_images(self, name: str) -> None:
        pytest.importorskip("timm")
        net = build(name, (1, 32, 32), 4).eval()
        with torch.no_grad():
            assert net(torch.zeros(2, 1, 32, 32)).shape == (2, 4)

    @pytest.mark.parametrize(
        ("name", "shape", "words"),
        [
            ("torchvision:resnet19", (3, 32, 32), "did you mean 'resnet1"),
            ("torchvision:resnet18", (1, 32, 32), "take colour images; set data.channels=3"),
            ("torchvision:vit_b_16", (3, 32, 48), "takes square images, not 48x32; set data.image_size"),
            ("torchvision:squeezenet1_0", (3, 64, 64), "no nn.Linear"),
            ("torchvision:fasterrcnn_resnet50_fpn", (3, 64, 64), "torchvision has no such classifier"),
        ],
    )
    def test_refused_before_anything_is_computed(self, name: str, shape: tuple[int, int, int], words: str) -> None:
        with pytest.raises(UserError) as caught:
            settings(name, shape)
        assert str(caught.value).startswith(f"classifier.name={name}: ") and words in str(caught.value)

    def test_without_timm_a_line_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "timm", None)
        with pytest.raises(UserError, match="timm is not installed; pip install timm"):
            settings("timm:resnet18")

    def test_it_learns(self) -> None:
        generator = np.random.default_rng(0)
        labels = np.arange(24) % 4
        pixels = generator.integers(0, 60, (24, 32, 32, 3)).astype(np.uint8)
        for label in range(4):
            pixels[labels == label, 8 * label : 8 * label + 8] += 150
        own = settings("torchvision:shufflenet_v2_x0_5", stop_accuracy=0.9, max_epochs=40, batch_size=8)
        trained = training.train(pixels, labels.astype(np.int64), own, seed=1)
        again = training.train(pixels, labels.astype(np.int64), own, seed=1)
        assert trained.train_accuracy >= 0.9
        for one, other in zip(trained.model.parameters(), again.model.parameters(), strict=True):
            assert torch.equal(one, other)


class TestKnownBySource:
    def test_our_own_identities_are_what_they_were(self) -> None:
        content = json.loads(settings("mnist_net", (1, 28, 28)).identity())
        assert "source" not in content and "pickled" not in content

    def test_an_edited_network_is_another(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        text = (
            "from torch import nn\n"
            "def make(shape, classes):\n"
            "    return nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.Linear(5, classes))\n"
        )
        file = tmp_path / "rambo_own_edited.py"
        file.write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        one = settings("rambo_own_edited:make", (3, 4, 4))
        file.write_text(text.replace("48, 5", "48, 50").replace("Linear(5,", "Linear(50,"))
        importlib.invalidate_caches()
        del sys.modules["rambo_own_edited"]
        other = settings("rambo_own_edited:make", (3, 4, 4))
        del sys.modules["rambo_own_edited"]
        assert one.classifier == other.classifier and one.identity() != other.identity()

    def test_a_library_s_network_is_known_by_its_version(self) -> None:
        source = json.loads(settings("torchvision:resnet18").identity())["source"]
        assert source.startswith("torchvision ") and "+" not in source


class TestGivenInPython:
    def factory(self, width: int) -> Any:
        def small(shape: tuple[int, int, int], classes: int) -> nn.Module:
            flat = shape[0] * shape[1] * shape[2]
            return nn.Sequential(nn.Flatten(), nn.Linear(flat, width), nn.ReLU(), nn.Linear(width, classes))

        return small

    def test_it_travels_with_the_settings(self) -> None:
        import pickle

        own = settings(names.given(self.factory(6)), (1, 4, 4))
        there = pickle.loads(pickle.dumps(own))
        pixels = np.arange(8 * 16, dtype=np.uint8).reshape(8, 4, 4, 1)
        trained = training.train(pixels, np.arange(8) % 4, there, seed=0)
        back = training.from_arrays(training.to_arrays(trained), there)
        assert back.model.embed(torch.zeros(2, 1, 4, 4)).shape == (2, 6)

    def test_its_closure_counts(self) -> None:
        one, other = (settings(names.given(self.factory(width)), (1, 4, 4)) for width in (6, 7))
        assert one.identity() != other.identity()
        assert settings(names.given(self.factory(6)), (1, 4, 4)).identity() == one.identity()

    def test_what_is_wrong_with_it_is_said_at_once(self) -> None:
        def wrong(shape: tuple[int, int, int], classes: int) -> nn.Module:
            return nn.Sequential(nn.Flatten(), nn.Linear(16, classes + 1))

        with pytest.raises(UserError, match=r"its logits for 2 images has shape \[2, 5\]; it must be \[2, 4\]"):
            settings(names.given(wrong), (1, 4, 4))
