"""The rule by which f is trained, as values: what two trainings must have in common to be the same training."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import torch

from rambo_ray.classifier import abilities as able
from rambo_ray.classifier import estimators, mnist_steps
from rambo_ray.classifier.abilities import Abilities
from rambo_ray.classifier.networks import NETWORKS, Shape, source_of
from rambo_ray.config.schema import ClassifierConfig, is_estimator, is_head
from rambo_ray.errors import UserError
from rambo_ray.numerics import Reproducible

# Part of every settings's identity: raise it when the same settings would train another network.
RULE = 1

Precision = Literal["float32", "bfloat16"]
Kernels = Literal["auto", "off"]
Device = str | torch.device

# What a configuration says of the embeddings: all of it is in `TrainingSettings.embedding`.
_OF_EMBEDDINGS = {"embedding", "embedding_size", "components", "embedding_cache"}

# Of a head the identity leaves out what does not touch it.
_BY_PIXELS = ("mean", "std")
_BY_ADAM = ("learning_rate", "batch_size", "stop_accuracy", "max_epochs")


@dataclass(frozen=True)
class TrainingSettings:
    """Everything a training depends on besides its images, labels and seed.

    mean and std are per channel, of pixels scaled to [0, 1]; image_shape is (C, H, W), of embeddings
    (D, 1, 1). `precision` is resolved: bfloat16 is that of products, as under autocast; the weights and Adam
    stay float32. kernels: whether mnist_net may train in compiled ones; they change rounding only. l2: of the
    linear head (`rambo_ray.classifier.logistic`). embedding: the identity of what made the embeddings that a
    head is trained on, "" for pixels. source: by what a network of your own is known beside its name, "" for ours;
    pickled: its factory, where it was given in Python.
    """

    classifier: str
    learning_rate: float
    batch_size: int
    stop_accuracy: float
    max_epochs: int
    precision: Precision
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_shape: Shape
    num_classes: int
    kernels: Kernels = "auto"
    reproducible: Reproducible = "machine"
    l2: float = 0.0
    embedding: str = ""
    source: str = ""
    pickled: bytes = field(default=b"", repr=False)

    @classmethod
    def from_config(
        cls,
        classifier: ClassifierConfig,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        image_shape: Shape,
        num_classes: int,
        device: Device = "cpu",
        reproducible: Reproducible = "machine",
        embedding: str = "",
    ) -> TrainingSettings:
        """The settings of a configuration for one dataset, on the kind of device that will train."""
        channels = image_shape[0]
        if not is_head(classifier.name) and (len(mean) != channels or len(std) != channels):
            raise UserError(
                f"mean={tuple(mean)}, std={tuple(std)}: one value per channel is needed, the images have "
                f"{channels}; set data.channels"
            )
        shape = (int(channels), int(image_shape[1]), int(image_shape[2]))
        if is_estimator(classifier.name):
            found = estimators.own(classifier.name)
            source, pickled = found.digest, found.pickled
        else:
            source, pickled = source_of(classifier.name, shape, num_classes)
        made = cls(
            classifier=classifier.name,
            # Those left are fields of the same names, so that a new key is not forgotten.
            **classifier.model_dump(exclude={"name", "precision", "kernels", *_OF_EMBEDDINGS}),
            precision="float32",
            kernels="off" if reproducible == "any_x86" else classifier.kernels,
            reproducible=reproducible,
            mean=tuple(map(float, mean)),
            std=tuple(map(float, std)),
            image_shape=shape,
            num_classes=int(num_classes),
            embedding=embedding,
            source=source,
            pickled=pickled,
        )
        return made.on(device, classifier.precision)

    def on(self, device: Device, precision: str, abilities: Abilities | None = None) -> TrainingSettings:
        """The same on a kind of device, with what a configuration's `precision` means there.

        abilities: of the machines that will train, where this is not the only one: none trains in kernels that
        another lacks.
        """
        kernels: Kernels = self.kernels if abilities is None or abilities.kernels else "off"
        # CPUs differ in how they compute in bfloat16, and for a head it would not be faster.
        if self.reproducible == "any_x86" or is_head(self.classifier):
            return replace(self, precision="float32", kernels=kernels)
        chosen = choose_precision(precision, device, self.classifier, kernels, abilities)
        return replace(self, precision=chosen, kernels=kernels)

    def identity(self) -> str:
        """Canonical JSON of the settings, for content hashes; of your own network the name and its source's digest.

        What changes rounding only is left out, except where equal bits are what was asked for.
        """
        content = {"rule": RULE, **asdict(self)}
        del content["kernels"], content["pickled"]  # the source says what was pickled
        if not self.source:
            del content["source"]
        if self.reproducible == "machine":
            del content["reproducible"]
        unseen: tuple[str, ...] = ("l2", "embedding")
        if self.classifier == "linear":
            unseen = (*_BY_PIXELS, *_BY_ADAM)
        elif is_estimator(self.classifier):
            unseen = (*_BY_PIXELS, *_BY_ADAM, "l2")
        elif is_head(self.classifier):
            unseen = (*_BY_PIXELS, "l2")
        for name in unseen:
            del content[name]
        return json.dumps(content, sort_keys=True, separators=(",", ":"))


def choose_precision(
    setting: str, device: Device, classifier: str, kernels: Kernels = "auto", abilities: Abilities | None = None
) -> Precision:
    """The precision a setting means for a classifier on a device: auto is bfloat16 only where that is faster.

    A CPU without AMX or AVX512-BF16 emulates bfloat16 far slower than it computes float32. For
    mnist_net the compiled kernels come first, in bfloat16 where the CPU multiplies it in tiles (AMX): what
    autocast leaves is the traffic to memory, and they spare it. abilities: of the machines that will train;
    default: this one's.
    """
    if setting == "float32" or setting == "bfloat16":
        return setting  # type: ignore[return-value]
    precisions: tuple[Precision, ...] = ("bfloat16", "float32")
    for precision in precisions:
        if choose_kernels(classifier, precision, device, kernels, abilities) == "compiled":
            return precision
    if torch.device(device).type == "cuda":
        native = able.cuda_bfloat16() if abilities is None else abilities.cuda_bfloat16
    else:
        native = able.bfloat16() if abilities is None else abilities.bfloat16
    return "bfloat16" if native else "float32"


def choose_kernels(
    classifier: str,
    precision: Precision,
    device: Device,
    kernels: Kernels = "auto",
    abilities: Abilities | None = None,
) -> Literal["compiled", "torch"]:
    """Who computes a classifier's trainings there: `classifier.kernels`, if allowed and the machine can, or torch.

    abilities: of the machines that will train; default: this one's.
    """
    network = NETWORKS.get(classifier)
    compiled = mnist_steps.compiles(network, precision, torch.device(device), kernels, abilities)
    return "compiled" if compiled else "torch"
