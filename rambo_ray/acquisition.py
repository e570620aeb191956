"""Greedy-Margin: which B images of the pool are bought (Fig. 2, lines 15 to 26).

f is fixed during acquisition, since no labels arrive, so margins are computed once; u_hat's
encodings of the images that can ever be candidates are computed once, too. Joining a batch to S_j
adds its sum of encodings to that of S_j: no step costs more because S_j is larger.

Letters: N images in the pool, C candidates, D and q as in `utility_model`, G batches of b images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rambo_ray import seeds
from rambo_ray.utility_model import UtilityModel

# Makes candidate batches of b out of R, given a generator: [C] positions -> [G, b] positions.
CandidateGenerator = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
# Scores S_j joined with each candidate batch: (encodings' sum of S_j [D], |S_j|, rows [G, b]) -> [G].
Scorer = Callable[[np.ndarray, int, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Selection:
    """The B images to buy, in the order they were picked; every array is [B].

    pool_index: position in the pool; step: j; margin: of f, in [0, 1]; utility: u_hat's score of
    S_j joined with the batch the image came in. step_scores: all scores of each step, for the report.
    """

    pool_index: np.ndarray
    step: np.ndarray
    margin: np.ndarray
    utility: np.ndarray
    step_scores: tuple[np.ndarray, ...]


def step_sizes(budget: int, batch_size: int) -> list[int]:
    """Images bought in each of the tau_2 steps: b each, and what is left of B in a last one."""
    full, rest = divmod(budget, batch_size)
    return [batch_size] * full + ([rest] if rest else [])


def smallest_margins(margins: np.ndarray, count: int) -> np.ndarray:
    """Positions of the `count` smallest of margins [N], smallest first, equal ones by position."""
    return np.argsort(margins, kind="stable")[:count]


def random_partition(candidates: np.ndarray, b: int, generator: np.random.Generator) -> np.ndarray:
    """Line 23: R divided at random into floor(|R| / b) batches of b, [G, b]; what is left over sits out."""
    shuffled = generator.permutation(candidates)
    count = len(candidates) // b
    return shuffled[: count * b].reshape(count, b)


def acquire(
    margins: np.ndarray,
    ranked: np.ndarray,
    labeled_sum: np.ndarray,
    num_labeled: int,
    encodings: np.ndarray,
    score: Scorer,
    *,
    budget: int,
    batch_size: int,
    margin_pool: int,
    seed: int,
    generate: CandidateGenerator = random_partition,
) -> Selection:
    """Buy `budget` images, a batch at a time, each the best of its step by `score` (lines 15 to 26).

    margins [N] of the whole pool; ranked [C] = the positions of its C smallest margins, in order,
    with C >= min(N, margin_pool + budget); encodings [C, D] of those images; labeled_sum [D] the sum
    of encodings of S_0's `num_labeled` images. Of equal scores the first batch wins.

    Returns exactly `budget` distinct images. Raises ValueError where the pool is smaller than that,
    a score is not finite, or the generator makes no batch.
    """
    if budget > len(margins):
        raise ValueError(f"budget={budget}: exceeds the pool's {len(margins)} images")
    if len(ranked) < min(len(margins), margin_pool + budget):
        raise ValueError(f"{len(ranked)} ranked images: M + B = {margin_pool + budget} may be looked at")
    rows = np.arange(len(ranked))  # candidates by their row in `ranked`, hence by margin
    current, size = labeled_sum.astype(np.float64), num_labeled
    picked: list[np.ndarray] = []
    scores_of_steps: list[np.ndarray] = []
    for j, b in enumerate(step_sizes(budget, batch_size)):
        batches = generate(rows[:margin_pool], b, seeds.generator(seed, "partition", j))
        if len(batches) == 0:
            raise ValueError(f"step {j}: no batch of {b} images in {len(rows[:margin_pool])} candidates")
        scores = np.asarray(score(current, size, batches), dtype=np.float64)
        if not np.isfinite(scores).all():
            raise ValueError(f"step {j}: u_hat gave {np.sum(~np.isfinite(scores))} scores that are not finite")
        best = np.sort(batches[int(np.argmax(scores))])
        current = current + encodings[best].sum(axis=0, dtype=np.float64)
        size += b
        rows = rows[~np.isin(rows, best, assume_unique=True)]
        picked.append(best)
        scores_of_steps.append(scores)
    chosen = np.concatenate(picked)
    steps = np.repeat(np.arange(len(picked)), [len(batch) for batch in picked])
    return Selection(
        pool_index=ranked[chosen].astype(np.int64),
        step=steps.astype(np.int32),
        margin=margins[ranked[chosen]].astype(np.float32),
        utility=np.array([scores_of_steps[j].max() for j in steps], dtype=np.float32),
        step_scores=tuple(scores_of_steps),
    )


def score_batches(
    model: UtilityModel, encodings: np.ndarray, current: np.ndarray, size: int, batches: np.ndarray
) -> np.ndarray:
    """u_hat(S_j joined with each batch), [G], from cached encodings [C, D]; the default `Scorer`'s arithmetic.

    current [D] and size: sum of encodings and number of images of S_j; batches [G, b] rows of
    `encodings`. In float64 (`model` must be, too): S_j outgrows the sets u_hat was fitted to, and
    sigmoids near 0 or 1 keep their differences longer that way.
    """
    sums = encodings[batches].sum(axis=1, dtype=np.float64)
    pooled = torch.from_numpy((current + sums) / (size + batches.shape[1]))
    with torch.no_grad():
        return model.score(model.embed(pooled)).numpy()


def candidate_count(num_pool: int, margin_pool: int, budget: int) -> int:
    """C: how many of the smallest margins any step can look at, min(N, M + B)."""
    return min(num_pool, margin_pool + budget)


def in_chunks(count: int, chunk: int) -> Sequence[slice]:
    """Consecutive slices of `chunk` that cover range(count); fixed, so results do not depend on workers."""
    return [slice(start, min(start + chunk, count)) for start in range(0, count, chunk)]
