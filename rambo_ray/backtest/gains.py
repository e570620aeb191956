"""What played rounds say of each method: its expected gain over random, and how sure it is.

Rounds are not independent of each other: all are played with the same S_val, and an image judges in many of
them. So a difference is taken judge by judge and round by round, and the variance of its mean is that of two
crossed samples, of rounds and of images (Cameron, Gelbach and Miller, "Robust Inference with Multiway Clustering",
2011): more rounds make an interval shorter only down to what the number of labelled images allows.

Letters: R rounds, V images of S_val, J judges of a round, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t

LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Round:
    """One played round: who judged, and after which method f knew them.

    judges int64 [J]: positions in S_val; right [methods, J]: shares of draws; classes [methods, K + 1]: what was
    bought, by class and of none; seconds [methods].
    """

    number: int
    judges: np.ndarray
    methods: tuple[str, ...]
    right: np.ndarray
    classes: np.ndarray
    seconds: np.ndarray

    def of(self, method: str) -> np.ndarray:
        """The row of a method in `right`."""
        found: np.ndarray = self.right[self.methods.index(method)]
        return found


@dataclass(frozen=True)
class Gain:
    """A mean difference of accuracies, a fraction, with its standard error and 95 % interval; NaN below two rounds."""

    mean: float
    error: float
    low: float
    high: float
    rounds: int
    ahead: int  # rounds

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def gain(rounds: Sequence[Round], method: str, against: str) -> Gain:
    """What `method` gains over `against`, over all `rounds`. Raises ValueError for no rounds."""
    if not rounds:
        raise ValueError("rounds: none were played")
    differences = [r.of(method) - r.of(against) for r in rounds]
    means = np.array([d.mean() for d in differences])
    mean, count = float(means.mean()), len(rounds)
    if count < 2:
        return Gain(mean, math.nan, math.nan, math.nan, count, int((means > 0).sum()))
    size = 1 + max(int(r.judges.max()) for r in rounds)
    by_image, by_cell = np.zeros(size), 0.0
    judged = np.zeros(size, dtype=bool)
    for r, d in zip(rounds, differences, strict=True):
        centred = (d - mean) / len(d) / count  # what a judge adds to the mean, in this round
        np.add.at(by_image, r.judges, centred)
        judged[r.judges] = True
        by_cell += float((centred**2).sum())
    images = int(judged.sum())
    of_rounds = float(((means - mean) ** 2).sum()) / count**2 * count / (count - 1)
    of_images = float((by_image**2).sum()) * images / max(images - 1, 1)
    # The noise of single cells is in both. Where little else is in one of them, the difference may fall below either.
    variance = max(of_rounds + of_images - by_cell, of_rounds, of_images)
    error = math.sqrt(variance)
    reach = error * float(student_t.ppf((1 + LEVEL) / 2, min(count, images) - 1))
    return Gain(mean, error, mean - reach, mean + reach, count, int((means > 0).sum()))
