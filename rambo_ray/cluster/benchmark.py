"""The cells of a benchmark on Ray: selections and trainings as one pool of tasks, finished cells kept at once.

Cells of one ground (dataset, split, seed) share its base classifier, f's outputs and its utility
samples; budgets share a selection where the method allows. Grounds are made a wave at a time, as
many as keep the cluster busy: memory does not grow with the number of seeds, and the first seed's
results are there long before the last one's. A cell that fails is reported and stops nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray.exceptions import RayError

from rambo_ray import controls, seeds
from rambo_ray.baselines import STRATEGIES
from rambo_ray.cells import Cell, CellStore, Failure
from rambo_ray.cluster import grounds
from rambo_ray.cluster.fit import fit_here
from rambo_ray.cluster.grounds import Request
from rambo_ray.cluster.session import Session, cause_of
from rambo_ray.config import Config
from rambo_ray.evaluation import RankingQuality
from rambo_ray.experiment import ORACLE, Method, is_nested
from rambo_ray.progress import Progress
from rambo_ray.retraining import relative_cost
from rambo_ray.sample_store import SampleStore
from rambo_ray.stages import Stages
from rambo_ray.trial import Ground, Retrained, acquire, retrain

IN_FLIGHT_PER_WORKER = 2
CELLS_PER_WORKER = 8  # a wave has at least this many, so that its end, when workers run dry, is short


@dataclass(frozen=True)
class Todo:
    """A cell that is not there yet."""

    cell_id: str
    data: str
    method: Method
    budget: int
    config: Config


@dataclass(frozen=True)
class Site:
    """A ground to be made, under its name, and the cells to be played on it; `request` reads its images."""

    name: str
    cells: tuple[Todo, ...]
    request: Callable[[], Request]


@dataclass(frozen=True)
class Picked:
    """What a method picked on one ground, by budget; `ranking` where it fitted u_hat; seconds of one thread."""

    positions: Mapping[int, np.ndarray]
    ranking: RankingQuality
    seconds: float
    fit_seconds: float


def run(
    session: Session, sites: Sequence[Site], store: CellStore, samples: SampleStore, work: Path, stages: Stages
) -> list[Failure]:
    """Finish all cells of all sites, add each to `store`, and return those that failed.

    samples: the store of utility samples; work: a folder that every node reaches, for fits of u_hat.
    """
    total = sum(len(site.cells) for site in sites)
    shown = stages.progress(total, sum(_weight(cell) for site in sites for cell in site.cells), label="cells")
    failures: list[Failure] = []
    for number, wave in enumerate(waves := _waves(sites, session.num_workers), start=1):
        cells = sum(len(site.cells) for site in wave)
        names = wave[0].name if len(wave) == 1 else f"{wave[0].name} to {wave[-1].name}"
        stages.say(f"\n{names}: {cells} cells ({number} of {len(waves)})")
        made = grounds.make(session, [site.request() for site in wave], samples, stages)
        stages.begin("cells")
        _play(session, wave, made, store, work, stages, shown, failures)
        stages.end()
    shown.close()
    return failures


def _waves(sites: Sequence[Site], workers: int) -> list[list[Site]]:
    waves: list[list[Site]] = [[]]
    for site in sites:
        if sum(len(s.cells) for s in waves[-1]) >= CELLS_PER_WORKER * workers:
            waves.append([])
        waves[-1].append(site)
    return waves


def _weight(cell: Todo) -> float:
    """Expected work: that of the final training."""
    return relative_cost(cell.config.data.num_labeled + cell.budget)


@dataclass(frozen=True)
class _Selection:
    site: int
    method: Method
    cells: tuple[Todo, ...]


@dataclass(frozen=True)
class _Training:
    site: int
    cell: Todo
    picked: Picked


def _play(
    session: Session,
    wave: Sequence[Site],
    made: Sequence[Ground],
    store: CellStore,
    work: Path,
    stages: Stages,
    shown: Progress,
    failures: list[Failure],
) -> None:
    """One pool of tasks: a selection's trainings go to the front of the queue as soon as it is there."""
    options = {**session.options, "max_retries": session.config.max_tries}
    select, train = ray.remote(_select).options(**options), ray.remote(_train).options(**options)
    refs = [ray.put(ground) for ground in made]
    queue: list[_Selection | _Training] = list(reversed(_selections(wave)))  # the next one last
    running: dict[ray.ObjectRef, _Selection | _Training] = {}
    while queue or running:
        while queue and len(running) < session.num_workers * IN_FLIGHT_PER_WORKER:
            piece = queue.pop()
            if isinstance(piece, _Selection):
                parts = [(cell.budget, cell.config) for cell in piece.cells]
                ref = select.remote(refs[piece.site], piece.method, parts, str(work), session.device, session.cpus)
            else:
                positions = piece.picked.positions[piece.cell.budget]
                ref = train.remote(refs[piece.site], positions, piece.cell.config.seed, session.device, session.cpus)
            running[ref] = piece
        (ref,), _ = ray.wait(list(running), num_returns=1)
        piece = running.pop(ref)
        cells = piece.cells if isinstance(piece, _Selection) else (piece.cell,)
        try:
            result = ray.get(ref)
        except RayError as error:
            for cell in cells:
                where = f"{wave[piece.site].name}, {cell.method.name}, B={cell.budget}"
                failures.append(Failure(where, cause_of(error)))
                shown.advance(1, _weight(cell))
                stages.say(f"failed: {where}: {failures[-1].error}")
            continue
        if isinstance(piece, _Selection):
            queue += [_Training(piece.site, cell, result) for cell in reversed(cells)]
        else:
            store.add(_cell(piece.cell, made[piece.site], piece.picked, result))
            shown.advance(1, _weight(piece.cell))


def _selections(wave: Sequence[Site]) -> list[_Selection]:
    """One selection for all budgets of a method, or one each where they are not nested."""
    found = []
    for number, site in enumerate(wave):
        by_method: dict[str, list[Todo]] = {}
        for cell in site.cells:
            by_method.setdefault(cell.method.name, []).append(cell)
        for cells in by_method.values():
            budgets = sorted(cell.budget for cell in cells)
            method, ask = cells[0].method, cells[0].config.acquisition
            groups = [cells] if is_nested(method.kind, ask, budgets) else [[cell] for cell in cells]
            found += [_Selection(number, method, tuple(group)) for group in groups]
    return found


def _select(
    ground: Ground, method: Method, cells: Sequence[tuple[int, Config]], work: str, device: str, threads: int
) -> Picked:
    torch.set_num_threads(threads)
    began = time.monotonic()
    largest, config = max(cells, key=lambda cell: cell[0])
    ranking, fit_seconds = RankingQuality(float("nan"), float("nan"), 0, 0), 0.0
    if method.fits:
        positions, ranking, fit_seconds = _by_u_hat(ground, method, config, Path(work), device)
    else:
        positions = _by_rule(ground, method.kind, config, device)
    if len(positions) != largest or len(np.unique(positions)) != largest:
        raise ValueError(f"{method.name}: {len(np.unique(positions))} different images for a budget of {largest}")
    picked = {budget: positions[:budget] for budget, _ in cells}
    return Picked(picked, ranking, time.monotonic() - began, fit_seconds)


def _by_u_hat(
    ground: Ground, method: Method, config: Config, work: Path, device: str
) -> tuple[np.ndarray, RankingQuality, float]:
    began = time.monotonic()
    task = ground.fit_input(config)
    if method.kind == "rambo_shuffled":
        task = controls.shuffled(task, config.seed)
    model = fit_here(task, work / "fits", lambda metrics: None, device).model()
    fit_seconds = time.monotonic() - began
    return acquire(config, ground, model, device).pool_index, ground.ranking(model), fit_seconds


def _by_rule(ground: Ground, kind: str, config: Config, device: str) -> np.ndarray:
    assert ground.evidence is not None
    ask = config.acquisition
    if kind in STRATEGIES:
        generator = seeds.generator(config.seed, "baseline", seeds.index_of(kind))
        return STRATEGIES[kind](ground.evidence, ask.budget, generator)
    if kind == "margin_m_random":
        return controls.margin_m_random(ground.margins, ask, config.seed)
    if kind == "margin_m_balanced":
        return controls.margin_m_balanced(ground.evidence.logits, ground.margins, ask, config.seed)
    assert kind == ORACLE
    return controls.oracle(ground, ask, config.seed, device)


def _train(ground: Ground, positions: np.ndarray, seed: int, device: str, threads: int) -> Retrained:
    torch.set_num_threads(threads)
    return retrain(ground, positions, seeds.integer(seed, "final_classifier"), device)


def _cell(todo: Todo, ground: Ground, picked: Picked, trained: Retrained) -> Cell:
    nan = float("nan")

    def test(accuracies: Mapping[str, Any]) -> float:
        return float(accuracies.get("test", nan))

    return Cell(
        cell_id=todo.cell_id,
        data=todo.data,
        method=todo.method.name,
        budget=todo.budget,
        seed=todo.config.seed,
        accuracy=trained.accuracy["validation"],
        test_accuracy=test(trained.accuracy),
        before=ground.before["validation"],
        test_before=test(ground.before),
        ranking_accuracy=picked.ranking.pairwise_accuracy,
        kendall_tau=picked.ranking.kendall_tau,
        select_seconds=picked.seconds,
        fit_seconds=picked.fit_seconds,
        sample_seconds=ground.sample_seconds if todo.method.fits else 0.0,
        train_seconds=trained.seconds,
        epochs=trained.epochs,
    )
