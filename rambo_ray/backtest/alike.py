"""Which images of S_val are copies of one another: in a round they must all take the same part.

Exact copies are found wherever a run would buy copies once. Near-copies are told as `acquisition.near_copies` says;
where it says nothing, colour images of 32 pixels and more are told by the perceptual hash all the same. It calls
hardly any two of them alike that are not (`pipeline.once`), and here that would only join them. Of smaller and of grey
ones it does: of 1000 MNIST digits it takes 188 for copies.
"""

from __future__ import annotations

import numpy as np

from rambo_ray.config.schema import Config
from rambo_ray.data import copies
from rambo_ray.data.copies import Copies
from rambo_ray.data.images import Images
from rambo_ray.data.items import Items
from rambo_ray.data.problem import Problem
from rambo_ray.pipeline import once

SMALLEST = 32  # pixels of a side
COLOURS = 3


def of(
    config: Config, problem: Problem, validation: np.ndarray | None = None, rejected: np.ndarray | None = None
) -> tuple[Copies, Copies]:
    """The first of each image's copies in S_val, and among the R images that were rejected before.

    validation [V, D], rejected [R, D]: the embeddings that a head sees of images, where they are known.
    """
    without = copies.nothing(0)
    return (
        _found(config, problem.validation, validation),
        without if problem.rejected is None else _found(config, problem.rejected, rejected),
    )


def joined(validation: Copies, rejected: Copies) -> np.ndarray:
    """Both as one, int64 [V + R]: positions in S_val and then what was rejected."""
    return np.concatenate([validation.of, len(validation.of) + rejected.of])


def _found(config: Config, items: Items, seen: np.ndarray | None) -> Copies:
    ask = config.acquisition
    if not once.bought_once(config) or not len(items):
        return copies.nothing(len(items))
    found = copies.exact(items.digests())
    if isinstance(items, Images):
        coloured = items.pixels.shape[3] >= COLOURS and min(items.pixels.shape[1:3]) >= SMALLEST
        if ask.near_copies == "hash" or (ask.near_copies == "off" and coloured):
            asked = ask.near_distance if ask.near_copies == "hash" else None
            hashes = copies.perceptual_hashes(items.pixels[found.kept])
            return found.then(copies.groups_by_hash(hashes, int(asked or once.HASH_DISTANCE)))
    else:
        seen = items.array
    if ask.near_copies == "embedding" and seen is not None:
        return found.then(copies.groups_by_angle(seen[found.kept], ask.near_distance or once.EMBEDDING_DISTANCE))
    return found


def sentence(validation: Copies) -> str | None:
    """What is said of S_val's copies; None where there are none."""
    if not validation.exact + validation.near:
        return None
    return f"{validation.counted()} in S_val: copies take the same part in a round, and its mock pool has one of them"
