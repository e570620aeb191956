"""Acquisition simulated inside S_0: what a setting is worth, judged without a single label of the pool.

A fold hides the labels of a part of S_0: the rest is its S_0, the hidden part
its pool, and once it has acquired from it, the hidden labels answer. Everything that counts images is
scaled down with it, so that k : k_1 : b (pretraining) and B : b : M (acquisition) stay what they are.

Two scales: `labeled` multiplies k, `acquired` multiplies B. Where neither k nor B is swept, the fold's
k is the visible share of S_0 and its budget a share of what is hidden. Where one is, both scales are
one number, so that the fold divides labels between k and B as the point does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from rambo_ray import seeds
from rambo_ray.config.schema import Config, PretrainingConfig, nested_sizes
from rambo_ray.data.problem import Problem, Revealed
from rambo_ray.errors import UserError

# With one scale for k and B, a fold's pool holds at least this many times its budget: with less
# there is little to choose from.
OVERSUPPLY = 2.0


@dataclass(frozen=True)
class FoldScale:
    """What a fold multiplies k by, and what it multiplies B, b and M by."""

    labeled: float
    acquired: float


def scale(base: Config, points: Iterable[Config], k: int, *, visible: float, budget: float) -> FoldScale:
    """The scale of all folds of a sweep over `points` around `base`, with k labelled images at hand.

    visible: share of S_0 whose labels a fold sees; budget: share of the rest that it acquires.
    """
    splits = {(p.data.num_labeled, p.acquisition.budget) for p in points}
    if splits <= {(base.data.num_labeled, base.acquisition.budget)}:
        return FoldScale(visible, budget * (1 - visible) * k / base.acquisition.budget)
    both = k / max(labeled + OVERSUPPLY * acquired for labeled, acquired in splits)
    return FoldScale(both, both)


def fold(problem: Problem, index: int, count: int, visible: int, seed: int) -> tuple[Problem, Revealed]:
    """Fold `index` of `count`: `visible` images of S_0 as S_0, the others as the pool and their labels apart.

    One permutation of S_0, turned by k / count from fold to fold, so that every label is hidden about
    equally often. S_val, what was rejected and the normalisation stay what they are. Raises UserError
    where the visible part has a single class.
    """
    k = len(problem.labeled)
    order = seeds.generator(seed, "fold").permutation(k)
    turned = np.roll(order, -(index * k // count))
    seen, hidden = problem.labeled.take(np.sort(turned[:visible])), problem.labeled.take(np.sort(turned[visible:]))
    if len(np.unique(seen.labels)) < 2:
        raise UserError(
            f"simulation.visible: the {visible} visible images of fold {index} are all of one class; raise it"
        )
    made = replace(problem, labeled=seen, pool=hidden.unlabeled())
    return made, Revealed(hidden.labels, None)


def fold_config(config: Config, k: int, by: FoldScale) -> Config:
    """`config` scaled down for the folds of S_0's k images; no held-out subsets, since û is judged on S_0's.

    Raises UserError where nothing sensible is left: fewer than 8 visible images, or nothing acquired.
    """
    visible = round(k_of(config, k) * by.labeled)
    acquired = round(config.acquisition.budget * by.acquired)
    if visible < 8 or acquired < 1 or k - visible < acquired:
        raise UserError(
            f"simulation: a fold of k={k} labelled images would see {visible} and acquire {acquired} of the other "
            f"{k - visible}; it needs 8 to see and 1 to acquire: raise k, or change the space's simulation section"
        )
    b = max(1, round(config.acquisition.batch_size * by.acquired))
    b = min(b, acquired)
    margin_pool = min(max(b, round(config.acquisition.margin_pool * by.acquired)), k - visible)
    samples = config.utility_samples
    min_size = samples.min_size and max(1, round(samples.min_size * visible / k_of(config, k)))
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"num_labeled": visible}),
            "utility_samples": samples.model_copy(update={"min_size": min_size, "num_held_out": 0}),
            "pretraining": _pretraining(config, k_of(config, k), visible),
            "acquisition": config.acquisition.model_copy(
                update={"budget": acquired, "batch_size": b, "margin_pool": margin_pool}
            ),
        }
    )


def _pretraining(config: Config, k: int, visible: int) -> PretrainingConfig:
    """That of a fold which sees `visible` of k images: as many iterations, where subsets of S_0 are read at all."""
    if config.utility_samples.source == "mock_rounds":
        return config.pretraining
    sizes = nested_sizes(config.pretraining, k)
    k_1 = min(max(2, round(sizes[0] * visible / sizes[-1])), visible - 1)
    steps = min(len(sizes) - 1, visible - k_1)
    return config.pretraining.model_copy(update={"k_1": k_1, "batch_size": -(-(visible - k_1) // steps), "tau_1": None})


def k_of(config: Config, k: int) -> int:
    """k of a point: data.num_labeled says it in benchmark mode, your own images do otherwise."""
    return k if config.data.name == "own" else config.data.num_labeled
