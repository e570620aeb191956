"""A problem prepared in one process: what `cluster.prepare` spreads over a cluster, for one that is small.

A backtest plays many small problems at once, each in a task of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from rambo_ray import seeds
from rambo_ray.acquisition.baselines.inputs import StrategyInputs
from rambo_ray.classifier import prediction, training
from rambo_ray.classifier.networks import Classifier
from rambo_ray.classifier.training import TrainingSettings
from rambo_ray.data.problem import NONE, LabeledArrays
from rambo_ray.pipeline.judging import PoolEvidence
from rambo_ray.pipeline.plan import Measured, Plan
from rambo_ray.pipeline.prepared import PreparedProblem
from rambo_ray.utility_model import evidence, features
from rambo_ray.utility_samples.measuring import Retrainer, groups
from rambo_ray.utility_samples.mock_rounds import parts
from rambo_ray.utility_samples.sampling import UtilitySample


@dataclass(frozen=True)
class OpinionSets:
    """What second opinions are trained on: S_0 and S_val (and what was rejected) without one part each.

    part int64 [V + R]: the opinion that has not seen an image; labels int64 [V + R], with a class more for what
    was rejected, which `settings` know.
    """

    settings: TrainingSettings
    part: np.ndarray
    labeled: LabeledArrays
    inputs: np.ndarray
    labels: np.ndarray
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, plan: Plan, labeled: LabeledArrays, inputs: np.ndarray) -> OpinionSets:
        """Those of a plan with mock rounds; labeled: S_0, inputs [V + R, ...]: of S_val and what was rejected."""
        pool = plan.mock_pool
        assert pool is not None
        seed, folds = plan.config.seed, plan.config.utility_samples.evidence_folds
        none = plan.training.num_classes
        rejected = bool((pool.labels == NONE).any())
        settings = replace(plan.training, num_classes=none + 1) if rejected else plan.training
        labels = np.where(pool.labels == NONE, none, pool.labels)
        part = parts(labels, folds, seeds.generator(seed, "evidence", 0))
        own = tuple(seeds.integer(seed, "evidence", 1, number) for number in range(folds))
        return cls(settings, part, labeled, inputs, labels, own)

    def shown(self, number: int) -> LabeledArrays:
        """The images that opinion `number` is trained on."""
        shown = self.part != number
        return self.labeled.joined(self.inputs[shown], self.labels[shown])


def prepare(
    plan: Plan,
    labeled: LabeledArrays,
    sets: Mapping[str, LabeledArrays],
    pool: np.ndarray,
    rejected: np.ndarray,
    answers: np.ndarray,
    device: str = "cpu",
    at_once: int = 1,
) -> PreparedProblem:
    """The prepared problem of S_0 `labeled`, S_val `sets["validation"]`, a `pool` [N, ...] and its `answers` [N].

    sets: what f is evaluated on; rejected [R, ...]. A plan without samples is for methods that fit no u_hat. Up to
    `at_once` models train together. Raises as trainings do.
    """
    settings, validation = plan.training, sets["validation"]
    base = training.train(
        labeled.inputs, labeled.labels, settings, seeds.integer(plan.config.seed, "base_classifier"), device=device
    )

    def outputs(
        model: Classifier, images: np.ndarray, of: TrainingSettings = settings
    ) -> tuple[np.ndarray, np.ndarray]:
        return prediction.predict(model, images, of, device)

    logits, embeddings = outputs(base.model, pool)
    inputs = StrategyInputs.of((logits, embeddings), labeled, validation, lambda images: outputs(base.model, images))
    images, found = np.zeros((0, 1), dtype=np.float32), None
    arrays = training.to_arrays(base)
    playing = np.concatenate([validation.inputs, rejected])
    if plan.mock_pool is not None and plan.retrained:
        opinions = OpinionSets.of(plan, labeled, playing)
        of_items = np.empty((len(playing), opinions.settings.num_classes), dtype=np.float32)
        of_pool = []
        for number, seed in enumerate(opinions.seeds):
            shown, held = opinions.shown(number), opinions.part == number
            one = training.train(shown.inputs, shown.labels, opinions.settings, seed, device=device).model
            of_items[held] = outputs(one, playing[held], opinions.settings)[0]
            of_pool.append(outputs(one, pool, opinions.settings)[0])
        own = outputs(base.model, playing)[0]
        scale, items = evidence.fit(of_items, own, plan.mock_pool.labels)
        plan = plan.with_evidence(items)
        if plan.kind == "evidence":
            images, found = items.astype(np.float32), PoolEvidence(scale.of(of_pool, logits), scale)
    measured, seconds = measure(plan, labeled, validation, device, at_once)
    if plan.kind != "evidence" and plan.retrained:
        known = labeled.inputs if plan.mock_pool is None else np.concatenate([labeled.inputs, playing])
        encoder = features.Encoder(plan.kind, settings, plan.config.utility_model, plan.imagenet_weights)
        images = encoder.encode(known, arrays, device)
    return PreparedProblem.of(
        plan,
        measured,
        images,
        labeled=labeled,
        sets=sets,
        pool=pool,
        rejected=rejected,
        answers=answers,
        evidence=found,
        classifier=arrays,
        before={
            name: prediction.evaluate(base.model, part.inputs, part.labels, settings).accuracy
            for name, part in sets.items()
        },
        margins=prediction.margins(logits),
        strategy_inputs=inputs,
        sample_seconds=seconds,
    )


def measure(
    plan: Plan, labeled: LabeledArrays, validation: LabeledArrays, device: str = "cpu", at_once: int = 1
) -> tuple[Measured, float]:
    """The samples of a plan measured, and the seconds of their trainings."""
    retrainer = Retrainer(labeled, validation, plan.measuring, device, plan.mock_pool)
    utility = plan.config.utility_samples.utility
    known: dict[str, UtilitySample] = {}
    for group in groups(plan.retrained, plan.training, at_once, plan.mock_pool, in_step=device == "cpu"):
        found = retrainer.measure_group([(s.indices, s.fold) for s in group], at_once)
        known.update({s.sample_id: s.measured(m, utility) for s, m in zip(group, found, strict=True)})

    def measured(sample: UtilitySample) -> UtilitySample:
        if sample.kind == "interpolated":
            own = retrainer.measure(sample.indices, sample.fold, retrain=False)
            return replace(sample, measurement=own)
        held = known[sample.sample_id]
        return replace(sample, measurement=held.measurement, utility=held.utility)

    seconds = sum(s.measurement.seconds for s in known.values() if s.measurement is not None)
    return Measured(*(tuple(measured(s) for s in part) for part in plan.parts)), seconds
