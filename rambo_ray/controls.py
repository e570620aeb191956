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

from rambo_ray import acquisition, seeds
from rambo_ray.config import AcquisitionConfig
from rambo_ray.fitting import FitInput
from rambo_ray.objective import Pairs
from rambo_ray.trial import Ground, retrain


def margin_m_random(margins: np.ndarray, ask: AcquisitionConfig, seed: int) -> np.ndarray:
    """Positions [B] that RAMBO would pick if its u_hat were a coin; margins [N] of the pool."""
    generator = seeds.generator(seed, "baseline", seeds.index_of("margin_m_random"))
    return _in_steps(margins, ask, seed, lambda picked, batches: generator.random(len(batches)))


def margin_m_balanced(logits: np.ndarray, margins: np.ndarray, ask: AcquisitionConfig, seed: int) -> np.ndarray:
    """Positions [B]: of the max(M, B) smallest margins, one of each predicted class in turn, at random within it.

    logits [N, K]; classes that run out are passed over. A smaller budget of at most M picks a prefix.
    """
    generator = seeds.generator(seed, "baseline", seeds.index_of("margin_m_balanced"))
    candidates = acquisition.smallest_margins(margins, max(ask.margin_pool, ask.budget))
    shuffled = generator.permutation(candidates)
    predicted = logits[shuffled].argmax(axis=1)
    turn = np.zeros(len(shuffled), dtype=np.int64)  # how many of its class stand before a candidate
    for label in np.unique(predicted):
        members = np.flatnonzero(predicted == label)
        turn[members] = np.arange(len(members))
    return shuffled[np.lexsort((predicted, turn))][: ask.budget].astype(np.int64)


def shuffled(task: FitInput, seed: int) -> FitInput:
    """`task` with the utilities of its offline pairs, and those of S_0 ... S_tau_1, permuted at random."""
    generator = seeds.generator(seed, "baseline", seeds.index_of("shuffled"))
    utility = task.offline.utility
    dealt = generator.permutation(utility.reshape(-1)).reshape(utility.shape)
    offline = Pairs(task.offline.first, task.offline.second, dealt, task.offline.otdd)
    prefixes = tuple(float(u) for u in generator.permutation(np.array(task.prefix_utilities)))
    return replace(task, offline=offline, prefix_utilities=prefixes)


def oracle(ground: Ground, ask: AcquisitionConfig, seed: int, device: str) -> np.ndarray:
    """Positions [B]: in each step the batch whose labels raise the accuracy on S_val most, by truly retraining f."""

    def judge(picked: np.ndarray, batches: np.ndarray) -> np.ndarray:
        chosen = [np.concatenate([picked, batch]) for batch in batches]
        return np.array([
            retrain(ground, positions, seeds.integer(seed, "final_classifier"), device).accuracy["validation"]
            for positions in chosen
        ])

    return _in_steps(ground.margins, ask, seed, judge)


def _in_steps(
    margins: np.ndarray, ask: AcquisitionConfig, seed: int, judge: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """RAMBO's acquisition with `judge`(pool positions so far, batches of pool positions [G, b]) for u_hat."""
    ranked = acquisition.smallest_margins(
        margins, acquisition.candidate_count(len(margins), ask.margin_pool, ask.budget)
    )
    picked: list[np.ndarray] = []

    def score(current: np.ndarray, size: int, batches: np.ndarray) -> np.ndarray:
        so_far = np.concatenate(picked) if picked else np.zeros(0, dtype=np.int64)
        scores = judge(so_far, ranked[batches])
        picked.append(ranked[np.sort(batches[int(np.argmax(scores))])])
        return scores

    selection = acquisition.acquire(
        margins,
        ranked,
        np.zeros(1),
        0,
        np.zeros((len(ranked), 1)),
        score,
        budget=ask.budget,
        batch_size=ask.batch_size,
        margin_pool=ask.margin_pool,
        seed=seed,
    )
    return selection.pool_index
