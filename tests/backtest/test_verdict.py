"""The advice in worlds where we know which advice is right."""

from __future__ import annotations

import pytest

from rambo_ray.backtest.verdict import BEFORE, EVEN, RANDOM, UNEVEN, verdict
from rambo_ray.config.schema import STRATEGY_NAMES

from .worlds import played

WORLD = {BEFORE: 0.5, RANDOM: 0.6, "rambo": 0.6, "badge": 0.6, "margin": 0.6, "coreset": 0.6}


def advised(seed: int = 0, rounds: int = 12, even: bool = False, **accuracies: float):  # type: ignore[no-untyped-def]
    world = {**WORLD, **accuracies}
    found = played(world, seed=seed, rounds=rounds)
    return verdict(found, [name for name in world if name != BEFORE], even)


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


def test_where_classes_are_even_another_one_is_preferred() -> None:
    taken = [advised(seed, even=True, rambo=0.70, badge=0.70).recommended for seed in range(20)]
    assert set(taken) <= {"rambo", "badge"} and taken.count("badge") >= 18


def test_where_classes_are_even_a_clear_lead_is_one_that_the_real_purchase_keeps() -> None:
    """Of the same rounds: a lead of two or three standard errors is clear only where classes are uneven."""
    uneven, even = (
        [advised(seed, 12, even, badge=0.65).kind for seed in range(20)] for even in (False, True)
    )  # fmt: skip
    assert all(one == "clear" or other != "clear" for one, other in zip(uneven, even, strict=True))
    assert uneven.count("clear") > even.count("clear")
    assert all(advised(seed, 12, True, badge=0.85).kind == "clear" for seed in range(5))


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
        verdict(played(WORLD), [RANDOM], True)


def test_every_method_that_can_be_played_has_a_place() -> None:
    for order in (EVEN, UNEVEN):
        assert sorted(order) == sorted(set(STRATEGY_NAMES) - {RANDOM, "margin_accepted"})
