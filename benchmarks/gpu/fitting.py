"""The bilevel fit of u_hat on the GPU, beside the same on the CPU: seconds, losses, and how rounding grows in them.

With dropout the two draw other masks, so losses are compared without it, epoch by epoch, relative to the CPU's,
and the yardstick is the CPU itself with another number of threads: it rounds otherwise, too.

Letters: k images of S_0.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from gpu.problems import load
from gpu.record import Section
from gpu.timing import peak_mb, timed
from rambo_ray.classifier import training
from rambo_ray.config.schema import UtilityModelConfig
from rambo_ray.utility_model.fitting import FitInput, FitResult, fit
from rambo_ray.utility_model.objective import Pairs

K, TAU_1, INTERPOLATED = 200, 3, 50
NETWORK = {"architecture": "network", "fit_on": "pairs", "features": "pixels"}  # of these what this version has


def measure(section: Section) -> None:
    """The paper's size (500 pairs, 3 x 50 interpolated, 80 outer epochs), then shorter fits without dropout."""
    threads = min(os.cpu_count() or 1, 8)
    count, epochs = (6, 1) if section.smoke else (500, 20)
    task = _task(section, count, epochs)
    fit(_task(section, 6, 1), device=section.device)  # kernels are made on first use
    _row(section, "whole_fits", task, section.device, threads)
    if section.device == "cuda" and section.fits(20.0, "the whole fit on the CPU"):
        _row(section, "whole_fits", task, "cpu", threads)
    short = _task(section, count, 1 if section.smoke else 5, dropout=0.0)
    fits = {}
    for device, number in dict.fromkeys((("cpu", threads), ("cpu", 1), (section.device, threads))):
        if section.fits(0.0 if section.smoke else 5.0, f"a fit without dropout on {device}"):
            fits[f"{device} {number}"] = _row(section, "without_dropout", short, device, number)
    names = list(fits)
    for name in names[1:]:
        section.add("distances", {"of": name, "to": names[0], **_distances(fits[name], fits[names[0]])})


def _row(section: Section, key: str, task: FitInput, device: str, threads: int) -> FitResult:
    torch.set_num_threads(threads)
    began = time.perf_counter()

    def report(metrics: Mapping[str, float], _: Any) -> None:
        if metrics["epoch"] == 0:  # a fit that is cut off has said how far it came
            now = {"device": device, "iteration": metrics["iteration"], "seconds": time.perf_counter() - began}
            section.put("progress", now)

    (found, peak), seconds = timed(lambda: peak_mb(lambda: fit(task, report=report, device=device), device), device)
    last = found.history[-1]
    section.add(key, {"device": device, "threads": threads, "pairs": len(task.offline), "seconds": seconds,
                      "outer_epochs": len(found.history), "peak_mb": peak, "inner_loss": last["inner_loss"],
                      "outer_loss": last["outer_loss"],
                      "val_ranking_accuracy": last["val_ranking_accuracy"]})  # fmt: skip
    return found


def _distances(found: FitResult, other: FitResult) -> dict[str, Any]:
    """Relative differences of the outer loss after the first, middle and last epoch, and of how pairs are ranked."""
    losses = [np.array([epoch["outer_loss"] for epoch in one.history]) for one in (found, other)]
    relative = np.abs(losses[0] - losses[1]) / np.abs(losses[1])
    accuracy = [one.history[-1]["val_ranking_accuracy"] for one in (found, other)]
    return {"first_epoch": relative[0], "middle_epoch": relative[len(relative) // 2], "last_epoch": relative[-1],
            "largest": relative.max(), "val_ranking_accuracy_difference": accuracy[0] - accuracy[1]}  # fmt: skip


def _task(section: Section, count: int, epochs: int, dropout: float | None = None) -> FitInput:
    """A fit to `count` offline pairs with utilities that grow with the share of some classes, so can be learnt."""
    k = 40 if section.smoke else K
    problem = load(section, "fashion_mnist", k, 10)
    settings = problem.settings("cpu")
    images = training.prepare(problem.labeled.inputs, settings).contiguous().numpy()
    fields = {name: value for name, value in NETWORK.items() if name in UtilityModelConfig.model_fields}
    config = UtilityModelConfig(**fields, outer_epochs=epochs)  # type: ignore[arg-type]
    if dropout is not None:
        config = config.model_copy(update={"dropout": dropout})
    rng = np.random.default_rng(0)
    worth = rng.random(10)[problem.labeled.labels]
    sizes = [k // 4 * (i + 1) for i in range(TAU_1 + 1)]
    each = 4 if section.smoke else INTERPOLATED
    unknown = tuple(_pairs(each, size, worth, rng) for size in sizes[:TAU_1])
    return FitInput(
        images=images,
        offline=_pairs(count, k, worth, rng),
        nested_sets=tuple(tuple(range(size)) for size in sizes),
        nested_utilities=(0.5, 0.6, 0.65, 0.7),
        interpolation=tuple(replace(one, utility=np.full(one.utility.shape, np.nan)) for one in unknown),
        config=config,
        seed=0,
    )


def _pairs(count: int, k: int, worth: np.ndarray, rng: np.random.Generator) -> Pairs:
    sizes = rng.integers(min(20, k // 2), k, count)
    first, second = (tuple(tuple(np.sort(rng.choice(k, d, replace=False)).tolist()) for d in sizes) for _ in range(2))
    utility = np.array([[worth[list(one)].mean() for one in pair] for pair in zip(first, second, strict=True)])
    return Pairs(first, second, utility + rng.normal(0, 0.01, utility.shape), 1 + rng.random((count, 2)))
