"""A whole selection without Ray: Fig. 2's stages one after the other in this process, as an oracle for the cluster's.

    python tests/without_ray.py CONFIG [section.key=value ...]

prints the selection as JSON. It is a program of its own because `cluster.reproducible=any_x86` is settled by
the environment in which Python starts.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch

from rambo_ray import numerics, seeds
from rambo_ray.acquisition.greedy import Selection
from rambo_ray.classifier import prediction, training
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data import datasets
from rambo_ray.data.problem import LabeledArrays
from rambo_ray.pipeline import plan
from rambo_ray.pipeline.plan import Measured, fit_input
from rambo_ray.pipeline.prepared import PreparedProblem, acquire
from rambo_ray.utility_model import features
from rambo_ray.utility_model.fitting import fit
from rambo_ray.utility_samples.measuring import Retrainer
from rambo_ray.utility_samples.sampling import Measurement, Utility, UtilitySample


def measured(retrainer: Retrainer, sample: UtilitySample, utility: Utility) -> UtilitySample:
    """A sample with what `retrainer` measures of it, a retrained one as it reads back from the store (float32)."""
    found = retrainer.measure(sample.indices, retrain=sample.kind == "retrained")
    if sample.kind == "retrained":
        found = Measurement(**{n: float(np.float32(v)) if isinstance(v, float) else v for n, v in vars(found).items()})
    return sample.measured(found, utility)


def select(config: Config) -> Selection:
    """What a run of `config` on CPUs picks."""
    problem, _ = datasets.load(config.data, config.seed)
    todo = plan.make(config, problem)
    labeled, validation = LabeledArrays.of(problem.labeled), LabeledArrays.of(problem.validation)
    retrainer = Retrainer(labeled, validation, todo.measuring, "cpu")

    utility = config.utility_samples.utility
    parts = Measured(*(tuple(measured(retrainer, sample, utility) for sample in part) for part in todo.parts))
    seed = seeds.integer(config.seed, "base_classifier")
    base = training.train(labeled.inputs, labeled.labels, todo.training, seed)
    arrays = training.to_arrays(base)
    encoder = features.Encoder(todo.kind, todo.training, config.utility_model, todo.imagenet_weights)
    task = fit_input(config, parts, encoder.encode(labeled.inputs, arrays))
    logits, _ = prediction.predict(base.model, problem.pool.pixels, todo.training)
    prepared = PreparedProblem(
        labeled=labeled,
        sets={},
        pool=problem.pool.pixels,
        rejected=problem.pool.pixels[:0],
        answers=None,
        training=todo.training,
        kind=todo.kind,
        imagenet_weights=todo.imagenet_weights,
        task=task,
        held_out=(),
        held_out_utilities=(),
        classifier=arrays,
        before={},
        margins=prediction.margins(logits),
    )
    return acquire(config, prepared, fit(task).model())


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
