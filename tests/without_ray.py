"""A whole selection without Ray: Fig. 2's stages one after the other in this process, as an oracle for the cluster's.

    python tests/without_ray.py CONFIG [section.key=value ...]

prints the selection as JSON. It is a program of its own because `cluster.reproducible=any_x86` is settled by
the environment in which Python starts.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace

import numpy as np
import torch

from rambo_ray import numerics, seeds
from rambo_ray.acquisition import controls
from rambo_ray.acquisition.baselines.inputs import StrategyInputs
from rambo_ray.acquisition.greedy import Selection
from rambo_ray.classifier import prediction, training
from rambo_ray.classifier.training import Trained
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data import datasets
from rambo_ray.data.problem import NONE, Inputs, LabeledArrays, Problem
from rambo_ray.pipeline import judging, plan
from rambo_ray.pipeline.judging import PoolEvidence
from rambo_ray.pipeline.plan import Measured, Plan, fit_input
from rambo_ray.pipeline.prepared import PreparedProblem, acquire
from rambo_ray.utility_model import evidence, features, fitting, quadratic
from rambo_ray.utility_model.quadratic import QuadraticInput
from rambo_ray.utility_samples.measuring import Retrainer
from rambo_ray.utility_samples.mock_rounds import parts
from rambo_ray.utility_samples.sampling import Measurement, Utility, UtilitySample


def measured(retrainer: Retrainer, sample: UtilitySample, utility: Utility) -> UtilitySample:
    """A sample with what `retrainer` measures of it, a retrained one as it reads back from the store (float32)."""
    found = retrainer.measure(sample.indices, sample.fold, retrain=sample.kind == "retrained")
    if sample.kind == "retrained":
        found = Measurement(
            **{n: float(np.float32(v)) if isinstance(v, float) else v for n, v in asdict(found).items()}
        )
    return sample.measured(found, utility)


def with_evidence(todo: Plan, problem: Problem, seen: Inputs, base: Trained) -> tuple[Plan, np.ndarray, PoolEvidence]:
    """The plan with mock rounds drawn by the evidence of those that play; that, and the pool's."""
    players, seed, folds = todo.mock_pool, todo.config.seed, todo.config.utility_samples.evidence_folds
    assert players is not None
    inputs, none = np.concatenate([seen.validation, seen.rejected]), todo.training.num_classes
    rejected = players.labels == NONE
    settings = replace(todo.training, num_classes=none + 1) if rejected.any() else todo.training
    labels = np.where(rejected, none, players.labels)
    part = parts(labels, folds, seeds.generator(seed, "evidence", 0))
    logits, of_pool = np.empty((len(inputs), settings.num_classes), dtype=np.float32), []
    for number in range(folds):
        known = LabeledArrays(seen.labeled, problem.labeled.labels).joined(
            inputs[part != number], labels[part != number]
        )
        trained = training.train(known.inputs, known.labels, settings, seeds.integer(seed, "evidence", 1, number))
        logits[part == number] = prediction.predict(trained.model, inputs[part == number], settings)[0]
        of_pool.append(prediction.predict(trained.model, seen.pool, settings)[0])
    own, own_of_pool = (prediction.predict(base.model, images, todo.training)[0] for images in (inputs, seen.pool))
    scale, items = evidence.fit(logits, own, players.labels)
    return todo.with_evidence(items), items, PoolEvidence(scale.of(of_pool, own_of_pool), scale)


def select(config: Config) -> Selection:
    """What a run of `config` on CPUs picks."""
    problem, _ = datasets.load(config.data, config.seed)
    todo, seen = plan.make(config, problem), Inputs.as_given(problem, None)
    labeled, validation = LabeledArrays.of(problem.labeled), LabeledArrays.of(problem.validation)
    base = training.train(labeled.inputs, labeled.labels, todo.training, seeds.integer(config.seed, "base_classifier"))
    arrays, of_pool, known = training.to_arrays(base), None, labeled.inputs
    if todo.mock_pool is not None:
        todo, items, of_pool = with_evidence(todo, problem, seen, base)
        known = np.concatenate([known, seen.validation, seen.rejected])
    if todo.kind == "evidence":
        images = items.astype(np.float32)
    else:
        encoder = features.Encoder(todo.kind, todo.training, config.utility_model, todo.imagenet_weights)
        images = encoder.encode(known, arrays)

    retrainer = Retrainer(labeled, validation, todo.measuring, "cpu", todo.mock_pool)
    utility = config.utility_samples.utility
    found = Measured(*(tuple(measured(retrainer, sample, utility) for sample in part) for part in todo.parts))
    task = fit_input(config, found, images, todo.mock_pool)
    model = (quadratic.fit(task) if isinstance(task, QuadraticInput) else fitting.fit(task)).model()
    asked = [prediction.predict(base.model, part, todo.training) for part in (seen.pool, seen.labeled, seen.validation)]
    (logits, embeddings), (own_logits, own_embeddings), (val_logits, val_embeddings) = asked
    margins = prediction.margins(logits)
    prepared = PreparedProblem(
        labeled=labeled,
        sets={},
        pool=seen.pool,
        rejected=seen.rejected,
        answers=None,
        training=todo.training,
        kind=todo.kind,
        imagenet_weights=todo.imagenet_weights,
        task=task,
        images=images,
        held_out=found.held_out,
        mock_pool=todo.mock_pool,
        evidence=of_pool if todo.kind == "evidence" else None,
        classifier=arrays,
        before={},
        margins=margins,
        strategy_inputs=StrategyInputs(
            logits,
            embeddings,
            own_embeddings,
            own_logits,
            labeled.labels,
            val_embeddings,
            val_logits,
            validation.labels,
        ),
    )
    if judging.follows_filter(config, prepared.ranking(model, config.seed)):
        return controls.follow_filter(margins, config.acquisition, config.seed)
    return acquire(config, prepared, model)


def main() -> None:
    """Print what the arguments' configuration picks."""
    torch.set_num_threads(1)
    config = loading.load(sys.argv[1], sys.argv[2:])
    numerics.settle(config.cluster.reproducible, restart=False)
    found = select(config)
    scores = [score.hex() for score in found.utility.astype(float).tolist()]
    print(json.dumps({"pool_index": found.pool_index.tolist(), "utility": scores}))


if __name__ == "__main__":
    main()
