"""S_val out of the labelled images, where there is none of its own: a share of each class.

N labelled images.
"""

from __future__ import annotations

import numpy as np

from rambo_ray import seeds
from rambo_ray.data.items import Integers


def stratified(labels: Integers, digests: list[bytes], share: float, seed: int) -> tuple[Integers, Integers]:
    """Positions of what stays labelled and of what validates, each sorted; by class, drawn by the split's seed.

    Of a class of n different images round(share n) validate, at least one and at most n - 1 where n is 2 or more; the
    only image of a class stays labelled. Equal images, by their digests, stay together, and count as one.
    """
    first: dict[bytes, int] = {}
    original = np.array([first.setdefault(digest, place) for place, digest in enumerate(digests)], np.int64)
    distinct = np.unique(original)
    validating = np.zeros(len(labels), bool)
    for label in np.unique(labels[distinct]):
        members = distinct[labels[distinct] == label]
        wanted = min(max(round(share * len(members)), 1), len(members) - 1)
        order = seeds.generator(seed, "split", 1, int(label)).permutation(len(members))
        validating[members[order[:wanted]]] = True
    validates = validating[original]
    return np.flatnonzero(~validates).astype(np.int64), np.flatnonzero(validates).astype(np.int64)
