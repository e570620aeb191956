"""Two methods compared seed by seed: the difference, how sure it is, and how often it is ahead.

The data of one seed can be several times further from that of another than two methods are apart,
so only differences within a seed say anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap, sem
from scipy.stats import t as student_t

RESAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class PairedDifference:
    """One method's value minus another's over the seeds that both have.

    low, high: the 95 % Student t interval of the mean difference, NaN below two seeds;
    bootstrap_low, bootstrap_high: the 95 % percentile bootstrap interval, which is too short for few
    seeds (three that agree in sign always leave 0 out); wins: seeds at which the first is ahead.
    """

    mean: float
    low: float
    high: float
    bootstrap_low: float
    bootstrap_high: float
    wins: int
    seeds: int

    @property
    def clear(self) -> bool:
        """Whether the t interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def difference(first: Mapping[int, float], second: Mapping[int, float]) -> PairedDifference:
    """`first` minus `second`, values by seed; only finite values of common seeds count, NaN where there are none."""
    common = sorted(seed for seed in first.keys() & second.keys() if math.isfinite(first[seed] - second[seed]))
    values = np.array([first[seed] - second[seed] for seed in common], dtype=np.float64)
    nan = math.nan
    if len(values) == 0:
        return PairedDifference(nan, nan, nan, nan, nan, 0, 0)
    mean = float(values.mean())
    low = high = boot_low = boot_high = nan
    if len(values) > 1:
        if np.ptp(values) == 0:  # no spread: scipy has no interval, here both are the one value
            low = high = boot_low = boot_high = mean
        else:
            low, high = (float(v) for v in student_t.interval(LEVEL, len(values) - 1, loc=mean, scale=sem(values)))
            # The generator is fixed: an interval must not depend on what was compared before it.
            drawn = bootstrap(
                (values,), np.mean, n_resamples=RESAMPLES, confidence_level=LEVEL, method="percentile", rng=0
            ).confidence_interval
            boot_low, boot_high = float(drawn.low), float(drawn.high)
    return PairedDifference(mean, low, high, boot_low, boot_high, int((values > 0).sum()), len(values))


def mean_and_error(values: Mapping[int, float]) -> tuple[float, float]:
    """Mean and standard error over seeds; NaN below one and below two."""
    found = np.array([v for v in values.values() if math.isfinite(v)], dtype=np.float64)
    mean = float(found.mean()) if len(found) else math.nan
    return mean, float(sem(found)) if len(found) > 1 else math.nan
