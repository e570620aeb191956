"""The probe of a forecast, on one worker of the cluster that would do the work."""

from __future__ import annotations

import io
import tempfile
import time
from typing import Any

import numpy as np
import ray

from rambo_ray.cluster import embed
from rambo_ray.cluster.session import Session
from rambo_ray.cluster.shipped import shipped
from rambo_ray.cluster.tasks import fetch
from rambo_ray.config.schema import Config
from rambo_ray.data.images import LabeledImages
from rambo_ray.data.problem import LabeledArrays, Problem
from rambo_ray.embeddings import given, own, reduce, weights
from rambo_ray.machines.begin import Begin
from rambo_ray.pipeline import forecast
from rambo_ray.pipeline.plan import Plan
from rambo_ray.progress import Stages

STACK = 32  # models that a GPU is probed with


def probe(session: Session, todo: Plan, labeled: LabeledArrays, validation: LabeledArrays) -> forecast.Probe:
    """`forecast.probe` on one worker of the cluster, as `todo` would use it."""
    task = ray.remote(_probe).options(**session.options)
    described = (todo.config, todo.measuring, todo.kind, shipped(todo.imagenet_weights), todo.offline or todo.rounds)
    at_once = session.models_at_once or STACK
    return fetch(
        task.remote(session.begin, *described, labeled, validation, session.device, at_once, todo.mock_pool),
        "the probe",
    )


def embedded(session: Session, config: Config, problem: Problem) -> tuple[LabeledArrays, LabeledArrays, float]:
    """Embeddings of S_0 and S_val, as good as a run's for timing, and seconds of one worker to embed an image.

    Nothing that is computed is kept: the cache is a folder of a moment.
    """
    if problem.of_vectors:
        seen = given.inputs(config.classifier, problem, None)
        labels = problem.labeled.labels, problem.validation.labels
        return LabeledArrays(seen.labeled, labels[0]), LabeledArrays(seen.validation, labels[1]), 0.0
    parts = [problem.labeled, problem.validation]
    images = [part for part in parts if isinstance(part, LabeledImages)]
    with tempfile.TemporaryDirectory() as folder:
        classifier = config.classifier.model_copy(update={"embedding_cache": folder})
        config = config.model_copy(update={"classifier": classifier})
        quiet = Stages(stream=io.StringIO()).progress
        embed.features(session, config, [images[0].take(np.arange(1))], quiet)  # workers start
        began = time.perf_counter()
        found = embed.features(session, config, images, quiet)
        spent = time.perf_counter() - began
    components = weights.kept(config.classifier, problem)
    reduction = reduce.fit(found, components, standardised=own.is_own(config.classifier.embedding))
    labeled, validation = (
        LabeledArrays(reduction(features), part.labels) for features, part in zip(found, parts, strict=True)
    )
    count = sum(map(len, parts))
    at_once = min(session.num_workers, -(-count // embed.CHUNK))
    return labeled, validation, spent * at_once / count


def _probe(begin: Begin, *arguments: Any) -> forecast.Probe:
    begin()
    return forecast.probe(*arguments)
