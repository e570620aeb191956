"""The probe of a forecast, on one worker of the cluster that would do the work."""

from __future__ import annotations

from collections.abc import Sequence

import ray
import torch

from rambo_ray import features, forecast
from rambo_ray.cluster.session import Session
from rambo_ray.cluster.tasks import fetch
from rambo_ray.config import Config
from rambo_ray.rambo import Plan
from rambo_ray.retraining import LabeledArrays, Protocol
from rambo_ray.utility_samples import UtilitySample


def probe(
    session: Session, config: Config, todo: Plan, labeled: LabeledArrays, validation: LabeledArrays
) -> forecast.Probe:
    """`forecast.probe` on one worker of the cluster, as `todo` would use it."""
    task = ray.remote(_probe).options(**session.options)
    ref = task.remote(
        config, todo.protocol, todo.kind, todo.imagenet_weights, todo.offline, labeled, validation, session.device,
        session.cpus,
    )  # fmt: skip
    return fetch(ref, "the probe")


def _probe(
    config: Config,
    protocol: Protocol,
    kind: features.Features,
    weights: str | None,
    samples: Sequence[UtilitySample],
    labeled: LabeledArrays,
    validation: LabeledArrays,
    device: str,
    threads: int,
) -> forecast.Probe:
    torch.set_num_threads(threads)
    return forecast.probe(config, protocol, kind, weights, samples, labeled, validation, device)
