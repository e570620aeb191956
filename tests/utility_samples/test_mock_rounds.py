"""Mock rounds: who plays and who judges, how T is drawn, and what a round's identity depends on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.config.schema import UtilitySamplesConfig
from rambo_ray.data.problem import NONE
from rambo_ray.utility_samples import mock_rounds
from rambo_ray.utility_samples.mock_rounds import MockPool, held_out_sizes, parts, round_sizes
from rambo_ray.utility_samples.sampling import UtilitySample, sample_id

K = 7  # images in S_0


def pool(validation: int = 40, rejected: int = 0, classes: int = 4, seed: int = 0) -> MockPool:
    labels = np.random.default_rng(seed + 100).integers(0, classes, validation)
    return MockPool.of(K, labels, rejected, seed)


def drawn(
    count: int = 30, evidence: np.ndarray | None = None, of: MockPool | None = None, **keys: object
) -> list[UtilitySample]:
    arguments = {"seed": 3, "identity": "who", "first_pair_id": 0, **keys}
    return mock_rounds.pairs(count, (4, 9), of or pool(), evidence, **arguments)  # type: ignore[arg-type]


class TestHalves:
    @given(st.integers(2, 60), st.integers(0, 15), st.integers(1, 6), st.integers(0, 5))
    def test_disjoint_of_equal_size_and_alike_in_their_classes(
        self, validation: int, rejected: int, classes: int, seed: int
    ) -> None:
        made = pool(validation, rejected, classes, seed)
        one, other = made.playing(0), made.playing(1)
        assert sorted([*one, *other]) == list(range(validation + rejected))
        assert abs(len(one) - len(other)) <= 1
        for label in np.unique(made.labels):  # NONE as well
            counts = np.bincount(made.half[made.labels == label], minlength=2)
            assert abs(int(counts[0]) - int(counts[1])) <= 1

    @given(st.lists(st.integers(-1, 5), min_size=1, max_size=60), st.integers(2, 7), st.integers(0, 9))
    def test_parts_are_as_even_as_can_be(self, labels: list[int], count: int, seed: int) -> None:
        found = parts(np.array(labels), count, np.random.default_rng(seed))
        assert np.ptp(np.bincount(found, minlength=count)) <= 1
        for label in set(labels):
            assert np.ptp(np.bincount(found[np.array(labels) == label], minlength=count)) <= 1

    def test_who_plays_does_not_judge_and_what_was_rejected_never_does(self) -> None:
        made = pool(40, rejected=11)
        for fold in (0, 1):
            playing, judging = made.playing(fold), made.judging(fold)
            assert not set(playing) & set(judging) and (made.labels[judging] != NONE).all()
            assert sorted([*playing, *judging, *(np.flatnonzero((made.half != fold) & (made.labels == NONE)))]) == [
                *range(51)
            ]
            assert (made.labels[playing] == NONE).any()
        assert made.teaching == K + 40

    def test_seeds_divide_otherwise(self) -> None:
        labels = pool().labels
        halves = [MockPool.of(K, labels, 0, seed).half.tolist() for seed in (0, 0, 1)]
        assert halves[0] == halves[1] != halves[2]


class TestSizes:
    @given(st.integers(8, 400), st.one_of(st.none(), st.integers(1, 80)), st.one_of(st.none(), st.integers(1, 80)))
    def test_what_is_held_out_is_longer_than_all_that_is_fitted_and_can_be_played(
        self, validation: int, low: int | None, high: int | None
    ) -> None:
        playing = validation // 2
        try:
            least, most = round_sizes(UtilitySamplesConfig(min_round=low, max_round=high), validation, playing)
        except ValueError as error:
            assert "utility_samples.m" in str(error) and "\n" not in str(error)
            return
        assert 1 <= least <= most < playing
        assert all(most < size <= playing for size in held_out_sizes(most, playing))

    @pytest.mark.parametrize(
        ("keys", "line"),
        [
            ({"min_round": 9, "max_round": 8}, "min_round=9: must not exceed utility_samples.max_round=8"),
            ({"max_round": 20}, "utility_samples.max_round=20: must be below 20, the images of half of S_val"),
            ({"min_round": 25}, "must be below 20"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_drawn(self, keys: dict[str, int], line: str) -> None:
        with pytest.raises(ValueError, match=line):
            round_sizes(UtilitySamplesConfig(**keys), 40, 20)  # type: ignore[arg-type]


class TestRounds:
    def test_S_0_and_images_of_the_half_that_plays(self) -> None:
        of = pool(40, rejected=9)
        for fold, sample in ((s.fold, s) for s in drawn(of=of)):
            assert sample.indices[:K] == tuple(range(K))
            bought = of.bought(sample)
            assert set(bought) <= set(of.playing(fold)) and len(set(bought)) == len(bought)
            assert list(bought) == sorted(bought) and 4 <= len(bought) <= 9
            assert (sample.size, sample.kind, sample.iteration) == (K + len(bought), "retrained", -1)

    def test_a_pair_is_of_one_size_and_one_half(self) -> None:
        samples = drawn(40, first_pair_id=100)
        for i, (one, other) in enumerate(zip(samples[::2], samples[1::2], strict=True)):
            assert one.pair_id == other.pair_id == 100 + i
            assert (one.size, one.fold) == (other.size, other.fold) == (one.size, i % 2)
        assert {s.size - K for s in samples} == set(range(4, 10))

    @given(st.integers(0, 12), st.integers(0, 12))
    def test_a_pair_does_not_depend_on_how_many_there_are(self, few: int, more: int) -> None:
        few, more = sorted((few, more))
        evidence = np.random.default_rng(0).normal(size=(40, 3))
        assert drawn(more, evidence)[: 2 * few] == drawn(few, evidence)

    def test_held_out_rounds_are_dealt_over_both_halves_and_sizes(self) -> None:
        samples = mock_rounds.held_out(40, (10, 12), pool(), None, 3, "who")
        assert {(s.fold, s.size - K) for s in samples} == {(0, 10), (0, 12), (1, 10), (1, 12)}
        counts = [sum((s.fold, s.size - K) == group for s in samples) for group in ((0, 10), (1, 12))]
        assert counts == [10, 10] and {s.pair_id for s in samples} == {-1}
        assert len({s.indices for s in samples} | {s.indices for s in drawn()}) == 40 + len(
            {s.indices for s in drawn()}
        )


class TestIdentity:
    def of(self, indices: tuple[int, ...], fold: int, made: MockPool, identity: str = "who") -> str:
        return mock_rounds._sample(indices, fold, made, identity, 0).sample_id

    def test_follows_content_and_not_order(self) -> None:
        made, indices = pool(), (*range(K), 8, 9, 20)
        assert self.of(indices, 0, made) == self.of(indices[::-1], 0, made)
        others = [
            self.of(indices[:-1], 0, made),  # another set
            self.of(indices, 1, made),  # the other half judges
            self.of(indices, 0, made, "other"),  # another rule of training
            self.of(indices, 0, pool(seed=1)),  # other judges
        ]
        assert len({self.of(indices, 0, made), *others}) == 5

    def test_is_no_subset_s(self) -> None:
        sample = drawn(1)[0]
        assert sample.sample_id != sample_id(sample.indices, "who")


class Scripted(np.random.Generator):
    """A generator whose theta points where a test wants it to; its other numbers are drawn."""

    direction: np.ndarray

    def normal(self, *_: object, size: int = 1, **__: object) -> np.ndarray:  # type: ignore[override]
        assert size == len(self.direction)
        return self.direction.copy()


@pytest.fixture
def strength(monkeypatch: pytest.MonkeyPatch) -> Iterator[float]:
    monkeypatch.setattr(mock_rounds, "STRENGTHS", (1.5,))
    yield 1.5


def inclusion(weights: np.ndarray, size: int) -> np.ndarray:
    """How likely each of a few items is among `size` drawn one after the other, each by weight among those left."""
    found = np.zeros(len(weights))
    for order in itertools.permutations(range(len(weights)), size):
        left, likely = weights.sum(), 1.0
        for item in order:
            likely *= weights[item] / left
            left -= weights[item]
        found[list(order)] += likely
    return found


class TestContrast:
    @pytest.mark.parametrize("size", [1, 2, 3])
    def test_items_are_drawn_in_proportion_to_exp_of_theta_and_evidence(self, size: int, strength: float) -> None:
        # Five images play, each alone in what it is evidence of; theta has length `strength` in this direction.
        made = MockPool(0, np.zeros(10, dtype=np.int64), (np.arange(10) % 2).astype(np.int8))
        evidence = np.zeros((10, 3))
        evidence[[0, 2, 4, 6], [0, 0, 1, 2]] = 1.0  # the last of them, 8, is evidence of nothing
        generator = Scripted(np.random.PCG64(5))
        generator.direction = np.array([3.0, -4.0, 1.0])
        theta = strength * generator.direction / np.linalg.norm(generator.direction)
        expected = inclusion(np.exp(evidence[::2] @ theta), size)
        count = 20_000
        seen = np.zeros(10)
        for _ in range(count):
            seen[list(mock_rounds.draw(size, 0, made, evidence, generator))] += 1
        assert seen[1::2].sum() == 0 and expected.sum() == pytest.approx(size)
        error = np.sqrt(expected * (1 - expected) / count)
        assert (np.abs(seen[::2] / count - expected) <= 4.5 * error).all()  # one in 10^5 of sound draws

    def test_without_evidence_or_theta_all_are_alike(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mock_rounds, "STRENGTHS", (0.0,))
        made, generator = pool(), np.random.default_rng(0)
        for evidence in (None, np.random.default_rng(1).normal(size=(40, 5))):
            seen = np.zeros(40)
            for _ in range(4000):
                seen[np.array(mock_rounds.draw(5, 0, made, evidence, generator)[K:]) - K] += 1
            share, playing = 5 / 20, made.playing(0)
            error = np.sqrt(share * (1 - share) / 4000)
            assert np.abs(seen[playing] / 4000 - share).max() < 4.5 * error and seen.sum() == 5 * 4000
            assert seen[made.playing(1)].sum() == 0

    def test_contrast_makes_rounds_differ_more_than_chance_does(self) -> None:
        # Means of the evidence over a T: their spread is what a regression on them lives from.
        evidence = np.random.default_rng(2).normal(size=(400, 4))
        made = pool(400)
        spreads = []
        for given_ in (None, evidence):
            rounds = mock_rounds.pairs(60, (20, 20), made, given_, 0, "who", 0)
            means = np.array([evidence[made.bought(s)].mean(axis=0) for s in rounds])
            spreads.append(means.std(axis=0).mean())
        assert spreads[1] > 1.5 * spreads[0]
