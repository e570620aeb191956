"""Everything else that Ray tasks do: train one f, pass f and u_hat over the pool, score candidates.

Work is cut into fixed chunks, so that no bit of a result depends on the number of workers. Each
task sets its thread count: a process is reused by tasks of other sizes.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError

from rambo_ray.acquisition import greedy
from rambo_ray.classifier import prediction, training
from rambo_ray.classifier.training import Arrays, TrainingSettings
from rambo_ray.cluster.session import Session, cause_of
from rambo_ray.cluster.workers import run_tasks
from rambo_ray.data.problem import LabeledArrays
from rambo_ray.errors import RunError
from rambo_ray.machines.begin import Begin
from rambo_ray.utility_model import features
from rambo_ray.utility_model.network import UtilityModel

POOL_CHUNK = 85 * prediction.CHUNK  # images per task, in the chunks of one process


@dataclass(frozen=True)
class TrainedClassifier:
    """A trained f as plain arrays, with its scores on the sets it was asked about."""

    arrays: Arrays
    scores: dict[str, prediction.Scores]
    epochs: int
    train_accuracy: float
    seconds: float


def train_classifier(
    session: Session,
    train_set: ray.ObjectRef,
    settings: TrainingSettings,
    seed: int,
    evaluate_on: Mapping[str, ray.ObjectRef],
) -> ray.ObjectRef:
    """Start training f on all images of `train_set`; the reference holds a TrainedClassifier."""
    task = ray.remote(_train).options(**session.options, max_retries=session.config.max_tries)
    return task.remote(
        train_set, settings, seed, list(evaluate_on), session.device, session.begin, *evaluate_on.values()
    )


def _train(
    train_set: LabeledArrays,
    settings: TrainingSettings,
    seed: int,
    names: Sequence[str],
    device: str,
    begin: Begin,
    *sets: LabeledArrays,
) -> TrainedClassifier:
    begin()
    trained = training.train(train_set.inputs, train_set.labels, settings, seed, device=device)
    scores = {
        name: prediction.evaluate(trained.model, part.inputs, part.labels, settings)
        for name, part in zip(names, sets, strict=True)
    }
    return TrainedClassifier(
        training.to_arrays(trained), scores, trained.epochs, trained.train_accuracy, trained.seconds
    )


def fetch(ref: ray.ObjectRef, what: str) -> Any:
    """The value of `ref`; raises RunError naming `what` where its task failed."""
    try:
        return ray.get(ref)
    except RayError as error:
        raise RunError(f"{what}: {cause_of(error)}") from error


def pool_margins(
    session: Session,
    pool: ray.ObjectRef,
    count: int,
    classifier: ray.ObjectRef,
    settings: TrainingSettings,
    done: Callable[[int], None],
) -> np.ndarray:
    """Margins of f over the whole pool, [N] float32, one forward pass; `done` is told of finished images."""
    parts = _passed(
        session, _margins, pool, count, classifier, settings, "margins of the pool", lambda found: done(len(found))
    )
    return np.concatenate(parts)


def _margins(
    pool: np.ndarray, part: slice, arrays: Arrays, settings: TrainingSettings, device: str, begin: Begin
) -> np.ndarray:
    return prediction.margins(_outputs(pool, part, arrays, settings, device, begin)[0])


def outputs(
    session: Session,
    pixels: ray.ObjectRef,
    count: int,
    classifier: ray.ObjectRef,
    settings: TrainingSettings,
    done: Callable[[int], None] = lambda count: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Logits [N, K] and embeddings [N, E], float32, of f on `count` images; `done` is told of finished images."""
    parts = _passed(
        session, _outputs, pixels, count, classifier, settings, "outputs of f", lambda found: done(len(found[0]))
    )
    logits, embeddings = (np.concatenate(column) for column in zip(*parts, strict=True))
    return logits, embeddings


def _outputs(
    pixels: np.ndarray, part: slice, arrays: Arrays, settings: TrainingSettings, device: str, begin: Begin
) -> tuple[np.ndarray, np.ndarray]:
    begin()
    model = training.from_arrays(arrays, settings, device).model
    return prediction.predict(model, pixels[part], settings, device=device)


def _passed(
    session: Session,
    function: Callable[..., Any],
    pixels: ray.ObjectRef,
    count: int,
    classifier: ray.ObjectRef,
    settings: TrainingSettings,
    what: str,
    done: Callable[[Any], None],
) -> list[Any]:
    """`function` of each chunk of images and f, in order; `done` is told of each result."""
    task = ray.remote(function).options(**session.options, max_retries=session.config.max_tries)
    chunks = greedy.in_chunks(count, POOL_CHUNK)
    return _in_order(
        session,
        [partial(task.remote, pixels, part, classifier, settings, session.device, session.begin) for part in chunks],
        what,
        done,
    )


def encodings(
    session: Session,
    pixels: ray.ObjectRef,
    positions: np.ndarray,
    encoder: ray.ObjectRef,
    classifier: ray.ObjectRef,
    done: Callable[[int], None] = lambda count: None,
) -> np.ndarray:
    """Features (or u_hat's encodings) of the images at `positions`, float32, each image once."""
    task = ray.remote(_encode).options(**session.options, max_retries=session.config.max_tries)
    parts = _in_order(
        session,
        [
            partial(task.remote, pixels, positions[part], encoder, classifier, session.device, session.begin)
            for part in greedy.in_chunks(len(positions), features.ENCODE_CHUNK)
        ],
        "features of the images",
        lambda encoded: done(len(encoded)),
    )
    return np.concatenate(parts)


def _encode(
    pixels: np.ndarray, positions: np.ndarray, encoder: features.Encoder, arrays: Arrays, device: str, begin: Begin
) -> np.ndarray:
    begin()
    return encoder.encode(pixels[positions], arrays, device)


def scorer(session: Session, model: UtilityModel, encoded: np.ndarray) -> greedy.Scorer:
    """A `Scorer` that spreads the candidate batches of a step over Ray tasks.

    u_hat and the encodings are put in the object store once; a step sends S_j's sum and positions.
    """
    task = ray.remote(_score).options(num_cpus=session.cpus, max_retries=session.config.max_tries)
    model_ref, encoded_ref = ray.put(copy.deepcopy(model).double()), ray.put(encoded)

    def score(current: np.ndarray, size: int, batches: np.ndarray) -> np.ndarray:
        parts = _in_order(
            session,
            [
                partial(task.remote, model_ref, encoded_ref, current, size, batches[part], session.begin)
                for part in greedy.in_chunks(len(batches), greedy.SCORE_CHUNK)
            ],
            "scores of candidate batches",
            asked={"num_cpus": session.cpus},
        )
        return np.concatenate(parts)

    return score


def _score(
    model: UtilityModel, encoded: np.ndarray, current: np.ndarray, size: int, batches: np.ndarray, begin: Begin
) -> np.ndarray:
    begin()
    return greedy.score_batches(model, encoded, current, size, batches)


def _in_order(
    session: Session,
    submit: Sequence[Callable[[], ray.ObjectRef]],
    what: str,
    done: Callable[[Any], None] = lambda result: None,
    asked: Mapping[str, float] | None = None,
) -> list[Any]:
    """Run tasks with a bounded number in flight; their results in the order of `submit`.

    asked: what each asks Ray for, default: what an actor does.
    """
    results: list[Any] = [None] * len(submit)
    waiting = deque(range(len(submit)))
    asked = asked or session.options
    for position, ref in run_tasks(waiting, lambda position: submit[position](), session.num_workers, asked):
        results[position] = fetch(ref, what)
        done(results[position])
    return results
