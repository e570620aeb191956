"""Paired differences against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.report.paired import difference, mean_and_error

VALUES = st.dictionaries(st.integers(0, 8), st.floats(0, 1), max_size=8)


def test_the_t_interval_in_closed_form() -> None:
    # Differences 0.2 and -0.15: mean 0.025, standard error 0.175, and t = 12.706 with one degree of freedom.
    d = difference({0: 0.7, 1: 0.5}, {0: 0.5, 1: 0.65})
    assert d.mean == pytest.approx(0.025) and (d.wins, d.seeds) == (1, 2)
    assert d.high - d.mean == pytest.approx(12.7062 * 0.175, rel=1e-4)
    assert d.low + d.high == pytest.approx(2 * d.mean) and not d.clear


def test_the_bootstrap_interval_is_that_of_all_resamples() -> None:
    # Of two seeds the mean of a resample is one of three values: 1/4 low, 1/2 middle, 1/4 high.
    d = difference({0: 0.3, 1: 0.1}, {0: 0.0, 1: 0.0})
    assert (d.bootstrap_low, d.bootstrap_high) == (pytest.approx(0.1), pytest.approx(0.3))
    spread = {seed: value for seed, value in enumerate(np.random.default_rng(1).normal(size=400))}
    d = difference(spread, dict.fromkeys(spread, 0.0))
    # Of many seeds both intervals agree.
    assert d.bootstrap_low == pytest.approx(d.low, abs=0.02) and d.bootstrap_high == pytest.approx(d.high, abs=0.02)


def test_only_common_finite_seeds_count() -> None:
    d = difference({0: 0.5, 1: math.nan, 2: 0.9, 3: 0.1}, {0: 0.4, 1: 0.4, 3: 0.2, 4: 0.0})
    assert (d.seeds, d.wins) == (2, 1) and d.mean == pytest.approx(0.0)


def test_one_seed_has_no_interval_and_none_no_mean() -> None:
    one = difference({3: 0.5}, {3: 0.25})
    assert one.mean == 0.25 and math.isnan(one.low) and math.isnan(one.bootstrap_high) and not one.clear
    none = difference({3: 0.5}, {4: 0.25})
    assert none.seeds == 0 and math.isnan(none.mean)


def test_equal_differences_leave_no_doubt() -> None:
    d = difference({0: 0.75, 1: 0.5, 2: 0.25}, {0: 0.5, 1: 0.25, 2: 0.0})
    assert d.clear and d.low == d.high == d.bootstrap_low == d.mean == 0.25


@given(VALUES, VALUES)
def test_turning_it_round_turns_the_sign(first: dict[int, float], second: dict[int, float]) -> None:
    one, other = difference(first, second), difference(second, first)
    assert one.seeds == other.seeds and one.wins + other.wins <= one.seeds
    for a, b in ((one.mean, other.mean), (one.low, other.high), (one.high, other.low)):
        assert (math.isnan(a) and math.isnan(b)) or a == pytest.approx(-b, abs=1e-12)


def test_mean_and_error() -> None:
    mean, error = mean_and_error({0: 1.0, 1: 2.0, 2: 3.0, 3: math.nan})
    assert mean == 2.0 and error == pytest.approx(1 / math.sqrt(3))
    assert all(math.isnan(v) for v in mean_and_error({}))
    assert math.isnan(mean_and_error({0: 1.0})[1])
