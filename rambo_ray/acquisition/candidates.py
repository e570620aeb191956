"""How the candidate batches of a step are made: R divided at random, drawn along u_hat's slope, or proposed.

The batches of a random partition (Fig. 2, line 23) are nearly equal in what they are worth, so that even a
perfect u_hat could choose little. Here are families whose batches differ, all of the same form: they are
given the rows of R, the batch size, a generator and the judge, and make `Candidates`.

Letters: C candidates that any step can look at, M of them in R, G batches of b images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

FILTER = "margin filter"  # the kind of a random batch of the smallest margins


class Judge(Protocol):
    """Decides between the candidate batches of a step. Batches are rows of the candidates, so rows go by margin."""

    def scores(self, batches: np.ndarray) -> np.ndarray:
        """How good each of batches [G, b] is, [G]; the largest is acquired."""
        ...

    def acquired(self, batch: np.ndarray) -> None:
        """Told of the batch [b] that a step acquired, before the next step."""
        ...


class Sloped(Judge, Protocol):
    """A judge that also knows in which direction its score grows."""

    def slopes(self, rows: np.ndarray) -> np.ndarray:
        """How fast the score grows towards each of `rows` [M] from what is acquired so far, [M]."""
        ...


class Candidates(NamedTuple):
    """Batches [G, b] of distinct rows, and the kind of each."""

    batches: np.ndarray
    kinds: tuple[str, ...]


# Makes candidate batches of b out of R, [M] rows; Candidates may be empty.
CandidateGenerator = Callable[[np.ndarray, int, np.random.Generator], Candidates]


def random_partition(rows: np.ndarray, b: int, generator: np.random.Generator) -> np.ndarray:
    """Line 23: R divided at random into floor(|R| / b) batches of b, [G, b]; what is left over sits out."""
    shuffled = generator.permutation(rows)
    count = len(rows) // b
    return shuffled[: count * b].reshape(count, b)


def partition(rows: np.ndarray, b: int, generator: np.random.Generator) -> Candidates:
    """`random_partition` as candidates."""
    batches = random_partition(rows, b, generator)
    return Candidates(batches, ("partition",) * len(batches))


def tilted(judge: Sloped, temperatures: Sequence[float], draws: int) -> CandidateGenerator:
    """Batches drawn without replacement with probability proportional to exp(s / T), `draws` of them at each T.

    And one that is drawn like the margin filter's, uniformly: where the judge knows nothing better, that is taken.
    s is the judge's slope towards each image, standardised over R, so that a temperature means the same
    in every step. A small T takes the steepest images only; a large one is nearly random.
    """

    def generate(rows: np.ndarray, b: int, generator: np.random.Generator) -> Candidates:
        if len(rows) < b:
            return Candidates(np.zeros((0, b), dtype=np.int64), ())
        slopes = judge.slopes(rows)
        deviation = slopes.std()
        slopes = (slopes - slopes.mean()) / deviation if deviation > 0 else np.zeros(len(rows))
        batches, kinds = [generator.permutation(rows)[:b]], [FILTER]
        for temperature in temperatures:
            for _ in range(draws):
                # Gumbel noise and the largest sums: the draw's distribution, without a loop over images.
                keys = slopes / temperature + generator.gumbel(size=len(rows))
                batches.append(rows[np.argsort(-keys, kind="stable")[:b]])
                kinds.append(f"tilted at {temperature:g}")
        return Candidates(np.stack(batches), tuple(kinds))

    return generate


def proposed(orders: Mapping[str, np.ndarray]) -> CandidateGenerator:
    """From each strategy the next b of its own order, rows [C'] of candidates, that are still in R."""

    def generate(rows: np.ndarray, b: int, generator: np.random.Generator) -> Candidates:
        batches, kinds = [], []
        for name, order in orders.items():
            left = order[np.isin(order, rows)]
            if len(left) >= b:
                batches.append(left[:b])
                kinds.append(name)
        return Candidates(np.array(batches, dtype=np.int64).reshape(-1, b), tuple(kinds))

    return generate


def mixed(*generators: CandidateGenerator) -> CandidateGenerator:
    """All candidates of several generators, in their order."""

    def generate(rows: np.ndarray, b: int, generator: np.random.Generator) -> Candidates:
        made = [make(rows, b, generator) for make in generators]
        return Candidates(
            np.concatenate([part.batches for part in made]), tuple(kind for part in made for kind in part.kinds)
        )

    return generate
