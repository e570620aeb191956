"""What a subset is worth: f trained from scratch on it, and its OTDD to S_val (Sections 2 and 3.1).

A `Retrainer` prepares, once per process, everything that is the same for all sets: images as
normalised tensors, and the transport problem's fixed parts. Measuring a set then depends on its
positions, on which half of S_val judges it where it is a mock round, and on the run's seed alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from rambo_ray import seeds
from rambo_ray.classifier import heads, prediction, stacks, training
from rambo_ray.classifier.training import TrainingSettings
from rambo_ray.config.schema import Config, UtilityModelConfig
from rambo_ray.data.problem import LabeledArrays
from rambo_ray.otdd import Transport
from rambo_ray.otdd.microsoft import MicrosoftTransport
from rambo_ray.utility_samples.mock_rounds import MockPool
from rambo_ray.utility_samples.sampling import Measurement, UtilitySample

# A set to measure: its positions, and the fold of a mock round or -1 (see `UtilitySample`).
Subset = tuple[tuple[int, ...], int]

HEADS_AT_ONCE = 32  # heads fitted as one problem: enough to fill its products, few enough that progress is seen


def relative_cost(images: int) -> float:
    """What training f on so many images costs, in units of its own: a larger subset needs more epochs, too."""
    return float(images) ** 1.2


@dataclass(frozen=True)
class MeasurementSettings:
    """How sets are measured: the training rule, trainings per set, and the OTDD's settings.

    round_otdd: whether the OTDD of mock rounds to their judging half is wanted.
    """

    training: TrainingSettings
    seed: int
    repeats: int
    otdd_method: str
    otdd_solver: str
    otdd_entreg: float
    round_otdd: bool = False
    otdd_backend: str = "builtin"

    @classmethod
    def from_config(cls, config: Config, settings: TrainingSettings) -> MeasurementSettings:
        """How a run measures."""
        samples = config.utility_samples
        return cls(
            settings,
            config.seed,
            samples.repeats,
            samples.otdd_method,
            samples.otdd_solver,
            samples.otdd_entreg,
            round_otdd=cls.wants_round_otdd(config.utility_model),
            otdd_backend=samples.otdd_backend,
        )

    @staticmethod
    def wants_round_otdd(model: UtilityModelConfig) -> bool:
        """Whether u_hat has a use for the OTDD of mock rounds: a regression on evidence has none."""
        return model.architecture == "network" and model.lambda_ot > 0

    def identity(self, fingerprint: str) -> str:
        """Everything but the subset that a measurement depends on, for `sampling.sample_id`.

        `fingerprint` is the data's: of S_0, S_val and their normalisation.
        """
        solver = self.otdd_solver if self.otdd_backend == "builtin" else self.otdd_backend
        otdd = [self.otdd_method, solver, self.otdd_entreg]
        return json.dumps([fingerprint, self.training.identity(), self.seed, self.repeats, otdd])

    def round_identity(self, fingerprint: str) -> str:
        """The same for mock rounds, whose OTDD may be left out."""
        return json.dumps([self.identity(fingerprint), self.round_otdd])


class Retrainer:
    """Measures subsets of S_0, and mock rounds of `pool` where one is given."""

    def __init__(
        self,
        labeled: LabeledArrays,
        validation: LabeledArrays,
        measuring: MeasurementSettings,
        device: str,
        pool: MockPool | None = None,
    ) -> None:
        """Prepare S_0 and S_val for `device`; transport problems are prepared when first needed."""
        self.validation, self.measuring, self.device, self.pool = validation, measuring, device, pool
        # A round's positions go on through S_val; beyond it lies what was rejected, of which f learns nothing.
        self.labeled = labeled if pool is None else labeled.joined(validation.inputs, validation.labels)
        self.images = training.prepare(self.labeled.inputs, measuring.training, device)
        self.validation_images = training.prepare(validation.inputs, measuring.training, device)
        self._transports: dict[int, Transport | MicrosoftTransport] = {}

    def otdd(self, indices: Sequence[int], fold: int = -1) -> float:
        """OTDD between the set and the images that judge it; the builtin keeps all images (singletons, too).

        On pixels in [0, 1], or on embeddings as they are.
        """
        if fold not in self._transports:
            how, judging = self.measuring, self._judging(fold)
            features, labels = _flat(self.labeled.inputs), self.labeled.labels
            judges, classes = _flat(self.validation.inputs[judging]), self.validation.labels[judging]
            terms: dict[str, Any] = {"method": how.otdd_method, "entreg": how.otdd_entreg}
            if how.otdd_backend == "microsoft":
                self._transports[fold] = MicrosoftTransport(features, labels, judges, classes, **terms)
            else:
                terms |= {"solver": how.otdd_solver, "min_class_count": 1}
                self._transports[fold] = Transport(features, labels, judges, classes, **terms)
        return self._transports[fold].distance(self._trained_on(indices))

    def measure(self, indices: Sequence[int], fold: int = -1, *, retrain: bool = True) -> Measurement:
        """Measure the set at `indices`; without `retrain` only its OTDD, the rest NaN and 0."""
        otdd = self._otdd(indices, fold)
        if not retrain:
            nan = float("nan")
            return Measurement(nan, nan, nan, nan, nan, nan, otdd, epochs=0, images_seen=0, seconds=0.0)
        positions = self._trained_on(indices)
        settings = self.measuring.training
        trainings = []
        for seed in self._seeds(indices):
            trained = training.train(self.images, self.labeled.labels, settings, seed, self.device, positions)
            logits, _ = prediction.predict(trained.model, self.validation_images, settings, self.device)
            scores = self._scores(logits, fold)
            trainings.append((scores, trained.epochs, trained.images_seen, trained.seconds))
        return _measurement(trainings, otdd)

    def measure_group(self, subsets: Sequence[Subset], at_once: int) -> list[Measurement]:
        """Measure several sets, training up to `at_once` models together (`rambo_ray.classifier.stacks`, `heads`).

        On a CPU the measurements are those of `measure`, but for rounding; on a GPU a stack draws otherwise.
        """
        settings = self.measuring.training
        at_once = stack_size(settings, at_once)
        if at_once == 1:
            return [self.measure(indices, fold) for indices, fold in subsets]
        train = heads.train_group if settings.classifier == "linear" else stacks.train_stack
        if self.device == "cpu":
            trainings = self._train_group(train, subsets, at_once)
            otdds = [self._otdd(*subset) for subset in subsets]
        else:  # the OTDDs in a thread meanwhile, whose numpy leaves the rest of Python running
            with ThreadPoolExecutor(1) as aside:
                waiting = [aside.submit(self._otdd, *subset) for subset in subsets]
                trainings = self._train_group(train, subsets, at_once)
                otdds = [one.result() for one in waiting]
        return [_measurement(own, otdd) for own, otdd in zip(trainings, otdds, strict=True)]

    def _train_group(
        self, train: Callable[..., Sequence[Any]], subsets: Sequence[Subset], at_once: int
    ) -> list[list[_Training]]:
        """Each set's trainings, by `stacks.train_stack` or `heads.train_group`, at most `at_once` together."""
        tasks = [(number, seed) for number, (indices, _) in enumerate(subsets) for seed in self._seeds(indices)]
        trainings: list[list[_Training]] = [[] for _ in subsets]
        for first in range(0, len(tasks), at_once):
            part = tasks[first : first + at_once]
            results: Sequence[stacks.Result | heads.Result] = train(
                self.images,
                self.labeled.labels,
                self.validation_images,
                self.measuring.training,
                [seed for _, seed in part],
                [self._trained_on(subsets[number][0]) for number, _ in part],
                self.device,
            )
            for (number, _), result in zip(part, results, strict=True):
                scores = self._scores(result.logits, subsets[number][1])
                trainings[number].append((scores, result.epochs, result.images_seen, result.seconds))
        return trainings

    def _otdd(self, indices: Sequence[int], fold: int) -> float:
        return self.otdd(indices, fold) if fold < 0 or self.measuring.round_otdd else float("nan")

    def _trained_on(self, indices: Sequence[int]) -> np.ndarray:
        """The positions that f learns from: all but those of rejected images, which lie last."""
        positions = np.asarray(indices, dtype=np.int64)
        return positions[positions < len(self.labeled.labels)]

    def _judging(self, fold: int) -> np.ndarray:
        """Positions in S_val of the images that judge."""
        if fold < 0:
            return np.arange(len(self.validation.labels))
        assert self.pool is not None
        return self.pool.judging(fold)

    def _scores(self, logits: np.ndarray, fold: int) -> prediction.Scores:
        judging = self._judging(fold)
        return prediction.scores(logits[judging], self.validation.labels[judging])

    def _seeds(self, indices: Sequence[int]) -> list[int]:
        """One seed per repeat, from the subset's content."""
        content = seeds.index_of(np.asarray(indices, dtype="<i8").tobytes())
        return [
            seeds.integer(self.measuring.seed, "retraining", content, repeat)
            for repeat in range(self.measuring.repeats)
        ]


_Training = tuple[prediction.Scores, int, int, float]  # and epochs, images_seen, seconds


def stack_size(settings: TrainingSettings, at_once: int) -> int:
    """How many models train together where a device has room for `at_once`; 1: one after the other."""
    if settings.classifier == "linear":
        return max(at_once, HEADS_AT_ONCE)
    return at_once if settings.classifier in stacks.STACKED else 1


def groups(
    samples: Sequence[UtilitySample],
    settings: TrainingSettings,
    size: int,
    pool: MockPool | None = None,
    *,
    in_step: bool = True,
) -> list[tuple[UtilitySample, ...]]:
    """Retrained samples in groups that train as one stack, at most `size` in each; `pool` is that of mock rounds.

    in_step: a group's models make the same number of steps per epoch, as those of a stack on a CPU do; without, as on
    a GPU, groups are full, of samples of about one size, which leave the stack at about the same time. Depends on the
    samples and their order alone, not on which are measured already, so that a run that goes on trains the stacks it
    would have trained.
    """
    unique = list({sample.sample_id: sample for sample in samples}.values())
    size = stack_size(settings, size)
    if size == 1:
        return [(sample,) for sample in unique]
    alike: dict[int, list[UtilitySample]] = {}
    for sample in unique:
        batches = 0
        if settings.classifier in stacks.STACKED:
            images = sample.size if pool is None else sum(i < pool.teaching for i in sample.indices)
            batches = stacks.batches_per_epoch(images, settings)
        alike.setdefault(batches, []).append(sample)
    ordered = [members for _, members in sorted(alike.items())]
    if not in_step:
        ordered = [[sample for members in ordered for sample in members]]
    return [tuple(members[first : first + size]) for members in ordered for first in range(0, len(members), size)]


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


def _flat(inputs: np.ndarray) -> np.ndarray:
    """Pixels in [0, 1] or embeddings, float64 [N, numbers of one]."""
    flat = inputs.reshape(len(inputs), -1).astype(np.float64)
    return flat / 255.0 if inputs.dtype == np.uint8 else flat
