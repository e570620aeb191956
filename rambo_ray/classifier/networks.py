"""f, the classifier that is retrained on every subset: two networks, two heads, and room for your own.

A head classifies frozen embeddings [n, D] instead of images; where a shape (C, H, W) is asked for, theirs is
(D, 1, 1).

Every classifier answers with its logits and, for the u_hat features and for the report, with the
embedding that its last layer sees. Weights start from PyTorch's default initialisation, which is
what the paper's baselines toolkit does (Section 4).

Letters: n images, C channels, H x W pixels, K classes, E embedding units.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rambo_ray.classifier import zoo
from rambo_ray.errors import UserError
from rambo_ray.own.names import RAISED, Own, find, in_one_line, loaded

Shape = tuple[int, int, int]


class Classifier(nn.Module):
    """A network whose logits are a function of an embedding.

    `outputs(x)` gives both at once; `embed(x)` and `forward(x)` give one of them. x is float32
    [n, C, H, W], already normalised. `memory_format` is the layout of x that the network computes
    in fastest; networks of unknown inside get the plain one, because a `view` in them may need it.
    """

    memory_format: torch.memory_format = torch.contiguous_format

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [n, K] and embeddings [n, E] of x [n, C, H, W], or [n, D] of heads."""
        raise NotImplementedError

    def embed(self, x: Tensor) -> Tensor:
        """Embeddings [n, E] of x [n, C, H, W]."""
        return self.outputs(x)[1]

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, K] of x [n, C, H, W]."""
        return self.outputs(x)[0]


class MnistNet(Classifier):
    """The small convolutional network of the MNIST and FashionMNIST experiments (Section 4).

    conv 3x3 to 32, ReLU, conv 3x3 to 64, ReLU, max-pool 2, Dropout2d 0.25, FC to 128, ReLU,
    dropout 0.5, FC to K. The embedding is the 128 units after the hidden ReLU, before dropout.
    """

    memory_format = torch.channels_last
    smallest_side = 6
    dropout = (0.25, 0.5)  # of channels after the pool, of units after fc1

    def __init__(self, image_shape: Shape, num_classes: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        if min(height, width) < self.smallest_side:
            raise UserError(
                f"classifier.name=mnist_net: images of {height}x{width} pixels are too small, it needs "
                f"{self.smallest_side}x{self.smallest_side}; set data.image_size={self.smallest_side} or more"
            )
        self.image_shape = image_shape
        self.pooled = ((height - 4) // 2, (width - 4) // 2)  # rows and columns of what fc1 reads
        self.conv1 = nn.Conv2d(channels, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.fc1 = nn.Linear(64 * self.pooled[0] * self.pooled[1], 128)
        self.fc2 = nn.Linear(128, num_classes)

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.conv1(x), inplace=True)
        # ReLU is monotone, so it commutes with the maximum; after the pool it has a quarter to do.
        x = F.relu(F.max_pool2d(self.conv2(x), 2), inplace=True)
        x = F.dropout2d(x, self.dropout[0], self.training)
        embedding = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(F.dropout(embedding, self.dropout[1], self.training)), embedding


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation, and a shortcut around them."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x), inplace=True)


class ResNet18(Classifier):
    """ResNet-18 for images of about 32 pixels (Section 4, CIFAR10 and SVHN): 3x3 stem, no max-pool.

    The embedding is the 512 features after global average pooling.
    """

    memory_format = torch.channels_last

    def __init__(self, image_shape: Shape, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(image_shape[0], 64, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(64)
        widths = (64, 128, 256, 512)
        blocks: list[nn.Module] = []
        for channels_in, channels in zip((64, *widths), widths, strict=False):
            blocks += [BasicBlock(channels_in, channels, 1 if channels == 64 else 2)]
            blocks += [BasicBlock(channels, channels, 1)]
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(512, num_classes)

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.blocks(F.relu(self.norm1(self.conv1(x)), inplace=True))
        embedding = x.mean((2, 3))
        return self.fc(embedding), embedding


class LinearHead(Classifier):
    """Logits linear in a frozen embedding, which is also the embedding that it gives."""

    def __init__(self, image_shape: Shape, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(image_shape[0], num_classes)

    @classmethod
    def of(cls, weights: Tensor) -> LinearHead:
        """The head, in eval mode, with the float64 weights [K, D + 1] of `logistic.fit_heads`, rounded to float32."""
        num_classes, width = weights.shape
        with torch.device("meta"):  # whose initialisation draws nothing
            head = cls((width - 1, 1, 1), num_classes)
        state = {"fc.weight": weights[:, :-1].float().contiguous(), "fc.bias": weights[:, -1].float().contiguous()}
        head.load_state_dict(state, assign=True)
        return head.eval()

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.fc(x), x


class MlpHead(Classifier):
    """One hidden layer on a frozen embedding: FC to 128, ReLU, dropout 0.5, FC to K; it gives the hidden layer."""

    units = 128
    dropout = 0.5

    def __init__(self, image_shape: Shape, num_classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(image_shape[0], self.units)
        self.fc2 = nn.Linear(self.units, num_classes)

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        embedding = F.relu(self.fc1(x))
        return self.fc2(F.dropout(embedding, self.dropout, self.training)), embedding


class CustomClassifier(Classifier):
    """A user's module; without an `embed` of its own, the embedding is what its last Linear reads."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.last: str | None = None

    def find_last(self, x: Tensor) -> None:
        """Note which nn.Linear runs last in a forward of x; leaves None where there is none."""
        handles = []

        def note(name: str) -> Callable[..., None]:
            def hook(*_: object) -> None:
                self.last = name

            return hook

        for name, module in self.net.named_modules():
            if isinstance(module, nn.Linear):
                handles.append(module.register_forward_hook(note(name)))
        try:
            self.net(x)
        finally:
            for handle in handles:
                handle.remove()

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.last is None:
            return self.net(x), self.net.embed(x)  # type: ignore[operator]
        seen: list[Tensor] = []
        layer = self.net.get_submodule(self.last)
        handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            logits = self.net(x)
        finally:
            handle.remove()
        return logits, seen[-1].flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


NETWORKS: dict[str, type[Classifier]] = {
    "mnist_net": MnistNet,
    "resnet18": ResNet18,
    "linear": LinearHead,
    "mlp": MlpHead,
}


def build(name: str, image_shape: Shape, num_classes: int, pickled: bytes = b"") -> Classifier:
    """A freshly initialised classifier for images [C, H, W] and K classes.

    `name` is a key of NETWORKS, `torchvision:NETWORK`, `timm:NETWORK`, or "package.module:factory", a callable
    (image_shape, num_classes) that returns an nn.Module from float32 [n, C, H, W] to logits [n, K]; such a module
    may have an `embed` of its own. pickled: the factory itself, where it was given in Python.
    Draws from torch's global generator. Raises UserError, in one line, for a
    name that is unknown or cannot be imported or called, for images too small for MnistNet, and
    for a module whose answer has the wrong shape.
    """
    if name in NETWORKS:
        # Classifier itself takes no arguments; its subclasses in NETWORKS all take these two.
        network: Callable[[Shape, int], Classifier] = NETWORKS[name]  # type: ignore[assignment]
        return network(image_shape, num_classes)
    factory = zoo.factory(name) if name.startswith(zoo.PREFIXES) else load_factory(name, pickled)
    try:
        net = factory(image_shape, num_classes)
    except UserError:
        raise
    except RAISED as error:
        raise UserError(
            f"classifier.name={name}: called as factory({image_shape}, {num_classes}) it raised "
            f"{in_one_line(error)}; it must take (image_shape, num_classes)"
        ) from error
    if not isinstance(net, nn.Module):
        raise UserError(f"classifier.name={name}: it returned a {type(net).__name__}; it must return a torch.nn.Module")
    return _checked(name, net, image_shape, num_classes)


def load_factory(name: str, pickled: bytes = b"") -> Callable[..., Any]:
    """The callable that "package.module:factory" names, or that was given; raises UserError where there is none."""
    return loaded(name, pickled, "classifier.name", NETWORKS)


def source_of(name: str, image_shape: Shape, num_classes: int) -> tuple[str, bytes]:
    """By what a network that is not in NETWORKS is known beside its name, and itself where it was given in Python.

    ("", b"") for those in NETWORKS. Raises UserError as `build`: what is wrong with a network of your own is
    found before a cluster is started.
    """
    if name in NETWORKS:
        return "", b""
    own = Own(name, zoo.source(name)) if name.startswith(zoo.PREFIXES) else find(name, "classifier.name", NETWORKS)
    _check_once(own, image_shape, num_classes)
    return own.digest, own.pickled


@cache
def _check_once(own: Own, image_shape: Shape, num_classes: int) -> None:
    with torch.random.fork_rng(devices=[]):  # what initialisation draws is nobody's
        build(own.name, image_shape, num_classes, own.pickled)


def _checked(name: str, net: nn.Module, image_shape: Shape, num_classes: int) -> CustomClassifier:
    """The user's module wrapped, after one forward of two black images has shown its shapes."""
    own = CustomClassifier(net).eval()
    x = torch.zeros(2, *image_shape)
    try:
        with torch.no_grad():
            if not callable(getattr(net, "embed", None)):
                own.find_last(x)
                if own.last is None:
                    raise UserError(
                        f"classifier.name={name}: it has no nn.Linear to read an embedding from; "
                        "give it a method embed(x) that returns [n, E]"
                    )
            logits, embedding = own.outputs(x)
    except UserError:
        raise
    except RAISED as error:
        raise UserError(
            f"classifier.name={name}: on zeros of shape {tuple(x.shape)} it raised {in_one_line(error)}; "
            "it must take float32 [n, C, H, W]"
        ) from error
    for what, value, shape in (("logits", logits, [2, num_classes]), ("embed", embedding, [2, "E"])):
        if not isinstance(value, Tensor):
            raise UserError(f"classifier.name={name}: its {what} is a {type(value).__name__}, not a tensor")
        if value.ndim != 2 or value.shape[0] != 2 or (what == "logits" and value.shape[1] != num_classes):
            got, want = list(value.shape), ", ".join(map(str, shape))
            raise UserError(f"classifier.name={name}: its {what} for 2 images has shape {got}; it must be [{want}]")
    return own.train()  # type: ignore[return-value]
