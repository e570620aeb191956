"""A GPU's stacks of classifiers in pieces to be timed and taken in float64, which `stacks.train_stack` does in one.

They run on a CPU, too: there they are the reference of what a GPU computes.

Letters: G models, n images of a subset, V evaluated images, K classes, P weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from gpu.problems import fixed_epochs
from rambo_ray.classifier import stacks, training
from rambo_ray.classifier.stacks.batched import Layout
from rambo_ray.classifier.stacks.networks import as_matrix
from rambo_ray.classifier.stacks.on_gpu import Stack
from rambo_ray.classifier.training import TrainingSettings

_ENOUGH = 1e15  # bytes, in which a great many models fit
_ENDLESS = 10**6  # epochs, after which no measurement is still going on


def make(
    images: Tensor,
    labels: np.ndarray,
    settings: TrainingSettings,
    subsets: Sequence[np.ndarray],
    device: str,
    *,
    float64: bool = False,
) -> Stack:
    """A stack of G models before its first epoch, which none of them leaves; in float64 it is a reference."""
    exact = torch.float64 if float64 else torch.float32
    endless = fixed_epochs(settings, _ENDLESS)
    return Stack(images, labels, endless, range(len(subsets)), subsets, torch.device(device), exact)


def retarget(stack: Stack, subsets: Sequence[np.ndarray]) -> None:
    """Let the same G models train on other subsets: building them anew would take longer than an epoch."""
    stack.retarget(subsets, range(len(subsets)))


def steps_per_epoch(stack: Stack) -> int:
    """Of the largest subset."""
    return int(stack.schedule.batches.max())


def epochs(stack: Stack, count: int) -> None:
    """Train all models for as many steps as are `count` epochs of the largest subset."""
    run(stack, count * steps_per_epoch(stack))


def run(stack: Stack, steps: int) -> None:
    """Train all models for some steps."""
    with training.cuda_kernels(stack.device, stack.training):
        stack.run_round(steps)


def draw(stack: Stack) -> None:
    """What an epoch draws, and nothing else."""
    for _ in stack.schedule.steps(steps_per_epoch(stack)):
        pass


def logits(stack: Stack, evaluated: Tensor) -> Tensor:
    """Logits [G, V, K] of all models, on the CPU; evaluated as `training.prepare` made them."""
    with training.cuda_kernels(stack.device, stack.training):
        return stack.logits(stack.laid_out(evaluated), stack.flat.detach(), stack.statistics)


def rows_of(layout: Layout, states: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """Weights (or gradients) of single networks by name, in a stack's rows [G, P]."""
    rows = []
    for state in states:
        parts = [_as_stacked(name, state).flatten() for name in layout.products]
        parts += [parts[0].new_zeros(layout.filled)] + [state[name].flatten() for name in layout.scales]
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def _as_stacked(name: str, state: Mapping[str, Tensor]) -> Tensor:
    weight = as_matrix(state[name])
    if name != "fc1.weight":
        return weight
    channels = len(state["conv2.bias"])  # a stack reads pixels by row, column and channel
    return weight.view(channels, -1, weight.shape[1]).transpose(0, 1).flatten(0, 1)


def forecast_mb(settings: TrainingSettings) -> float:
    """Memory per model that the package reckons with, MB."""
    return _ENOUGH / stacks.models_that_fit(settings, _ENOUGH) / 1e6
