"""The runs of a benchmark on Ray: selections and trainings as one pool of tasks, finished runs kept at once.

Runs on one problem (dataset, split, seed) share its base classifier, f's outputs and its utility
samples; budgets share a selection where the method allows. Problems are prepared a wave at a time, as
many as keep the cluster busy: memory does not grow with the number of seeds, and the first seed's
results are there long before the last one's. A run that fails is reported and stops nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError

from rambo_ray import run_log, seeds
from rambo_ray.benchmark import methods
from rambo_ray.benchmark.experiment import Method, is_nested
from rambo_ray.benchmark.layout import PendingRun, RunGroup
from rambo_ray.benchmark.runs import BenchmarkRun, Failure, RunStore
from rambo_ray.cluster import prepare
from rambo_ray.cluster.fit import fit_here
from rambo_ray.cluster.session import Session, cause_of
from rambo_ray.cluster.workers import run_tasks
from rambo_ray.config.schema import Config
from rambo_ray.machines.begin import Begin
from rambo_ray.pipeline.judging import AnyFit, AnyInput
from rambo_ray.pipeline.prepared import PreparedProblem, Retrained, retrain
from rambo_ray.progress import Progress, Stages
from rambo_ray.utility_model.ranking import RankingQuality
from rambo_ray.utility_samples.measuring import relative_cost
from rambo_ray.utility_samples.store import SampleStore

RUNS_PER_WORKER = 8  # a wave has at least this many, so that its end, when workers run dry, is short


@dataclass(frozen=True)
class Picked:
    """What a method picked from one pool, by budget; `ranking` where it fitted u_hat; seconds of one thread."""

    positions: Mapping[int, np.ndarray]
    ranking: RankingQuality
    seconds: float
    fit_seconds: float


def run(
    session: Session, groups: Sequence[RunGroup], store: RunStore, samples: SampleStore, work: Path, stages: Stages
) -> list[Failure]:
    """Finish all runs of all groups, add each to `store`, and return those that failed.

    samples: the store of utility samples; work: a folder that every node reaches, for fits of u_hat.
    """
    total = sum(len(group.runs) for group in groups)
    shown = stages.progress(total, sum(_weight(pending) for group in groups for pending in group.runs), label="runs")
    failures: list[Failure] = []
    for number, wave in enumerate(waves := waves_of(groups, session.num_workers), start=1):
        count = sum(len(group.runs) for group in wave)
        names = wave[0].name if len(wave) == 1 else f"{wave[0].name} to {wave[-1].name}"
        stages.say(f"\n{names}: {count} runs ({number} of {len(waves)})")
        made = prepare.make(session, [group.request() for group in wave], samples, stages)
        stages.begin("runs")
        _play(session, wave, made, store, work, stages, shown, failures)
        stages.end()
    shown.close()
    return failures


def waves_of(groups: Sequence[RunGroup], workers: int) -> list[list[RunGroup]]:
    """The groups in their order, in waves just large enough to give each worker RUNS_PER_WORKER runs."""
    waves: list[list[RunGroup]] = [[]]
    for group in groups:
        if sum(len(s.runs) for s in waves[-1]) >= RUNS_PER_WORKER * workers:
            waves.append([])
        waves[-1].append(group)
    return waves


def _weight(pending: PendingRun) -> float:
    """Expected work: that of the final training."""
    return relative_cost(pending.config.data.num_labeled + pending.budget)


@dataclass(frozen=True)
class _Selection:
    group: int
    method: Method
    runs: tuple[PendingRun, ...]


@dataclass(frozen=True)
class _Training:
    group: int
    pending: PendingRun
    picked: Picked


def _play(
    session: Session,
    wave: Sequence[RunGroup],
    made: Sequence[PreparedProblem],
    store: RunStore,
    work: Path,
    stages: Stages,
    shown: Progress,
    failures: list[Failure],
) -> None:
    """One pool of tasks: a selection's trainings go to the front of the queue as soon as it is there."""
    options = {**session.options, "max_retries": session.config.max_tries}
    select, train = ray.remote(_select).options(**options), ray.remote(_train).options(**options)
    refs = [ray.put(prepared) for prepared in made]

    def start(piece: _Selection | _Training) -> ray.ObjectRef:
        where, how = refs[piece.group], (session.device, session.begin)
        if isinstance(piece, _Selection):
            parts = [(pending.budget, pending.config) for pending in piece.runs]
            return select.remote(where, piece.method, parts, str(work), *how)
        positions = piece.picked.positions[piece.pending.budget]
        return train.remote(where, positions, piece.pending.config.seed, *how)

    queue: deque[_Selection | _Training] = deque(_selections(wave))
    for piece, ref in run_tasks(queue, start, session.num_workers, session.options):
        runs = piece.runs if isinstance(piece, _Selection) else (piece.pending,)
        try:
            result = ray.get(ref)
        except RayError as error:
            run_log.tracebacks(error, "a run of the benchmark failed:")
            for pending in runs:
                where = f"{wave[piece.group].name}, {pending.method.name}, B={pending.budget}"
                failures.append(Failure(where, cause_of(error)))
                shown.advance(1, _weight(pending))
                stages.fail(f"failed: {where}: {failures[-1].error}")
            continue
        if isinstance(piece, _Selection):
            queue.extendleft(_Training(piece.group, pending, result) for pending in reversed(runs))
        else:
            store.add(_finished(piece.pending, made[piece.group], piece.picked, result))
            shown.advance(1, _weight(piece.pending))


def _selections(wave: Sequence[RunGroup]) -> list[_Selection]:
    """One selection for all budgets of a method, or one each where they are not nested."""
    found = []
    for number, group in enumerate(wave):
        by_method: dict[str, list[PendingRun]] = {}
        for pending in group.runs:
            by_method.setdefault(pending.method.name, []).append(pending)
        for runs in by_method.values():
            budgets = sorted(pending.budget for pending in runs)
            method, ask = runs[0].method, runs[0].config.acquisition
            groups = [runs] if is_nested(method.kind, ask, budgets) else [[pending] for pending in runs]
            found += [_Selection(number, method, tuple(group)) for group in groups]
    return found


def _select(
    prepared: PreparedProblem, method: Method, runs: Sequence[tuple[int, Config]], work: str, device: str, begin: Begin
) -> Picked:
    begin()
    began = time.monotonic()
    largest, config = max(runs, key=lambda pending: pending[0])

    def fit(task: AnyInput) -> AnyFit:
        return fit_here(task, Path(work) / "fits", lambda metrics: None, device)

    positions, ranking, fit_seconds = methods.pick(prepared, method, config, fit, device)
    picked = {budget: positions[:budget] for budget, _ in runs}
    return Picked(picked, ranking, time.monotonic() - began, fit_seconds)


def _train(prepared: PreparedProblem, positions: np.ndarray, seed: int, device: str, begin: Begin) -> Retrained:
    begin()
    return retrain(prepared, positions, seeds.integer(seed, "final_classifier"), device)


def _finished(pending: PendingRun, prepared: PreparedProblem, picked: Picked, trained: Retrained) -> BenchmarkRun:
    nan = float("nan")

    def test(accuracies: Mapping[str, Any]) -> float:
        return float(accuracies.get("test", nan))

    return BenchmarkRun(
        run_id=pending.run_id,
        data=pending.data,
        method=pending.method.name,
        budget=pending.budget,
        seed=pending.config.seed,
        accuracy=trained.accuracy["validation"],
        test_accuracy=test(trained.accuracy),
        before=prepared.before["validation"],
        test_before=test(prepared.before),
        ranking_accuracy=picked.ranking.pairwise_accuracy,
        kendall_tau=picked.ranking.kendall_tau,
        select_seconds=picked.seconds,
        fit_seconds=picked.fit_seconds,
        sample_seconds=prepared.sample_seconds if pending.method.fits else 0.0,
        train_seconds=trained.seconds,
        epochs=trained.epochs,
    )
