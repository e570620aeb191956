"""TypiClust: the most typical image of each cluster that has nothing labelled yet.

Letters: N images in the pool, k in S_0, E numbers in an embedding, B images acquired.
"""

from __future__ import annotations

import heapq

import numpy as np

from rambo_ray.acquisition.baselines.clusters import k_means
from rambo_ray.acquisition.baselines.inputs import StrategyInputs, check_budget, nothing

MAX_CLUSTERS = 500
NEIGHBOURS = 20
# A smaller cluster is rather a few outliers than a kind of image.
MIN_CLUSTER = 5


def typiclust(inputs: StrategyInputs, budget: int, generator: np.random.Generator) -> np.ndarray:
    """Typical images from clusters not yet represented, int64 [B] (Hacohen et al. 2022).

    K-means puts the embeddings of S_0 and the pool into min(k + B, 500) clusters. Typicality of an
    image is the inverse mean distance to its 20 nearest neighbours in its cluster (all others, where
    there are fewer). Each pick is the most typical image left, the first among equals, of the cluster
    with the fewest images labelled or picked, the largest first among those. Clusters of fewer than 5
    images sit out while others have any left.

    The number of clusters depends on the budget, so a smaller budget's picks are no prefix of a larger
    one's. Raises ValueError for a budget that is negative or exceeds the pool.
    """
    check_budget(budget, len(inputs))
    if budget == 0:
        return nothing()
    k = len(inputs.labels)
    points = np.concatenate([inputs.labeled_embeddings, inputs.embeddings]).astype(np.float32, copy=False)
    clusters = k_means(points, min(k + budget, MAX_CLUSTERS, len(points)), generator)
    waiting: dict[int, np.ndarray] = {}  # of each cluster, its images of the pool, most typical first
    queue: list[tuple[bool, int, int, int]] = []
    for cluster in np.unique(clusters).tolist():
        members = np.flatnonzero(clusters == cluster)
        order = members[np.argsort(mean_neighbour_distances(points[members]), kind="stable")]
        waiting[cluster] = order[order >= k] - k
        if len(waiting[cluster]):
            queue.append((len(members) < MIN_CLUSTER, int(np.sum(members < k)), -len(members), cluster))
    heapq.heapify(queue)
    taken = dict.fromkeys(waiting, 0)
    picked = np.empty(budget, dtype=np.int64)
    for count in range(budget):
        small, labelled, size, cluster = heapq.heappop(queue)
        picked[count] = waiting[cluster][taken[cluster]]
        taken[cluster] += 1
        if taken[cluster] < len(waiting[cluster]):
            heapq.heappush(queue, (small, labelled + 1, size, cluster))
    return picked


def mean_neighbour_distances(points: np.ndarray) -> np.ndarray:
    """Mean distance [n] of each of points [n, E] to its 20 nearest among the others; 0 for a point alone."""
    count = min(NEIGHBOURS, len(points) - 1)
    if count == 0:
        return np.zeros(len(points))
    # Asked without points, `kneighbors` leaves out each point itself.
    from sklearn.neighbors import NearestNeighbors  # only here: it takes a second to load

    distances, _ = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(points).kneighbors()
    return distances.mean(axis=1)
