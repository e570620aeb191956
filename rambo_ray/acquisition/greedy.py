"""Greedy-Margin: which B images of the pool are acquired (Fig. 2, lines 15 to 26).

f is fixed during acquisition, since no labels arrive, so margins are computed once; u_hat's
encodings of the images that can ever be candidates are computed once, too. Joining a batch to S_j
adds its sum of encodings to that of S_j: no step costs more because S_j is larger.

Letters: N images in the pool, C candidates, D and q as in `utility_model.network`, G batches of b images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from rambo_ray import seeds
from rambo_ray.config.schema import AcquisitionConfig
from rambo_ray.utility_model.network import UtilityModel

# Makes candidate batches of b out of R, given a generator: [C] positions -> [G, b] positions.
CandidateGenerator = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
# Scores S_j joined with each candidate batch: (encodings' sum of S_j [D], |S_j|, rows [G, b]) -> [G].
Scorer = Callable[[np.ndarray, int, np.ndarray], np.ndarray]


class Judge(Protocol):
    """Decides between the candidate batches of a step. Batches are rows of `candidates`, so rows go by margin."""

    def scores(self, batches: np.ndarray) -> np.ndarray:
        """How good each of batches [G, b] is, [G]; the largest is acquired."""
        ...

    def acquired(self, batch: np.ndarray) -> None:
        """Told of the batch [b] that a step acquired, before the next step."""
        ...


SCORE_CHUNK = 16  # candidate batches scored together: fixed, so that scores do not depend on workers


@dataclass(frozen=True)
class Selection:
    """The B images to acquire, in the order they were picked; every array is [B].

    pool_index: position in the pool; step: j; margin: of f, in [0, 1]; utility: u_hat's score of
    S_j joined with the batch the image came in. step_scores: all scores of each step, for the report.
    """

    pool_index: np.ndarray
    step: np.ndarray
    margin: np.ndarray
    utility: np.ndarray
    step_scores: tuple[np.ndarray, ...]


def step_sizes(budget: int, batch_size: int) -> list[int]:
    """Images acquired in each of the tau_2 steps: b each, and what is left of B in a last one."""
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


def candidate_count(num_pool: int, ask: AcquisitionConfig) -> int:
    """C: how many of the smallest margins any step can look at, min(N, M + B)."""
    return min(num_pool, ask.margin_pool + ask.budget)


def candidates(margins: np.ndarray, ask: AcquisitionConfig) -> np.ndarray:
    """Positions of all images that any step can look at, [C]: the min(N, M + B) smallest of margins [N], in order."""
    return smallest_margins(margins, candidate_count(len(margins), ask))


def acquire(
    margins: np.ndarray,
    judge: Judge,
    ask: AcquisitionConfig,
    seed: int,
    generate: CandidateGenerator = random_partition,
) -> Selection:
    """Acquire B images, a batch at a time, each the best of its step by `judge` (lines 15 to 26).

    margins [N] of the whole pool; B, b and M are those of `ask`. Of equal scores the first batch wins.

    Returns exactly B distinct images. Raises ValueError where the pool is smaller than that, a score is
    not finite, or the generator makes no batch.
    """
    if ask.budget > len(margins):
        raise ValueError(f"budget={ask.budget}: exceeds the pool's {len(margins)} images")
    ranked = candidates(margins, ask)
    rows = np.arange(len(ranked))  # candidates by their row in `ranked`, hence by margin
    picked: list[np.ndarray] = []
    scores_of_steps: list[np.ndarray] = []
    for j, b in enumerate(step_sizes(ask.budget, ask.batch_size)):
        batches = generate(rows[: ask.margin_pool], b, seeds.generator(seed, "partition", j))
        if len(batches) == 0:
            raise ValueError(f"step {j}: no batch of {b} images in {len(rows[: ask.margin_pool])} candidates")
        scores = np.asarray(judge.scores(batches), dtype=np.float64)
        if not np.isfinite(scores).all():
            raise ValueError(f"step {j}: {np.sum(~np.isfinite(scores))} scores of batches are not finite")
        best = np.sort(batches[int(np.argmax(scores))])
        judge.acquired(best)
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


class JoinedSets:
    """RAMBO's judge: u_hat's score of S_j joined with a batch; S_j's sum of encodings is carried along."""

    def __init__(self, labeled: np.ndarray, encodings: np.ndarray, score: Scorer) -> None:
        """Encodings of S_0 [k, D] and of the candidates [C, D]."""
        self.encodings, self.score = encodings, score
        self.sum, self.size = labeled.sum(axis=0, dtype=np.float64), len(labeled)

    def scores(self, batches: np.ndarray) -> np.ndarray:
        """u_hat(S_j joined with each batch), [G]."""
        return self.score(self.sum, self.size, batches)

    def acquired(self, batch: np.ndarray) -> None:
        """S_{j+1} = S_j joined with the batch (line 26)."""
        self.sum = self.sum + self.encodings[batch].sum(axis=0, dtype=np.float64)
        self.size += len(batch)


def score_batches(
    model: UtilityModel, encodings: np.ndarray, current: np.ndarray, size: int, batches: np.ndarray
) -> np.ndarray:
    """u_hat(S_j joined with each batch), [G], from cached encodings [C, D]; the default `Scorer`'s arithmetic.

    current [D] and size: sum of encodings and number of images of S_j; batches [G, b] rows of
    `encodings`. In float64 (`model` must be, too): S_j outgrows the sets u_hat was fitted to, and
    sigmoids near 0 or 1 keep their differences longer that way.
    """
    scores = np.empty(len(batches))
    for part in in_chunks(len(batches), SCORE_CHUNK):
        sums = encodings[batches[part]].sum(axis=1, dtype=np.float64)
        # A copy in torch's own memory: how a product is rounded may depend on where its operands begin.
        pooled = torch.tensor((current + sums) / (size + batches.shape[1]))
        with torch.no_grad():
            scores[part] = model.score(model.embed(pooled)).numpy()
    return scores


def in_chunks(count: int, chunk: int) -> Sequence[slice]:
    """Consecutive slices of `chunk` that cover range(count); fixed, so results do not depend on workers."""
    return [slice(start, min(start + chunk, count)) for start in range(0, count, chunk)]
