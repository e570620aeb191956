"""StrategyInputs that tests make up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rambo_ray.acquisition.baselines import StrategyInputs


def inputs(n: int, k: int = 4, v: int = 5, classes: int = 3, width: int = 4, seed: int = 0) -> StrategyInputs:
    """Normal embeddings and the logits of a random linear layer on them."""
    rng = np.random.default_rng(seed)
    e = rng.normal(size=(n + k + v, width)).astype(np.float32)
    z = (e @ rng.normal(size=(width, classes)) + rng.normal(size=classes)).astype(np.float32)
    y = rng.integers(classes, size=n + k + v)
    return StrategyInputs(z[:n], e[:n], e[n : n + k], z[n : n + k], y[n : n + k], e[n + k :], z[n + k :], y[n + k :])


def of_pool(embeddings: object, logits: object = None, labeled: object = None, classes: int = 2) -> StrategyInputs:
    """StrategyInputs with these embeddings [N, E] and logits [N, K] (default: 0) in the pool, and these of S_0."""
    e = np.asarray(embeddings, dtype=np.float32)
    z = np.zeros((len(e), classes)) if logits is None else np.asarray(logits)
    own = np.zeros((0, e.shape[1])) if labeled is None else np.asarray(labeled, dtype=np.float32)
    few = inputs(1, k=len(own), v=3, classes=z.shape[1], width=e.shape[1])
    return replace(few, logits=z.astype(np.float32), embeddings=e, labeled_embeddings=own)


def permuted(given: StrategyInputs, order: np.ndarray) -> StrategyInputs:
    """The same inputs with the pool in another order."""
    return replace(given, logits=given.logits[order], embeddings=given.embeddings[order])
