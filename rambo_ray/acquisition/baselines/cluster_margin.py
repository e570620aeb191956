"""Cluster-Margin: small margins, spread over clusters of the embeddings.

Letters: N images in the pool, E numbers in an embedding, B images acquired, n candidates in a block.
"""

from __future__ import annotations

import numpy as np

from rambo_ray.acquisition.baselines.inputs import StrategyInputs, check_budget, nothing
from rambo_ray.classifier.probabilities import margins

# As many as RAMBO looks at, its default M.
CANDIDATES = 2000
# Candidates per cluster on average. The paper chooses a distance instead, by hand for each dataset.
_PER_CLUSTER = 10


def cluster_margin(
    inputs: StrategyInputs, budget: int, generator: np.random.Generator, *, candidates: int = CANDIDATES
) -> np.ndarray:
    """Round robin over clusters of the smallest margins, int64 [B] (Citovsky et al. 2021).

    The `candidates` images with the smallest margins are put into a tenth as many clusters by average
    linkage of their embeddings. Then, from the smallest cluster to the largest and over again, each
    gives one of its candidates at random until the budget is spent. Clusters of one size go by the
    smallest margin in them.

    A budget beyond `candidates` uses them up and goes on with the next `candidates` margins. Thus the
    first picks do not depend on the budget, and memory does not either; the paper's own proportion is
    `candidates` = 10 B. Raises ValueError for fewer than one candidate and for a budget that is
    negative or exceeds the pool.
    """
    check_budget(budget, len(inputs))
    if candidates < 1:
        raise ValueError(f"candidates={candidates}: at least one is needed")
    if budget == 0:
        return nothing()
    ranked = np.argsort(margins(inputs.logits), kind="stable")
    blocks = []
    for start in range(0, budget, candidates):
        block = ranked[start : start + candidates]
        labels = average_linkage(inputs.embeddings[block], -(-len(block) // _PER_CLUSTER))
        blocks.append(block[_round_robin(labels, generator)])
    return np.concatenate(blocks)[:budget].astype(np.int64)


def average_linkage(points: np.ndarray, count: int) -> np.ndarray:
    """Labels [n] of exactly `count` clusters of points [n, E], 1 <= count <= n, by average linkage.

    Clusters are numbered by their first point. Equal distances are merged in scipy's order until
    `count` clusters are left; a cut of the tree by height could only take all of them or none.
    """
    n = len(points)
    if count == n:
        return np.arange(n)
    from scipy.cluster.hierarchy import linkage  # only here: it takes long to load

    merges = linkage(points.astype(np.float64), "average")[: n - count, :2].astype(np.int64)
    parent = np.arange(2 * n)
    for index, (one, other) in enumerate(merges):
        parent[[one, other]] = n + index
    for node in range(n + len(merges) - 1, -1, -1):  # a parent's number is larger than its children's
        parent[node] = parent[parent[node]]
    _, first, labels = np.unique(parent[:n], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[labels]


def _round_robin(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """All positions of labels [n] in the order in which the clusters, smallest first, give them up.

    The r-th that a cluster gives is the r-th of its members in one permutation of all, which is the same
    as drawing from those that it has left.
    """
    shuffled = generator.permutation(len(labels))
    sizes = np.bincount(labels)
    by_cluster = shuffled[np.argsort(labels[shuffled], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    rounds = np.arange(len(labels)) - np.repeat(starts, sizes)
    turn = np.empty(len(sizes), dtype=np.int64)
    turn[np.argsort(sizes, kind="stable")] = np.arange(len(sizes))
    return by_cluster[np.lexsort((turn[labels[by_cluster]], rounds))]
