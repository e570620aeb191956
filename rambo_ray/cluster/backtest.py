"""A backtest on Ray: each round is one task, which plays it from S_0 to the judges' verdict.

S_0, S_val and what was rejected lie in the object store once. Of the pool a part is looked at, for the principal
components of embeddings and for the classes' shares; no round sees it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import ray

from rambo_ray.backtest import mix, playing
from rambo_ray.backtest.folds import Fold, Shares
from rambo_ray.backtest.playing import Material, Play
from rambo_ray.backtest.store import PlayStore
from rambo_ray.benchmark.experiment import Method
from rambo_ray.classifier.training import TrainingSettings
from rambo_ray.cluster import embed
from rambo_ray.cluster.session import Session
from rambo_ray.cluster.shipped import shipped
from rambo_ray.cluster.tasks import fetch
from rambo_ray.cluster.workers import run_tasks
from rambo_ray.config.schema import Config, is_head
from rambo_ray.data.problem import LabeledArrays, Problem
from rambo_ray.machines.begin import Begin
from rambo_ray.pipeline import plan
from rambo_ray.progress import Stages
from rambo_ray.utility_model import features


@dataclass(frozen=True)
class Rules:
    """How rounds are played: S_val's division, and the draws of methods that leave much to chance."""

    shares: Shares = Shares()
    draws: int = 5

    @property
    def numbers(self) -> list[float]:
        """All of them, for an identity."""
        return [self.shares.pool, self.shares.validation, self.shares.bought, float(self.draws)]


def looked_at(problem: Problem) -> Problem:
    """The same with the part of the pool that a backtest looks at, evenly apart."""
    count = len(problem.pool)
    part = np.linspace(0, count - 1, min(count, mix.LOOKED_AT)).round().astype(np.int64)
    return replace(problem, pool=problem.pool.take(part))


def single(problem: Problem) -> Problem:
    """The same with one image of its pool, as a `Material` has it."""
    return replace(problem, pool=problem.pool.take(np.arange(1)))


def material(
    session: Session, config: Config, problem: Problem, num_pool: int, stages: Stages
) -> tuple[Material, np.ndarray]:
    """What rounds are played with, and the pool's classes' shares [K]; `problem` is what `looked_at` made.

    Raises UserError as a run would, RunError for what the cluster failed at.
    """
    if is_head(config.classifier.name):
        stages.begin("embeddings")
    seen = embed.inputs(session, config, problem, None, stages.progress)
    stages.begin("classes of the pool")
    settings = plan.training_settings(config, problem).on(
        session.device, config.classifier.precision, session.abilities
    )
    validation = LabeledArrays(seen.validation, problem.validation.labels)
    task = ray.remote(_mix).options(**session.options, max_retries=session.config.max_tries)
    how = (settings, config.seed, session.device, session.begin)
    found: np.ndarray = fetch(
        task.remote(problem.labeled.labels, validation, ray.put(seen.pool), *how), "the classes of the pool"
    )
    stages.end()
    kind = features.choose(config.utility_model, problem.shape, config.classifier.name)
    frozen = shipped(features.frozen_weights(kind, config.utility_model))
    made = Material(single(problem), seen.labeled, seen.validation, seen.rejected, settings, num_pool, frozen)
    return made, found


def run(
    session: Session,
    config: Config,
    made: Material,
    folds: Sequence[Fold],
    competitors: Sequence[Method],
    rules: Rules,
    identity: str,
    store: PlayStore,
    stages: Stages,
) -> None:
    """Play what `store` lacks of all rounds, and add it there as soon as it is done.

    Raises RunError for what the cluster failed at; what was played until then is kept.
    """
    queue: deque[tuple[Fold, list[Method]]] = deque()
    for fold in folds:
        names = store.missing(identity, fold.number, ["before", *(m.name for m in competitors)])
        if names:
            queue.append((fold, [m for m in competitors if m.name in names]))
    stages.begin("rounds")
    shown = stages.progress(len(queue))
    task = ray.remote(_play).options(**session.options, max_retries=session.config.max_tries)
    shared = ray.put(made)
    how = (session.models_at_once or 1, session.device, session.begin)
    for (fold, _), ref in run_tasks(
        queue, lambda piece: task.remote(config, shared, *piece, rules, *how), session.num_workers, session.options
    ):
        store.add(identity, fold.number, fold.judges, fetch(ref, f"round {fold.number}"))
        shown.advance()
    shown.close()
    stages.end()


def _mix(
    labels: np.ndarray,
    validation: LabeledArrays,
    pool: np.ndarray,
    settings: TrainingSettings,
    seed: int,
    device: str,
    begin: Begin,
) -> np.ndarray:
    begin()
    return mix.class_mix(labels, *mix.pool_posterior(validation, pool, settings, seed, device))


def _play(
    config: Config,
    made: Material,
    fold: Fold,
    competitors: Sequence[Method],
    rules: Rules,
    at_once: int,
    device: str,
    begin: Begin,
) -> list[Play]:
    begin()
    return playing.play(config, made, fold, competitors, rules.shares.bought, rules.draws, device, at_once)
