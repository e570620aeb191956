"""How good u_hat's ranking is, judged on truly retrained sets it was not fitted to.

Sets are compared within a group: subsets of one size, or mock rounds of one half and one size. What chance
would reach is found by dealing u_hat's scores out anew within the groups, so that ties count as they are.

Letters: G sets.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import kendalltau

from rambo_ray import seeds
from rambo_ray.utility_model.network import UtilityModel, membership

PERMUTATIONS = 2000
LEVEL = 0.95
FEWEST_HELD_OUT = 9  # mock rounds dealt over two halves and two sizes, with which a perfect ranking beats chance


@dataclass(frozen=True)
class RankingQuality:
    """Of G held-out sets: share of comparable pairs in the right order, and Kendall's tau-b, the mean over groups.

    Pairs of equal utility do not count, pairs of equal scores count half. NaN where no two comparable sets
    differ. chance: what 95 % of random scores stay within. size: of the sets, the largest; by_size: the pairwise
    accuracy of each size. gain: by how much the set that u_hat ranks first in its group beats the group's
    mean utility, best_gain: by how much the truly best does, means over groups, in units of the utility.
    """

    pairwise_accuracy: float
    kendall_tau: float
    subsets: int
    size: int
    chance: tuple[float, float] = (math.nan, math.nan)
    by_size: tuple[tuple[int, float], ...] = ()
    gain: float = math.nan
    best_gain: float = math.nan

    @property
    def beats_chance(self) -> bool:
        """Whether more pairs are in the right order than 97.5 % of random scores would have."""
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
        """How well the scores agree with the utilities; `seed` deals out what chance would have."""
        members = self._members()
        pairs = _Pairs.of(members, self.utilities)
        size = max(self.sizes, default=0)
        if not len(pairs.sign):
            return RankingQuality(math.nan, math.nan, len(self.scores), size)
        taus = [kendalltau(self.scores[m], self.utilities[m]).statistic for m in members if np.ptp(self.utilities[m])]
        generator = seeds.generator(seed, "null")
        dealt = np.empty(PERMUTATIONS)
        for number in range(PERMUTATIONS):
            scores = self.scores.copy()
            for m in members:
                scores[m] = generator.permutation(scores[m])
            dealt[number] = pairs.accuracy(scores)
        tail = (1.0 - LEVEL) / 2
        low, high = np.quantile(dealt, [tail, 1.0 - tail])
        by_size = []
        for value in sorted(set(self.sizes)):
            own = [m for m in members if self.sizes[m[0]] == value]
            accuracy = _Pairs.of(own, self.utilities).accuracy(self.scores)
            by_size.append((value, accuracy))
        chosen = [self.utilities[m][self.scores[m].argmax()] - self.utilities[m].mean() for m in members]
        best = [self.utilities[m].max() - self.utilities[m].mean() for m in members]
        return RankingQuality(
            pairwise_accuracy=pairs.accuracy(self.scores),
            kendall_tau=float(np.nanmean(taus)) if np.isfinite(taus).any() else math.nan,
            subsets=len(self.scores),
            size=size,
            chance=(float(low), float(high)),
            by_size=tuple(by_size),
            gain=float(np.mean(chosen)),
            best_gain=float(np.mean(best)),
        )

    def _members(self) -> list[np.ndarray]:
        """Positions of each group's sets, groups in the order they come."""
        found: dict[Hashable, list[int]] = {}
        for position, group in enumerate(self.groups):
            found.setdefault(group, []).append(position)
        return [np.array(positions) for positions in found.values()]


@dataclass(frozen=True)
class _Pairs:
    """Comparable pairs whose utilities differ: positions [P] of both, and the sign of the difference."""

    first: np.ndarray
    second: np.ndarray
    sign: np.ndarray

    @classmethod
    def of(cls, members: Sequence[np.ndarray], utilities: np.ndarray) -> _Pairs:
        first, second = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for m in members:
            i, j = np.triu_indices(len(m), k=1)
            first.append(m[i])
            second.append(m[j])
        one, two = np.concatenate(first), np.concatenate(second)
        sign = np.sign(utilities[one] - utilities[two])
        differ = sign != 0
        return cls(one[differ], two[differ], sign[differ])

    def accuracy(self, scores: np.ndarray) -> float:
        """Share in the right order, [0, 1]; equal scores count half; NaN of no pair."""
        if not len(self.sign):
            return math.nan
        agreement = np.sign(scores[self.first] - scores[self.second]) * self.sign
        return float((agreement + 1.0).mean() / 2)


def set_scores(model: UtilityModel, images: np.ndarray, subsets: Sequence[Sequence[int]]) -> np.ndarray:
    """The network's scores, [G] float64, of sets of rows of its inputs `images` [N, ...]."""
    if not subsets:
        return np.zeros(0)
    with torch.no_grad():
        encodings = model.encode(torch.tensor(images))
        phi = model.embed(membership(subsets, len(images)).to(encodings) @ encodings)
        found: np.ndarray = model.score(phi).double().numpy()
    return found
