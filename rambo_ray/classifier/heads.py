"""Many linear heads trained at once: what `rambo_ray.classifier.stacks` is to networks, heads have here.

Letters: N embeddings at hand, V evaluated, D numbers of one, K classes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rambo_ray.classifier import prediction, training
from rambo_ray.classifier.logistic import fit_heads
from rambo_ray.classifier.networks import LinearHead
from rambo_ray.classifier.training import Device, TrainingSettings

__all__ = ["Result", "fit_heads", "train_group"]


@dataclass(frozen=True)
class Result:
    """What became of one head: its logits float32 [V, K], Newton steps (epochs), and rows they were taken on.

    seconds is the head's share of the group's time.
    """

    logits: np.ndarray
    epochs: int
    images_seen: int
    seconds: float


def train_group(
    images: Tensor,
    labels: np.ndarray,
    evaluated: Tensor,
    settings: TrainingSettings,
    seeds: Sequence[int],
    subsets: Sequence[np.ndarray],
    device: Device = "cpu",
) -> list[Result]:
    """Fit one linear head per subset; their results in the order of the subsets.

    images and evaluated are what `training.prepare` made of N and V embeddings, float32 [., D], labels int64
    [N], each subset int64 positions among the N. The seeds are not looked at: a head is a function of its subset.
    On a CPU head g has the bits of training.train(images, labels, settings, positions=subsets[g]) and of
    prediction.predict, whatever the group; on a GPU it differs from them by rounding. Raises as `fit_heads`.
    """
    began = time.perf_counter()
    device = torch.device(device)
    images, evaluated = images.to(device), evaluated.to(device)
    with training.cuda_kernels(device, settings):
        weights, steps = fit_heads(
            images, torch.tensor(labels, device=device), subsets, settings.num_classes, settings.l2
        )
        if device.type == "cuda":
            logits = list(logits_of_all(weights, evaluated).cpu().numpy())
        else:
            logits = [prediction.predict(LinearHead.of(one), evaluated, settings, device)[0] for one in weights]
    share = (time.perf_counter() - began) / max(len(subsets), 1)
    return [
        Result(own, taken, taken * len(subset), share)
        for own, taken, subset in zip(logits, steps, subsets, strict=True)
    ]


def logits_of_all(weights: Tensor, x: Tensor) -> Tensor:
    """Logits float32 [G, V, K] of embeddings [V, D] by G heads of weights [G, K, D + 1], in one batch."""
    rounded = weights.float()
    return torch.baddbmm(rounded[:, None, :, -1], x.expand(len(weights), -1, -1), rounded[..., :-1].mT)
