"""Pool passes and candidate scores: the same as without Ray, whatever the number of workers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import ray
import torch

from rambo_ray.acquisition import greedy
from rambo_ray.classifier import prediction, training
from rambo_ray.cluster import tasks
from rambo_ray.cluster.session import Session
from rambo_ray.config.schema import UtilityModelConfig
from rambo_ray.errors import RunError
from rambo_ray.pipeline import plan
from rambo_ray.utility_model import features
from rambo_ray.utility_model.network import Architecture, initialise

from .problems import arrays, digits, smoke


@pytest.mark.parametrize("num_workers", [1, 2])
def test_margins_and_encodings_are_those_of_one_process(
    session: Session, num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "POOL_CHUNK", 128)
    problem, _ = digits()
    settings = plan.make(smoke(), problem).training
    labeled, validation = arrays(problem)
    narrowed = replace(session, num_workers=num_workers)
    ref = tasks.train_classifier(narrowed, ray.put(labeled), settings, 5, {"validation": ray.put(validation)})
    trained = tasks.fetch(ref, "f")
    alone = training.train(labeled.inputs, labeled.labels, settings, 5)
    assert trained.epochs == alone.epochs
    assert trained.scores["validation"] == prediction.evaluate(
        alone.model, validation.inputs, validation.labels, settings
    )
    pool = problem.pool.pixels
    counted: list[int] = []
    margins = tasks.pool_margins(narrowed, ray.put(pool), len(pool), ray.put(trained.arrays), settings, counted.append)
    logits, embeddings = prediction.predict(alone.model, pool, settings)
    assert np.array_equal(margins, prediction.margins(logits))
    assert sum(counted) == len(pool)

    some = np.array([7, 3, 200, 11])
    encoder = features.Encoder("classifier", settings, UtilityModelConfig())
    encoded = tasks.encodings(narrowed, ray.put(pool), some, ray.put(encoder), ray.put(trained.arrays))
    assert np.array_equal(encoded, embeddings[some])


def test_scores_are_those_of_the_pure_function_and_leave_u_hat_alone(session: Session) -> None:
    model = initialise(Architecture.from_config(UtilityModelConfig(), (5,)), 1).eval()
    rng = np.random.default_rng(0)
    encoded = rng.normal(size=(90, 64)).astype(np.float32)
    batches = rng.permutation(90)[:88].reshape(44, 2)
    current = rng.normal(size=64)
    found = tasks.scorer(session, model, encoded)(current, 10, batches)
    assert next(model.parameters()).dtype == torch.float32
    alone = greedy.score_batches(model.double(), encoded, current, 10, batches)
    assert np.array_equal(found, alone)
    assert len(np.unique(found)) == len(batches)


def test_a_failed_task_says_what_failed(session: Session) -> None:
    problem, _ = digits()
    settings = plan.make(smoke(), problem).training
    labeled, _ = arrays(problem)
    wrong = replace(labeled, labels=labeled.labels + 100)
    with pytest.raises(RunError, match=r"^the base classifier: ValueError: labels"):
        tasks.fetch(tasks.train_classifier(session, ray.put(wrong), settings, 0, {}), "the base classifier")
