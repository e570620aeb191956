"""The grounds of a sweep: everything its trials share, measured once by Ray before the first of them.

Utility samples go to one content-addressed store, whatever number of grounds they belong to: what
an earlier sweep, an interrupted one or a plain run has trained there is not trained again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import ray

from rambo_ray import features, rambo, seeds
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
    """A ground to be made. answers: None where no acquisition will be played through on it."""

    config: Config
    problem: Problem
    answers: Revealed | None


def make(session: Session, requests: Sequence[Request], store: SampleStore, stages: Stages) -> list[Ground]:
    """One ground per request: utility samples, base classifiers, u_hat's inputs, margins.

    Raises UserError, before any training, for a request that cannot be run.
    """
    plans = [rambo.plan(request.config, request.problem, session.device) for request in requests]
    stages.begin("utility samples")
    data = [_put(request.problem) for request in requests]
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
    stages.begin("margins")
    passed = stages.progress(sum(len(r.problem.pool) for r in requests if r.answers is not None))
    made = [
        _ground(session, request, todo, found, base, passed.advance)
        for request, todo, found, base in zip(requests, plans, measured, trained, strict=True)
    ]
    passed.close()
    stages.end()
    return made


def _put(problem: Problem) -> collect.Labeled:
    labeled = LabeledArrays(problem.labeled.pixels, problem.labeled.labels)
    return collect.Labeled.put(labeled, LabeledArrays(problem.validation.pixels, problem.validation.labels))


def _sets(request: Request) -> Mapping[str, LabeledArrays]:
    validation = request.problem.validation
    sets = {"validation": LabeledArrays(validation.pixels, validation.labels)}
    if request.answers is not None and request.answers.test is not None:
        sets["test"] = LabeledArrays(request.answers.test.pixels, request.answers.test.labels)
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
    encoder = ray.put(features.Encoder(todo.kind, recipe, config.utility_model, todo.imagenet_weights))
    labeled = ray.put(problem.labeled.pixels)
    images = tasks.encodings(session, labeled, np.arange(len(problem.labeled)), encoder, classifier)
    pool, answers, margins = problem.pool.pixels[:0], None, np.zeros(0, dtype=np.float32)
    if request.answers is not None:
        pool, answers = problem.pool.pixels, request.answers.pool_labels
        margins = tasks.pool_margins(session, ray.put(pool), len(pool), classifier, recipe, done)
    task = rambo.fit_input(config, measured, images)
    return Ground(
        labeled=LabeledArrays(problem.labeled.pixels, problem.labeled.labels),
        sets=_sets(request),
        pool=pool,
        answers=answers,
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
    )
