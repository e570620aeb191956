"""Ranking quality against brute force, and scores against one set at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.utility_model import chance, ranking
from rambo_ray.utility_model.network import Architecture, initialise
from rambo_ray.utility_model.ranking import HeldOut, RankingQuality, set_scores

LEVEL = st.integers(0, 5).map(float)


def ranking_quality(scores: np.ndarray, utilities: np.ndarray, size: int) -> RankingQuality:
    """Of sets of one group."""
    count = len(scores)
    return HeldOut(scores, utilities, (0,) * count, (size,) * count).quality()


@given(st.lists(st.tuples(LEVEL, LEVEL), min_size=2, max_size=12))
def test_against_all_pairs_one_by_one(both: list[tuple[float, float]]) -> None:
    scores, utilities = np.array(both).T
    quality = ranking_quality(scores, utilities, size=7)
    right = decided = concordance = tied_scores = 0.0
    for (s_1, u_1), (s_2, u_2) in itertools.combinations(both, 2):
        tied_scores += s_1 == s_2
        if u_1 != u_2:
            decided += 1
            right += 0.5 if s_1 == s_2 else float((s_1 > s_2) == (u_1 > u_2))
            concordance += 0 if s_1 == s_2 else 1 if (s_1 > s_2) == (u_1 > u_2) else -1
    assert (quality.subsets, quality.size) == (len(both), 7)
    if not decided:
        assert math.isnan(quality.pairwise_accuracy) and math.isnan(quality.kendall_tau)
        return
    assert quality.pairwise_accuracy == pytest.approx(right / decided)
    assert (quality.pairs, quality.pairs + quality.tied) == (decided, math.comb(len(both), 2))
    all_pairs = len(both) * (len(both) - 1) / 2
    if tied_scores == all_pairs:
        assert math.isnan(quality.kendall_tau)
    else:  # tau-b, ties in either on the scale
        assert quality.kendall_tau == pytest.approx(concordance / math.sqrt(decided * (all_pairs - tied_scores)))


def test_perfect_and_reversed_order() -> None:
    utilities = np.array([0.1, 0.5, 0.2, 0.9])
    best = ranking_quality(np.exp(utilities), utilities, 3)
    assert (best.pairwise_accuracy, best.kendall_tau, best.subsets, best.size) == (1.0, pytest.approx(1.0), 4, 3)
    worst = ranking_quality(-utilities, utilities, 3)
    assert (worst.pairwise_accuracy, worst.kendall_tau) == (0.0, pytest.approx(-1.0))


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_subsets_have_no_quality(count: int) -> None:
    quality = ranking_quality(np.zeros(count), np.zeros(count), 0)
    assert math.isnan(quality.pairwise_accuracy) and math.isnan(quality.kendall_tau) and quality.subsets == count


def held_out(groups: list[object], scores: np.ndarray, utilities: np.ndarray) -> HeldOut:
    return HeldOut(scores, utilities, tuple(groups), tuple(int(str(group)[-1]) for group in groups))


class TestGroups:
    """Sets of one group are compared with one another and with no others."""

    def test_pairs_of_two_groups_do_not_count(self) -> None:
        # Within each group in order; across them all wrong.
        made = held_out(["a1"] * 3 + ["b2"] * 3, np.array([1, 2, 3, -9, -8, -7.0]), np.array([1, 2, 3, 7, 8, 9.0]))
        found = made.quality()
        assert (found.pairwise_accuracy, found.kendall_tau, found.subsets, found.size) == (1.0, 1.0, 6, 2)

    @given(st.lists(st.tuples(LEVEL, LEVEL, st.integers(1, 3)), min_size=2, max_size=14))
    def test_against_all_pairs_one_by_one(self, sets: list[tuple[float, float, int]]) -> None:
        scores, utilities = (np.array([s[i] for s in sets]) for i in (0, 1))
        found = held_out([s[2] for s in sets], scores, utilities).quality()
        decided = [(a, b) for a, b in itertools.combinations(sets, 2) if a[2] == b[2] and a[1] != b[1]]
        right = {size: 0.0 for _, _, size in sets}
        for (s_1, u_1, size), (s_2, u_2, _) in decided:
            right[size] += 0.5 if s_1 == s_2 else float((s_1 > s_2) == (u_1 > u_2))
        if not decided:
            assert math.isnan(found.pairwise_accuracy) and not found.beats_chance
            return
        assert found.pairwise_accuracy == pytest.approx(sum(right.values()) / len(decided))
        for size, accuracy in found.by_size:
            own = sum(a[2] == size for a, _ in decided)
            assert accuracy == pytest.approx(right[size] / own) if own else math.isnan(accuracy)

    def test_two_groups_may_have_one_size(self) -> None:
        made = HeldOut(np.array([1, 2, 1, 2.0]), np.array([1, 2, 2, 1.0]), ((0, 5), (0, 5), (1, 5), (1, 5)), (5,) * 4)
        assert made.quality().by_size == ((5, 0.5),)

    def test_gains_by_hand(self) -> None:
        made = held_out(["a1"] * 3 + ["b2"] * 2, np.array([3, 2, 1, 0, 1.0]), np.array([0.2, 0.9, 0.4, 0.1, 0.3]))
        found = made.quality()
        chosen = [0.2 - 0.5, 0.3 - 0.2]
        assert found.gain == pytest.approx(np.mean(chosen))
        assert found.best_gain == pytest.approx(np.mean([0.9 - 0.5, 0.3 - 0.2]))


TIES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "none": lambda generator: generator.normal(size=20),
    "some": lambda generator: np.round(generator.normal(size=20)),
    "two levels": lambda generator: (generator.normal(size=20) > 0).astype(float),
    "most": lambda generator: (generator.normal(size=20) > 1.2).astype(float),
    "all but one": lambda generator: np.eye(20)[generator.integers(20)],
}


class TestChance:
    @pytest.mark.parametrize("utilities", TIES.values(), ids=TIES)
    @pytest.mark.parametrize("tied_scores", [False, True])
    def test_random_rankings_leave_the_band_5_times_of_100_at_most(
        self, utilities: Callable[[np.random.Generator], np.ndarray], tied_scores: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(chance, "DEALS", 199)  # for time: it is as valid with few
        generator, trials = np.random.default_rng(0), 150 if tied_scores else 400
        groups = [f"{fold}{size}" for fold in (0, 1) for size in (3, 4)] * 5
        outside = above = 0
        for trial in range(trials):
            scores, true = generator.normal(size=20), utilities(generator)
            found = held_out(groups, np.round(scores) if tied_scores else scores, true).quality(trial)
            if not found.pairs:
                assert not found.beats_chance
                continue
            outside += not found.chance[0] <= found.pairwise_accuracy <= found.chance[1]
            above += found.beats_chance
        for count, share in ((outside, 0.05), (above, 0.025)):
            assert count / trials <= share + 3.5 * math.sqrt(share * (1 - share) / trials)

    def test_a_band_that_knows_no_ties_would_be_left_far_more_often(self) -> None:
        """What the band of untied rankings of 20 sets, 0.34 to 0.66, would be worth where most of them tie."""
        generator, outside = np.random.default_rng(1), 0
        untied = ranking_quality(np.arange(20.0), np.arange(20.0), 5).chance
        assert untied == pytest.approx((0.342, 0.658), abs=0.001)
        for _ in range(300):
            utilities = generator.permutation([1.0] + [0.0] * 19)
            found = ranking_quality(generator.normal(size=20), utilities, 5)
            outside += not untied[0] <= found.pairwise_accuracy <= untied[1]
            assert found.chance[0] <= found.pairwise_accuracy <= found.chance[1]
        assert outside / 300 > 0.5

    def test_a_ranking_that_knows_something_beats_it(self) -> None:
        generator = np.random.default_rng(1)
        utilities = generator.normal(size=40)
        groups = [f"{i % 4}" for i in range(40)]
        assert held_out(groups, utilities + 0.5 * generator.normal(size=40), utilities).quality().beats_chance
        assert not held_out(groups, -utilities, utilities).quality().beats_chance

    def test_chance_is_about_a_half_and_narrower_with_more_sets(self) -> None:
        generator = np.random.default_rng(2)
        widths = []
        for count in (12, 60):
            low, high = held_out(["a1"] * count, *generator.normal(size=(2, count))).quality().chance
            assert low < 0.5 < high
            widths.append(high - low)
        assert widths[1] < 0.6 * widths[0]

    @pytest.mark.parametrize("scores", [np.zeros(8), np.arange(8.0)])
    def test_where_all_utilities_tie_nothing_is_known(self, scores: np.ndarray) -> None:
        found = held_out(["a1"] * 8, scores, np.full(8, 0.5)).quality()
        assert math.isnan(found.pairwise_accuracy) and math.isnan(found.kendall_tau) and not found.beats_chance
        assert (found.pairs, found.tied) == (0, 28)

    def test_where_all_scores_tie_every_pair_counts_half(self) -> None:
        found = held_out(["a1"] * 8, np.zeros(8), np.arange(8.0)).quality()
        assert found.pairwise_accuracy == 0.5 == found.chance[0] == found.chance[1] and not found.beats_chance


def test_set_scores_are_those_of_each_set_alone() -> None:
    model = initialise(Architecture("pixels", (1, 8, 8), 4, 16, 8, 8, 0.1, "ranknet"), seed=0).eval()
    images = np.random.default_rng(0).normal(size=(10, 1, 8, 8)).astype(np.float32)
    model.deviation.fill_(0.1)
    subsets = [(0, 1, 2), (9, 3), (4,), (2, 1, 0)]
    scores = set_scores(model, images, subsets)
    assert scores.dtype == np.float64 and scores[0] == scores[3]
    assert len(set(scores[:3].tolist())) == 3
    for subset, score in zip(subsets, scores, strict=True):
        with torch.no_grad():
            pooled = model.encode(torch.from_numpy(images[list(subset)])).mean(dim=0, keepdim=True)
            assert score == pytest.approx(model.score(model.embed(pooled)).item(), abs=1e-5)


@pytest.mark.parametrize("sizes", [(2, 2, 2, 2), (3, 2, 2, 2), (3, 3), (4, 3), (1, 1, 1), (4, 1), (5,), ()])
def test_whether_a_perfect_ranking_could_beat_chance(sizes: tuple[int, ...]) -> None:
    """Against all orders that random scores can put the sets in."""
    groups = [group for group, size in enumerate(sizes) for _ in range(size)]
    perfect = math.prod(1 / math.factorial(size) for size in sizes)
    assert ranking.can_beat_chance(groups) == (perfect < 0.025)
    if len(groups) == ranking.FEWEST_HELD_OUT:
        utilities = np.arange(float(len(groups)))
        assert HeldOut(utilities, utilities, tuple(groups), tuple(groups)).quality().beats_chance
