"""Training f from scratch on a subset (Section 4).

The rule: Adam, cross-entropy, mini-batches shuffled anew in each epoch and the last partial batch
kept; training stops after the first epoch whose running accuracy (in train mode, so with dropout,
counted over that epoch's batches) reaches `stop_accuracy`, or after `max_epochs`.

A decision of ours: for networks with batch normalisation a last batch of one image joins the
batch before it, as one image alone has no variance to normalise by; such a network cannot be
trained on one image. A linear head on embeddings is not trained by this rule: it is solved for, and has no seed
(`rambo_ray.classifier.logistic`).

Letters: n images of a subset, N of a set, C channels, H x W pixels, K classes, D numbers of a frozen embedding.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from rambo_ray.classifier import estimators, mnist_steps
from rambo_ray.classifier.logistic import fit_heads
from rambo_ray.classifier.networks import NETWORKS, Classifier, LinearHead, build
from rambo_ray.classifier.settings import (
    RULE,
    Device,
    Kernels,
    Precision,
    TrainingSettings,
    choose_kernels,
    choose_precision,
)
from rambo_ray.config.schema import is_estimator, is_head
from rambo_ray.errors import UserError

__all__ = [
    "RULE", "Arrays", "AutogradSteps", "Device", "Kernels", "Precision", "Trained", "TrainingSettings", "autocast",
    "batch_bounds", "choose_kernels", "choose_precision", "cuda_kernels", "from_arrays", "image_type", "memory_format",
    "prepare", "seeded", "to_arrays", "train",
]  # fmt: skip

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Trained:
    """A trained classifier, in eval mode, and how its training went.

    images_seen counts those of all epochs, train_accuracy is the last epoch's running accuracy in [0, 1],
    seconds is wall-clock time. Epochs of a linear head are Newton steps, and its accuracy is the final one.
    """

    model: Classifier
    epochs: int
    images_seen: int
    train_accuracy: float
    seconds: float


def prepare(pixels: np.ndarray, settings: TrainingSettings, device: Device = "cpu") -> Tensor:
    """Normalised float32 [N, C, H, W] of pixels uint8 [N, H, W, C], in the classifier's layout; embeddings copied.

    Make it once per set of images and per process; `train` and `rambo_ray.classifier.prediction` take it
    in place of the pixels. The pixels may be read-only and are never written. A head's images are embeddings
    float32 [N, D]. Raises ValueError for images of another type or shape than the settings's.
    """
    channels, height, width = settings.image_shape
    if is_head(settings.classifier):
        if pixels.dtype != np.float32 or pixels.shape[1:] != (channels,):
            raise ValueError(f"embeddings: {pixels.dtype} {pixels.shape}; expected float32 (N, {channels})")
        return torch.tensor(pixels, device=device)
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

    images are pixels uint8 [N, H, W, C] or, for heads, embeddings float32 [N, D], or what `prepare` made of
    them, labels are int64 [N];
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
    if settings.classifier == "linear":
        (weights,), (taken,) = fit_heads(x, y, [np.arange(n)], settings.num_classes, settings.l2)
        head = LinearHead.of(weights)
        right = int((head(x).argmax(1) == y).sum())
        return Trained(head, taken, taken * n, right / n, time.perf_counter() - start)
    if is_estimator(settings.classifier):
        fitted = estimators.fit(x, labels, settings.classifier, settings.pickled, settings.num_classes, seed)
        fitted = fitted.to(device)
        right = int((fitted(x).argmax(1) == y).sum())
        return Trained(fitted, 1, n, right / n, time.perf_counter() - start)

    with seeded(seed, device), cuda_kernels(device, settings):
        model = build(settings.classifier, settings.image_shape, settings.num_classes, settings.pickled)
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
    if isinstance(trained.model, estimators.EstimatorHead):
        arrays = {"estimator": estimators.packed(trained.model)}
    else:
        state = trained.model.state_dict()
        arrays = {f"model.{key}": np.array(value.cpu().numpy(), order="C") for key, value in state.items()}
    for key in ("epochs", "images_seen", "train_accuracy", "seconds"):
        arrays[key] = np.asarray(getattr(trained, key))
    return arrays


def from_arrays(arrays: Arrays, settings: TrainingSettings, device: Device = "cpu") -> Trained:
    """The trained classifier that `to_arrays` took apart; the arrays are copied."""
    device = torch.device(device)
    model: Classifier
    if "estimator" in arrays:
        model = estimators.unpacked(arrays["estimator"])
    else:
        with seeded(0, device):
            model = build(settings.classifier, settings.image_shape, settings.num_classes, settings.pickled)
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
