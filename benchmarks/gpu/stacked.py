"""Stacks of classifiers in pieces that can be timed and taken in float64, which `stacks.train_stack` does in one.

Letters: G models, n images of a subset, V evaluated images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rambo_ray.classifier import stacks, training
from rambo_ray.classifier.stacks import training as stack_training
from rambo_ray.classifier.training import TrainingSettings

_ENOUGH = 1e15  # bytes, in which a great many models fit


def make(
    images: Tensor,
    labels: np.ndarray,
    settings: TrainingSettings,
    subsets: Sequence[np.ndarray],
    device: str,
    *,
    float64: bool = False,
) -> stack_training._Stack:
    """A stack of G models before its first epoch, their seeds 0 to G - 1; in float64 it is a reference."""
    stack = stack_training._Stack(images, labels, settings, range(len(subsets)), subsets, torch.device(device))
    if float64:
        stack.images = stack.images.double()
        stack.state = {key: value.detach().double() for key, value in stack.state.items()}
        stack.adam = stack._adam()
    return stack


def retarget(stack: stack_training._Stack, subsets: Sequence[np.ndarray]) -> None:
    """Let the same G models train on other subsets: building them anew would take longer than an epoch."""
    stack.subsets = [torch.tensor(subset, dtype=torch.int64) for subset in subsets]
    stack.bounds = [
        training.batch_bounds(len(subset), stack.training.batch_size, stack.network.smallest) for subset in subsets
    ]


def epochs(stack: stack_training._Stack, count: int) -> list[float]:
    """Train all models for `count` epochs; their last running accuracies [G]."""
    accuracy: list[float] = []
    with training.cuda_kernels(stack.device, stack.training):
        for _ in range(count):
            accuracy = stack.run_epoch()
    return accuracy


def logits(stack: stack_training._Stack, evaluated: Tensor) -> Tensor:
    """Logits float32 [G, V, K] of all models, on the device; evaluated as `training.prepare` made them."""
    images = stack_training._channels_last(evaluated.to(stack.device)).to(next(iter(stack.state.values())).dtype)
    with training.cuda_kernels(stack.device, stack.training):
        return stack.logits(images, list(range(len(stack.members))))


def weights(stack: stack_training._Stack) -> Tensor:
    """All trained weights of a stack, one vector float64 on the CPU."""
    return torch.cat([stack.state[key].detach().double().cpu().flatten() for key in stack.trained])


def forecast_mb(settings: TrainingSettings) -> float:
    """Memory per model that the package reckons with, MB."""
    return _ENOUGH / stacks.models_that_fit(settings, _ENOUGH) / 1e6
