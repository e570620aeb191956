"""What chance reaches: the computed distribution against all orders, and the drawn one against it."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rambo_ray.utility_model import chance

Group = tuple[np.ndarray, np.ndarray]
TAIL = 0.025


def of(scores: str, utilities: str) -> Group:
    return np.array([float(s) for s in scores]), np.array([float(u) for u in utilities])


def all_orders(groups: list[Group]) -> dict[int, float]:
    """Probability of each count of half pairs in the right order, by trying all orders of all groups."""
    found = {0: 1.0}
    for scores, utilities in groups:
        orders = [chance.right(np.array(dealt), utilities) for dealt in itertools.permutations(scores)]
        summed: Counter[int] = Counter()
        for (total, p), (count, times) in itertools.product(found.items(), Counter(orders).items()):
            summed[total + count] += p * times / len(orders)  # type: ignore[assignment]
        found = dict(summed)
    return found


def check(groups: list[Group], limits: tuple[int, int], slack: float = 0.0) -> None:
    """That random scores are beyond each limit with TAIL at most, and that no narrower limits would do."""
    probability = all_orders(groups)
    low, high = limits
    assert sum(p for count, p in probability.items() if count < low) <= TAIL + slack + 1e-9
    assert sum(p for count, p in probability.items() if count > high) <= TAIL + slack + 1e-9
    assert sum(p for count, p in probability.items() if count < low + 1) > TAIL - slack
    assert sum(p for count, p in probability.items() if count > high - 1) > TAIL - slack


@pytest.mark.parametrize(
    "groups",
    [
        [of("123456", "123456")],
        [of("1234567", "1112223")],
        [of("1122233", "1234567")],  # scores tie, utilities do not
        [of("123456", "000001")],
        [of("12345", "11223"), of("1234", "1234"), of("112", "123")],
        [of("1111", "1234"), of("12345", "12345")],
        [of("12", "11"), of("123456", "111222")],
        [of("1111", "1122"), of("12345", "12345")],  # both tie, but the scores all of them
    ],
)
def test_limits_against_all_orders(groups: list[Group], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chance, "DEALS", 0)  # nothing is drawn
    check(groups, chance.limits(groups, TAIL, seed=0))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.integers(0, 10**6))
@hypothesis_settings(max_examples=40)
def test_the_distribution_of_any_utilities(utilities: list[int], seed: int) -> None:
    group = np.random.default_rng(seed).permutation(len(utilities)).astype(float), np.array(utilities, dtype=float)
    expected = all_orders([group])
    counts = np.unique(group[1], return_counts=True)[1].tolist()
    found = chance.inversions(counts)
    assert len(found) == chance.comparable(group[1]) + 1 and found.sum() == pytest.approx(1.0)
    assert {2 * i: p for i, p in enumerate(found) if p} == pytest.approx(expected)


def test_where_both_tie_scores_are_dealt_out_with_a_seed() -> None:
    groups = [of("1122334", "1123344"), of("1123", "1223")]
    for seed in range(3):
        limits = chance.limits(groups, TAIL, seed)
        assert limits == chance.limits(groups, TAIL, seed)
        check(groups, limits, slack=0.015)


def test_many_pairs_are_dealt_out_and_agree_with_what_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    groups = [(generator.normal(size=30), np.round(generator.normal(size=30))) for _ in range(2)]
    exact = chance.limits(groups, TAIL, 0)
    monkeypatch.setattr(chance, "MOST_PAIRS", 10)
    drawn = [chance.limits(groups, TAIL, seed) for seed in (1, 2)]
    assert drawn[0] != drawn[1]
    pairs = sum(chance.comparable(utilities) for _, utilities in groups)
    for limits in drawn:
        assert np.abs(np.subtract(limits, exact)).max() < 0.02 * 2 * pairs
