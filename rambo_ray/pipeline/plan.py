"""What a run will do, fixed before any work: the training rule, the subsets, u_hat's features.

Everything that can be wrong with a run is found while its plan is made, so before a cluster is started.
Which precision f trains in depends on the device that will train it, and the samples' identities on the
precision: `Plan.on` settles both once the cluster is known.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rambo_ray.acquisition.baselines import own
from rambo_ray.classifier.abilities import Abilities
from rambo_ray.classifier.rehearsal import rehearse
from rambo_ray.classifier.training import TrainingSettings
from rambo_ray.config.schema import Config, check_sizes, is_head, nested_sizes
from rambo_ray.data.problem import NONE, Problem
from rambo_ray.embeddings import given, weights
from rambo_ray.embeddings.weights import ResNetWeights
from rambo_ray.errors import UserError
from rambo_ray.otdd import microsoft
from rambo_ray.pipeline import choices, fitted, once, validation_set
from rambo_ray.pipeline.fitted import Sizes
from rambo_ray.utility_model import features, quadratic
from rambo_ray.utility_model.fitting import FitInput
from rambo_ray.utility_model.objective import Pairs, split_by_length
from rambo_ray.utility_model.quadratic import QuadraticInput
from rambo_ray.utility_samples import mock_rounds, sampling
from rambo_ray.utility_samples.measuring import MeasurementSettings
from rambo_ray.utility_samples.mock_rounds import MockPool
from rambo_ray.utility_samples.sampling import UtilitySample, sample_id

Samples = tuple[UtilitySample, ...]


@dataclass(frozen=True)
class Parts:
    """A run's sets, by what they are for.

    offline, nested_sets and interpolation are subsets of S_0, rounds mock rounds, held_out of either kind or both.
    """

    offline: Samples
    nested_sets: Samples
    held_out: Samples
    interpolation: Samples
    rounds: Samples

    @property
    def parts(self) -> tuple[Samples, Samples, Samples, Samples, Samples]:
        """All of them, in the order of the fields."""
        return self.offline, self.nested_sets, self.held_out, self.interpolation, self.rounds

    @property
    def all_samples(self) -> list[UtilitySample]:
        """The same in one list."""
        return [sample for part in self.parts for sample in part]

    @property
    def num_pairs(self) -> int:
        """Pairs of sets that f is trained on, of either kind."""
        return (len(self.offline) + len(self.rounds)) // 2

    @property
    def retrained(self) -> Samples:
        """The sets that f is trained on."""
        return self.offline + self.nested_sets + self.held_out + self.rounds


@dataclass(frozen=True)
class Measured(Parts):
    """The samples of a plan with what was measured of them."""


@dataclass(frozen=True)
class Plan(Parts):
    """A run's sets and how they are measured.

    fingerprint: of S_0, S_val and their normalisation; kind: what an image is to u_hat; imagenet_weights:
    of the frozen ImageNet features, where u_hat wants them; mock_pool: who plays and who judges in mock
    rounds, None where there are none. The rounds of a plan are drawn uniformly, until `with_evidence`. said: lines
    for whoever starts the run: which defaults gave way to the data, and what S_val cannot judge.
    """

    config: Config
    fingerprint: str
    measuring: MeasurementSettings
    kind: features.Features
    imagenet_weights: ResNetWeights | None
    mock_pool: MockPool | None
    said: tuple[str, ...] = ()

    @property
    def training(self) -> TrainingSettings:
        """How f is trained."""
        return self.measuring.training

    def on(self, device: str, abilities: Abilities | None = None) -> Plan:
        """The same plan for a kind of device, "cpu" or "cuda"; abilities: of the machines, default: this one's."""
        training = self.training.on(device, self.config.classifier.precision, abilities)
        if training == self.training:
            return self
        measuring = replace(self.measuring, training=training)
        identity, of_rounds = measuring.identity(self.fingerprint), measuring.round_identity(self.fingerprint)

        def identified(sample: UtilitySample) -> UtilitySample:
            own = identity
            if sample.fold >= 0:
                assert self.mock_pool is not None
                own = self.mock_pool.identity(of_rounds, sample.fold)
            return replace(sample, sample_id=sample_id(sample.indices, own))

        offline, nested_sets, held_out, interpolation, rounds = (
            tuple(identified(s) for s in part) for part in self.parts
        )
        return replace(
            self,
            measuring=measuring,
            offline=offline,
            nested_sets=nested_sets,
            held_out=held_out,
            interpolation=interpolation,
            rounds=rounds,
        )

    def with_evidence(self, evidence: np.ndarray) -> Plan:
        """The same with mock rounds drawn with contrast along the evidence [V + R, F] of the images that play."""
        if self.mock_pool is None:
            return self
        rounds, held_out = _rounds(self.config, self.mock_pool, self.measuring, self.fingerprint, evidence)
        subsets = tuple(s for s in self.held_out if s.fold < 0)
        return replace(self, rounds=rounds, held_out=subsets + held_out)

    def without_samples(self) -> Plan:
        """The same without utility samples, for methods that fit no u_hat."""
        return replace(self, offline=(), nested_sets=(), held_out=(), interpolation=(), rounds=(), mock_pool=None)


def make(
    config: Config,
    problem: Problem,
    settings: TrainingSettings | None = None,
    frozen: ResNetWeights | None = None,
) -> Plan:
    """The plan of a run on CPUs; its configuration is `config` with defaults that fit the data.

    settings, frozen: how f is trained, and the weights of frozen ImageNet features, where `problem` is a part of one
    that says so; default: what the configuration names. Where another strategy picks there are no sets.

    Raises UserError for whatever cannot be run.
    """
    k, num_classes = len(problem.labeled), len(problem.class_names)
    own.find(config.acquisition.strategy, "acquisition.strategy")
    validation_set.check(config, problem)
    once.check_budget(config, problem)
    if config.utility_samples.otdd_backend == "microsoft" and _wants_otdd(config):
        microsoft.check(config.utility_samples.otdd_method)
    copies = [] if problem.copies is None else [problem.copies.sentence()]
    try:
        config, said = fitted.fit(config, Sizes.of(problem))
        min_size = check_sizes(config, num_labeled=k, num_pool=problem.num_left, num_classes=num_classes)
    except ValueError as error:
        raise UserError(str(error)) from error
    measuring = MeasurementSettings.from_config(config, settings or training_settings(config, problem))
    kind = features.choose(config.utility_model, problem.shape, config.classifier.name)
    drawn = (config.seed, measuring.identity(problem.fingerprint))
    samples = config.utility_samples
    offline: list[UtilitySample] = []
    nested_sets: list[UtilitySample] = []
    interpolation: list[UtilitySample] = []
    held_out: list[UtilitySample] = []
    picks = config.acquisition.strategy == "rambo"
    if picks and samples.source != "mock_rounds":
        offline = sampling.offline_pairs(samples.num_pairs, k, min_size, samples.sizes, *drawn)
        nested_sets = sampling.nested_samples(nested_sizes(config.pretraining, k), *drawn)
        interpolation = sampling.interpolation_pairs(
            nested_sets, config.pretraining.num_interpolated, samples.num_pairs, min_size, *drawn
        )
        held_out = sampling.held_out_samples(samples.num_held_out, k, *drawn)
    pool: MockPool | None = None
    rounds: Samples = ()
    held_out_rounds: Samples = ()
    try:
        if picks and samples.source != "subsets":
            rejected = 0 if problem.rejected is None else len(problem.rejected)
            pool = MockPool.of(k, problem.validation.labels, rejected, config.seed)
            rounds, held_out_rounds = _rounds(config, pool, measuring, problem.fingerprint, None)
        if not picks:
            said = tuple(line for line in said if line.startswith("acquisition."))
        elif config.utility_model.architecture == "quadratic":
            quadratic.check(len(rounds))
        elif config.utility_model.bilevel:
            split_by_length(np.array([s.size for s in [*offline[::2], *rounds[::2]]]))
    except ValueError as error:
        raise UserError(str(error)) from error
    return Plan(
        config=config,
        fingerprint=problem.fingerprint,
        measuring=measuring,
        kind=kind,
        imagenet_weights=frozen or features.frozen_weights(kind, config.utility_model),
        offline=tuple(offline),
        nested_sets=tuple(nested_sets),
        held_out=(*held_out, *held_out_rounds),
        interpolation=tuple(interpolation),
        rounds=rounds,
        mock_pool=pool,
        said=(*copies, *said, *(validation_set.warnings(config, problem, held_out_rounds) if picks else ())),
    )


def _wants_otdd(config: Config) -> bool:
    """Whether any distance is computed: of subsets of S_0 always, of mock rounds where u_hat has a use for it."""
    rounds = MeasurementSettings.wants_round_otdd(config.utility_model)
    return config.utility_samples.source != "mock_rounds" or rounds


def _rounds(
    config: Config, pool: MockPool, measuring: MeasurementSettings, fingerprint: str, evidence: np.ndarray | None
) -> tuple[Samples, Samples]:
    """The mock rounds to fit to and those held out. Raises ValueError for sizes that cannot be."""
    samples = config.utility_samples
    validation = int((pool.labels != NONE).sum())
    if samples.evidence_folds > validation:
        raise ValueError(
            f"utility_samples.evidence_folds={samples.evidence_folds}: must not exceed the {validation} images of "
            "S_val; lower it"
        )
    playing = min(len(pool.playing(fold)) for fold in (0, 1))
    low, high = mock_rounds.round_sizes(samples, validation, playing)
    drawn = (pool, evidence, config.seed, measuring.round_identity(fingerprint))
    first_pair_id = samples.num_pairs if samples.source == "both" else 0
    rounds = mock_rounds.pairs(samples.num_pairs, (low, high), *drawn, first_pair_id)
    longer = mock_rounds.held_out_sizes(high, playing)
    return tuple(rounds), tuple(mock_rounds.held_out(samples.num_held_out, longer, *drawn))


def training_settings(config: Config, problem: Problem, device: str = "cpu") -> TrainingSettings:
    """How f is trained for `problem` on a kind of device. Raises UserError for embeddings that cannot be had."""
    embedding = ""
    if problem.of_vectors:
        choices.check_head(config)
        image_shape = (given.kept(config.classifier, problem), 1, 1)
        embedding = given.identity(config.classifier, problem)
    elif is_head(config.classifier.name):
        embedding = weights.identity(config, problem)
        image_shape = (weights.kept(config.classifier, problem), 1, 1)
    else:
        height, width, channels = problem.shape
        image_shape = (channels, height, width)
    made = TrainingSettings.from_config(
        config.classifier,
        mean=problem.mean,
        std=problem.std,
        image_shape=image_shape,
        num_classes=len(problem.class_names),
        device=device,
        reproducible=config.cluster.reproducible,
        embedding=embedding,
    )
    rehearse(made, problem.labeled.labels)
    return made


def fit_input(
    config: Config, measured: Measured, images: np.ndarray, pool: MockPool | None = None
) -> FitInput | QuadraticInput:
    """What u_hat is fitted to (Fig. 2, lines 3 and 8 to 14).

    images: u_hat's inputs of S_0 [k, ...]; with mock rounds those of S_0, S_val and what was rejected, or the
    evidence [V + R, F] of the latter two, which stands for a round's purchase alone.
    """
    of_evidence = config.utility_model.features == "evidence"
    if of_evidence:
        assert pool is not None
        rounds = [replace(s, indices=tuple(pool.bought(s).tolist())) for s in measured.rounds]
    else:
        rounds = list(measured.rounds)
    if config.utility_model.architecture == "quadratic":
        return QuadraticInput(
            means=mean_evidence([s.indices for s in rounds], images),
            sizes=np.array([s.size for s in rounds], dtype=np.float64),
            folds=np.array([s.fold for s in rounds], dtype=np.float64),
            utilities=np.array([s.utility for s in rounds], dtype=np.float64),
            weights=np.ones(len(rounds)),
            seed=config.seed,
        )
    noise = sampling.noise_floor(rounds, config.utility_samples.utility, config.utility_samples.repeats)
    offline = [_pairs(measured.offline), _tied(_pairs(rounds), noise)]
    if config.utility_model.fit_on == "all":
        offline.append(_tied(_pairs(_comparable(rounds)), noise))
    return FitInput(
        images=images,
        offline=Pairs.join(offline),
        nested_sets=tuple(s.indices for s in measured.nested_sets),
        nested_utilities=tuple(s.utility for s in measured.nested_sets),
        interpolation=tuple(
            _pairs([s for s in measured.interpolation if s.iteration == prefix.iteration])
            for prefix in measured.nested_sets[:-1]
        ),
        config=config.utility_model,
        seed=config.seed,
    )


def _comparable(rounds: Sequence[UtilitySample]) -> list[UtilitySample]:
    """All further pairs of rounds of one half whose sizes differ by at most a tenth, one after the other."""
    found: list[UtilitySample] = []
    for fold in (0, 1):
        members = sorted((s for s in rounds if s.fold == fold), key=lambda s: s.size)
        for first, second in itertools.combinations(members, 2):
            if second.size <= 1.1 * first.size and first.pair_id != second.pair_id:
                found += [first, second]
    return found


def mean_evidence(subsets: Sequence[Sequence[int]], evidence: np.ndarray) -> np.ndarray:
    """Mean evidence, float64 [G, F], of sets of rows of evidence [N, F]."""
    return np.stack([evidence[list(subset)].mean(axis=0, dtype=np.float64) for subset in subsets])


def with_utilities(interpolation: Samples, utilities: Sequence[np.ndarray]) -> list[UtilitySample]:
    """The interpolated samples with what a fit gave them (Definition 5), [n, 2] per iteration."""
    values = np.concatenate([u.reshape(-1) for u in utilities]) if utilities else np.zeros(0)
    return [replace(s, utility=float(u)) for s, u in zip(interpolation, values, strict=True)]


def _tied(pairs: Pairs, noise: float) -> Pairs:
    """`pairs` with equal utilities where two differ by no more than their standard errors, `noise` each, explain."""
    differ = np.abs(pairs.utility[:, 0] - pairs.utility[:, 1]) > np.sqrt(2.0) * noise
    return pairs.with_utility(np.where(differ[:, None], pairs.utility, pairs.utility.mean(axis=1, keepdims=True)))


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
