"""What a run will do, fixed before any work: the training rule, the subsets, u_hat's features.

Everything that can be wrong with a run is found while its plan is made, so before a cluster is started.
Which precision f trains in depends on the device that will train it, and the samples' identities on the
precision: `Plan.on` settles both once the cluster is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rambo_ray.classifier.training import TrainingSettings
from rambo_ray.config.schema import Config, check_sizes, nested_sizes
from rambo_ray.data.problem import Problem
from rambo_ray.errors import UserError
from rambo_ray.utility_model import features
from rambo_ray.utility_model.fitting import FitInput
from rambo_ray.utility_model.objective import Pairs, split_by_length
from rambo_ray.utility_samples import sampling
from rambo_ray.utility_samples.measuring import MeasurementSettings
from rambo_ray.utility_samples.sampling import UtilitySample, sample_id

Samples = tuple[UtilitySample, ...]


@dataclass(frozen=True)
class Parts:
    """A run's subsets, by what they are for."""

    offline: Samples
    nested_sets: Samples
    held_out: Samples
    interpolation: Samples

    @property
    def parts(self) -> tuple[Samples, Samples, Samples, Samples]:
        """All of them, in the order of the fields."""
        return self.offline, self.nested_sets, self.held_out, self.interpolation

    @property
    def retrained(self) -> Samples:
        """The subsets that f is trained on."""
        return self.offline + self.nested_sets + self.held_out


@dataclass(frozen=True)
class Measured(Parts):
    """The samples of a plan with what was measured of them."""


@dataclass(frozen=True)
class Plan(Parts):
    """A run's subsets and how they are measured.

    fingerprint: of S_0, S_val and their normalisation; kind: what an image is to u_hat; imagenet_weights:
    the file of frozen ImageNet features, where u_hat wants them.
    """

    config: Config
    fingerprint: str
    measuring: MeasurementSettings
    kind: features.Features
    imagenet_weights: str | None

    @property
    def training(self) -> TrainingSettings:
        """How f is trained."""
        return self.measuring.training

    def on(self, device: str) -> Plan:
        """The same plan for a kind of device, "cpu" or "cuda"."""
        training = self.training.on(device, self.config.classifier.precision)
        if training == self.training:
            return self
        measuring = replace(self.measuring, training=training)
        identity = measuring.identity(self.fingerprint)
        parts = (tuple(replace(s, sample_id=sample_id(s.indices, identity)) for s in part) for part in self.parts)
        offline, nested_sets, held_out, interpolation = parts
        return replace(
            self,
            measuring=measuring,
            offline=offline,
            nested_sets=nested_sets,
            held_out=held_out,
            interpolation=interpolation,
        )

    def without_samples(self) -> Plan:
        """The same without utility samples, for methods that fit no u_hat."""
        return replace(self, offline=(), nested_sets=(), held_out=(), interpolation=())


def make(config: Config, problem: Problem) -> Plan:
    """The plan of a run on CPUs. Raises UserError for whatever cannot be run."""
    k, num_classes = len(problem.labeled), len(problem.class_names)
    try:
        min_size = check_sizes(config, num_labeled=k, num_pool=len(problem.pool), num_classes=num_classes)
    except ValueError as error:
        raise UserError(str(error)) from error
    measuring = MeasurementSettings.from_config(config, training_settings(config, problem))
    kind = features.choose(config.utility_model, problem.shape)
    weights = features.imagenet_weights(config.utility_model) if kind == "imagenet" else None
    drawn = (config.seed, measuring.identity(problem.fingerprint))
    samples = config.utility_samples
    offline = sampling.offline_pairs(samples.num_pairs, k, min_size, samples.sizes, *drawn)
    if config.utility_model.bilevel:
        try:
            split_by_length(np.array([s.size for s in offline[::2]]))
        except ValueError as error:
            raise UserError(str(error)) from error
    nested_sets = sampling.nested_samples(nested_sizes(config.pretraining, k), *drawn)
    interpolation = sampling.interpolation_pairs(
        nested_sets, config.pretraining.num_interpolated, samples.num_pairs, min_size, *drawn
    )
    return Plan(
        config=config,
        fingerprint=problem.fingerprint,
        measuring=measuring,
        kind=kind,
        imagenet_weights=weights,
        offline=tuple(offline),
        nested_sets=tuple(nested_sets),
        held_out=tuple(sampling.held_out_samples(samples.num_held_out, k, *drawn)),
        interpolation=tuple(interpolation),
    )


def training_settings(config: Config, problem: Problem, device: str = "cpu") -> TrainingSettings:
    """How f is trained for `problem` on a kind of device."""
    height, width, channels = problem.shape
    return TrainingSettings.from_config(
        config.classifier,
        mean=problem.mean,
        std=problem.std,
        image_shape=(channels, height, width),
        num_classes=len(problem.class_names),
        device=device,
        reproducible=config.cluster.reproducible,
    )


def fit_input(config: Config, measured: Measured, images: np.ndarray) -> FitInput:
    """What u_hat is fitted to (Fig. 2, lines 3 and 8 to 14); `images` [k, ...] are u_hat's inputs of S_0."""
    return FitInput(
        images=images,
        offline=_pairs(measured.offline),
        nested_sets=tuple(s.indices for s in measured.nested_sets),
        nested_utilities=tuple(s.utility for s in measured.nested_sets),
        interpolation=tuple(
            _pairs([s for s in measured.interpolation if s.iteration == i])
            for i in range(len(measured.nested_sets) - 1)
        ),
        config=config.utility_model,
        seed=config.seed,
    )


def with_utilities(interpolation: Samples, utilities: Sequence[np.ndarray]) -> list[UtilitySample]:
    """The interpolated samples with what a fit gave them (Definition 5), [n, 2] per iteration."""
    values = np.concatenate([u.reshape(-1) for u in utilities]) if utilities else np.zeros(0)
    return [replace(s, utility=float(u)) for s, u in zip(interpolation, values, strict=True)]


def _pairs(samples: Sequence[UtilitySample]) -> Pairs:
    """Samples that stand in pairs, one after the other, as what a fit takes."""

    def column(name: str) -> np.ndarray:
        values = [s.measurement.otdd if name == "otdd" else s.utility for s in samples if s.measurement is not None]
        return np.array(values, dtype=np.float64).reshape(-1, 2)

    return Pairs(
        tuple(s.indices for s in samples[::2]),
        tuple(s.indices for s in samples[1::2]),
        column("utility"),
        column("otdd"),
    )
