"""How many models a second: stacks of many sizes, and the same models one by one.

An epoch is timed with every model in it, after one that does not count; whole trainings, by the paper's rule, say
what is left of that when models leave the stack. Memory is the allocator's peak beyond the images, per model, in
training and in the evaluation of all models at once, beside what the package reckons with when it chooses how many
models a stack may have.

Letters: G models at once, n images of a subset.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from gpu import stacked
from gpu.problems import PRECISIONS, Problem, fixed_epochs, load, mean, subsets
from gpu.record import Section
from gpu.timing import peak_mb, synchronize, timed
from rambo_ray.classifier import prediction, stacks, training

GROUP = 128  # models of a stack that the package trains together on a GPU at most
SHARES = 4  # its actors that share a GPU by default
ROOM = 0.8  # of the GPU's memory, for their stacks together


def mnist(section: Section) -> None:
    """MnistNet: G from 16 to 256, n = 50, 100, 200, in both precisions; whole trainings of 128 models."""
    k, counts, sizes = (200, (4,), (20,)) if section.smoke else (400, (128, 32, 256, 64, 16), (100, 200, 50))
    problem = load(section, "mnist", k, 100 if section.smoke else 1000)
    section.put("forecast", _forecast(section, problem))
    for precision in PRECISIONS:
        _alone(section, problem, precision, sizes, epochs=3)
    _whole(section, problem, PRECISIONS[0], sizes[:1], 4 if section.smoke else GROUP, 1 if section.smoke else 8)
    for precision in PRECISIONS:
        _sweep(section, problem, precision, counts, sizes, epochs=1 if section.smoke else 3)
    if not section.smoke:
        _whole(section, problem, PRECISIONS[0], sizes[1:], GROUP, 8)
        _whole(section, problem, PRECISIONS[1], sizes[:1], GROUP, 8)


def resnet(section: Section) -> None:
    """ResNet-18: G from 8 to 128, n = 200, 1000, in both precisions."""
    k, counts, sizes = (60, (2,), (40,)) if section.smoke else (2500, (32, 128, 8, 64), (200, 1000))
    problem = load(section, "cifar10", k, 40 if section.smoke else 1000)
    section.put("forecast", _forecast(section, problem))
    _alone(section, problem, PRECISIONS[0], sizes[:1], epochs=1)
    _sweep(section, problem, PRECISIONS[0], counts, sizes[:1], epochs=1)
    if not section.smoke:
        _sweep(section, problem, PRECISIONS[0], counts[:1], sizes[1:], epochs=1)
        _alone(section, problem, PRECISIONS[1], sizes[:1], epochs=1)
        _sweep(section, problem, PRECISIONS[1], counts[:1], sizes[:1], epochs=1)


def _forecast(section: Section, problem: Problem) -> dict[str, float]:
    """What the package reckons with per model, and so how many a stack of one of four actors, or of one, would have."""
    settings = problem.settings(section.device)
    found = {"mb_per_model": stacked.forecast_mb(settings)}
    if section.device == "cuda":
        room = ROOM * torch.cuda.get_device_properties(0).total_memory
        found |= {"models_for_one_of_four_actors": stacks.models_that_fit(settings, room / SHARES),
                  "models_for_one_actor": stacks.models_that_fit(settings, room)}  # fmt: skip
    return found


def _alone(section: Section, problem: Problem, precision: str, sizes: tuple[int, ...], epochs: int) -> None:
    """Model-epochs per second one by one, without evaluation: the base of the ratios."""
    settings = fixed_epochs(problem.settings(section.device, precision), epochs)
    images, _ = problem.prepared(settings, section.device)
    labels, k = problem.labeled.labels, len(problem.labeled.labels)
    training.train(images, labels, replace(settings, max_epochs=1), 0, section.device, subsets(1, 20, k)[0])
    for n in sizes:
        chosen = subsets(1, n, k)[0]
        _, seconds = timed(
            lambda c=chosen: training.train(images, labels, settings, 0, section.device, c), section.device
        )
        section.add("one_by_one", {"precision": settings.precision, "n": n, "epochs": epochs, "seconds": seconds,
                                   "model_epochs_per_s": epochs / seconds,
                                   "images_per_s": n * epochs / seconds})  # fmt: skip


def _sweep(
    section: Section, problem: Problem, precision: str, counts: tuple[int, ...], sizes: tuple[int, ...], epochs: int
) -> None:
    settings = problem.settings(section.device, precision)
    images, validation = problem.prepared(settings, section.device)
    labels, k = problem.labeled.labels, len(problem.labeled.labels)
    base = {row["n"]: row["model_epochs_per_s"] for row in section.values.get("one_by_one", [])
            if row["precision"] == settings.precision}  # fmt: skip
    per_image = 0.0  # seconds of the slowest stack so far
    for count in counts:
        forecast = per_image * count * (sizes[0] * (epochs + 1) + 40)
        if not section.fits(1.2 * forecast, f"stacks of {count} in {settings.precision}"):
            continue
        try:
            began = time.perf_counter()
            stack = stacked.make(images, labels, settings, subsets(count, min(40, k), k), section.device)
            synchronize(section.device)
            build_s = time.perf_counter() - began
            stacked.epochs(stack, 1)  # the first is slower than the others
            for n in sizes:
                if not section.fits(1.2 * per_image * count * n * epochs, f"{count} models of {n} images"):
                    continue
                stacked.retarget(stack, subsets(count, n, k))
                draw_s = timed(lambda s=stack: stacked.draw(s), section.device)[1]
                (_, train_mb), seconds = timed(
                    lambda s=stack: peak_mb(lambda: stacked.epochs(s, epochs), section.device), section.device
                )
                rate = count * epochs / seconds
                per_image = max(per_image, seconds / (count * n * epochs))
                row = {"precision": settings.precision, "models": count, "n": n, "epoch_s": seconds / epochs,
                       "model_epochs_per_s": rate, "images_per_s": rate * n, "draw_s": draw_s, "build_s": build_s,
                       "train_mb_per_model": train_mb / count,
                       "ratio": rate / base[n] if n in base else float("nan")}  # fmt: skip
                section.add("stacks", row)
            (_, evaluation_mb), seconds = timed(
                lambda s=stack: peak_mb(lambda: stacked.logits(s, validation), section.device), section.device
            )
            section.add("evaluation", {"precision": settings.precision, "models": count, "images": len(validation),
                                       "seconds": seconds, "mb_per_model": evaluation_mb / count})  # fmt: skip
        except RuntimeError as error:  # most often a full GPU; smaller stacks may still be measured
            section.skip(f"stacks of {count} in {settings.precision}: {str(error)[:300]}")
        finally:
            stack = None  # type: ignore[assignment]
            if section.device == "cuda":
                torch.cuda.empty_cache()


def _whole(section: Section, problem: Problem, precision: str, sizes: tuple[int, ...], count: int, alone: int) -> None:
    """Whole trainings and evaluations by the paper's rule, in a stack of `count` and `alone` of them one by one."""
    settings = problem.settings(section.device, precision)
    if section.smoke:
        settings = replace(settings, max_epochs=2)
    images, validation = problem.prepared(settings, section.device)
    labels, answers = problem.labeled.labels, problem.validation.labels
    for n in sizes:
        chosen = subsets(count, n, len(labels))
        if not section.fits(0.0 if section.smoke else 4.0 * n / 100, f"whole trainings, {n} images, {precision}"):
            continue

        def together(own: list = chosen) -> list[stacks.Result]:
            return stacks.train_stack(images, labels, validation, settings, range(count), own, section.device)

        def singles(own: list = chosen) -> list[float]:
            models = [training.train(images, labels, settings, g, section.device, own[g]).model for g in range(alone)]
            return [prediction.evaluate(model, validation, answers, settings).accuracy for model in models]

        results, seconds = timed(together, section.device)
        accuracy, single_s = timed(singles, section.device)
        scores = [prediction.scores(result.logits, answers).accuracy for result in results]
        section.add(
            "whole_trainings",
            {
                "precision": settings.precision, "n": n, "models": count, "seconds": seconds,
                "models_per_s": count / seconds, "one_by_one_per_s": alone / single_s,
                "ratio": count / seconds * single_s / alone, "epochs": mean([r.epochs for r in results]),
                "most_epochs": max(r.epochs for r in results), "accuracy": mean(scores),
                "accuracy_one_by_one": mean(accuracy),
            },
        )  # fmt: skip
