"""The advice in worlds where we know which advice is right."""

from __future__ import annotations

import pytest

from rambo_ray.backtest.verdict import BEFORE, PREFERENCE, RANDOM, verdict
from rambo_ray.config.schema import STRATEGY_NAMES

from .worlds import played

WORLD = {BEFORE: 0.5, RANDOM: 0.6, "rambo": 0.6, "badge": 0.6, "margin": 0.6, "coreset": 0.6}


def advised(seed: int = 0, rounds: int = 12, **accuracies: float):  # type: ignore[no-untyped-def]
    world = {**WORLD, **accuracies}
    found = played(world, seed=seed, rounds=rounds)
    return verdict(found, [name for name in world if name != BEFORE])


@pytest.mark.parametrize("better", ["rambo", "badge", "coreset"])
def test_the_method_that_is_truly_better_is_recommended(better: str) -> None:
    for seed in range(10):
        found = advised(seed, **{better: 0.72})
        assert found.recommended == better and found.kind == "clear" and found.best.method == better
        assert f"Recommended: {better}." in found.sentences


def test_where_all_are_equal_random_is_as_good_and_that_is_said() -> None:
    kinds = []
    for seed in range(30):
        found = advised(seed)
        kinds.append(found.kind)
        if found.kind == "equal":
            assert found.recommended == RANDOM
        if found.kind != "clear":
            assert any("random" in s and "as good" in s.replace("is as good", "as good") for s in found.sentences)
    assert kinds.count("clear") <= 4  # the best of four, each beyond the noise in one of forty


def test_where_all_are_worse_random_is_recommended() -> None:
    for seed in range(10):
        found = advised(seed, rambo=0.5, badge=0.5, margin=0.5, coreset=0.5)
        assert found.recommended == RANDOM and found.kind == "equal"
        assert any("Recommended: random" in sentence for sentence in found.sentences)


def test_of_methods_that_are_as_good_as_each_other_the_preferred_is_taken() -> None:
    taken = [advised(seed, rambo=0.70, coreset=0.70).recommended for seed in range(20)]
    assert set(taken) <= {"rambo", "coreset"} and taken.count("rambo") >= 14


def test_what_is_clearly_behind_is_not_preferred() -> None:
    assert all(advised(seed, rambo=0.62, badge=0.75).recommended == "badge" for seed in range(10))


def test_standings_are_in_order_and_the_best_is_behind_nobody() -> None:
    found = advised(3, badge=0.7)
    gains = [s.over_random.mean for s in found.standings]
    assert gains == sorted(gains, reverse=True)
    assert found.best.behind.mean == 0.0 and all(s.behind.mean >= 0 for s in found.standings)
    for s in found.standings:
        assert s.behind.mean == pytest.approx(found.best.over_random.mean - s.over_random.mean)
        assert s.accuracy == pytest.approx(found.random + s.over_random.mean)


def test_there_is_nothing_to_say_of_random_alone() -> None:
    with pytest.raises(ValueError, match="none beside random"):
        verdict(played(WORLD), [RANDOM])


def test_every_method_that_can_be_played_has_a_place() -> None:
    assert set(PREFERENCE) == set(STRATEGY_NAMES) - {RANDOM, "margin_accepted"}
