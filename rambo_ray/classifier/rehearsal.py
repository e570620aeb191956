"""f rehearsed on the driver before a cluster is started: built, trained for a step, and asked about an image.

What is wrong with a network or an estimator is then one line at once, and not the end of a run that has begun. The
images are random, as only their shape matters; nothing of it is kept. Our own networks are known to train, and are
built without weights.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch

from rambo_ray.classifier import estimators
from rambo_ray.classifier.networks import NETWORKS, build
from rambo_ray.classifier.settings import TrainingSettings
from rambo_ray.classifier.training import from_arrays, prepare, to_arrays, train
from rambo_ray.config.schema import is_estimator
from rambo_ray.errors import UserError
from rambo_ray.own.names import RAISED, in_one_line

KEY = "classifier.name"

# Embeddings that an estimator is fitted to: as many classes as there are, of each no more than it has in S_0.
_EMBEDDINGS, _LEAST_OF_A_CLASS = 100, 5


def rehearse(settings: TrainingSettings, labels: np.ndarray) -> None:
    """Raise UserError, in one line, where f cannot be built, trained on the labels [k] of S_0, or asked.

    What went well is not done again in this process.
    """
    if is_estimator(settings.classifier):
        counts = np.bincount(labels, minlength=settings.num_classes)
        most = max(_LEAST_OF_A_CLASS, _EMBEDDINGS // settings.num_classes)
        _estimator(settings, tuple(np.minimum(counts, most).tolist()))
    elif settings.classifier in NETWORKS:
        with torch.device("meta"):  # no weights: only whether images of this size fit
            build(settings.classifier, settings.image_shape, settings.num_classes)
    else:
        # One step is alike whatever these are.
        alike = {"learning_rate": 1e-3, "batch_size": 2, "stop_accuracy": 1.0, "max_epochs": 1, "l2": 1.0}
        _network(replace(settings, **alike, kernels="off", precision="float32"))  # type: ignore[arg-type]


@cache
def _network(settings: TrainingSettings) -> None:
    channels, height, width = settings.image_shape
    images = np.random.default_rng(0).integers(0, 256, (2, height, width, channels), dtype=np.uint8)
    done = "a training step on 2 images"
    try:
        trained = train(images, np.arange(2) % settings.num_classes, settings, seed=0)
        done = "copying what it has learned"
        trained = from_arrays(to_arrays(trained), settings)
        done = "looking at one image"
        with torch.inference_mode():
            answers = trained.model.outputs(prepare(images[:1], settings))
        finite = all(bool(torch.isfinite(answer).all()) for answer in answers)
    except UserError:
        raise
    except RAISED as error:  # what a network of somebody's raises is not said anywhere
        raise UserError(
            f"{KEY}={settings.classifier}: {done} raised {in_one_line(error)}; it must train on float32 "
            f"[n, {channels}, {height}, {width}] as any torch.nn.Module"
        ) from error
    if not finite:
        raise UserError(
            f"{KEY}={settings.classifier}: after a training step on 2 random images its answer is not finite; "
            "correct its scale"
        )


@cache
def _estimator(settings: TrainingSettings, counts: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    width = settings.image_shape[0]
    x = torch.tensor(np.random.default_rng(0).standard_normal((len(labels), width)), dtype=torch.float32)
    fitted = estimators.fit(x, labels, settings.classifier, settings.pickled, settings.num_classes, seed=0)
    fitted.outputs(x[:1])
