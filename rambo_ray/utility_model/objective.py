"""The loss of u_hat on a set of pairs (Definition 4), as a function of its weights.

Each unique image is encoded once, whatever the number of pairs it is in; sets are pooled by a
membership matrix. Memory is O(k) encodings and O(P (k + D)) numbers, never one encoding per image and
pair.

Letters: P pairs, k images of S_0, D, q and G as in `utility_model.network`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from rambo_ray.utility_model import losses, sharding
from rambo_ray.utility_model.network import UtilityModel, membership, standardisation


@dataclass(frozen=True)
class Pairs:
    """P pairs of equal-size subsets of S_0, as plain data.

    first, second: positions in S_0; utility [P, 2] (NaN until known); otdd [P, 2], not yet divided.
    """

    first: tuple[tuple[int, ...], ...]
    second: tuple[tuple[int, ...], ...]
    utility: np.ndarray
    otdd: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    @property
    def sizes(self) -> np.ndarray:
        """Images per subset, [P]."""
        return np.array([len(subset) for subset in self.first], dtype=np.int64)

    def take(self, positions: Sequence[int] | np.ndarray) -> Pairs:
        """The pairs at `positions`, in that order."""
        return Pairs(
            tuple(self.first[i] for i in positions),
            tuple(self.second[i] for i in positions),
            self.utility[positions],
            self.otdd[positions],
        )

    def with_utility(self, utility: np.ndarray) -> Pairs:
        """The same pairs with utilities, [P, 2]."""
        return Pairs(self.first, self.second, utility, self.otdd)

    @staticmethod
    def join(groups: Sequence[Pairs]) -> Pairs:
        """All pairs of several groups, in order."""
        return Pairs(
            tuple(s for g in groups for s in g.first),
            tuple(s for g in groups for s in g.second),
            np.concatenate([g.utility for g in groups]),
            np.concatenate([g.otdd for g in groups]),
        )


@dataclass(frozen=True)
class TargetScale:
    """Units of the targets: OTDDs are divided by `ot`; a regression predicts (u - mean) / deviation."""

    ot: float
    utility_mean: float
    utility_deviation: float

    @classmethod
    def of(cls, offline: Pairs) -> TargetScale:
        """The scale that the offline pairs define; a constant column keeps a divisor of 1."""
        ot, deviation = float(offline.otdd.mean()), float(offline.utility.std())
        return cls(ot if ot > 0 else 1.0, float(offline.utility.mean()), deviation if deviation > 0 else 1.0)


class Objective:
    """Mean over pairs of L_Rank + lambda_ot L_OT (Definition 4), sharded over a group of workers."""

    def __init__(
        self,
        model: UtilityModel,
        images: Tensor,
        k: int,
        pairs: Pairs,
        scale: TargetScale,
        lambda_ot: float,
        group: sharding.Group,
    ) -> None:
        """Lay out `pairs`; `images` are those of S_0, prepared by `model`, whose weights each call gets instead."""
        self.model, self.images, self.group, self.lambda_ot = model, images, group, lambda_ot
        self.names = [name for name, _ in model.named_parameters()]
        self.shared = [i for i, name in enumerate(self.names) if not name.startswith("extractor.")]
        self.shards = [
            _Shard(pairs.take(np.arange(shard, len(pairs), group.shards)), len(pairs), k, images, scale)
            for shard in group.local
        ]

    def __call__(self, weights: Sequence[Tensor]) -> Tensor:
        """The loss at `weights`, in the order of `model.named_parameters()`; a scalar, equal on all workers."""
        named = dict(zip(self.names, weights, strict=True))
        encodings = functional_call(self.model, named, (self.images,))
        mean, deviation = standardisation(encodings)
        copies = sharding.fan([encodings, mean, deviation, *(weights[i] for i in self.shared)], self.group)
        parts = []
        for shard, (shard_encodings, shard_mean, shard_deviation, *heads) in zip(self.shards, copies, strict=True):
            local = {self.names[i]: head for i, head in zip(self.shared, heads, strict=True)}
            parts.append(self._shard_loss(shard, shard_encodings, shard_mean, shard_deviation, local))
        return sharding.total(parts, self.group)

    def _shard_loss(
        self, shard: _Shard, encodings: Tensor, mean: Tensor, deviation: Tensor, heads: dict[str, Tensor]
    ) -> Tensor:
        pooled = shard.membership @ encodings
        score, ot = functional_call(
            self.model, heads, (pooled,), {"mean": mean, "deviation": deviation, "of_sets": True}
        )
        (score_1, score_2), (ot_1, ot_2) = score.chunk(2), ot.chunk(2)
        if self.model.architecture.objective == "ranknet":
            loss = losses.ranking(score_1, score_2, shard.target)
        else:
            loss = losses.regression(score_1, score_2, *shard.utility)
        if self.lambda_ot > 0:
            loss = loss + self.lambda_ot * losses.ot_distance(ot_1, ot_2, *shard.otdd)
        return loss.sum() / shard.total_pairs


class _Shard:
    """The tensors of one shard's pairs: both members of every pair stacked, first members first."""

    def __init__(self, pairs: Pairs, total_pairs: int, k: int, images: Tensor, scale: TargetScale) -> None:
        self.total_pairs = total_pairs
        self.membership = membership([*pairs.first, *pairs.second], k, images.dtype).to(images)
        raw = torch.as_tensor(pairs.utility, dtype=torch.float64)
        self.target = losses.targets(raw[:, 0], raw[:, 1]).to(images)
        standard = (raw - scale.utility_mean) / scale.utility_deviation
        self.utility = standard.to(images).unbind(1)
        self.otdd = (torch.as_tensor(pairs.otdd, dtype=torch.float64) / scale.ot).to(images).unbind(1)


def split_by_length(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of D_tr and D_val (Section 3.2): sizes up to the median, and longer ones.

    Where nothing is longer than the median, D_tr is what is shorter. Raises ValueError where all
    sizes are equal, since then there is no longer half to generalise to.
    """
    median = np.median(sizes)
    longer = sizes > median
    if not longer.any():
        longer = sizes >= median
    if longer.all():
        raise ValueError(
            f"all {len(sizes)} pairs have subsets of {int(median)} images: the bilevel fit needs shorter and longer "
            "ones; lower utility_samples.min_size, raise utility_samples.num_pairs or set utility_model.bilevel=false"
        )
    return np.flatnonzero(~longer), np.flatnonzero(longer)


def ranking_accuracy(scores: np.ndarray, utilities: np.ndarray) -> float:
    """Share of pairs, [P, 2] each, that `scores` put in the order of `utilities`; NaN where all tie.

    Pairs of equal utility have no order and do not count; equal scores count half.
    """
    true, guess = np.sign(utilities[:, 0] - utilities[:, 1]), np.sign(scores[:, 0] - scores[:, 1])
    decided = true != 0
    return float(np.mean(0.5 * (1 + true[decided] * guess[decided]))) if decided.any() else float("nan")
