"""Mock rounds: purchases played with images whose labels are known.

Half of S_val plays the pool, the other half judges; then they change places. A mock round is S_0 together
with T, images of the half that plays: f is trained on both and scored on the half that judges. So its
sets have the size, the role and the labels of a real purchase, which subsets of S_0 have not. Images that
annotators have refused before play too: they are counted in T and teach f nothing, as they would.

T is drawn with contrast: with probability proportional to exp(theta . z), z an image's evidence
(`rambo_ray.utility_model.evidence`), theta of random direction and of one of `STRENGTHS`. Uniform draws of one size
are worth nearly the same, and what differs is the noise of a retraining.

Positions in a round count through S_0, then S_val, then what was rejected. Letters: k images in S_0, V in
S_val, R rejected, F numbers of evidence.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np

from rambo_ray import seeds
from rambo_ray.config.schema import UtilitySamplesConfig
from rambo_ray.data.problem import NONE
from rambo_ray.utility_samples.sampling import UtilitySample, as_positions, sample_id

# Lengths of theta, each as likely: from uniform draws to sets of one kind of image.
STRENGTHS = (0.0, 0.5, 1.0, 2.0)

# How rounds are drawn and judged is part of their samples' identity: raise it with a change.
RULE = 1


@dataclass(frozen=True)
class MockPool:
    """S_val and what was rejected, by the half that an image plays in.

    labels int64 [V + R], NONE for what was rejected; half int8 [V + R], 0 or 1. k: images in S_0.
    """

    k: int
    labels: np.ndarray
    half: np.ndarray

    @classmethod
    def of(cls, k: int, validation_labels: np.ndarray, rejected: int, seed: int) -> MockPool:
        """S_val's labels [V] and R rejected images in two halves, alike in their classes."""
        labels = np.concatenate([validation_labels, np.full(rejected, NONE, dtype=np.int64)])
        return cls(k, labels, parts(labels, 2, seeds.generator(seed, "halves")).astype(np.int8))

    @property
    def teaching(self) -> int:
        """k + V: positions of images that f learns something from are below this."""
        return self.k + int((self.labels != NONE).sum())

    def judging(self, fold: int) -> np.ndarray:
        """Positions in S_val of the images that judge where half `fold` plays."""
        return np.flatnonzero((self.half != fold) & (self.labels != NONE))

    def playing(self, fold: int) -> np.ndarray:
        """Positions in S_val and what was rejected of the images that half `fold` puts into its pool."""
        return np.flatnonzero(self.half == fold)

    def bought(self, sample: UtilitySample) -> np.ndarray:
        """T of a round, as positions in S_val and what was rejected."""
        return np.array(sample.indices[self.k :], dtype=np.int64) - self.k

    def identity(self, identity: str, fold: int) -> str:
        """What a round's measurement depends on besides its images; `identity` is that of a subset's."""
        judging = hashlib.sha256(self.judging(fold).astype("<i8").tobytes()).hexdigest()[:16]
        return json.dumps([identity, "mock_round", RULE, fold, judging])


def parts(labels: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """A part in 0..count-1 for each of labels [n], drawn so that the parts are alike in their classes, int64 [n]."""
    found = np.zeros(len(labels), dtype=np.int64)
    start = 0
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        # Each class goes on where the one before stopped, so that the parts are equal in size, too.
        found[members] = (start + np.arange(len(members))) % count
        start += len(members)
    return found


def round_sizes(config: UtilitySamplesConfig, validation: int, playing: int) -> tuple[int, int]:
    """The fewest and the most images of a round.

    validation: images in S_val; playing: in the smaller half. Raises ValueError, in one line, for sizes that leave
    nothing to draw or nothing longer to hold out.
    """
    low = config.min_round if config.min_round is not None else max(validation // 40, 2)
    high = config.max_round if config.max_round is not None else max(3 * validation // 10, low)
    if low > high:
        raise ValueError(f"utility_samples.min_round={low}: must not exceed utility_samples.max_round={high}; lower it")
    if high >= playing:
        raise ValueError(
            f"utility_samples.max_round={high}: must be below {playing}, the images of half of S_val; lower it, or "
            "give more validation images"
        )
    return low, high


def held_out_sizes(high: int, playing: int) -> tuple[int, int]:
    """Sizes of the rounds that u_hat is judged on: longer than all it is fitted to, and within the half that plays."""
    longest = max(min(round(4 * high / 3), (high + playing) // 2), high + 1)
    return max((high + longest) // 2, high + 1), longest


def draw(
    size: int, fold: int, pool: MockPool, evidence: np.ndarray | None, generator: np.random.Generator
) -> tuple[int, ...]:
    """One T of `size` images of half `fold`, as sorted positions in S_0, S_val and what was rejected, S_0's included.

    evidence [V + R, F] standardised; None draws uniformly.
    """
    items = pool.playing(fold)
    strength = STRENGTHS[int(generator.integers(len(STRENGTHS)))]
    # Gumbel noise and the largest sums: draws without replacement with probabilities proportional to exp.
    keys = generator.gumbel(size=len(items))
    if evidence is not None:
        direction = generator.normal(size=evidence.shape[1])
        # Products and sums in a fixed order: BLAS would round a tie differently from CPU to CPU.
        tilt = (evidence[items].astype(np.float64) * direction).sum(axis=1)
        keys = keys + strength * tilt / float(np.linalg.norm(direction))
    chosen = items[np.argsort(-keys, kind="stable")[:size]]
    return as_positions(np.concatenate([np.arange(pool.k), np.sort(chosen) + pool.k]))


def pairs(
    count: int,
    sizes: tuple[int, int],
    pool: MockPool,
    evidence: np.ndarray | None,
    seed: int,
    identity: str,
    first_pair_id: int,
) -> list[UtilitySample]:
    """The 2 P rounds of P pairs, each of one half and one size; pair i never depends on P."""
    samples = []
    for i in range(count):
        generator = seeds.generator(seed, "rounds", 0, i)
        fold, size = i % 2, int(generator.integers(sizes[0], sizes[1] + 1))
        for _ in range(2):
            samples.append(
                _sample(draw(size, fold, pool, evidence, generator), fold, pool, identity, first_pair_id + i)
            )
    return samples


def held_out(
    count: int, sizes: tuple[int, int], pool: MockPool, evidence: np.ndarray | None, seed: int, identity: str
) -> list[UtilitySample]:
    """`count` rounds that u_hat is never fitted to, dealt out over both halves and both sizes."""
    samples = []
    for i in range(count):
        generator = seeds.generator(seed, "rounds", 1, i)
        fold, size = i % 2, sizes[(i // 2) % 2]
        samples.append(_sample(draw(size, fold, pool, evidence, generator), fold, pool, identity, -1))
    return samples


def _sample(indices: tuple[int, ...], fold: int, pool: MockPool, identity: str, pair_id: int) -> UtilitySample:
    return UtilitySample(
        sample_id(indices, pool.identity(identity, fold)), pair_id, -1, "retrained", indices, fold=fold
    )
