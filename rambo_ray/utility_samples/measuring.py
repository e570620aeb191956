"""What a subset is worth: f trained from scratch on it, and its OTDD to S_val (Sections 2 and 3.1).

A `Retrainer` prepares, once per process, everything that is the same for all subsets: images as
normalised tensors, and the transport problem's fixed parts. Measuring a subset then depends on its
positions and the run's seed alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rambo_ray import seeds
from rambo_ray.classifier import prediction, stacks, training
from rambo_ray.classifier.training import TrainingSettings
from rambo_ray.config.schema import Config
from rambo_ray.data.problem import LabeledArrays
from rambo_ray.otdd import Transport
from rambo_ray.utility_samples.sampling import Measurement, UtilitySample


def relative_cost(images: int) -> float:
    """What training f on so many images costs, in units of its own: a larger subset needs more epochs, too."""
    return float(images) ** 1.2


@dataclass(frozen=True)
class MeasurementSettings:
    """How subsets are measured: the training rule, trainings per subset, and the OTDD's settings."""

    training: TrainingSettings
    seed: int
    repeats: int
    otdd_method: str
    otdd_solver: str
    otdd_entreg: float

    @classmethod
    def from_config(cls, config: Config, settings: TrainingSettings) -> MeasurementSettings:
        """How a run measures."""
        samples = config.utility_samples
        return cls(
            settings, config.seed, samples.repeats, samples.otdd_method, samples.otdd_solver, samples.otdd_entreg
        )

    def identity(self, fingerprint: str) -> str:
        """Everything but the subset that a measurement depends on, for `sampling.sample_id`.

        `fingerprint` is the data's: of S_0, S_val and their normalisation.
        """
        otdd = [self.otdd_method, self.otdd_solver, self.otdd_entreg]
        return json.dumps([fingerprint, self.training.identity(), self.seed, self.repeats, otdd])


class Retrainer:
    """Measures subsets of S_0."""

    def __init__(
        self, labeled: LabeledArrays, validation: LabeledArrays, measuring: MeasurementSettings, device: str
    ) -> None:
        """Prepare S_0 and S_val for `device`; the transport problem is prepared when first needed."""
        self.labeled, self.validation, self.measuring, self.device = labeled, validation, measuring, device
        self.images = training.prepare(labeled.inputs, measuring.training, device)
        self.validation_images = training.prepare(validation.inputs, measuring.training, device)
        self._transport: Transport | None = None

    def otdd(self, indices: Sequence[int]) -> float:
        """OTDD between the subset and S_val on pixels in [0, 1], all images kept (singletons, too)."""
        if self._transport is None:
            self._transport = Transport(
                _unit_pixels(self.labeled.inputs),
                self.labeled.labels,
                _unit_pixels(self.validation.inputs),
                self.validation.labels,
                method=self.measuring.otdd_method,
                solver=self.measuring.otdd_solver,
                entreg=self.measuring.otdd_entreg,
                min_class_count=1,
            )
        return self._transport.distance(np.asarray(indices, dtype=np.int64))

    def measure(self, indices: Sequence[int], *, retrain: bool = True) -> Measurement:
        """Measure the subset at `indices` of S_0; without `retrain` only its OTDD, the rest NaN and 0."""
        otdd = self.otdd(indices)
        if not retrain:
            nan = float("nan")
            return Measurement(nan, nan, nan, nan, nan, nan, otdd, epochs=0, images_seen=0, seconds=0.0)
        positions = np.asarray(indices, dtype=np.int64)
        settings = self.measuring.training
        trainings = []
        for seed in self._seeds(indices):
            trained = training.train(self.images, self.labeled.labels, settings, seed, self.device, positions)
            scores = prediction.evaluate(trained.model, self.validation_images, self.validation.labels, settings)
            trainings.append((scores, trained.epochs, trained.images_seen, trained.seconds))
        return _measurement(trainings, otdd)

    def measure_group(self, subsets: Sequence[Sequence[int]], at_once: int) -> list[Measurement]:
        """Measure several subsets, training up to `at_once` models in one stack (`rambo_ray.classifier.stacks`).

        The measurements are those of `measure` on a CPU, but for rounding.
        """
        settings = self.measuring.training
        if at_once == 1 or settings.classifier not in stacks.STACKED:
            return [self.measure(indices) for indices in subsets]
        tasks = [(number, seed) for number, indices in enumerate(subsets) for seed in self._seeds(indices)]
        trainings: list[list[_Training]] = [[] for _ in subsets]
        for first in range(0, len(tasks), at_once):
            part = tasks[first : first + at_once]
            results = stacks.train_stack(
                self.images,
                self.labeled.labels,
                self.validation_images,
                settings,
                [seed for _, seed in part],
                [np.asarray(subsets[number], dtype=np.int64) for number, _ in part],
                self.device,
            )
            for (number, _), result in zip(part, results, strict=True):
                scores = prediction.scores(result.logits, self.validation.labels)
                trainings[number].append((scores, result.epochs, result.images_seen, result.seconds))
        return [_measurement(own, self.otdd(indices)) for own, indices in zip(trainings, subsets, strict=True)]

    def _seeds(self, indices: Sequence[int]) -> list[int]:
        """One seed per repeat, from the subset's content."""
        content = seeds.index_of(np.asarray(indices, dtype="<i8").tobytes())
        return [
            seeds.integer(self.measuring.seed, "retraining", content, repeat)
            for repeat in range(self.measuring.repeats)
        ]


_Training = tuple[prediction.Scores, int, int, float]  # and epochs, images_seen, seconds


def groups(samples: Sequence[UtilitySample], settings: TrainingSettings, size: int) -> list[tuple[UtilitySample, ...]]:
    """Retrained samples in groups that can train as one stack, at most `size` in each.

    Depends on the samples and their order alone, not on which are measured already, so that a run
    that goes on trains the stacks it would have trained.
    """
    unique = list({sample.sample_id: sample for sample in samples}.values())
    if size == 1 or settings.classifier not in stacks.STACKED:
        return [(sample,) for sample in unique]
    alike: dict[int, list[UtilitySample]] = {}
    for sample in unique:
        alike.setdefault(stacks.batches_per_epoch(sample.size, settings), []).append(sample)
    return [
        tuple(members[first : first + size])
        for _, members in sorted(alike.items())
        for first in range(0, len(members), size)
    ]


def _measurement(trainings: Sequence[_Training], otdd: float) -> Measurement:
    scores, epochs, images_seen, seconds = zip(*trainings, strict=True)
    values = np.array([[s.accuracy, s.soft_accuracy, s.val_loss] for s in scores])
    accuracy, soft_accuracy, val_loss = values.mean(axis=0).tolist()
    accuracy_std, soft_accuracy_std, val_loss_std = values.std(axis=0).tolist()
    return Measurement(
        accuracy=accuracy,
        soft_accuracy=soft_accuracy,
        val_loss=val_loss,
        accuracy_std=accuracy_std,
        soft_accuracy_std=soft_accuracy_std,
        val_loss_std=val_loss_std,
        otdd=otdd,
        epochs=sum(epochs),
        images_seen=sum(images_seen),
        seconds=sum(seconds),
    )


def _unit_pixels(pixels: np.ndarray) -> np.ndarray:
    return pixels.reshape(len(pixels), -1).astype(np.float64) / 255.0
