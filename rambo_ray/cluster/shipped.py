"""Frozen weights in the object store, so that no node needs a file of the driver's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import ray
import torch
from torch import Tensor

from rambo_ray.embeddings.weights import ResNetFile, ResNetWeights
from rambo_ray.pipeline.plan import Plan


@dataclass(frozen=True)
class ShippedWeights:
    """A `ResNetWeights` that any process of the cluster can have; digest and file are those of the driver's file."""

    digest: str
    file: str
    held: ray.ObjectRef

    def state(self) -> dict[str, Tensor]:
        """Copies, since what the object store holds is everybody's."""
        return {key: torch.tensor(value) for key, value in ray.get(self.held).items()}


def shipped(weights: ResNetWeights | None) -> ResNetWeights | None:
    """The same in the object store, once for all plans of a job. Raises UserError where a file holds another thing."""
    if isinstance(weights, ResNetFile):
        return _put(weights, ray.get_runtime_context().get_job_id())
    return weights


def with_weights(plan: Plan) -> Plan:
    """The plan with its frozen weights in the object store, where it has any."""
    return replace(plan, imagenet_weights=shipped(plan.imagenet_weights)) if plan.imagenet_weights else plan


@lru_cache(maxsize=1)
def _put(weights: ResNetFile, job: str) -> ShippedWeights:
    held = ray.put({key: value.numpy() for key, value in weights.state().items()})
    return ShippedWeights(weights.digest, weights.file, held)
