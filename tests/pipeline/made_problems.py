"""Problems of random images, of whatever sizes a test wants."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data.images import Images, LabeledImages
from rambo_ray.data.problem import Problem

OWN = ["data.name=own", "data.labeled=a", "data.validation=b", "data.pool=c"]


def own(*overrides: str) -> Config:
    """The configuration of somebody's own data."""
    return loading.load(None, [*OWN, *overrides])


def problem(k: int, validation: Sequence[int], pool: int, classes: int = 3, side: int = 6) -> Problem:
    """k labelled images of all classes in turn, S_val with the labels `validation`, and a pool; all images differ."""
    pixels = np.random.default_rng(k).integers(0, 256, (k + len(validation) + pool, side, side, 1), dtype=np.uint8)
    parts = np.split(pixels, [k, k + len(validation)])
    ids = [tuple(f"{name}/{i}" for i in range(len(part))) for name, part in zip("lvp", parts, strict=True)]
    return Problem(
        labeled=LabeledImages(np.ascontiguousarray(parts[0]), ids[0], np.arange(k, dtype=np.int64) % classes),
        validation=LabeledImages(np.ascontiguousarray(parts[1]), ids[1], np.array(validation, dtype=np.int64)),
        pool=Images(np.ascontiguousarray(parts[2]), ids[2]),
        class_names=tuple("abcdefghij"[:classes]),
        mean=(0.5,),
        std=(0.3,),
    )
