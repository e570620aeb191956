"""Selections of even classes: by what a classifier believes, and by what is true.

- `posterior_balance`: a control that looks at S_val's labels as u_hat does, through a classifier trained on
  them, too: what balance alone is worth to somebody who uses those labels;
- `oracle_balanced`: a ceiling that looks at the pool's labels.

Letters: N images in the pool, k in S_0, K classes, B images acquired.
"""

from __future__ import annotations

import numpy as np

from rambo_ray import seeds
from rambo_ray.data.problem import NONE


def posterior_balance(posteriors: np.ndarray, labels: np.ndarray, budget: int, among: np.ndarray) -> np.ndarray:
    """Positions [B]: one after the other the image whose class, as far as it is known, has the fewest so far.

    posteriors [N, K] of the pool; labels [k] of S_0; among: positions that may be picked, at least B. A class has
    its labels in S_0 and its share of the picks' posteriors; the image with the smallest expectation of that
    number, by its own posterior, is taken, the first in `among` of equals. A smaller budget's picks are a
    prefix. Raises ValueError for too few positions.
    """
    if budget > len(among):
        raise ValueError(f"budget={budget}: exceeds the {len(among)} images that may be picked")
    p = posteriors[among].astype(np.float64)
    so_far = np.bincount(labels, minlength=p.shape[1]).astype(np.float64)
    left = np.ones(len(p), dtype=bool)
    picked = np.empty(budget, dtype=np.int64)
    for count in range(budget):
        position = int(np.where(left, p @ so_far, np.inf).argmin())
        picked[count] = among[position]
        left[position] = False
        so_far += p[position]
    return picked


def oracle_balanced(answers: np.ndarray, budget: int, seed: int) -> np.ndarray:
    """Positions [B]: one of each true class in turn, at random within it; answers [N], NONE where of none.

    Classes that run out are passed over, and images of none come last. A smaller budget's picks are a prefix.
    Raises ValueError for a budget beyond the pool.
    """
    if budget > len(answers):
        raise ValueError(f"budget={budget}: exceeds the pool's {len(answers)} images")
    generator = seeds.generator(seed, "baseline", seeds.index_of("oracle_balanced"))
    shuffled = generator.permutation(len(answers))
    return in_turn(shuffled, answers[shuffled])[:budget]


def in_turn(positions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """positions [n] so that their labels [n] take turns, each label's in the order given; those of NONE last."""
    turn = np.zeros(len(labels), dtype=np.int64)  # how many of its label stand before a position
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        turn[members] = np.arange(len(members))
    return positions[np.lexsort((labels, turn, labels == NONE))].astype(np.int64)
