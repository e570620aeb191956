"""What runs on one problem start from: everything measured of it that no setting of u_hat changes.

All trials of a sweep and all runs of a benchmark that differ only in the settings of u_hat and of the
acquisition share it. It is plain data that travels to them; what they do with it runs in one process.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from rambo_ray import seeds
from rambo_ray.acquisition import greedy
from rambo_ray.acquisition.baselines.inputs import StrategyInputs
from rambo_ray.acquisition.candidates import Sloped
from rambo_ray.classifier import prediction, training
from rambo_ray.classifier.training import Arrays, TrainingSettings
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data.problem import Inputs, LabeledArrays, Problem, Revealed
from rambo_ray.embeddings.weights import ResNetWeights
from rambo_ray.pipeline import judging
from rambo_ray.pipeline.judging import AnyInput, AnyModel, PoolEvidence
from rambo_ray.pipeline.plan import Measured, Plan, fit_input
from rambo_ray.utility_model import features
from rambo_ray.utility_model.quadratic import QuadraticInput, QuadraticModel
from rambo_ray.utility_model.ranking import RankingQuality
from rambo_ray.utility_samples.measuring import MeasurementSettings
from rambo_ray.utility_samples.mock_rounds import MockPool
from rambo_ray.utility_samples.sampling import UtilitySample


@dataclass(frozen=True)
class Request:
    """A problem to be prepared. answers: None where nobody answers what is acquired.

    A plan without samples is for methods that fit no u_hat; outputs: whether other strategies will pick on it. Where
    there are neither answers nor outputs nothing will be acquired, and the pool stays out of it. seen: what f sees,
    where that is known already, and near-copies are out of the pool.
    """

    plan: Plan
    problem: Problem
    answers: Revealed | None
    outputs: bool = False
    seen: Inputs | None = None


@dataclass(frozen=True)
class PreparedProblem:
    """S_0, S_val and a pool with everything measured of them that no setting of u_hat changes.

    task: what u_hat is fitted to, None for methods that fit none; images: u_hat's inputs, as `plan.fit_input` has
    them; classifier: the base classifier f, with its `before` accuracies on `sets`; margins [N] of the pool by f;
    rejected [R, ...]: what f sees of images known to belong to no class; answers [N]: the pool's labels, None where
    they are unknown or withheld. held_out: sets with their true utilities; mock_pool: who played in mock rounds;
    evidence: of the pool, where u_hat looks at it. strategy_inputs: what strategies other than u_hat pick by, None
    where none will. sample_seconds: of one thread, for all trainings of utility samples.
    """

    labeled: LabeledArrays
    sets: Mapping[str, LabeledArrays]
    pool: np.ndarray
    rejected: np.ndarray
    answers: np.ndarray | None
    training: TrainingSettings
    kind: features.Features
    imagenet_weights: ResNetWeights | None
    task: AnyInput | None
    images: np.ndarray
    held_out: tuple[UtilitySample, ...]
    mock_pool: MockPool | None
    evidence: PoolEvidence | None
    classifier: Arrays
    before: Mapping[str, float]
    margins: np.ndarray
    strategy_inputs: StrategyInputs | None = None
    sample_seconds: float = 0.0

    @classmethod
    def of(
        cls,
        plan: Plan,
        measured: Measured,
        images: np.ndarray,
        *,
        labeled: LabeledArrays,
        sets: Mapping[str, LabeledArrays],
        pool: np.ndarray,
        rejected: np.ndarray,
        answers: np.ndarray | None,
        evidence: PoolEvidence | None,
        classifier: Arrays,
        before: Mapping[str, float],
        margins: np.ndarray,
        strategy_inputs: StrategyInputs | None,
        sample_seconds: float,
    ) -> PreparedProblem:
        """A plan with what was measured of its samples, and u_hat's inputs `images`; the others as they are."""
        return cls(
            labeled=labeled,
            sets=sets,
            pool=pool,
            rejected=rejected,
            answers=answers,
            training=plan.training,
            kind=plan.kind,
            imagenet_weights=plan.imagenet_weights,
            task=fit_input(plan.config, measured, images, plan.mock_pool) if plan.retrained else None,
            images=images,
            held_out=measured.held_out,
            mock_pool=plan.mock_pool,
            evidence=evidence,
            classifier=classifier,
            before=before,
            margins=margins,
            strategy_inputs=strategy_inputs,
            sample_seconds=sample_seconds,
        )

    def revealed(self) -> np.ndarray:
        """The pool's labels, [N]; raises ValueError where they are unknown or withheld."""
        if self.answers is None:
            raise ValueError("this prepared problem's pool has no labels to answer with")
        return self.answers

    def ranking(self, model: AnyModel, seed: int) -> RankingQuality:
        """How well u_hat ranks the held-out sets; `seed` is the run's."""
        found = judging.held_out(self.held_out, model, self.images, self.mock_pool, self.kind == "evidence")
        return found.quality(seed)

    def fit_input(self, config: Config) -> AnyInput:
        """What u_hat is fitted to under `config`."""
        if self.task is None:
            raise ValueError("this prepared problem was made for methods that fit no u_hat")
        if isinstance(self.task, QuadraticInput):
            return replace(self.task, seed=config.seed)
        return replace(self.task, config=config.utility_model, seed=config.seed)


def acquire_and_retrain(config: Config, prepared: PreparedProblem, model: AnyModel, device: str) -> dict[str, float]:
    """Acquire B images with u_hat, have them answered, and train f: its accuracy on each of the problem's sets.

    Raises ValueError where the problem has no answers.
    """
    prepared.revealed()
    picked = acquire(config, prepared, model, device).pool_index
    return retrain(prepared, picked, seeds.integer(config.seed, "final_classifier"), device).accuracy


@dataclass(frozen=True)
class Retrained:
    """f trained on S_0 and what was acquired: its accuracy on each of the prepared problem's sets, epochs, seconds."""

    accuracy: dict[str, float]
    epochs: int
    seconds: float


def retrain(prepared: PreparedProblem, picked: np.ndarray, seed: int, device: str) -> Retrained:
    """Have the images at `picked` of the pool answered and train f from scratch on S_0 and them.

    Raises ValueError where the problem has no answers.
    """
    answers = prepared.revealed()
    joined = prepared.labeled.joined(prepared.pool[picked], answers[picked])
    trained = training.train(joined.inputs, joined.labels, prepared.training, seed, device=device)
    accuracy = {
        name: prediction.evaluate(trained.model, part.inputs, part.labels, prepared.training).accuracy
        for name, part in prepared.sets.items()
    }
    return Retrained(accuracy, trained.epochs, trained.seconds)


def acquire(config: Config, prepared: PreparedProblem, model: AnyModel, device: str = "cpu") -> greedy.Selection:
    """Lines 15 to 26 in this process: the same selection as the fanned-out one of `rambo.run`."""
    ask = config.acquisition
    positions = greedy.candidates(prepared.margins, ask)
    evidence = None if prepared.evidence is None else prepared.evidence.take(positions)
    judge = _judge(config, prepared, model, positions, evidence, device)

    def inputs() -> StrategyInputs:
        if prepared.strategy_inputs is None:
            raise ValueError("this prepared problem holds no outputs of f for strategies to propose batches by")
        return prepared.strategy_inputs.take(positions)

    return judging.acquire(config, prepared.margins, judge, evidence, inputs)


def _judge(
    config: Config,
    prepared: PreparedProblem,
    model: AnyModel,
    positions: np.ndarray,
    evidence: PoolEvidence | None,
    device: str,
) -> Sloped:
    if isinstance(model, QuadraticModel):
        assert evidence is not None
        return greedy.MeanEvidence(model, evidence.numbers, config.acquisition)
    encoder = features.Encoder(prepared.kind, prepared.training, config.utility_model, prepared.imagenet_weights, model)
    if prepared.kind == "evidence":
        assert evidence is not None
        encoded = encoder.encode_inputs(evidence.numbers.astype(np.float32), device)
        labeled = encoded[:0]
    else:
        encoded = encoder.encode(prepared.pool[positions], prepared.classifier, device)
        labeled = encoder.encode(prepared.labeled.inputs, prepared.classifier, device)
    held = copy.deepcopy(model).cpu().double()
    return greedy.JoinedSets(labeled, encoded, partial(greedy.score_batches, held, encoded), held)


def prepared_key(config: Config, fold: int = -1) -> str:
    """Which prepared problem a configuration is run on: all that the utility samples and f depend on. -1: no fold."""
    kept = {k: v for k, v in loading.flatten(config).items() if k == "seed" or loading.needs_retraining(k)}
    # What a fit's input looks like, and whether mock rounds have their OTDD measured.
    model = config.utility_model
    rounds_otdd = config.utility_samples.source != "subsets" and MeasurementSettings.wants_round_otdd(model)
    return json.dumps([fold, kept, model.architecture, model.fit_on, rounds_otdd], sort_keys=True)
