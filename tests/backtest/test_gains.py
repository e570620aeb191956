"""A gain and its interval: closed forms where there are any, and how often the interval holds the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rambo_ray.backtest.gains import Round, gain

from .worlds import played


def round_of(number: int, judges: list[int], **right: list[float]) -> Round:
    values = np.array(list(right.values()))
    return Round(number, np.array(judges), tuple(right), values, np.zeros((len(values), 2)), np.zeros(len(values)))


def test_a_gain_is_the_mean_of_the_rounds_differences() -> None:
    rounds = [round_of(0, [0, 1], a=[1, 1], b=[1, 0]), round_of(1, [2, 3], a=[1, 0], b=[0, 0])]
    found = gain(rounds, "a", "b")
    assert found.mean == 0.5 and found.rounds == 2 and found.ahead == 2
    assert found.error == 0.5 * math.sqrt(4 / 3 * 1 / 4)  # four images, each its own cell: those of b - a, over 4


def test_the_same_in_every_round_has_an_interval_of_no_width() -> None:
    rounds = [round_of(i, [0, 1], a=[1, 1], b=[0, 0]) for i in range(4)]
    found = gain(rounds, "a", "b")
    assert (found.mean, found.low, found.high, found.error) == (1.0, 1.0, 1.0, 0.0) and found.clear


def test_rounds_with_the_same_judges_are_no_new_images() -> None:
    """A hundred rounds that say the same of ten images know no more than one round does."""
    judges = list(range(10))
    a, b = [1.0] * 6 + [0.0] * 4, [0.0] * 4 + [1.0] * 6
    few = gain([round_of(i, judges, a=a, b=b) for i in range(2)], "a", "b")
    many = gain([round_of(i, judges, a=a, b=b) for i in range(100)], "a", "b")
    assert many.error == pytest.approx(few.error) and few.error == pytest.approx(np.std(np.subtract(a, b)) / 3)


def test_one_round_has_no_interval_and_no_round_no_gain() -> None:
    found = gain([round_of(0, [0], a=[1], b=[0])], "a", "b")
    assert found.mean == 1.0 and math.isnan(found.low) and not found.clear
    with pytest.raises(ValueError, match="none were played"):
        gain([], "a", "b")


@pytest.mark.parametrize("of_rounds", [0.0, 0.02])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(of_rounds: float) -> None:
    """300 worlds in which a is truly 3 points ahead of b; 95 % are 285, and chance leaves 276 to 294."""
    held, widths, naive = 0, [], 0
    for seed in range(300):
        rounds = played({"a": 0.73, "b": 0.70}, seed=seed, of_rounds=of_rounds)
        found = gain(rounds, "a", "b")
        held += found.low <= 0.03 <= found.high
        widths.append(found.high - found.low)
        means = np.array([float((r.of("a") - r.of("b")).mean()) for r in rounds])
        reach = 2.2 * means.std(ddof=1) / math.sqrt(len(means))
        naive += abs(means.mean() - 0.03) <= reach
    assert 273 <= held <= 298
    assert naive < held  # rounds taken for independent of each other promise too much
    assert max(widths) < 0.25


def test_more_rounds_narrow_an_interval_only_down_to_what_the_images_allow() -> None:
    def error(rounds: int, images: int) -> float:
        return float(np.mean([gain(played({"a": 0.7, "b": 0.7}, rounds=rounds, images=images, seed=s), "a", "b").error
                              for s in range(10)]))  # fmt: skip

    few, many, lots = error(6, 400), error(24, 400), error(24, 1600)
    assert many < few and many > 0.45 * few * math.sqrt(6 / 24) * 2  # twice as many halves it at best
    assert lots == pytest.approx(many / 2, rel=0.25)
