"""Min-Margin: images that some classifier, trained on a bootstrap of S_0, is unsure of.

Letters: N images in the pool, k in S_0, K classes, T bootstraps, B images acquired.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rambo_ray.acquisition.baselines.inputs import check_budget
from rambo_ray.classifier.probabilities import margins

BOOTSTRAPS = 10


def min_margin(logits: Iterable[np.ndarray], budget: int) -> np.ndarray:
    """The smallest of each image's T margins, smallest first, int64 [B] (Jiang & Gupta 2019).

    logits: [N, K] of the pool by each of T classifiers trained on bootstraps of S_0. Equal ones go by
    position; a smaller budget's picks are a prefix. Different classifiers have different boundaries, so a
    batch lies along all of them, while the margins of one crowd about its own.

    Raises ValueError without classifiers and for a budget that is negative or exceeds the pool.
    """
    smallest: np.ndarray | None = None
    for of_one in logits:
        found = margins(of_one)
        smallest = found if smallest is None else np.minimum(smallest, found)
    if smallest is None:
        raise ValueError("logits: those of at least one classifier are needed")
    check_budget(budget, len(smallest))
    return np.argsort(smallest, kind="stable")[:budget].astype(np.int64)


def bootstrap(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Positions [k] in S_0, drawn with replacement and sorted; labels [k].

    Drawn again until two classes are among them, where S_0 has two: a classifier of one class is sure of
    everything.
    """
    if len(np.unique(labels)) < 2:
        return np.sort(generator.integers(len(labels), size=len(labels)))
    while True:
        drawn = np.sort(generator.integers(len(labels), size=len(labels)))
        if len(np.unique(labels[drawn])) > 1:
            return drawn
