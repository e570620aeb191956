"""The OTDD: what it costs on this machine's CPU, part by part, and whether a GPU would help.

The package computes OTDDs with numpy, on the CPU. Here the fixed schedule of its reference solver is written once
more with torch, in float64 and for many subsets at once: the same updates, so the same potentials but for rounding,
and its seconds say what a GPU would be worth for the part that it can take over.

Letters: P subsets of n images each against m validation images.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpu.problems import load, subsets
from gpu.record import Section
from gpu.timing import timed
from rambo_ray.otdd import Transport
from rambo_ray.otdd.sinkhorn import annealed, temperatures

ENTREG = 0.1


def measure(section: Section) -> None:
    """Seconds per subset on one thread and on all, then the cross problems of many subsets with numpy and torch."""
    k, m, sizes = (60, 50, (20, 30)) if section.smoke else (400, 1000, (50, 200))
    problem = load(section, "fashion_mnist", k, m)
    sides = [
        (part.inputs.reshape(len(part.inputs), -1).astype(np.float64) / 255, part.labels)
        for part in (problem.labeled, problem.validation)
    ]
    transport = _seconds(section, sides, sizes, k, 1)
    _cross_problems(section, transport, sizes[-1], k)
    threads = os.cpu_count() or 1
    if section.fits(0.0 if section.smoke else 3.0, f"{threads} threads"):
        _seconds(section, sides, sizes, k, threads)


def _seconds(section: Section, sides: list[Any], sizes: Sequence[int], k: int, threads: int) -> Transport:
    """Seconds per subset with each solver on so many threads; the reference solver's problem, set up."""
    for solver in ("converged", "reference"):
        transport = Transport(*sides[0], *sides[1], solver=solver, min_class_count=1)
        with _threads(threads):
            _, set_up = timed(lambda t=transport: t.distance(np.arange(k)), "cpu")  # fills every lazy part
            for n in sizes:
                chosen = subsets(3 if section.smoke else 10, n, k)
                _, seconds = timed(lambda t=transport, c=chosen: t.distances(c), "cpu")
                section.add("cpu", {"solver": solver, "threads": threads, "n": n, "set_up_s": set_up,
                                    "seconds_per_subset": seconds / len(chosen)})  # fmt: skip
    return transport


def _cross_problems(section: Section, transport: Transport, n: int, k: int) -> None:
    count = 2 if section.smoke else 32
    chosen = subsets(count, n, k)
    costs, cost_s = timed(lambda: np.stack([_cost(transport, one) for one in chosen]), "cpu")
    # One start scale for all: what it is does not matter here, but it must be the same on both sides.
    scale = np.full(count, float(np.sqrt(costs.max())))
    a, b = (np.full((count, size), 1 / size) for size in costs.shape[1:])
    with _threads(1):
        (f, g), numpy_s = timed(lambda: annealed(costs, a, b, scale, ENTREG), "cpu")
    moved, move_s = timed(lambda: torch.from_numpy(costs).to(section.device), section.device)
    annealed_on(moved[:1], scale[:1])
    (f_torch, g_torch), torch_s = timed(lambda: annealed_on(moved, scale), section.device)
    sides = ((f_torch.cpu().numpy(), f), (g_torch.cpu().numpy(), g))
    far = max(float(np.abs(mine - own).max() / np.abs(own).max()) for mine, own in sides)
    updates = len(temperatures(scale, ENTREG)[0]) + 2
    # Each update's error is at most that of a sum of m terms; averaged updates do not enlarge it.
    bound = updates * costs.shape[2] * 2.0**-53
    section.put("cross_problems", {
        "subsets": count, "n": n, "m": costs.shape[2], "updates": updates, "costs_s_cpu": cost_s / count,
        "numpy_s_per_subset": numpy_s / count, "torch_s_per_subset": torch_s / count,
        "move_s_per_subset": move_s / count, "ratio": numpy_s / torch_s,
        "distance": far, "distance_bound": bound, "within": far <= bound,
    })  # fmt: skip


def annealed_on(cost: Tensor, scale: np.ndarray) -> tuple[Tensor, Tensor]:
    """`otdd.sinkhorn.annealed` on the device of cost float64 [P, n, m], uniform weights: potentials [P, n], [P, m]."""
    problems, n, m = cost.shape
    values, active = temperatures(scale, ENTREG)
    f, g = cost.new_zeros(problems, n), cost.new_zeros(problems, m)

    def updates(e: np.ndarray) -> tuple[Tensor, Tensor]:
        t = torch.from_numpy(e).to(cost.device)[:, None]
        kernel = (f[:, :, None] + g[:, None, :] - cost) / t[:, :, None]
        return f - t * (kernel.logsumexp(2) - np.log(m)), g - t * (kernel.logsumexp(1) - np.log(n))

    f, g = updates(values[0])
    for e, on in zip(values, active, strict=True):
        f_new, g_new = updates(e)
        now = torch.from_numpy(on).to(cost.device)[:, None]
        f, g = torch.where(now, (f + f_new) / 2, f), torch.where(now, (g + g_new) / 2, g)
    return updates(values[-1])


def _cost(transport: Transport, subset: np.ndarray) -> np.ndarray:
    order = transport._kept(subset)
    cloud, cross = transport._cloud(order), transport._gram.cross(order.rows)
    return transport._cost(cloud, transport._validation, cross, transport._between(cloud, transport._validation, cross))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """numpy's products on so many threads, where threadpoolctl is there to say so."""
    limits: Any = nullcontext()
    try:
        from threadpoolctl import threadpool_limits

        limits = threadpool_limits(count)
    except ImportError:
        pass
    with limits:
        yield
