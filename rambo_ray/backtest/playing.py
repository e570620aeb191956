"""One round played in one process: every method picks from the mock pool, is answered, and f is judged.

What a method may see is a `PreparedProblem` of S_0, the played S_val and the mock pool alone. The judges' labels
are read after all have picked. What depends on a draw, as a random choice does, is drawn several times.

Letters: J judges, otherwise as in `folds`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rambo_ray import seeds
from rambo_ray.backtest.folds import Fold, played
from rambo_ray.benchmark import methods
from rambo_ray.benchmark.experiment import Method
from rambo_ray.classifier import prediction, training
from rambo_ray.classifier.training import TrainingSettings
from rambo_ray.config.schema import Config
from rambo_ray.data.problem import NONE, LabeledArrays, Problem
from rambo_ray.embeddings.weights import ResNetWeights
from rambo_ray.pipeline import plan
from rambo_ray.pipeline.judging import AnyFit, AnyInput
from rambo_ray.pipeline.plan import Plan
from rambo_ray.pipeline.prepared import PreparedProblem
from rambo_ray.pipeline.preparing import prepare
from rambo_ray.utility_model import fitting, quadratic
from rambo_ray.utility_model.quadratic import QuadraticInput

DRAWN = ("random", "margin_m_random")  # what is left to chance in them, RAMBO's filter included


@dataclass(frozen=True, eq=False)
class Material:
    """What rounds are played with: S_0 and S_val with what f sees of them, and the real round's size.

    problem: S_0, S_val and what was rejected; of its pool one image is enough. labeled, validation: what f sees;
    rejected [R, ...] likewise. training: how f is trained. num_pool: images of the real pool. frozen: the
    weights of frozen ImageNet features, where u_hat wants them; default: those that the configuration names. same
    int64 [V + R]: the first of each image's copies (`alike`); None: there are none.
    """

    problem: Problem
    labeled: np.ndarray
    validation: np.ndarray
    rejected: np.ndarray
    training: TrainingSettings
    num_pool: int
    frozen: ResNetWeights | None = None
    same: np.ndarray | None = None

    def take(self, positions: np.ndarray) -> LabeledArrays:
        """Those at `positions` in S_val and then what was rejected, whose label is NONE."""
        labels = self.problem.validation.labels
        labels = np.concatenate([labels, np.full(len(self.rejected), NONE, dtype=np.int64)])
        return LabeledArrays(np.concatenate([self.validation, self.rejected])[positions], labels[positions])


@dataclass(frozen=True)
class Play:
    """What became of one method in one fold: right [J], the share of its draws after which f knew each judge's class.

    classes [K + 1]: how many images of each class, and of none, it bought, the mean over its draws; seconds: of
    one thread, for picking and training.
    """

    method: str
    right: np.ndarray
    classes: np.ndarray
    seconds: float


def plan_of(config: Config, material: Material, fold: Fold, bought: float) -> Plan:
    """What a fold's RAMBO will do. Raises UserError for what cannot be run."""
    problem, v = material.problem, len(material.problem.validation)
    own = played(config, len(fold.pool), material.num_pool, bought, len(fold.validation) / v)
    own = own.model_copy(update={"seed": fold.seed})
    rejected = None
    if problem.rejected is not None and len(fold.rejected):
        rejected = problem.rejected.take(fold.rejected - v)
    known = replace(
        problem,
        validation=problem.validation.take(fold.validation),
        pool=problem.validation.take(fold.pool[fold.pool < v]).unlabeled(),  # a plan only counts them
        rejected=rejected,
    )
    return plan.make(own, known, material.training, material.frozen)


def play(
    config: Config,
    material: Material,
    fold: Fold,
    competitors: Sequence[Method],
    bought: float,
    draws: int,
    device: str = "cpu",
    at_once: int = 1,
) -> list[Play]:
    """Play `fold`: what became of each of the `competitors`, and of f on S_0 alone under the name "before".

    Raises UserError as `plan_of`.
    """
    todo = plan_of(config, material, fold, bought)
    if not any(method.fits for method in competitors):
        todo = todo.without_samples()
    labeled = LabeledArrays(material.labeled, material.problem.labeled.labels)
    pool, judges = material.take(fold.pool), material.take(fold.judges)
    began = time.perf_counter()
    prepared = prepare(
        todo,
        labeled,
        {"validation": material.take(fold.validation)},
        pool.inputs,
        material.take(fold.rejected).inputs,
        pool.labels,
        device,
        at_once,
    )
    spent = time.perf_counter() - began
    base = training.from_arrays(prepared.classifier, prepared.training, device).model
    nothing = np.zeros(todo.training.num_classes + 1)
    found = [Play("before", _right(base, judges, prepared.training, device), nothing, spent)]
    for method in competitors:
        began = time.perf_counter()
        right, classes = [], []
        for index in range(draws if method.kind in DRAWN else 1):
            own = todo.config if index == 0 else _redrawn(todo.config, fold, index)
            picked, _, _ = methods.pick(prepared, method, own, _fit, device)
            model = _trained(prepared, picked, seeds.integer(own.seed, "final_classifier"), device)
            right.append(_right(model, judges, prepared.training, device))
            bought_classes = np.where(pool.labels[picked] == NONE, len(nothing) - 1, pool.labels[picked])
            classes.append(np.bincount(bought_classes, minlength=len(nothing)))
        spent = time.perf_counter() - began
        found.append(Play(method.name, np.mean(right, axis=0), np.mean(classes, axis=0), spent))
    return found


def _redrawn(config: Config, fold: Fold, index: int) -> Config:
    return config.model_copy(update={"seed": seeds.integer(fold.seed, "backtest", 5, index)})


def _trained(prepared: PreparedProblem, picked: np.ndarray, seed: int, device: str) -> training.Classifier:
    joined = prepared.labeled.joined(prepared.pool[picked], prepared.revealed()[picked])
    return training.train(joined.inputs, joined.labels, prepared.training, seed, device=device).model


def _right(model: training.Classifier, judges: LabeledArrays, settings: TrainingSettings, device: str) -> np.ndarray:
    logits, _ = prediction.predict(model, judges.inputs, settings, device)
    return (logits.argmax(axis=1) == judges.labels).astype(np.float64)


def _fit(task: AnyInput) -> AnyFit:
    return quadratic.fit(task) if isinstance(task, QuadraticInput) else fitting.fit(task)
