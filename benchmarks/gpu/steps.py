"""Where a training step of a stack goes: its kernels, launches, the share of time on the GPU, and its roofline.

Arithmetic counts the network's own products, forward and backward, as `torch.utils.flop_counter` counts them for
one model; the ceiling is what a large product of that precision reaches on this machine (section `device`).

Letters: G models, b rows of a batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from gpu import stacked
from gpu.problems import PRECISIONS, Problem, load, subsets
from gpu.record import Section
from gpu.timing import timed
from rambo_ray.classifier import training
from rambo_ray.classifier.networks import build

STEPS = 8  # of the profiled epoch: those whose batches are drawn at once
TOP = 12  # kernels that are named


def measure(section: Section) -> None:
    """128 models of MnistNet and 32 of ResNet-18, in both precisions, then one model alone."""
    problems = {"mnist": (128, 200), "cifar10": (32, 200)}  # models, images at hand
    for precision in PRECISIONS[: 1 if section.smoke else 2]:
        for name, (count, k) in problems.items():
            if section.fits(0.0 if section.smoke or precision == PRECISIONS[0] else 4.0, f"{name} in {precision}"):
                _stack(section, load(section, name, k, 20), precision, 2 if section.smoke else count)
    _single(section, load(section, "mnist", 100, 20))


def flops_per_image(problem: Problem) -> float:
    """Operations of one image's training step, a multiply-add counted as two."""
    settings = problem.settings("cpu")
    with training.seeded(0, torch.device("cpu")):
        model = build(settings.classifier, settings.image_shape, settings.num_classes)
    x = torch.randn(2, *settings.image_shape)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(x), torch.zeros(2, dtype=torch.int64)).backward()
    return counter.get_total_flops() / 2


def _stack(section: Section, problem: Problem, precision: str, count: int) -> None:
    settings = problem.settings(section.device, precision)
    images, _ = problem.prepared(settings, section.device)
    batch = settings.batch_size
    chosen = subsets(count, STEPS * batch, len(problem.labeled.labels))
    stack = stacked.make(images, problem.labeled.labels, settings, chosen, section.device)
    stacked.epochs(stack, 1)
    _, epoch_s = timed(lambda: stacked.epochs(stack, 3), section.device)
    _, draw_s = timed(lambda: stacked.draw(stack), section.device)
    step_s = epoch_s / 3 / STEPS
    found = _profiled(section, lambda: stacked.epochs(stack, 1))
    ceiling = _ceiling(section, settings.precision)
    reached = count * batch * flops_per_image(problem) / step_s / 1e12
    section.add("steps", {"classifier": settings.classifier, "precision": settings.precision, "models": count,
                          "step_ms": 1e3 * step_s, "draw_ms_per_step": 1e3 * draw_s / STEPS, "tflops": reached,
                          "ceiling_tflops": ceiling, "share_of_ceiling": reached / ceiling, **found})  # fmt: skip


def _single(section: Section, problem: Problem) -> None:
    """The same of the one-by-one path: one model, whose launches a GPU waits for."""
    settings = problem.settings(section.device)
    images, _ = problem.prepared(settings, section.device)
    where = torch.device(section.device)
    with training.seeded(0, where), training.cuda_kernels(where, settings):
        model = build(settings.classifier, settings.image_shape, 10).to(section.device)
        labels = torch.from_numpy(problem.labeled.labels).to(section.device)
        steps = training.AutogradSteps(model, images.to(training.image_type(settings)), labels, settings)
        rows = torch.arange(settings.batch_size, device=section.device)

        def some() -> None:
            for _ in range(STEPS):
                steps.step(rows)

        some()
        _, seconds = timed(some, section.device)
        found = _profiled(section, some)
    section.add("single", {"classifier": settings.classifier, "precision": settings.precision,
                           "step_ms": 1e3 * seconds / STEPS, **found})  # fmt: skip


def _ceiling(section: Section, precision: str) -> float:
    peaks = section.record.read()["sections"].get("device", {}).get("peak_tflops", {})
    return float(peaks.get(precision, "nan"))


def _profiled(section: Section, call: Any) -> dict[str, Any]:
    """Of a call of STEPS steps: kernels by their time, launches per step, share of the clock that kernels run."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if section.device == "cuda" else [])
    with profile(activities=activities) as profiler:
        _, seconds = timed(call, section.device)
    events = list(profiler.key_averages())
    on_gpu = section.device == "cuda"

    def own_s(event: Any) -> float:
        return 1e-6 * (event.self_device_time_total if on_gpu else event.self_cpu_time_total)

    # Marks such as "Optimizer.step" span kernels on the GPU, and would count them twice.
    kernels = [e for e in events if not on_gpu or str(e.device_type).endswith("CUDA")]
    kernels = [e for e in kernels if not getattr(e, "is_user_annotation", False) and not e.key.startswith("Optimizer.")]
    kernels.sort(key=own_s, reverse=True)
    whole = sum(map(own_s, kernels)) or float("nan")
    launches = sum(e.count for e in events if "LaunchKernel" in e.key)
    copies = sum(e.count for e in events if "cudaMemcpy" in e.key)
    return {
        "launches_per_step": launches / STEPS, "copies_per_step": copies / STEPS,
        "kernel_ms_per_step": 1e3 * whole / STEPS, "share_on_gpu": whole / seconds if on_gpu else float("nan"),
        "top": [{"kernel": e.key[:90], "share": own_s(e) / whole, "per_step": e.count / STEPS} for e in kernels[:TOP]],
    }  # fmt: skip
