"""How good u_hat's ranking is, judged on truly retrained sets it was not fitted to.

Sets are compared within a group: subsets of one size, or mock rounds of one half and one size. What chance
would reach is what u_hat's scores reach when they are dealt out anew within the groups (`chance`), so that ties count
as they are.

Letters: G sets.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rambo_ray.utility_model import chance
from rambo_ray.utility_model.network import UtilityModel, membership

LEVEL = 0.95
FEWEST_HELD_OUT = 9  # mock rounds dealt over two halves and two sizes, with which a perfect ranking beats chance


@dataclass(frozen=True)
class RankingQuality:
    """Of G held-out sets: share of comparable pairs in the right order, and Kendall's tau-b, the mean over groups.

    Pairs of equal utility do not count, pairs of equal scores count half. NaN where no two comparable sets
    differ. pairs: comparable pairs that differ, and tied: those of equal utility. chance: random scores are below or
    above it with 2.5 % each at most. size: of the sets, the largest; by_size: the pairwise accuracy of each size.
    gain: by how much the set that u_hat ranks first in its group beats the group's mean utility, best_gain: by how
    much the truly best does, means over groups, in units of the utility.
    """

    pairwise_accuracy: float
    kendall_tau: float
    subsets: int
    size: int
    chance: tuple[float, float] = (math.nan, math.nan)
    by_size: tuple[tuple[int, float], ...] = ()
    gain: float = math.nan
    best_gain: float = math.nan
    pairs: int = 0
    tied: int = 0

    @property
    def beats_chance(self) -> bool:
        """Whether more pairs are in the right order than of 97.5 % of random scores."""
        return self.pairwise_accuracy > self.chance[1]


def can_beat_chance(groups: Sequence[Hashable]) -> bool:
    """Whether a ranking of sets in these groups could beat chance at all, if it put every pair in the right order.

    Random scores do so with the probability that each group's permutation is the right one.
    """
    orders = math.prod(math.factorial(count) for count in Counter(groups).values())
    return orders * (1.0 - LEVEL) / 2 > 1.0


@dataclass(frozen=True)
class HeldOut:
    """u_hat's scores [G] and the true utilities [G] of held-out sets, the group of each and its size."""

    scores: np.ndarray
    utilities: np.ndarray
    groups: tuple[Hashable, ...]
    sizes: tuple[int, ...]

    def quality(self, seed: int = 0) -> RankingQuality:
        """How well the scores agree with the utilities.

        `seed` deals out what chance would have, where that cannot be computed.
        """
        from scipy.stats import kendalltau  # only here: it takes long to load

        members = self._members()
        groups = [(self.scores[m], self.utilities[m]) for m in members]
        pairs = sum(chance.comparable(utilities) for _, utilities in groups)
        tied = sum(math.comb(len(m), 2) for m in members) - pairs
        size = max(self.sizes, default=0)
        if not pairs:
            return RankingQuality(math.nan, math.nan, len(self.scores), size, tied=tied)
        taus = [kendalltau(scores, utilities).statistic for scores, utilities in groups if np.ptp(utilities)]
        low, high = chance.limits(groups, (1.0 - LEVEL) / 2, seed)
        by_size = []
        for value in sorted(set(self.sizes)):
            own = [group for m, group in zip(members, groups, strict=True) if self.sizes[m[0]] == value]
            by_size.append((value, _accuracy(own)))
        return RankingQuality(
            pairwise_accuracy=_accuracy(groups),
            kendall_tau=float(np.nanmean(taus)) if np.isfinite(taus).any() else math.nan,
            subsets=len(self.scores),
            size=size,
            chance=(low / (2 * pairs), high / (2 * pairs)),
            by_size=tuple(by_size),
            gain=float(np.mean([utilities[scores.argmax()] - utilities.mean() for scores, utilities in groups])),
            best_gain=float(np.mean([utilities.max() - utilities.mean() for _, utilities in groups])),
            pairs=pairs,
            tied=tied,
        )

    def _members(self) -> list[np.ndarray]:
        """Positions of each group's sets, groups in the order they come."""
        found: dict[Hashable, list[int]] = {}
        for position, group in enumerate(self.groups):
            found.setdefault(group, []).append(position)
        return [np.array(positions) for positions in found.values()]


def _accuracy(groups: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Share of pairs whose utilities differ in the right order, [0, 1]; equal scores count half; NaN of no pair."""
    pairs = sum(chance.comparable(utilities) for _, utilities in groups)
    return sum(chance.right(*group) for group in groups) / (2 * pairs) if pairs else math.nan


def set_scores(model: UtilityModel, images: np.ndarray, subsets: Sequence[Sequence[int]]) -> np.ndarray:
    """The network's scores, [G] float64, of sets of rows of its inputs `images` [N, ...]."""
    if not subsets:
        return np.zeros(0)
    with torch.no_grad():
        encodings = model.encode(torch.tensor(images))
        phi = model.embed(membership(subsets, len(images)).to(encodings) @ encodings)
        found: np.ndarray = model.score(phi).double().numpy()
    return found
