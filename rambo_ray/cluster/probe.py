"""The probe of a forecast, on one worker of the cluster that would do the work."""

from __future__ import annotations

from typing import Any

import ray
import torch

from rambo_ray.cluster.session import Session
from rambo_ray.cluster.tasks import fetch
from rambo_ray.data.problem import LabeledArrays
from rambo_ray.pipeline import forecast
from rambo_ray.pipeline.plan import Plan

STACK = 32  # models that a GPU is probed with


def probe(session: Session, todo: Plan, labeled: LabeledArrays, validation: LabeledArrays) -> forecast.Probe:
    """`forecast.probe` on one worker of the cluster, as `todo` would use it."""
    task = ray.remote(_probe).options(**session.options)
    described = (todo.config, todo.measuring, todo.kind, todo.imagenet_weights, todo.offline or todo.rounds)
    at_once = session.models_at_once or STACK
    return fetch(
        task.remote(session.cpus, *described, labeled, validation, session.device, at_once, todo.mock_pool), "the probe"
    )


def _probe(threads: int, *arguments: Any) -> forecast.Probe:
    torch.set_num_threads(threads)
    return forecast.probe(*arguments)
