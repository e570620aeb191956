"""Training f from scratch on a subset (Section 4).

The rule: Adam, cross-entropy, mini-batches shuffled anew in each epoch and the last partial batch
kept; training stops after the first epoch whose running accuracy (in train mode, so with dropout,
counted over that epoch's batches) reaches `stop_accuracy`, or after `max_epochs`.

A decision of ours: for networks with batch normalisation a last batch of one image joins the
batch before it, as one image alone has no variance to normalise by; such a network cannot be
trained on one image.

Letters: n images of a subset, N of a set, C channels, H x W pixels, K classes, E embedding units.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from rambo_ray.classifier import mnist_steps
from rambo_ray.classifier.networks import NETWORKS, Classifier, Shape, build
from rambo_ray.config.schema import ClassifierConfig
from rambo_ray.errors import UserError
from rambo_ray.numerics import Reproducible

# Part of every settings's identity: raise it when the same settings would train another network.
RULE = 1

Precision = Literal["float32", "bfloat16"]
Kernels = Literal["auto", "off"]
Device = str | torch.device
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class TrainingSettings:
    """Everything a training depends on besides its images, labels and seed.

    mean and std are per channel, of pixels scaled to [0, 1]; image_shape is (C, H, W). `precision`
    is resolved: bfloat16 is that of products, as under autocast; the weights and Adam stay float32.
    kernels: whether mnist_net may train in compiled ones; they change rounding only.
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
    ) -> TrainingSettings:
        """The settings of a configuration for one dataset, on the kind of device that will train."""
        channels = image_shape[0]
        if len(mean) != channels or len(std) != channels:
            raise UserError(
                f"mean={tuple(mean)}, std={tuple(std)}: one value per channel is needed, the images have "
                f"{channels}; set data.channels"
            )
        made = cls(
            classifier=classifier.name,
            **classifier.model_dump(exclude={"name", "precision", "kernels"}),  # so that a new key is not forgotten
            precision="float32",
            kernels="off" if reproducible == "any_x86" else classifier.kernels,
            reproducible=reproducible,
            mean=tuple(map(float, mean)),
            std=tuple(map(float, std)),
            image_shape=(int(channels), int(image_shape[1]), int(image_shape[2])),
            num_classes=int(num_classes),
        )
        return made.on(device, classifier.precision)

    def on(self, device: Device, precision: str) -> TrainingSettings:
        """The same on a kind of device, with what a configuration's `precision` means there."""
        if self.reproducible == "any_x86":  # CPUs differ in how they compute in bfloat16
            return replace(self, precision="float32")
        return replace(self, precision=choose_precision(precision, device, self.classifier, self.kernels))

    def identity(self) -> str:
        """Canonical JSON of the settings, for content hashes; of your own network it has only the name.

        What changes rounding only is left out, except where equal bits are what was asked for.
        """
        content = {"rule": RULE, **asdict(self)}
        del content["kernels"]
        if self.reproducible == "machine":
            del content["reproducible"]
        return json.dumps(content, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True)
class Trained:
    """A trained classifier, in eval mode, and how its training went.

    images_seen counts those of all epochs, train_accuracy is the last epoch's running accuracy in [0, 1],
    seconds is wall-clock time.
    """

    model: Classifier
    epochs: int
    images_seen: int
    train_accuracy: float
    seconds: float


def choose_precision(setting: str, device: Device, classifier: str, kernels: Kernels = "auto") -> Precision:
    """The precision a setting means for a classifier on a device: auto is bfloat16 only where that is faster.

    A CPU without AMX or AVX512-BF16 emulates bfloat16 far slower than it computes float32. For
    mnist_net the compiled kernels come first, in bfloat16 where the CPU multiplies it in tiles (AMX): what
    autocast leaves is the traffic to memory, and they spare it.
    """
    if setting == "float32" or setting == "bfloat16":
        return setting  # type: ignore[return-value]
    precisions: tuple[Precision, ...] = ("bfloat16", "float32")
    for precision in precisions:
        if choose_kernels(classifier, precision, device, kernels) == "compiled":
            return precision
    if torch.device(device).type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Private names, so absent ones must not break a run: then float32 is always right.
        tests = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        native = any(getattr(torch.cpu, test, bool)() for test in tests)
    return "bfloat16" if native else "float32"


def choose_kernels(
    classifier: str, precision: Precision, device: Device, kernels: Kernels = "auto"
) -> Literal["compiled", "torch"]:
    """Who computes a classifier's trainings there: `classifier.kernels`, if allowed and this machine can, or torch."""
    network = NETWORKS.get(classifier)
    return "compiled" if mnist_steps.compiles(network, precision, torch.device(device), kernels) else "torch"


def prepare(pixels: np.ndarray, settings: TrainingSettings, device: Device = "cpu") -> Tensor:
    """Normalised float32 [N, C, H, W] of pixels uint8 [N, H, W, C], in the classifier's layout.

    Make it once per set of images and per process; `train` and `rambo_ray.classifier.prediction` take it
    in place of the pixels. The pixels may be read-only and are never written. Raises ValueError for
    pixels of another type or shape than the settings's.
    """
    channels, height, width = settings.image_shape
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (height, width, channels):
        raise ValueError(f"pixels: {pixels.dtype} {pixels.shape}; expected uint8 (N, {height}, {width}, {channels})")
    mean, std = (np.asarray(values, np.float32) for values in (settings.mean, settings.std))
    # In torch's own memory, which begins where products of matrices are fastest and always round alike.
    made = torch.empty(pixels.shape, dtype=torch.float32)
    x = made.numpy()
    x[...] = pixels
    x /= 255
    x -= mean
    x /= std
    images = made.to(device).permute(0, 3, 1, 2)
    return images.contiguous(memory_format=memory_format(settings))


def train(
    images: np.ndarray | Tensor,
    labels: np.ndarray,
    settings: TrainingSettings,
    seed: int,
    device: Device = "cpu",
    positions: np.ndarray | None = None,
) -> Trained:
    """Train a classifier from scratch on a subset by the paper's rule (Section 4 and above).

    images are pixels uint8 [N, H, W, C] or what `prepare` made of them, labels are int64 [N];
    `positions` [n] says which of them form the subset, default all. Initialisation, shuffling and
    dropout follow from `seed` alone; torch's global generator is left as it was found. The order of
    `positions` counts: sort them. Raises UserError for a subset of one image where the network has
    batch normalisation, ValueError for an empty subset or labels outside 0..K-1.
    """
    start = time.perf_counter()
    device = torch.device(device)
    if positions is not None:
        labels = labels[positions]
        if isinstance(images, Tensor):
            images = _rows(images, torch.tensor(positions, device=images.device))
        else:
            images = images[positions]
    n = len(labels)
    if n == 0 or n != len(images):
        raise ValueError(f"labels: {n} for {len(images)} images; a training needs one each, and at least one")
    if labels.min() < 0 or labels.max() >= settings.num_classes:
        raise ValueError(f"labels: {labels.min()}..{labels.max()}, not within 0..{settings.num_classes - 1}")
    x = images.to(device) if isinstance(images, Tensor) else prepare(images, settings, device)
    y = torch.tensor(labels, dtype=torch.int64, device=device)

    with seeded(seed, device), cuda_kernels(device, settings):
        model = build(settings.classifier, settings.image_shape, settings.num_classes)
        model = model.to(device, memory_format=model.memory_format)  # type: ignore[call-overload]
        normalised = any(isinstance(module, _BatchNorm) for module in model.modules())
        bounds = batch_bounds(n, settings.batch_size, 2 if normalised else 1)
        steps: AutogradSteps | mnist_steps.CompiledSteps
        if mnist_steps.applies(model, settings.precision, device, settings.kernels):
            steps = mnist_steps.CompiledSteps(
                model, x, y, settings.learning_rate, settings.batch_size, settings.precision
            )
        else:
            steps = AutogradSteps(model, x.to(image_type(settings)), y, settings)
        epochs, accuracy = 0, 0.0
        while epochs < settings.max_epochs and accuracy < settings.stop_accuracy:
            order = torch.randperm(n).to(device)
            # Stays on the device: reading it at each step would wait for the step to finish.
            correct = torch.zeros((), dtype=torch.int64, device=device)
            for first, last in bounds:
                correct += steps.step(order[first:last])
            epochs, accuracy = epochs + 1, int(correct) / n
        trained = steps.trained()
    return Trained(trained.eval(), epochs, epochs * n, accuracy, time.perf_counter() - start)


class AutogradSteps:
    """Training steps of any classifier by Adam on cross-entropy, with autograd."""

    def __init__(self, model: Classifier, images: Tensor, labels: Tensor, settings: TrainingSettings) -> None:
        """images are of `image_type`, [N, C, H, W] in the layout of `prepare`, labels int64 [N]."""
        self.model = model.train()
        self.images, self.labels, self.training = images, labels, settings
        self.adam = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, fused=True)

    def step(self, rows: Tensor) -> Tensor:
        """One step on the images at these rows; returns how many of them were right, an int64 scalar."""
        labels = self.labels.index_select(0, rows)
        with autocast(labels.device, self.training):
            logits = self.model(_rows(self.images, rows)).float()
        self.adam.zero_grad(set_to_none=True)
        F.cross_entropy(logits, labels).backward()
        self.adam.step()
        return (logits.detach().argmax(1) == labels).sum()

    def trained(self) -> Classifier:
        """The classifier after the last step."""
        return self.model


def batch_bounds(n: int, batch_size: int, smallest: int = 1) -> list[tuple[int, int]]:
    """First and past-the-end position of each mini-batch of n shuffled images, the rest kept.

    A rest of fewer than `smallest` images joins the batch before it. Raises UserError where no
    batch can have that many.
    """
    for what, value in (("classifier.batch_size", batch_size), ("a subset's size", n)):
        if value < smallest:
            raise UserError(
                f"{what}={value}: a network with batch normalisation needs {smallest} images in a batch; "
                "raise classifier.batch_size and utility_samples.min_size, or take classifier.name=mnist_net"
            )
    starts = list(range(0, n, batch_size))
    if len(starts) > 1 and n - starts[-1] < smallest:
        starts.pop()
    return list(zip(starts, [*starts[1:], n], strict=True))


def to_arrays(trained: Trained) -> Arrays:
    """A trained classifier as numpy arrays, copies that any process can take; see `from_arrays`."""
    state = trained.model.state_dict()
    arrays = {f"model.{key}": np.array(value.cpu().numpy(), order="C") for key, value in state.items()}
    for key in ("epochs", "images_seen", "train_accuracy", "seconds"):
        arrays[key] = np.asarray(getattr(trained, key))
    return arrays


def from_arrays(arrays: Arrays, settings: TrainingSettings, device: Device = "cpu") -> Trained:
    """The trained classifier that `to_arrays` took apart; the arrays are copied."""
    device = torch.device(device)
    with seeded(0, device):
        model = build(settings.classifier, settings.image_shape, settings.num_classes)
    prefix = "model."
    state = {key.removeprefix(prefix): torch.tensor(arrays[key]) for key in arrays if key.startswith(prefix)}
    model.load_state_dict(state)
    model = model.to(device, memory_format=model.memory_format)  # type: ignore[call-overload]
    epochs, images_seen = int(arrays["epochs"]), int(arrays["images_seen"])
    return Trained(model.eval(), epochs, images_seen, float(arrays["train_accuracy"]), float(arrays["seconds"]))


def memory_format(settings: TrainingSettings) -> torch.memory_format:
    """The layout of images in which the settings's network computes fastest."""
    return NETWORKS.get(settings.classifier, Classifier).memory_format


def _rows(x: Tensor, rows: Tensor) -> Tensor:
    """x[rows] in the layout of x, which index_select alone would not keep."""
    if x.is_contiguous():
        return x.index_select(0, rows)
    return x.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's global generators started from `seed`, and as they were afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def image_type(settings: TrainingSettings) -> torch.dtype:
    """The type images are held in while training: what autocast's first convolution makes of them, once.

    A network of your own gets float32, since it may do something else with them first.
    """
    return torch.bfloat16 if settings.precision == "bfloat16" and settings.classifier in NETWORKS else torch.float32


def autocast(device: torch.device, settings: TrainingSettings) -> AbstractContextManager[Any]:
    """bfloat16 products where the settings says so, nothing otherwise."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=settings.precision == "bfloat16")


def cuda_kernels(device: torch.device, settings: TrainingSettings) -> AbstractContextManager[Any]:
    """Deterministic kernels on a GPU, and float32 that is float32; a CPU has no other."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=settings.precision != "float32"
    )
