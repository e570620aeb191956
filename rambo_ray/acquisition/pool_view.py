"""A part of the pool as f sees it, small enough to be looked at: for the report, and of no influence on the choice.

Letters: N images in the pool, B picked, S looked at, k in S_0, K classes, E numbers in f's embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rambo_ray.acquisition.greedy import Selection, candidate_count, candidates
from rambo_ray.classifier.probabilities import probabilities
from rambo_ray.config.schema import AcquisitionConfig

# Of the picked images, of the pool and of S_0 no more than these are looked at, evenly apart; of those that the
# margin filter removed as many as a person looks through.
MOST_PICKED, MOST_OF_POOL, MOST_LABELED, MOST_REMOVED = 2000, 2000, 1000, 24

# f's logits and embeddings of images at these positions.
Outputs = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class PoolView:
    """What f says of S images of the pool, and where it sees S_0.

    positions: int64 [S], rising; probabilities float32 [S, K] and embeddings float32 [S, E] of each; picked: those of
    the picked images that are among them, in the order picked; evenly: a sample of the whole pool; removed: a sample
    of what no step could pick, from the smallest margin to the largest, empty where there is nothing of the kind.
    labeled: embeddings [k', E] of a part of S_0.
    """

    positions: np.ndarray
    probabilities: np.ndarray
    embeddings: np.ndarray
    picked: np.ndarray
    evenly: np.ndarray
    removed: np.ndarray
    labeled: np.ndarray

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Where images at `positions` of the pool, all of them looked at, stand here."""
        found: np.ndarray = np.searchsorted(self.positions, positions)
        return found


def look(
    selection: Selection,
    margins: np.ndarray,
    sampled: np.ndarray,
    ask: AcquisitionConfig,
    pool: Outputs,
    labeled: Outputs,
    num_labeled: int,
) -> PoolView:
    """A view of the pool whose margins [N] are known: f is asked once, of a few thousand images at most.

    sampled: positions that stand for the whole pool. pool and labeled: f's outputs of images of the pool and of S_0,
    by position.
    """
    picked = selection.pool_index[:MOST_PICKED]
    evenly = np.sort(evenly_apart(sampled, MOST_OF_POOL))
    removed = np.zeros(0, np.int64)
    if candidate_count(len(margins), ask) < len(margins):
        within = np.zeros(len(margins), bool)
        within[candidates(margins, ask)] = True
        outside = np.flatnonzero(~within)
        removed = evenly_apart(outside[np.argsort(margins[outside], kind="stable")], MOST_REMOVED)
    positions = np.unique(np.concatenate([picked, evenly, removed]))
    logits, embeddings = pool(positions)
    _, own = labeled(evenly_apart(np.arange(num_labeled), MOST_LABELED))
    return PoolView(positions, probabilities(logits).astype(np.float32), embeddings, picked, evenly, removed, own)


def evenly_apart(positions: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of `positions`, evenly apart, the first and the last included."""
    return positions[np.linspace(0, len(positions) - 1, min(len(positions), most)).round().astype(np.int64)]
