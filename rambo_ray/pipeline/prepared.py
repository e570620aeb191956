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
from rambo_ray.classifier import prediction, training
from rambo_ray.classifier.training import Arrays, TrainingSettings
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data.problem import LabeledArrays, Problem, Revealed
from rambo_ray.pipeline.plan import Plan
from rambo_ray.utility_model import features
from rambo_ray.utility_model.fitting import FitInput
from rambo_ray.utility_model.network import UtilityModel
from rambo_ray.utility_model.ranking import RankingQuality, judge


@dataclass(frozen=True)
class Request:
    """A problem to be prepared. answers: None where no acquisition will be simulated on it.

    A plan without samples is for methods that fit no u_hat; outputs: whether other strategies will pick on it.
    """

    plan: Plan
    problem: Problem
    answers: Revealed | None
    outputs: bool = False


@dataclass(frozen=True)
class PreparedProblem:
    """S_0, S_val and a pool with everything measured of them that no setting of u_hat changes.

    task: what u_hat is fitted to; classifier: the base classifier f, with its `before` accuracies on
    `sets`; margins [N] of the pool by f; answers [N]: the pool's labels, None where they are
    unknown or withheld. held_out: subsets of S_0 with their true utilities. strategy_inputs: what
    strategies other than u_hat pick by, None where none will. sample_seconds: of one thread, for all
    trainings of utility samples.
    """

    labeled: LabeledArrays
    sets: Mapping[str, LabeledArrays]
    pool: np.ndarray
    answers: np.ndarray | None
    training: TrainingSettings
    kind: features.Features
    imagenet_weights: str | None
    task: FitInput
    held_out: tuple[tuple[int, ...], ...]
    held_out_utilities: tuple[float, ...]
    classifier: Arrays
    before: Mapping[str, float]
    margins: np.ndarray
    strategy_inputs: StrategyInputs | None = None
    sample_seconds: float = 0.0

    def revealed(self) -> np.ndarray:
        """The pool's labels, [N]; raises ValueError where they are unknown or withheld."""
        if self.answers is None:
            raise ValueError("this prepared problem's pool has no labels to answer with")
        return self.answers

    def ranking(self, model: UtilityModel) -> RankingQuality:
        """How well u_hat ranks the held-out subsets."""
        return judge(model, self.task.images, self.held_out, self.held_out_utilities)[2]

    def fit_input(self, config: Config) -> FitInput:
        """What u_hat is fitted to under `config`."""
        return replace(self.task, config=config.utility_model, seed=config.seed)


def acquire_and_retrain(
    config: Config, prepared: PreparedProblem, model: UtilityModel, device: str
) -> dict[str, float]:
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


def acquire(config: Config, prepared: PreparedProblem, model: UtilityModel, device: str = "cpu") -> greedy.Selection:
    """Lines 15 to 26 in this process: the same selection as the fanned-out one of `rambo.run`."""
    ask = config.acquisition
    encoder = features.Encoder(prepared.kind, prepared.training, config.utility_model, prepared.imagenet_weights, model)
    encoded = encoder.encode(prepared.pool[greedy.candidates(prepared.margins, ask)], prepared.classifier, device)
    labeled = encoder.encode(prepared.labeled.inputs, prepared.classifier, device)
    score = partial(greedy.score_batches, copy.deepcopy(model).cpu().double(), encoded)
    return greedy.acquire(prepared.margins, greedy.JoinedSets(labeled, encoded, score), ask, config.seed)


def prepared_key(config: Config, fold: int = -1) -> str:
    """Which prepared problem a configuration is run on: all that the utility samples and f depend on. -1: no fold."""
    kept = {k: v for k, v in loading.flatten(config).items() if k == "seed" or loading.needs_retraining(k)}
    return json.dumps([fold, kept], sort_keys=True)
