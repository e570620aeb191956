"""The networks: sizes, shapes, equivalences, and a user's own network by import path."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest
import torch

from rambo_ray.classifier.networks import Classifier, MnistNet, ResNet18, build
from rambo_ray.errors import UserError

from .reference_training import PlainMnistNet


def parameters(net: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in net.parameters())


@pytest.mark.parametrize(
    ("name", "image_shape", "count", "embedding"),
    [
        ("mnist_net", (1, 28, 28), 1_199_882, 128),
        ("mnist_net", (1, 8, 8), 320 + 18_496 + (256 * 128 + 128) + 1_290, 128),
        ("resnet18", (3, 32, 32), 11_173_962, 512),
    ],
)
def test_sizes_and_shapes(name: str, image_shape: tuple[int, int, int], count: int, embedding: int) -> None:
    net = build(name, image_shape, 10).eval()
    assert parameters(net) == count
    x = torch.randn(3, *image_shape)
    logits, embedded = net.outputs(x)
    assert logits.shape == (3, 10)
    assert embedded.shape == (3, embedding)
    assert torch.equal(net(x), logits)
    assert torch.equal(net.embed(x), embedded)


@pytest.mark.parametrize("side", [6, 7, 8, 9, 12, 28, 29, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_mnist_net_is_the_plain_network(side: int, channels: int) -> None:
    """Pool before ReLU is ReLU before pool, forward and backward, in train mode too.

    In double precision, where no CPU's rounding decides which of a window is the largest.
    """
    torch.manual_seed(1)
    shape = (channels, side, side + side % 3)
    fast, plain = MnistNet(shape, 7).double(), PlainMnistNet(shape, 7).double()
    plain.load_state_dict(fast.state_dict())
    fast = fast.to(memory_format=torch.channels_last)
    x = torch.randn(5, *shape).double()
    for mode in (False, True):
        gradients = []
        for net in (fast.train(mode), plain.train(mode)):
            torch.manual_seed(2)
            net.zero_grad()
            logits = net(x.contiguous(memory_format=torch.channels_last) if net is fast else x)
            logits.square().sum().backward()
            gradients.append([logits.detach()] + [weight.grad for weight in net.parameters()])
        for ours, theirs in zip(*gradients, strict=True):
            scale = max(float(theirs.abs().max()), 1e-3)
            assert float((ours - theirs).abs().max()) < 1e-11 * scale


def test_mnist_net_embeds_before_dropout() -> None:
    net = MnistNet((1, 28, 28), 10).train()
    x = torch.randn(4, 1, 28, 28)
    logits, embedded = net.outputs(x)
    assert (embedded >= 0).all()
    assert not torch.allclose(logits, net.fc2(embedded))
    net.eval()
    logits, embedded = net.outputs(x)
    torch.testing.assert_close(logits, net.fc2(embedded))


def test_resnet_halves_the_image_three_times() -> None:
    net = ResNet18((3, 32, 32), 10).eval()
    assert net.blocks(torch.zeros(1, 64, 32, 32)).shape == (1, 512, 4, 4)


OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, image_shape, num_classes):
        super().__init__()
        c, h, w = image_shape
        self.head = nn.Linear(5, num_classes)
        self.body = nn.Linear(c * h * w, 5)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x.view(len(x), -1))))

class Embedding(Net):
    def embed(self, x):
        return self.body(x.view(len(x), -1))

def shallow(image_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(image_shape[0] * image_shape[1] * image_shape[2], 3))

def convolutional(image_shape, num_classes):
    return nn.Sequential(nn.Conv2d(image_shape[0], num_classes, image_shape[1:]), nn.Flatten())

def nothing(image_shape, num_classes):
    return None

def breaks(image_shape, num_classes):
    raise RuntimeError("two\\nlines")

def narrow(image_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(7, num_classes))

three = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "rambo_own_nets.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "rambo_own_nets"
    sys.modules.pop("rambo_own_nets", None)


def test_own_network_gets_its_embedding_from_the_last_linear(own: str) -> None:
    net = build(f"{own}:Net", (1, 8, 8), 4).eval()
    assert isinstance(net, Classifier)
    x = torch.randn(3, 1, 8, 8)
    logits, embedded = net.outputs(x)
    assert embedded.shape == (3, 5)
    torch.testing.assert_close(net.net.head(embedded), logits)
    # Asking leaves nothing behind: the user's module is as it was, and can be sent to other processes.
    copied = pickle.loads(pickle.dumps(net.net))
    torch.testing.assert_close(copied(x), logits)


def test_own_network_may_embed_itself(own: str) -> None:
    net = build(f"{own}:Embedding", (1, 8, 8), 4).eval()
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(net.embed(x), net.net.embed(x))
    torch.testing.assert_close(net.outputs(x)[0], net(x))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mnist_ne", "did you mean 'mnist_net'?"),
        ("vgg", "package.module:factory"),
        ("mnist_net:", "did you mean 'mnist_net'?"),
        ("no_such_package.nets:Net", "No module named"),
        ("{own}:Nett", "did you mean 'Net'?"),
        ("{own}:three", "not callable"),
        ("{own}:nothing", "must return a torch.nn.Module"),
        ("{own}:breaks", "RuntimeError: two lines"),
        ("{own}:shallow", "has shape [2, 3]; it must be [2, 4]"),
        ("{own}:narrow", "it must take float32"),
        ("{own}:convolutional", "no nn.Linear"),
    ],
)
def test_a_wrong_name_is_one_line(own: str, name: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        build(name.format(own=own), (1, 8, 8), 4)
    message = str(caught.value)
    assert message.startswith("classifier.name=")
    assert words in message
    assert "\n" not in message


def test_images_too_small_for_mnist_net_are_one_line() -> None:
    assert build("mnist_net", (1, 6, 6), 2)(torch.zeros(1, 1, 6, 6)).shape == (1, 2)
    with pytest.raises(UserError, match="images of 5x9 pixels are too small.*data.image_size=6"):
        build("mnist_net", (1, 5, 9), 2)
