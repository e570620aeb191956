"""Controls that say what u_hat itself is worth: the same filter without it, with noise, with the truth.

- `margin_m_random`: RAMBO's steps, filter and candidate batches, of which a random one is taken;
- `margin_m_balanced`: the filter once, then images of each predicted class in turn;
- `shuffled`: what u_hat is fitted to, with its utilities dealt out anew among the samples;
- `oracle`: RAMBO's steps, with every candidate batch truly answered and retrained. Only a small case
  can afford it, and only a benchmark knows the answers: it bounds what any u_hat could gain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from rambo_ray import seeds
from rambo_ray.acquisition import greedy
from rambo_ray.acquisition.balance import in_turn
from rambo_ray.acquisition.candidates import FILTER
from rambo_ray.acquisition.greedy import Selection
from rambo_ray.config.schema import AcquisitionConfig
from rambo_ray.utility_model.fitting import FitInput
from rambo_ray.utility_model.objective import Pairs
from rambo_ray.utility_model.quadratic import QuadraticInput


def margin_m_random(margins: np.ndarray, ask: AcquisitionConfig, seed: int) -> np.ndarray:
    """Positions [B] of RAMBO's acquisition with scores drawn at random for u_hat's; margins [N] of the pool."""
    return follow_filter(margins, ask, seed).pool_index


def follow_filter(margins: np.ndarray, ask: AcquisitionConfig, seed: int) -> Selection:
    """The same as a selection: what a run does whose u_hat is worth nothing. Its utilities are NaN."""
    generator = seeds.generator(seed, "baseline", seeds.index_of("margin_m_random"))
    found = _in_steps(margins, ask, seed, lambda acquired, batches: generator.random(len(batches)))
    return replace(
        found,
        utility=np.full_like(found.utility, np.nan),
        step_scores=tuple(np.full(len(scores), np.nan) for scores in found.step_scores),
        kinds=(FILTER,) * len(found.kinds),
    )


def margin_m_balanced(logits: np.ndarray, margins: np.ndarray, ask: AcquisitionConfig, seed: int) -> np.ndarray:
    """Positions [B]: of the max(M, B) smallest margins, one of each predicted class in turn, at random within it.

    logits [N, K]; classes that run out are passed over. A smaller budget of at most M picks a prefix.
    """
    generator = seeds.generator(seed, "baseline", seeds.index_of("margin_m_balanced"))
    candidates = greedy.smallest_margins(margins, max(ask.margin_pool, ask.budget))
    shuffled = generator.permutation(candidates)
    predicted = logits[shuffled].argmax(axis=1)
    return in_turn(shuffled, predicted)[: ask.budget]


def shuffled(task: FitInput | QuadraticInput, seed: int) -> FitInput | QuadraticInput:
    """`task` with the utilities of its samples permuted at random, those of S_0 ... S_tau_1 among themselves."""
    generator = seeds.generator(seed, "baseline", seeds.index_of("shuffled"))
    if isinstance(task, QuadraticInput):
        return replace(task, utilities=generator.permutation(task.utilities))
    utility = task.offline.utility
    dealt = generator.permutation(utility.reshape(-1)).reshape(utility.shape)
    offline = Pairs(task.offline.first, task.offline.second, dealt, task.offline.otdd)
    nested_sets = tuple(float(u) for u in generator.permutation(np.array(task.nested_utilities)))
    return replace(task, offline=offline, nested_utilities=nested_sets)


def oracle(
    margins: np.ndarray, ask: AcquisitionConfig, seed: int, accuracy_of: Callable[[np.ndarray], float]
) -> np.ndarray:
    """Positions [B]: in each step the batch whose labels raise f's accuracy most.

    margins [N] of the pool; `accuracy_of` says what f truly comes to when the images at given positions
    of the pool are labelled, too.
    """

    def score(acquired: np.ndarray, batches: np.ndarray) -> np.ndarray:
        return np.array([accuracy_of(np.concatenate([acquired, batch])) for batch in batches])

    return _in_steps(margins, ask, seed, score).pool_index


class _Positions:
    """A judge that is asked by positions in the pool: those acquired so far, and batches of them [G, b]."""

    def __init__(self, ranked: np.ndarray, score: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        self.ranked, self.score = ranked, score
        self.so_far = np.zeros(0, dtype=np.int64)

    def scores(self, batches: np.ndarray) -> np.ndarray:
        return self.score(self.so_far, self.ranked[batches])

    def acquired(self, batch: np.ndarray) -> None:
        self.so_far = np.concatenate([self.so_far, self.ranked[batch]])


def _in_steps(
    margins: np.ndarray, ask: AcquisitionConfig, seed: int, score: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Selection:
    """RAMBO's acquisition with `score`(positions acquired so far, batches of positions [G, b]) for u_hat."""
    judge = _Positions(greedy.candidates(margins, ask), score)
    return greedy.acquire(margins, judge, ask, seed)
