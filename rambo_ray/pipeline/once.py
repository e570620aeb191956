"""A pool in which copies are bought once: of each group the first image can be picked, the others never enter a run.

So margins, strategies, filter and û all see the same pool, and a run on a pool without copies is what it would be
anyway. Positions of a selection are counted in the pool that is left; `Problem.positions` has them in the whole one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rambo_ray.config.schema import Config, is_head
from rambo_ray.data import copies
from rambo_ray.data.copies import Copies
from rambo_ray.data.images import Images
from rambo_ray.data.problem import Inputs, Problem, Revealed
from rambo_ray.errors import UserError

# Distances that near-copies are told by where none is set. Of 6000 CIFAR-10 images, half of them frames of one another,
# 6 bits leave out 488, 2 of which are no copies; 10 bits leave out 979, 36 of which are none.
HASH_DISTANCE = 6
EMBEDDING_DISTANCE = 0.05


def bought_once(config: Config) -> bool:
    """Whether copies are bought once; where it is not set, in pools that are not a benchmark's, whose runs have ids."""
    asked = config.acquisition.copies
    return config.data.name in ("own", "parquet") if asked is None else asked == "once"


def key(config: Config) -> str:
    """What, beside the data, decides what is left of a pool."""
    ask = config.acquisition
    return f"{bought_once(config)} {ask.near_copies} {ask.near_distance}"


def thinned(config: Config, problem: Problem, revealed: Revealed | None) -> tuple[Problem, Revealed | None]:
    """`problem` without the copies in its pool, and what is revealed of it; the same ones where there are none.

    Near-copies by embeddings of images are still in it: see `thinned_by_embeddings`. Raises UserError where the data
    have no such distance.
    """
    ask, pool = config.acquisition, problem.pool
    _check(config, problem)
    if not bought_once(config) or not len(pool):
        return problem, revealed
    found = copies.exact(pool.digests())
    kept = found.kept
    if ask.near_copies == "hash":
        assert isinstance(pool, Images)
        hashes = copies.perceptual_hashes(pool.pixels)
        found = found.then(copies.near_by_hash(hashes[kept], int(ask.near_distance or HASH_DISTANCE)))
    elif ask.near_copies == "embedding" and problem.of_vectors:
        found = found.then(copies.near_by_angle(pool.array[kept], ask.near_distance or EMBEDDING_DISTANCE))
    return _without(problem, revealed, found, found.kept)


def thinned_by_embeddings(
    config: Config, problem: Problem, revealed: Revealed | None, seen: Inputs
) -> tuple[Problem, Revealed | None, Inputs]:
    """The same without near-copies by the embeddings that a head sees of the images, and what f sees of the others.

    Raises UserError where too few images are left for B.
    """
    ask = config.acquisition
    if ask.near_copies != "embedding" or problem.of_vectors:
        return problem, revealed, seen
    earlier = problem.copies or copies.nothing(len(problem.pool))
    found = earlier.then(copies.near_by_angle(seen.pool, ask.near_distance or EMBEDDING_DISTANCE))
    left = np.flatnonzero(np.isin(earlier.kept, found.kept))
    made, answers = _without(problem, revealed, found, left)
    check_budget(config, made)
    return made, answers, replace(seen, pool=seen.pool[left])


def check_budget(config: Config, problem: Problem) -> None:
    """Raise UserError where copies are the reason that the pool holds fewer images than B."""
    budget, left = config.acquisition.budget, len(problem.pool)
    if problem.copies is not None and left < budget and "budget" in config.acquisition.model_fields_set:
        raise UserError(
            f"acquisition.budget={budget}: B must not exceed the {left} different images of the pool, whose other "
            f"{problem.num_pool - left} are copies of them; lower acquisition.budget or set acquisition.copies=keep"
        )


def _without(
    problem: Problem, revealed: Revealed | None, found: Copies, left: np.ndarray
) -> tuple[Problem, Revealed | None]:
    """The problem with the images of its pool at positions `left`, the same one where these are all."""
    if len(left) == len(problem.pool):
        return problem, revealed
    found = replace(found, fingerprint=problem.given_fingerprint)
    if revealed is not None:
        revealed = replace(revealed, pool_labels=revealed.pool_labels[left])
    return replace(problem, pool=problem.pool.take(left), copies=found), revealed


def _check(config: Config, problem: Problem) -> None:
    """Raise UserError for a distance that these data have not."""
    ask, name = config.acquisition, config.classifier.name
    if ask.near_copies != "off" and problem.streamed is not None:
        raise UserError(
            f"acquisition.near_copies={ask.near_copies}: compares all images of a pool, and this one is streamed; set "
            "acquisition.near_copies=off, or data.stream=never where it fits into memory"
        )
    if ask.near_copies == "hash" and problem.of_vectors:
        raise UserError(
            "acquisition.near_copies=hash: compares images, and the data are embeddings; set "
            "acquisition.near_copies=embedding"
        )
    if ask.near_copies == "embedding" and not problem.of_vectors and not is_head(name):
        raise UserError(
            f"acquisition.near_copies=embedding: classifier.name={name} sees images, not embeddings of them; set "
            "acquisition.near_copies=hash or classifier.name=linear"
        )
    if ask.near_copies != "off" and not bought_once(config):
        raise UserError(
            f"acquisition.near_copies={ask.near_copies}: in a pool where copies are kept; set acquisition.copies=once"
        )
