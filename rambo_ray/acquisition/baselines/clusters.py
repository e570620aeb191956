"""K-means for the strategies that partition the pool."""

from __future__ import annotations

import warnings

import numpy as np

# Beyond this number of clusters, k-means goes by mini-batches.
_FULL = 50


def k_means(points: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Labels [n] in 0..count-1 of points [n, E], float32, in `count` <= n clusters, some perhaps empty.

    Draws one number from the generator, the seed of everything random in it.
    """
    # Only here: it takes a second to load, which every worker would pay.
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    seed = int(generator.integers(2**31))
    if count <= _FULL:
        model = KMeans(count, n_init=1, random_state=seed)
    else:
        model = MiniBatchKMeans(count, n_init=1, batch_size=4096, random_state=seed)
    with warnings.catch_warnings():
        # Fewer distinct points than clusters leave clusters empty, which changes nothing here.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(model.fit_predict(np.ascontiguousarray(points, dtype=np.float32)), dtype=np.int64)
