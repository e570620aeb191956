"""Greedy-Margin: which B images of the pool are acquired (Fig. 2, lines 15 to 26).

f is fixed during acquisition, since no labels arrive, so margins are computed once; u_hat's
encodings of the images that can ever be candidates are computed once, too. Joining a batch to S_j
adds its sum of encodings to that of S_j: no step costs more because S_j is larger.

Letters: N images in the pool, C candidates, D and q as in `utility_model.network`, G batches of b images.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rambo_ray import seeds
from rambo_ray.acquisition.candidates import CandidateGenerator, Judge, partition
from rambo_ray.config.schema import AcquisitionConfig
from rambo_ray.utility_model.network import UtilityModel
from rambo_ray.utility_model.quadratic import QuadraticModel

# Scores S_j joined with each candidate batch: (encodings' sum of S_j [D], |S_j|, rows [G, b]) -> [G].
Scorer = Callable[[np.ndarray, int, np.ndarray], np.ndarray]


# Raise it when the same u_hat and margins would lead to another choice; see `pipeline.rules`.
RULE = 1

SCORE_CHUNK = 16  # candidate batches scored together: fixed, so that scores do not depend on workers


@dataclass(frozen=True)
class Selection:
    """The B images to acquire, in the order they were picked; every array is [B].

    pool_index: position in the pool; step: j; margin: of f, in [0, 1]; utility: u_hat's score of
    S_j joined with the batch the image came in. step_scores: all scores of each step, and kinds [steps] those
    of the batches that won, for the report.
    """

    pool_index: np.ndarray
    step: np.ndarray
    margin: np.ndarray
    utility: np.ndarray
    step_scores: tuple[np.ndarray, ...]
    kinds: tuple[str, ...] = ()


def step_sizes(budget: int, batch_size: int) -> list[int]:
    """Images acquired in each of the tau_2 steps: b each, and what is left of B in a last one."""
    full, rest = divmod(budget, batch_size)
    return [batch_size] * full + ([rest] if rest else [])


def smallest_margins(margins: np.ndarray, count: int) -> np.ndarray:
    """Positions of the `count` smallest of margins [N], smallest first, equal ones by position."""
    return np.argsort(margins, kind="stable")[:count]


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
    generate: CandidateGenerator = partition,
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
    won: list[str] = []
    for j, b in enumerate(step_sizes(ask.budget, ask.batch_size)):
        batches, kinds = generate(rows[: ask.margin_pool], b, seeds.generator(seed, "partition", j))
        if len(batches) == 0:
            raise ValueError(f"step {j}: no batch of {b} images in {len(rows[: ask.margin_pool])} candidates")
        scores = np.asarray(judge.scores(batches), dtype=np.float64)
        if not np.isfinite(scores).all():
            raise ValueError(f"step {j}: {np.sum(~np.isfinite(scores))} scores of batches are not finite")
        first = int(np.argmax(scores))
        best = np.sort(batches[first])
        won.append(kinds[first])
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
        kinds=tuple(won),
    )


class JoinedSets:
    """The network's judge: u_hat's score of S_j joined with a batch; S_j's sum of encodings is carried along.

    Where u_hat was fitted to mock rounds' purchases alone, S_0 is left out of it: `labeled` has no rows.
    """

    def __init__(self, labeled: np.ndarray, encodings: np.ndarray, score: Scorer, model: UtilityModel) -> None:
        """Encodings of S_0 [k, D] and of the candidates [C, D]; `score` is that of `model`."""
        self.encodings, self.score, self.model = encodings, score, model
        self.sum, self.size = labeled.sum(axis=0, dtype=np.float64), len(labeled)

    def scores(self, batches: np.ndarray) -> np.ndarray:
        """u_hat(S_j joined with each batch), [G]."""
        return self.score(self.sum, self.size, batches)

    def slopes(self, rows: np.ndarray) -> np.ndarray:
        """How fast u_hat grows from S_j towards each of rows [M], [M]: its gradient times their encodings."""
        mean = self.sum / self.size if self.size else self.encodings[rows].mean(axis=0, dtype=np.float64)
        model = copy.deepcopy(self.model).cpu().double()
        pooled = torch.tensor(mean[None], requires_grad=True)
        (gradient,) = torch.autograd.grad(model.score(model.embed(pooled)).sum(), pooled)
        found: np.ndarray = (self.encodings[rows] * gradient.numpy()).sum(axis=1)
        return found

    def acquired(self, batch: np.ndarray) -> None:
        """S_{j+1} = S_j joined with the batch (line 26)."""
        self.sum = self.sum + self.encodings[batch].sum(axis=0, dtype=np.float64)
        self.size += len(batch)


class MeanEvidence:
    """The quadratic u_hat's judge: its cautious score of what is acquired so far joined with a batch.

    Its reference is what the margin filter picks without it: any of the M smallest margins.
    """

    def __init__(self, model: QuadraticModel, evidence: np.ndarray, ask: AcquisitionConfig) -> None:
        """Standardised evidence [C, F] of the candidates, the smallest margin first."""
        self.model, self.evidence, self.caution = model, evidence, ask.caution
        self.reference = evidence[: ask.margin_pool].mean(axis=0)
        self.sum, self.size = np.zeros(evidence.shape[1]), 0

    def scores(self, batches: np.ndarray) -> np.ndarray:
        """u_hat(acquired so far joined with each batch), cautiously, [G]."""
        size = self.size + batches.shape[1]
        means = (self.sum + self.evidence[batches].sum(axis=1)) / size
        return self.model.cautious(means, np.full(len(batches), size), self.reference, self.caution)

    def slopes(self, rows: np.ndarray) -> np.ndarray:
        """How fast the score grows from what is acquired, or from the reference at first, towards each of rows [M]."""
        mean = self.sum / self.size if self.size else self.reference
        return self.model.slope(mean, self.evidence[rows], self.reference, self.caution)

    def acquired(self, batch: np.ndarray) -> None:
        """The batch joins what is acquired."""
        self.sum = self.sum + self.evidence[batch].sum(axis=0)
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
