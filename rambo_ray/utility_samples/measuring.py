"""What a subset is worth: f trained from scratch on it, and its OTDD to S_val (Sections 2 and 3.1).

A `Retrainer` prepares, once per process, everything that is the same for all sets: images as
normalised tensors, and the transport problem's fixed parts. Measuring a set then depends on its
positions, on which half of S_val judges it where it is a mock round, and on the run's seed alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from rambo_ray import seeds
from rambo_ray.classifier import heads, prediction, stacks, training
from rambo_ray.classifier.training import TrainingSettings
from rambo_ray.config.schema import Config, UtilityModelConfig, UtilitySamplesConfig
from rambo_ray.data.problem import LabeledArrays
from rambo_ray.otdd import RULE as OTDD_RULE
from rambo_ray.otdd import Transport
from rambo_ray.otdd.microsoft import MicrosoftTransport
from rambo_ray.utility_samples.mock_rounds import MockPool
from rambo_ray.utility_samples.sampling import Measurement, Training, UtilitySample

# A set to measure: its positions, and the fold of a mock round or -1 (see `UtilitySample`).
Subset = tuple[tuple[int, ...], int]

# A set's trainings and its OTDD.
Judged = tuple[tuple[Training, ...], float]

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
        otdd = [self.otdd_method, solver, self.otdd_entreg, *([OTDD_RULE] if OTDD_RULE != 1 else [])]
        return json.dumps([fingerprint, self.training.identity(), self.seed, self.repeats, otdd])

    def round_identity(self, fingerprint: str) -> str:
        """The same for mock rounds, whose OTDD may be left out."""
        return json.dumps([self.identity(fingerprint), self.round_otdd])

    def training_identity(self, fingerprint: str) -> str:
        """Everything but the subset that a single training depends on, for `Trainings.training_id`."""
        return json.dumps([fingerprint, self.training.identity(), self.seed])

    @property
    def rule(self) -> str:
        """How f is trained, in a word and the digest of all of it."""
        digest = hashlib.sha256(self.training.identity().encode()).hexdigest()[:16]
        return f"{self.training.classifier} {digest}"

    def otherwise(self) -> Iterator[MeasurementSettings]:
        """The same trainings measured with every other OTDD that has a name, to find them under earlier ids.

        Rows of earlier versions are known by one id for all of it; entropies are tried at the default and at ours.
        """
        default = UtilitySamplesConfig.model_fields["otdd_entreg"].default
        for method in get_args(UtilitySamplesConfig.model_fields["otdd_method"].annotation):
            for solver in get_args(UtilitySamplesConfig.model_fields["otdd_solver"].annotation):
                for backend in get_args(UtilitySamplesConfig.model_fields["otdd_backend"].annotation):
                    if backend != "builtin" and solver != "converged":
                        continue  # which has a solver of its own
                    for entreg in {self.otdd_entreg, default}:
                        for rounds in (False, True):
                            other = (method, solver, entreg, rounds, backend)
                            if other != self._of_otdd:
                                yield MeasurementSettings(self.training, self.seed, self.repeats, *other)

    @property
    def _of_otdd(self) -> tuple[str, str, float, bool, str]:
        return self.otdd_method, self.otdd_solver, self.otdd_entreg, self.round_otdd, self.otdd_backend


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
        return Measurement.of(self._train(indices, fold, 0) if retrain else (), self._otdd(indices, fold))

    def measure_group(self, subsets: Sequence[Subset], at_once: int) -> list[Measurement]:
        """Measure several sets, training up to `at_once` models together (`rambo_ray.classifier.stacks`, `heads`).

        On a CPU the measurements are those of `measure`, but for rounding; on a GPU a stack draws otherwise.
        """
        return [Measurement.of(trainings, otdd) for trainings, otdd in self.train_group(subsets, at_once)]

    def train_group(self, subsets: Sequence[Subset], at_once: int, first: int = 0) -> list[Judged]:
        """The trainings and the OTDD that `measure_group` is made of; of the trainings those from repeat `first` on."""
        settings = self.measuring.training
        at_once = stack_size(settings, at_once)
        if at_once == 1:
            return [(self._train(*subset, first), self._otdd(*subset)) for subset in subsets]
        train = heads.train_group if settings.classifier == "linear" else stacks.train_stack
        if self.device == "cpu":
            trainings = self._train_together(train, subsets, at_once, first)
            otdds = [self._otdd(*subset) for subset in subsets]
        else:  # the OTDDs in a thread meanwhile, whose numpy leaves the rest of Python running
            with ThreadPoolExecutor(1) as aside:
                waiting = [aside.submit(self._otdd, *subset) for subset in subsets]
                trainings = self._train_together(train, subsets, at_once, first)
                otdds = [one.result() for one in waiting]
        return list(zip(trainings, otdds, strict=True))

    def _train(self, indices: Sequence[int], fold: int, first: int) -> tuple[Training, ...]:
        positions = self._trained_on(indices)
        settings = self.measuring.training
        trainings = []
        for seed in self._seeds(indices)[first:]:
            trained = training.train(self.images, self.labeled.labels, settings, seed, self.device, positions)
            logits, _ = prediction.predict(trained.model, self.validation_images, settings, self.device)
            trainings.append(self._judged(logits, fold, trained))
        return tuple(trainings)

    def _train_together(
        self, train: Callable[..., Sequence[Any]], subsets: Sequence[Subset], at_once: int, first: int
    ) -> list[tuple[Training, ...]]:
        """Each set's trainings, by `stacks.train_stack` or `heads.train_group`, at most `at_once` together.

        Repeat by repeat: which models make up a stack must not depend on how many repeats there are.
        """
        drawn = [self._seeds(indices) for indices, _ in subsets]
        trainings: list[list[Training]] = [[] for _ in subsets]
        for repeat in range(first, self.measuring.repeats):
            for start in range(0, len(subsets), at_once):
                part = range(start, min(start + at_once, len(subsets)))
                results: Sequence[stacks.Result | heads.Result] = train(
                    self.images,
                    self.labeled.labels,
                    self.validation_images,
                    self.measuring.training,
                    [drawn[number][repeat] for number in part],
                    [self._trained_on(subsets[number][0]) for number in part],
                    self.device,
                )
                for number, result in zip(part, results, strict=True):
                    trainings[number].append(self._judged(result.logits, subsets[number][1], result))
        return [tuple(own) for own in trainings]

    def _judged(self, logits: np.ndarray, fold: int, how: Any) -> Training:
        """A training's scores on the images that judge it, and how it went."""
        judging = self._judging(fold)
        scores = prediction.scores(logits[judging], self.validation.labels[judging])
        counts = how.epochs, how.images_seen, how.seconds
        return Training(scores.accuracy, scores.soft_accuracy, scores.val_loss, *counts)

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

    def _seeds(self, indices: Sequence[int]) -> list[int]:
        """One seed per repeat, from the subset's content."""
        content = seeds.index_of(np.asarray(indices, dtype="<i8").tobytes())
        return [
            seeds.integer(self.measuring.seed, "retraining", content, repeat)
            for repeat in range(self.measuring.repeats)
        ]


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


def _flat(inputs: np.ndarray) -> np.ndarray:
    """Pixels in [0, 1] or embeddings, float64 [N, numbers of one]."""
    flat = inputs.reshape(len(inputs), -1).astype(np.float64)
    return flat / 255.0 if inputs.dtype == np.uint8 else flat
