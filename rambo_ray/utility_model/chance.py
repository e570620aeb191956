"""What a ranking of sets reaches by chance: the distribution of Kendall's S when its scores are dealt out anew.

Sets that tie make a random ranking better or worse more easily, as fewer pairs are left to be right about, so ties
count as they are. Within a group where scores or utilities alone tie, the distribution is known exactly: S counts the
inversions of a multiset, which follow the Gaussian multinomial coefficients. Groups are dealt out independently of one
another, and their sums convolve. Where both tie in one group, or there are too many pairs, scores are dealt out with a
seed. (scipy's exact Kendall test knows no ties and no groups.)

Letters: G sets, P pairs of one group whose utilities differ. Counts are of half pairs, so that a pair of equal scores
is one and a pair in the right order two.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from rambo_ray import seeds

DEALS = 1999  # with the ranking itself 2000, of which 2.5 % are a whole number
MOST_PAIRS = 20_000  # up to which the distribution is computed: some tenths of a second
_ROUNDING = 1e-12  # of a sum of probabilities


def limits(groups: Sequence[tuple[np.ndarray, np.ndarray]], tail: float, seed: int) -> tuple[int, int]:
    """Half pairs in the right order, over all groups, that random scores fall below or exceed with `tail` each at most.

    groups: scores and utilities [G] of each group. `seed` matters only where the distribution cannot be computed.
    """
    pairs = sum(comparable(utilities) for _, utilities in groups)
    known = [_right(scores, utilities) for scores, utilities in groups] if pairs <= MOST_PAIRS else [None]
    exact = [group for group in known if group is not None]
    if len(exact) < len(known):
        return _dealt(groups, tail, seed)
    probability = functools.reduce(np.convolve, exact, np.ones(1))
    # With which probability random scores fall below each count, and exceed it.
    below = np.concatenate([[0.0], np.cumsum(probability)[:-1]])
    above = np.concatenate([np.cumsum(probability[::-1])[-2::-1], [0.0]])
    allowed = tail + _ROUNDING
    return int(np.flatnonzero(below <= allowed)[-1]), int(np.flatnonzero(above <= allowed)[0])


def comparable(utilities: np.ndarray) -> int:
    """P: pairs of a group, of these utilities, that differ."""
    return _pairs(len(utilities)) - sum(_pairs(count) for count in _counts(utilities))


def right(scores: np.ndarray, utilities: np.ndarray) -> int:
    """Half pairs of a group in the right order, 0 to 2 P."""
    return _in_order(scores, *_differing(utilities))


def _right(scores: np.ndarray, utilities: np.ndarray) -> np.ndarray | None:
    """Probability [2 P + 1] of each count of half pairs in the right order; None where both tie."""
    pairs = comparable(utilities)
    found = np.zeros(2 * pairs + 1)
    tied_scores, tied_utilities = _counts(scores), _counts(utilities)
    if len(tied_scores) <= 1:
        found[pairs] = 1.0  # each pair counts half
    elif len(tied_scores) == len(scores):
        found[::2] = inversions(tied_utilities)
    elif len(tied_utilities) == len(utilities):
        differing = inversions(tied_scores)  # the pairs of equal scores count half
        equal = pairs - (len(differing) - 1)
        found[equal : equal + 2 * len(differing) - 1 : 2] = differing
    else:
        return None
    return found


def inversions(counts: Sequence[int]) -> np.ndarray:
    """Probability of each number of inversions of a random order of a multiset with these multiplicities."""
    found, placed = np.ones(1), 0
    for count in counts:
        found = np.convolve(found, _between(placed, count))
        placed += count
    return found


def _between(low: int, high: int) -> np.ndarray:
    """Probability of each number of right pairs, [low * high + 1], of `low` equal sets and `high` equal better ones.

    The one ranked first is a better one with probability high / (low + high), and right of all lower ones then.
    """
    found = [np.ones(1) for _ in range(high + 1)]  # of no lower set and each number of better ones
    for m in range(1, low + 1):
        for a in range(1, high + 1):
            summed = np.zeros(m * a + 1)
            summed[m:] += found[a - 1] * (a / (m + a))
            summed[: (m - 1) * a + 1] += found[a] * (m / (m + a))
            found[a] = summed
    return found[high]


def _dealt(groups: Sequence[tuple[np.ndarray, np.ndarray]], tail: float, seed: int) -> tuple[int, int]:
    """The same limits, of scores dealt out DEALS times.

    A ranking by chance is as likely as any deal to be the k-th best of them all, so what it exceeds with `tail` at
    most is an order statistic, however few deals there are.
    """
    generator = seeds.generator(seed, "null")
    pairs = [(scores, *_differing(utilities)) for scores, utilities in groups]
    dealt = np.zeros(DEALS, dtype=np.int64)
    for number in range(DEALS):
        dealt[number] = sum(_in_order(generator.permutation(scores), *differing) for scores, *differing in pairs)
    dealt.sort()
    beyond = int(tail * (DEALS + 1) + _ROUNDING)
    return int(dealt[beyond - 1]), int(dealt[DEALS - beyond])


def _differing(utilities: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions [P] of both sets of each pair that differs, and the sign of the difference."""
    first, second = np.triu_indices(len(utilities), k=1)
    sign = np.sign(utilities[first] - utilities[second])
    differ = sign != 0
    return first[differ], second[differ], sign[differ]


def _in_order(scores: np.ndarray, first: np.ndarray, second: np.ndarray, sign: np.ndarray) -> int:
    return int((np.sign(scores[first] - scores[second]) * sign + 1).sum())


def _counts(values: np.ndarray) -> list[int]:
    """How often each value is there, the smallest first."""
    return np.unique(values, return_counts=True)[1].tolist()


def _pairs(count: int) -> int:
    return count * (count - 1) // 2
