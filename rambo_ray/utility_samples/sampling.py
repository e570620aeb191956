"""Utility samples: subsets of S_0 together with what a classifier trained on them is worth.

This module says which subsets are drawn and what a sample's identity is; `measuring` measures
them, `store` keeps them, `rambo_ray.utility_model.interpolation` makes further ones without training (Def. 5).

Letters: k images in S_0, P offline pairs, n interpolated pairs per iteration, d images in a subset.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from rambo_ray import seeds

Utility = Literal["accuracy", "soft_accuracy", "neg_val_loss"]
Kind = Literal["retrained", "interpolated"]

# Held-out subsets have this share of S_0: longer than the typical pair, and still different
# enough from one another for a ranking of them to mean something.
HELD_OUT_SHARE = 0.75

_POSITIONS = tuple(range(1 << 16))


@dataclass(frozen=True, slots=True)
class Training:
    """One training of f on a set, scored on the images that judge it; see `Measurement` for the units."""

    accuracy: float
    soft_accuracy: float
    val_loss: float
    epochs: int
    images_seen: int
    seconds: float


@dataclass(frozen=True)
class Trainings:
    """The trainings behind a measurement, repeat by repeat, and whose they are.

    training_id: content hash of the set and of all that a training of it depends on, but neither of how many there
    are nor of the OTDD. data: fingerprint of S_0, S_val and their normalisation; rule: the training rule, in a word
    and its digest.
    """

    training_id: str
    data: str
    seed: int
    rule: str
    trainings: tuple[Training, ...]


@dataclass(frozen=True, slots=True)  # a run holds one for each of its samples
class Measurement:
    """What was measured of one subset; means over `repeats` trainings, population deviations.

    Accuracies are fractions of S_val in [0, 1], val_loss is the mean cross-entropy in nats, otdd is
    in halved squared feature units, seconds is the time of all the trainings together.
    """

    accuracy: float
    soft_accuracy: float
    val_loss: float
    accuracy_std: float
    soft_accuracy_std: float
    val_loss_std: float
    otdd: float
    epochs: int
    images_seen: int
    seconds: float

    @classmethod
    def of(cls, trainings: Sequence[Training], otdd: float) -> Measurement:
        """That of a set which was trained on so often; of none: NaN and 0, and the OTDD alone."""
        means = deviations = [math.nan] * 3
        if len(trainings) == 1:
            means, deviations = [trainings[0].accuracy, trainings[0].soft_accuracy, trainings[0].val_loss], [0.0] * 3
        elif trainings:
            values = np.array([[t.accuracy, t.soft_accuracy, t.val_loss] for t in trainings])
            means, deviations = values.mean(axis=0).tolist(), values.std(axis=0).tolist()
        return cls(
            accuracy=means[0],
            soft_accuracy=means[1],
            val_loss=means[2],
            accuracy_std=deviations[0],
            soft_accuracy_std=deviations[1],
            val_loss_std=deviations[2],
            otdd=otdd,
            epochs=sum(t.epochs for t in trainings),
            images_seen=sum(t.images_seen for t in trainings),
            seconds=sum(t.seconds for t in trainings),
        )

    @property
    def odd(self) -> str | None:
        """Which score of a trained set is not finite, in words; None where all are."""
        names = ("accuracy", "soft_accuracy", "val_loss", "accuracy_std", "soft_accuracy_std", "val_loss_std")
        return next((f"its {n} is {getattr(self, n)}" for n in names if not math.isfinite(getattr(self, n))), None)

    def utility(self, which: Utility) -> float:
        """u(subset) as the configuration chose it; larger is better."""
        return -self.val_loss if which == "neg_val_loss" else float(getattr(self, which))


@dataclass(frozen=True, slots=True)  # a run holds one for each of its samples
class UtilitySample:
    """A set's place in the method, and its measurement once there is one.

    pair_id numbers the pair it was drawn in (-1: none, a prefix S_i or a held-out set);
    iteration is -1 offline and i for what belongs to S_i. Interpolated samples have a utility but
    never were trained: their measurement holds only the OTDD, the rest is NaN. fold is -1 for a subset
    of S_0, and for a mock round the half that plays the pool; its indices go on, after the k of S_0,
    through S_val and what was rejected (`mock_rounds`).
    """

    sample_id: str
    pair_id: int
    iteration: int
    kind: Kind
    indices: tuple[int, ...]
    measurement: Measurement | None = None
    utility: float = float("nan")
    fold: int = -1

    @property
    def size(self) -> int:
        """d, images in the set, S_0's included."""
        return len(self.indices)

    def measured(self, measurement: Measurement, which: Utility) -> UtilitySample:
        """This sample with its measurement and the utility that follows from it."""
        return replace(self, measurement=measurement, utility=measurement.utility(which))


def noise_floor(samples: Sequence[UtilitySample], which: Utility, repeats: int) -> float:
    """Standard error of a sample's utility, pooled over measured samples that were each trained `repeats` times.

    Two utilities that differ by less than sqrt(2) of it are not told apart. 0 where each was trained once: then
    nothing is known of it.
    """
    name = {"neg_val_loss": "val_loss"}.get(which, which) + "_std"
    variances = [getattr(s.measurement, name) ** 2 for s in samples if s.measurement is not None]
    if repeats < 2 or not variances:
        return 0.0
    return float(np.sqrt(np.mean(variances) / (repeats - 1)))  # population deviations, of a mean of `repeats`


def sample_id(indices: Sequence[int], identity: str) -> str:
    """Content hash of a utility sample, 32 hexadecimal digits.

    `identity` holds everything else a measurement depends on: fingerprint of S_0 and S_val,
    classifier and training rule, seed, repeats, OTDD settings (see `measuring.MeasurementSettings.identity`).
    """
    content = json.dumps([identity, sorted(int(i) for i in indices)])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def as_positions(array: np.ndarray) -> tuple[int, ...]:
    """Positions as samples keep them. Equal ones are one object: many large sets would hold as many as positions."""
    found = array.tolist()
    if not found or max(found) >= len(_POSITIONS):
        return tuple(found)
    return tuple(map(_POSITIONS.__getitem__, found))


def draw_pair(
    generator: np.random.Generator, k: int, min_size: int, sizes: Literal["uniform", "powerset"]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two different subsets of range(k), of one size d with min_size <= d < k, sorted.

    uniform: d uniform, then both subsets uniform among those of that size. powerset: both subsets
    uniform in 2^S_0, drawn anew until their sizes agree (Section 3.1 c). d = k is left out: there
    is only one such subset and it has nothing to be compared with.
    """
    if not 1 <= min_size < k:
        raise ValueError(f"min_size={min_size}: must be at least 1 and below k={k}")
    while True:
        if sizes == "uniform":
            d = int(generator.integers(min_size, k))
            first, second = (np.sort(generator.choice(k, d, replace=False)) for _ in range(2))
        else:
            # Both members are drawn anew together: keeping one would favour common sizes.
            draws = generator.integers(0, 2, size=(256, 2, k), dtype=np.uint8)
            counts = draws.sum(axis=2, dtype=np.int64)
            hit = (counts[:, 0] == counts[:, 1]) & (counts[:, 0] >= min_size) & (counts[:, 0] < k)
            if not hit.any():
                continue
            pair = draws[int(np.argmax(hit))]
            first, second = np.flatnonzero(pair[0]), np.flatnonzero(pair[1])
        if not np.array_equal(first, second):
            return as_positions(first), as_positions(second)


def offline_pairs(
    num_pairs: int, k: int, min_size: int, sizes: Literal["uniform", "powerset"], seed: int, identity: str
) -> list[UtilitySample]:
    """The 2 P samples of the offline pairs (Section 3.1 c); pair i never depends on P.

    So a larger P extends a smaller one, and what was trained for it stays valid.
    """
    samples = []
    for pair in range(num_pairs):
        for indices in draw_pair(seeds.generator(seed, "pairs", pair), k, min_size, sizes):
            samples.append(UtilitySample(sample_id(indices, identity), pair, -1, "retrained", indices))
    return samples


def nested_samples(sizes: Sequence[int], seed: int, identity: str) -> list[UtilitySample]:
    """S_0, ..., S_tau_1 of Fig. 2 line 4: random nested sets of the given sizes, the last one all of S_0."""
    order = seeds.generator(seed, "nested_sets").permutation(sizes[-1])
    samples = []
    for i, size in enumerate(sizes):
        indices = as_positions(np.sort(order[:size]))
        samples.append(UtilitySample(sample_id(indices, identity), -1, i, "retrained", indices))
    return samples


def held_out_samples(count: int, k: int, seed: int, identity: str) -> list[UtilitySample]:
    """Subsets of one size (3/4 k) that u_hat is judged on and never fitted to; all comparable with all."""
    d = held_out_size(k)
    samples = []
    for i in range(count):
        drawn = seeds.generator(seed, "held_out", i).choice(k, d, replace=False)
        indices = as_positions(np.sort(drawn))
        samples.append(UtilitySample(sample_id(indices, identity), -1, -1, "retrained", indices))
    return samples


def held_out_size(k: int) -> int:
    """Images of a subset that u_hat is judged on."""
    return min(max(round(HELD_OUT_SHARE * k), 1), k - 1)


def interpolation_pairs(
    nested_sets: Sequence[UtilitySample], n: int, first_pair_id: int, min_size: int, seed: int, identity: str
) -> list[UtilitySample]:
    """For each iteration i < tau_1, n equal-size pairs drawn from S_i (Fig. 2 line 31), without utilities yet."""
    samples = []
    for i, prefix in enumerate(nested_sets[:-1]):
        members = np.array(prefix.indices)
        low = min(min_size, len(members) - 1)
        for j in range(n):
            pair = draw_pair(seeds.generator(seed, "interpolation", i, j), len(members), low, "uniform")
            for positions in pair:
                indices = as_positions(np.sort(members[list(positions)]))
                pair_id = first_pair_id + i * n + j
                samples.append(UtilitySample(sample_id(indices, identity), pair_id, i, "interpolated", indices))
    return samples
