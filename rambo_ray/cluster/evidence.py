"""Evidence on Ray: the second opinions trained as tasks, and what they say of images (`utility_model.evidence`).

Each second opinion is f trained on S_0 and S_val without one of `evidence_folds` parts, so that every image
of S_val has one that has not seen it. Of an image of the pool all of them are asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import ray

from rambo_ray.classifier.training import TrainingSettings
from rambo_ray.cluster import tasks
from rambo_ray.cluster.session import Session
from rambo_ray.data.problem import Inputs, LabeledArrays
from rambo_ray.pipeline.judging import PoolEvidence
from rambo_ray.pipeline.plan import Plan
from rambo_ray.pipeline.preparing import OpinionSets
from rambo_ray.utility_model import evidence
from rambo_ray.utility_model.evidence import EvidenceScale


@dataclass(frozen=True)
class Opinions:
    """Trained second opinions, in the object store, and the evidence [V + R, F] of S_val and what was rejected."""

    settings: TrainingSettings
    classifiers: tuple[ray.ObjectRef, ...]
    scale: EvidenceScale
    items: np.ndarray


@dataclass(frozen=True)
class Training:
    """Second opinions in training: a reference each, and which part of the images each has not seen."""

    settings: TrainingSettings
    part: np.ndarray
    started: tuple[ray.ObjectRef, ...]


def start(session: Session, plan: Plan, seen: Inputs, labeled: LabeledArrays) -> Training:
    """Start training the second opinions of a plan with mock rounds; `labeled` is S_0 and `seen` holds the rest."""
    sets = OpinionSets.of(plan, labeled, np.concatenate([seen.validation, seen.rejected]))
    started = [
        tasks.train_classifier(session, ray.put(sets.shown(number)), sets.settings, seed, {})
        for number, seed in enumerate(sets.seeds)
    ]
    return Training(sets.settings, sets.part, tuple(started))


def finish(
    session: Session, plan: Plan, seen: Inputs, base: ray.ObjectRef, training: Training, done: Callable[[], None]
) -> Opinions:
    """The second opinions once they are trained, and the evidence of the images that play; `base` is f.

    `done` is told of each that is trained. Raises RunError for what failed.
    """
    pool = plan.mock_pool
    assert pool is not None
    classifiers = []
    for ref in training.started:
        classifiers.append(ray.put(tasks.fetch(ref, "a second opinion").arrays))
        done()
    inputs = np.concatenate([seen.validation, seen.rejected])
    own, _ = tasks.outputs(session, ray.put(inputs), len(inputs), base, plan.training)
    logits = np.empty((len(inputs), training.settings.num_classes), dtype=np.float32)
    for number, classifier in enumerate(classifiers):
        held = np.flatnonzero(training.part == number)
        asked = ray.put(inputs[held])
        logits[held] = tasks.outputs(session, asked, len(held), classifier, training.settings)[0]
    scale, items = evidence.fit(logits, own, pool.labels)
    return Opinions(training.settings, tuple(classifiers), scale, items)


def of_images(
    session: Session,
    plan: Plan,
    opinions: Opinions,
    base: ray.ObjectRef,
    images: np.ndarray,
    done: Callable[[int], None] = lambda count: None,
) -> PoolEvidence:
    """Evidence [N, F] of images that nobody has seen; `done` is told of images that one classifier is finished with."""
    asked = ray.put(images)
    own, _ = tasks.outputs(session, asked, len(images), base, plan.training, done)
    logits = [
        tasks.outputs(session, asked, len(images), classifier, opinions.settings, done)[0]
        for classifier in opinions.classifiers
    ]
    return PoolEvidence(opinions.scale.of(logits, own), opinions.scale)
