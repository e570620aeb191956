"""The grounds of a sweep or a benchmark: all that its trials share, measured once by Ray before the first of them.

Utility samples go to one content-addressed store, whatever number of grounds they belong to: what
an earlier sweep, an interrupted one or a plain run has trained there is not trained again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import ray

from rambo_ray import features, prediction, rambo, search_space, seeds, settings, training
from rambo_ray.baselines.evidence import Evidence
from rambo_ray.cluster import collect, tasks
from rambo_ray.cluster.session import Session
from rambo_ray.config import Config
from rambo_ray.pool import Problem, Revealed
from rambo_ray.rambo import Measured, Plan
from rambo_ray.retraining import LabeledArrays
from rambo_ray.sample_store import SampleStore
from rambo_ray.stages import Stages
from rambo_ray.trial import Ground


@dataclass(frozen=True)
class Request:
    """A ground to be made. answers: None where no acquisition will be played through on it.

    utility_samples: whether u_hat will be fitted on it; outputs: whether other strategies will pick on it.
    """

    config: Config
    problem: Problem
    answers: Revealed | None
    utility_samples: bool = True
    outputs: bool = False


def make(session: Session, requests: Sequence[Request], store: SampleStore, stages: Stages) -> list[Ground]:
    """One ground per request: utility samples, base classifiers, u_hat's inputs, margins.

    Raises UserError, before any training, for a request that cannot be run.
    """
    plans = [_plan(session, request) for request in requests]
    if any(request.utility_samples for request in requests):
        stages.begin("utility samples")
    data = [collect.Labeled.put(request.problem) for request in requests]
    measured = rambo.measure(session, list(zip(plans, data, strict=True)), store, stages)
    stages.begin("base classifiers")
    started = []
    for request, todo, parts in zip(requests, plans, data, strict=True):
        sets = {name: ray.put(part) for name, part in _sets(request).items()}
        seed = seeds.integer(request.config.seed, "base_classifier")
        started.append(tasks.train_classifier(session, parts.labeled, todo.protocol.recipe, seed, sets))
    shown = stages.progress(len(started))
    trained: list[tasks.TrainedClassifier] = []
    for ref in started:
        trained.append(tasks.fetch(ref, "a base classifier"))
        shown.advance()
    shown.close()
    stages.begin("outputs of f" if any(request.outputs for request in requests) else "margins")
    passed = stages.progress(sum(len(r.problem.pool) for r in requests if r.answers is not None))
    made = [
        _ground(session, request, todo, found, base, passed.advance)
        for request, todo, found, base in zip(requests, plans, measured, trained, strict=True)
    ]
    passed.close()
    stages.end()
    return made


def ground_key(config: Config, fold: int = -1) -> str:
    """Which ground a configuration is played on: all that the utility samples and f depend on. -1: no fold."""
    kept = {k: v for k, v in settings.flatten(config).items() if k == "seed" or search_space.needs_retraining(k)}
    return json.dumps([fold, kept], sort_keys=True)


def _plan(session: Session, request: Request) -> Plan:
    todo = rambo.plan(request.config, request.problem, session.device)
    if request.utility_samples:
        return todo
    return replace(todo, offline=[], prefixes=[], held_out=[], interpolation=[])


def _sets(request: Request) -> Mapping[str, LabeledArrays]:
    sets = {"validation": LabeledArrays.of(request.problem.validation)}
    if request.answers is not None and request.answers.test is not None:
        sets["test"] = LabeledArrays.of(request.answers.test)
    return sets


def _ground(
    session: Session,
    request: Request,
    todo: Plan,
    measured: Measured,
    base: tasks.TrainedClassifier,
    done: Callable[[int], None],
) -> Ground:
    config, problem = request.config, request.problem
    recipe = todo.protocol.recipe
    classifier = ray.put(base.arrays)
    images = np.zeros((0, 1), dtype=np.float32)
    if request.utility_samples:
        encoder = ray.put(features.Encoder(todo.kind, recipe, config.utility_model, todo.imagenet_weights))
        labeled = ray.put(problem.labeled.pixels)
        images = tasks.encodings(session, labeled, np.arange(len(problem.labeled)), encoder, classifier)
    margins, evidence = np.zeros(0, dtype=np.float32), None
    if request.outputs:
        evidence = _evidence(session, problem, classifier, recipe, done)
        margins = prediction.margins(evidence.logits)
    elif request.answers is not None:
        pool = ray.put(problem.pool.pixels)
        margins = tasks.pool_margins(session, pool, len(problem.pool), classifier, recipe, done)
    task = rambo.fit_input(config, measured, images)
    retrained = [*measured.offline, *measured.prefixes, *measured.held_out]
    return Ground(
        labeled=LabeledArrays.of(problem.labeled),
        sets=_sets(request),
        pool=problem.pool.pixels[:0] if request.answers is None else problem.pool.pixels,
        answers=None if request.answers is None else request.answers.pool_labels,
        recipe=recipe,
        kind=todo.kind,
        imagenet_weights=todo.imagenet_weights,
        offline=task.offline,
        prefixes=task.prefixes,
        prefix_utilities=task.prefix_utilities,
        interpolation=task.interpolation,
        held_out=tuple(s.indices for s in measured.held_out),
        held_out_utilities=tuple(s.utility for s in measured.held_out),
        images=images,
        classifier=base.arrays,
        before={name: score.accuracy for name, score in base.scores.items()},
        margins=margins,
        evidence=evidence,
        sample_seconds=sum(s.measurement.seconds for s in retrained if s.measurement is not None),
    )


def _evidence(
    session: Session, problem: Problem, classifier: ray.ObjectRef, recipe: training.Recipe, done: Callable[[int], None]
) -> Evidence:
    """What f says of the pool, S_0 and S_val; `done` is told of finished images of the pool."""
    (labeled_logits, labeled_embeddings), (validation_logits, validation_embeddings) = (
        tasks.outputs(session, ray.put(part.pixels), len(part), classifier, recipe)
        for part in (problem.labeled, problem.validation)
    )
    pool = ray.put(problem.pool.pixels)
    logits, embeddings = tasks.outputs(session, pool, len(problem.pool), classifier, recipe, done)
    return Evidence(
        logits=logits,
        embeddings=embeddings,
        labeled_logits=labeled_logits,
        labeled_embeddings=labeled_embeddings,
        labels=problem.labeled.labels,
        validation_logits=validation_logits,
        validation_embeddings=validation_embeddings,
        validation_labels=problem.validation.labels,
    )
