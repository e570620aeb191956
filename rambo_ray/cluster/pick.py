"""A selection by another strategy than RAMBO: `acquisition.strategy` on Ray.

f is trained on S_0 and passed over the pool as for RAMBO; what the strategy makes of its outputs is one task, with
the code and the random numbers of a benchmark's run of that name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray

from rambo_ray import seeds
from rambo_ray.acquisition import greedy, pool_view
from rambo_ray.acquisition.greedy import Selection
from rambo_ray.acquisition.pool_view import PoolView
from rambo_ray.benchmark import methods
from rambo_ray.benchmark.experiment import Method
from rambo_ray.cluster import embed, prepare
from rambo_ray.cluster.session import Session
from rambo_ray.cluster.tasks import fetch
from rambo_ray.config.schema import Config, is_head
from rambo_ray.data.problem import Problem, Revealed
from rambo_ray.machines.begin import Begin
from rambo_ray.pipeline import once
from rambo_ray.pipeline.judging import AnyFit, AnyInput
from rambo_ray.pipeline.outputs import Keep
from rambo_ray.pipeline.plan import Plan
from rambo_ray.pipeline.prepared import PreparedProblem, Request, retrain
from rambo_ray.progress import Stages
from rambo_ray.utility_samples.store import SampleStore


@dataclass(frozen=True)
class Picked:
    """What a strategy picked, f's margins [N], and f's accuracies without and, where labels are known, with it.

    problem, revealed: what it was picked from, near-copies in the pool aside. view: a part of it as f sees it.
    """

    problem: Problem
    revealed: Revealed | None
    selection: Selection
    margins: np.ndarray
    before: Mapping[str, float]
    after: Mapping[str, float] | None
    view: PoolView


def run(
    plan: Plan,
    problem: Problem,
    revealed: Revealed | None,
    session: Session,
    folder: Path,
    stages: Stages,
    keep: Keep = lambda problem, selection, made: None,
) -> Picked:
    """Pick B pool images by `acquisition.strategy`; `revealed` is read only after the selection is made.

    keep: is given the selection as soon as it is made.
    Raises RunError for what the cluster failed at.
    """
    config = plan.config
    method = Method(config.acquisition.strategy, config.acquisition.strategy, {})
    if is_head(config.classifier.name):
        stages.begin("embeddings")
    seen = embed.inputs(session, config, problem, revealed, stages.progress)
    problem, revealed, seen = once.thinned_by_embeddings(config, problem, revealed, seen)
    todo = Request(plan.without_samples(), problem, revealed, outputs=True, seen=seen)
    store = SampleStore(folder / "utility_samples", config.utility_samples.utility)  # nothing is written there
    (prepared,) = prepare.make(session, [todo], store, stages)
    shared = ray.put(prepared)
    stages.begin(config.acquisition.strategy)
    options = {**session.options, "max_retries": session.config.max_tries}
    how = (session.device, session.begin)
    positions = fetch(
        ray.remote(_pick).options(**options).remote(shared, method, config, *how), config.acquisition.strategy
    )
    found = selection(positions, prepared.margins, config)
    keep(problem, found, {"run": store.run})
    after = None
    if revealed is not None:
        stages.begin("final classifier")
        after = fetch(
            ray.remote(_train).options(**options).remote(shared, positions, config.seed, *how), "the final classifier"
        )
    stages.end()
    view = look(prepared, found, config)
    return Picked(problem, revealed, found, prepared.margins, prepared.before, after, view)


def look(prepared: PreparedProblem, made: Selection, config: Config) -> PoolView:
    """A part of the pool as f sees it, for the report; of what a margin filter left out nothing, as there was none."""
    inputs = prepared.strategy_inputs
    assert inputs is not None
    everything = config.acquisition.model_copy(update={"margin_pool": max(1, len(inputs))})
    return pool_view.look(
        made,
        prepared.margins,
        np.arange(len(inputs)),
        everything,
        lambda positions: (inputs.logits[positions], inputs.embeddings[positions]),
        lambda positions: (inputs.labeled_logits[positions], inputs.labeled_embeddings[positions]),
        len(inputs.labels),
    )


def selection(positions: np.ndarray, margins: np.ndarray, config: Config) -> Selection:
    """Positions [B] as a selection: steps of b, and no utilities, as no u_hat has judged."""
    ask = config.acquisition
    sizes = greedy.step_sizes(len(positions), ask.batch_size)
    return Selection(
        pool_index=positions.astype(np.int64),
        step=np.repeat(np.arange(len(sizes)), sizes).astype(np.int32),
        margin=margins[positions].astype(np.float32),
        utility=np.full(len(positions), math.nan, dtype=np.float32),
        step_scores=(),
        kinds=(ask.strategy,) * len(sizes),
    )


def _pick(prepared: PreparedProblem, method: Method, config: Config, device: str, begin: Begin) -> np.ndarray:
    begin()
    return methods.pick(prepared, method, config, _fits_nothing, device)[0]


def _fits_nothing(task: AnyInput) -> AnyFit:
    raise ValueError("a strategy that fits u_hat is RAMBO's own run")


def _train(prepared: PreparedProblem, positions: np.ndarray, seed: int, device: str, begin: Begin) -> dict[str, float]:
    begin()
    return retrain(prepared, positions, seeds.integer(seed, "final_classifier"), device).accuracy
