"""Families of candidate batches: what a draw along a slope favours, and what none of them may do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.acquisition.candidates import FILTER, Candidates, mixed, partition, proposed, tilted


class Slope:
    """A judge that knows only where it is uphill: by the row."""

    def __init__(self, slopes: np.ndarray) -> None:
        self.known, self.asked = slopes, 0

    def slopes(self, rows: np.ndarray) -> np.ndarray:
        self.asked += 1
        return self.known[rows]

    def scores(self, batches: np.ndarray) -> np.ndarray:
        return np.zeros(len(batches))

    def acquired(self, batch: np.ndarray) -> None:
        pass


def sound(found: Candidates, rows: np.ndarray, b: int) -> None:
    assert found.batches.shape == (len(found.kinds), b)
    for batch in found.batches:
        assert len(set(batch.tolist())) == b and set(batch) <= set(rows)


ROWS = st.lists(st.integers(0, 60), min_size=1, max_size=30, unique=True).map(lambda rows: np.array(sorted(rows)))


class TestAllFamilies:
    @given(ROWS, st.integers(1, 12), st.integers(0, 2**31), st.integers(1, 4))
    def test_batches_of_distinct_rows_of_R(self, rows: np.ndarray, b: int, seed: int, draws: int) -> None:
        judge = Slope(np.random.default_rng(seed).normal(size=61))
        orders = {name: np.random.default_rng(i).permutation(61) for i, name in enumerate("xyz")}
        families = [partition, tilted(judge, (0.1, 1.0), draws), proposed(orders)]
        families.append(mixed(*families))
        made = []
        for generate in families:
            found = generate(rows, b, np.random.default_rng(seed))
            sound(found, rows, b)
            assert bool(len(found.batches)) == (len(rows) >= b)
            made.append(found)
        assert made[3].kinds == sum((found.kinds for found in made[:3]), ())

    @given(ROWS, st.integers(1, 5), st.integers(0, 2**31))
    def test_follow_the_generator_alone(self, rows: np.ndarray, b: int, seed: int) -> None:
        judge = Slope(np.random.default_rng(1).normal(size=61))
        generate = mixed(tilted(judge, (0.5,), 2), partition)
        one, again = (generate(rows, b, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(one.batches, again.batches) and one.kinds == again.kinds


class TestTilted:
    @pytest.mark.parametrize("temperature", [0.5, 2.0])
    def test_single_images_are_drawn_with_the_probabilities_of_a_softmax(self, temperature: float) -> None:
        rows, slopes = np.arange(6), np.array([3.0, -1.0, 0.0, 0.5, 2.0, -4.0])
        count = 20_000
        found = tilted(Slope(slopes), (temperature,), count)(rows, 1, np.random.default_rng(0))
        drawn = np.array([batch[0] for batch, kind in zip(*found, strict=True) if kind != FILTER])
        assert len(drawn) == count
        weights = np.exp((slopes - slopes.mean()) / slopes.std() / temperature)
        expected = weights / weights.sum()
        error = np.sqrt(expected * (1 - expected) / count)
        shares = np.bincount(drawn, minlength=6) / count
        assert (np.abs(shares - expected) <= 4.5 * error + 1e-12).all()

    def test_a_pair_is_drawn_one_image_after_the_other(self) -> None:
        rows, slopes = np.arange(3), np.array([1.0, 0.0, -1.0])
        count = 20_000
        found = tilted(Slope(slopes), (1.0,), count)(rows, 2, np.random.default_rng(1))
        p = np.exp(slopes / slopes.std())
        p /= p.sum()
        left_out = [3 - int(batch.sum()) for batch in found.batches[1:]]
        expected = [sum(p[i] * p[j] / (1 - p[i]) for i, j in ((a, b), (b, a))) for a, b in ((1, 2), (0, 2), (0, 1))]
        for out in range(3):
            error = np.sqrt(expected[out] * (1 - expected[out]) / count)
            assert abs(left_out.count(out) / count - expected[out]) < 4.5 * error

    @given(st.integers(1, 10), st.integers(0, 1000))
    def test_at_no_temperature_the_steepest_are_taken(self, b: int, seed: int) -> None:
        slopes = np.random.default_rng(seed).permutation(20).astype(float)
        rows = np.arange(3, 18)
        found = tilted(Slope(slopes), (1e-4,), 3)(rows, b, np.random.default_rng(seed))
        steepest = set(rows[np.argsort(-slopes[rows])[:b]].tolist())
        assert all(set(batch.tolist()) == steepest for batch in found.batches[1:])

    def test_each_temperature_has_its_draws_and_one_batch_is_the_filter_s(self) -> None:
        found = tilted(Slope(np.arange(30.0)), (0.25, 1.0), 3)(np.arange(30), 5, np.random.default_rng(0))
        assert found.kinds == (FILTER, *("tilted at 0.25",) * 3, *("tilted at 1",) * 3)

    def test_the_filter_s_batch_favours_nobody(self) -> None:
        generate, seen = tilted(Slope(np.arange(10.0) * 100), (0.1,), 1), np.zeros(10)
        generator, count = np.random.default_rng(0), 4000
        for _ in range(count):
            seen[generate(np.arange(10), 3, generator).batches[0]] += 1
        assert np.abs(seen / count - 0.3).max() < 4.5 * np.sqrt(0.3 * 0.7 / count)

    def test_a_temperature_means_the_same_whatever_the_slope_s_unit(self) -> None:
        slopes, rows = np.random.default_rng(0).normal(size=40), np.arange(40)
        one, other = (
            tilted(Slope(s), (0.3,), 5)(rows, 6, np.random.default_rng(2)).batches for s in (slopes, 1e6 * slopes + 3)
        )
        assert np.array_equal(one, other)

    def test_a_judge_that_knows_no_direction(self) -> None:
        found = tilted(Slope(np.zeros(20)), (0.1,), 4)(np.arange(20), 4, np.random.default_rng(0))
        sound(found, np.arange(20), 4)
        assert len({tuple(sorted(batch)) for batch in found.batches.tolist()}) > 1

    def test_the_judge_is_asked_once_a_step(self) -> None:
        judge = Slope(np.arange(20.0))
        tilted(judge, (0.1, 1.0), 8)(np.arange(20), 4, np.random.default_rng(0))
        assert judge.asked == 1


class TestProposed:
    def test_the_next_of_each_strategy_that_are_still_there(self) -> None:
        orders = {"a": np.array([4, 3, 2, 1, 0]), "b": np.array([0, 4, 1])}
        found = proposed(orders)(np.array([0, 1, 2, 3]), 2, np.random.default_rng(0))  # 4 is acquired
        assert found.kinds == ("a", "b") and found.batches.tolist() == [[3, 2], [0, 1]]

    def test_a_strategy_that_has_run_out_sits_out(self) -> None:
        orders = {"a": np.array([4, 3]), "b": np.array([0, 1, 2])}
        found = proposed(orders)(np.array([0, 1, 2, 3]), 2, np.random.default_rng(0))
        assert found.kinds == ("b",)
        empty = proposed(orders)(np.array([3]), 2, np.random.default_rng(0))
        assert empty.batches.shape == (0, 2) and empty.kinds == ()


def test_the_filter_s_name_is_a_kind_of_its_own() -> None:
    assert FILTER not in partition(np.arange(9), 3, np.random.default_rng(0)).kinds
