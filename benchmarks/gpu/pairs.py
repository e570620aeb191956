"""A run's utility samples: trainings in stacks, scores on S_val and OTDDs, as a worker of a run measures them.

MNIST: all 500 pairs of the paper's setting, or fewer where there is no time for them, once by four processes that
share the device, as a run's actors do, and once by one. CIFAR-10: the speed of groups of several sizes, and what all
500 pairs would take.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from gpu import stacked
from gpu.problems import Problem, load, mean
from gpu.rates import GROUP, ROOM, SHARES
from gpu.record import Section
from gpu.timing import MB, peak_mb, synchronize, timed
from rambo_ray import seeds
from rambo_ray.classifier import stacks
from rambo_ray.utility_samples.measuring import Retrainer, Subset, groups, relative_cost
from rambo_ray.utility_samples.sampling import Measurement, UtilitySample, draw_pair, sample_id

WHOLE_MODELS, WHOLE_IMAGES = 24, 120  # sets of CIFAR-10 that are measured to the end, at most, and their size
RATE_STEPS = 16  # of a group whose speed is measured
FOR_ALL_S = 60.0  # seconds with which all pairs of MNIST are tried


class Timed(Retrainer):
    """A `Retrainer` that knows how long its OTDDs took."""

    otdd_s = 0.0

    def otdd(self, indices: Sequence[int], fold: int = -1) -> float:
        began = time.perf_counter()
        try:
            return super().otdd(indices, fold)
        finally:
            self.otdd_s += time.perf_counter() - began


def mnist(section: Section) -> None:
    """500 pairs of k = 200 MNIST images, sizes uniform from 20: seconds by four processes and by one."""
    count, k = (3, 60) if section.smoke else (500 if section.left > FOR_ALL_S else 160, 200)
    problem = load(section, "mnist", k, 100 if section.smoke else 1000)
    section.put("sizes", {"pairs": count, "k": k, "images": problem.source})
    samples = drawn(count, k, 20)
    # The processes first: they are forked from this one, which then must not have used the GPU.
    try:
        section.put("by_four_processes", _by_processes(section, problem, samples, SHARES))
    except Exception as error:
        section.put("by_four_processes", {"error": f"{type(error).__name__}: {error}"[:1000]})
    section.put("by_one_process", _by_one(section, problem, samples))


def cifar(section: Section) -> None:
    """500 pairs of k = 2500 CIFAR-10 images, sizes uniform from 20: parts of them, and what all would take.

    A few small sets are measured to the end, for the epochs that they take; then whole groups, over the range of
    sizes, train for a number of steps, for their images per second. All pairs are taken to need as many epochs.
    """
    count, k = (3, 60) if section.smoke else (500, 2500)
    problem = load(section, "cifar10", k, 40 if section.smoke else 1000)
    section.put("sizes", {"pairs": count, "k": k, "images": problem.source})
    settings = _settings(section, problem)
    at_once = _at_once(section, settings, ROOM)
    pieces = groups(drawn(count, k, 20), settings, min(at_once, GROUP), in_step=section.device == "cpu")
    section.put("groups", {"groups": len(pieces), "models_at_once": at_once, "largest": max(map(len, pieces)),
                           "mean_models": mean([len(piece) for piece in pieces])})  # fmt: skip
    retrainer = Timed(problem.labeled, problem.validation, problem.measuring(settings), section.device)
    row, _ = _piece(
        section, retrainer, [s for s in pieces[0] if s.size <= WHOLE_IMAGES][:WHOLE_MODELS] or pieces[0][:2]
    )
    section.add("whole_measurements", row)
    epochs, rates = row["epochs"], {}
    # The middle first, then the ends, so that what fits is typical.
    for share in (0.5, 0.0, 0.99, 0.25, 0.75):
        place, spent = int(share * len(pieces)), time.perf_counter()
        if place in rates or not section.fits(6.0 if rates and not section.smoke else 0.0, f"group {place}"):
            continue
        rates[place] = _rate(section, retrainer, settings, pieces[place], spent)
        known = sorted(rates)
        images = [sum(sample.size for sample in piece) for piece in pieces]
        expected = np.interp(range(len(pieces)), known, [rates[one] for one in known])
        section.put("extrapolated", {"epochs": epochs, "groups_timed": len(rates), "images": epochs * sum(images),
                                     "seconds_500_pairs": epochs * float((images / expected).sum())})  # fmt: skip


def _rate(section: Section, retrainer: Timed, settings: Any, piece: Sequence[UtilitySample], began: float) -> float:
    """Images per second of a group's models in training, all of them."""
    subsets = [np.array(sample.indices) for sample in piece]
    stack = stacked.make(retrainer.images, retrainer.labeled.labels, settings, subsets, section.device)
    steps = 2 if section.smoke else RATE_STEPS
    stacked.run(stack, steps)
    synchronize(section.device)
    build_s = time.perf_counter() - began
    _, seconds = timed(lambda: peak_mb(lambda: stacked.run(stack, steps), section.device), section.device)
    # Of epochs, so that smaller last batches count.
    per_step = sum(len(subset) / batches for subset, batches in zip(subsets, stack.schedule.batches, strict=True))
    sizes = [sample.size for sample in piece]
    section.add("groups_timed", {"models": len(piece), "n_from": min(sizes), "n_to": max(sizes), "build_s": build_s,
                                 "steps": steps, "step_ms": 1e3 * seconds / steps,
                                 "images_per_s": per_step * steps / seconds})  # fmt: skip
    return per_step * steps / seconds


def drawn(count: int, k: int, least: int) -> list[UtilitySample]:
    """The samples of so many pairs of subsets of k images, sizes uniform from `least`, as a run draws them."""
    made = []
    for pair in range(count):
        for indices in draw_pair(seeds.generator(0, "pairs", pair), k, least, "uniform"):
            made.append(UtilitySample(sample_id(indices, ""), pair, -1, "retrained", indices))
    return made


def _settings(section: Section, problem: Problem) -> Any:
    settings = problem.settings(section.device)
    return replace(settings, max_epochs=2) if section.smoke else settings


def _at_once(section: Section, settings: Any, room: float) -> int:
    """Models of a stack at most, as an actor with that share of the device's memory reckons it."""
    if section.device == "cpu":
        return 4
    return stacks.models_that_fit(settings, room * torch.cuda.get_device_properties(0).total_memory)


def _group(samples: Sequence[UtilitySample]) -> int:
    """Models of a stack at most: as a run has it, but two groups for each of the processes at least."""
    return min(GROUP, -(-len(samples) // (2 * SHARES)))


def _piece(section: Section, retrainer: Timed, piece: Sequence[UtilitySample]) -> tuple[dict[str, Any], float]:
    before, began = retrainer.otdd_s, time.perf_counter()
    found = retrainer.measure_group([(sample.indices, sample.fold) for sample in piece], len(piece))
    synchronize(section.device)
    seconds = time.perf_counter() - began
    sizes = [sample.size for sample in piece]
    return {
        "models": len(piece), "n_from": min(sizes), "n_to": max(sizes), "seconds": seconds,
        "otdd_s": retrainer.otdd_s - before, "epochs": mean([m.epochs for m in found]),
        "accuracy": mean([m.accuracy for m in found]), "images_per_s": sum(m.images_seen for m in found) / seconds,
    }, seconds  # fmt: skip


def _by_one(section: Section, problem: Problem, samples: Sequence[UtilitySample]) -> dict[str, Any]:
    settings = _settings(section, problem)
    at_once = min(_group(samples), _at_once(section, settings, ROOM))
    pieces = groups(samples, settings, at_once, in_step=section.device == "cpu")
    pieces = sorted(pieces, key=lambda piece: sum(relative_cost(sample.size) for sample in piece))
    whole = sum(relative_cost(sample.size) for piece in pieces for sample in piece)
    began, done, found = time.perf_counter(), 0.0, []
    retrainer = Timed(problem.labeled, problem.validation, problem.measuring(settings), section.device)
    for piece in pieces:
        cost = sum(relative_cost(sample.size) for sample in piece)
        expected = (time.perf_counter() - began) * cost / done if done else 0.0
        if not section.fits(expected, f"a group of {len(piece)} x {piece[0].size} images"):
            break
        row, _ = _piece(section, retrainer, piece)
        section.add("pieces", row)
        found.append(row)
        done += cost
    seconds = time.perf_counter() - began
    peak = torch.cuda.max_memory_allocated() / MB if section.device == "cuda" else float("nan")
    return {"seconds": seconds, "otdd_s": retrainer.otdd_s, "groups": len(found), "share_of_cost": done / whole,
            "seconds_all": seconds * whole / done,
            "seconds_500_pairs": seconds * whole / done * 1000 / len(samples), "peak_mb": peak}  # fmt: skip


_worker: Timed | Exception  # an error is kept: a pool whose processes cannot begin would make new ones for ever


def _begin(problem: Problem, device: str, smoke: bool) -> None:
    global _worker
    try:
        torch.set_num_threads(1)
        settings = problem.settings(device)
        settings = replace(settings, max_epochs=2) if smoke else settings
        _worker = Timed(problem.labeled, problem.validation, problem.measuring(settings), device)
    except Exception as error:
        _worker = error


def _work(subsets: Sequence[Subset]) -> tuple[list[Measurement], float, float, int]:
    """Measurements of a group, the seconds it took and those of its OTDDs, and which process it was."""
    if isinstance(_worker, Exception):
        raise _worker
    began, before = time.perf_counter(), _worker.otdd_s
    found = _worker.measure_group(subsets, len(subsets))
    return found, time.perf_counter() - began, _worker.otdd_s - before, os.getpid()


def _by_processes(section: Section, problem: Problem, samples: Sequence[UtilitySample], count: int) -> dict[str, Any]:
    on_cpu = section.device == "cpu"
    settings = problem.settings("cpu")  # for the groups only, which no precision changes
    pieces = groups(samples, settings, 4 if on_cpu else _group(samples), in_step=on_cpu)
    ordered = sorted(pieces, key=lambda piece: -sum(relative_cost(sample.size) for sample in piece))
    costs = [sum(relative_cost(sample.size) for sample in piece) for piece in ordered]
    found, done = [], 0.0
    began = time.perf_counter()
    context = multiprocessing.get_context("fork")
    with context.Pool(count, _begin, (problem, section.device, section.smoke)) as pool:
        started = pool.imap(_work, [[(sample.indices, sample.fold) for sample in piece] for piece in ordered])
        until = time.monotonic() + 0.6 * section.left  # the rest is for one process
        for cost in costs:
            try:
                found.append(started.next(timeout=max(until - time.monotonic(), 0.1)))
            except multiprocessing.TimeoutError:
                section.skip(f"{len(costs) - len(found)} of {len(costs)} groups by {count} processes: no time left")
                break
            done += cost
        seconds = time.perf_counter() - began
    measured = [m for measurements, *_ in found for m in measurements]
    if not measured:
        return {"processes": count, "models": 0, "seconds": seconds}
    busy: dict[int, float] = {}
    for _, of_one, _, process in found:
        busy[process] = busy.get(process, 0.0) + of_one
    return {"seconds": seconds, "seconds_all": seconds * sum(costs) / done,
            "seconds_500_pairs": seconds * sum(costs) / done * 1000 / len(samples), "processes": count,
            "groups": len(found), "models": len(measured), "busy_s": sorted(busy.values()),
            "otdd_s": sum(otdd for _, _, otdd, _ in found),
            "epochs": mean([m.epochs for m in measured]), "accuracy": mean([m.accuracy for m in measured]),
            "images_per_s": sum(m.images_seen for m in measured) / seconds}  # fmt: skip
