"""The subsets that are drawn: sizes, laws, identities, and what a sample does not depend on."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rambo_ray.utility_samples.sampling import (
    Measurement,
    UtilitySample,
    draw_pair,
    held_out_samples,
    interpolation_pairs,
    nested_samples,
    offline_pairs,
    sample_id,
)

Sizes = Literal["uniform", "powerset"]
SEED = st.integers(0, 2**40)
SUBSET = st.sets(st.integers(0, 500), min_size=1, max_size=30)


@st.composite
def k_and_min_size(draw: st.DrawFn) -> tuple[int, int]:
    # min_size up to k / 2: beyond it the powerset is refused by `check_sizes` and drawing takes for ever.
    k = draw(st.integers(2, 30))
    return k, draw(st.integers(1, max(1, k // 2)))


def pairs_of(samples: list[UtilitySample]) -> list[tuple[UtilitySample, UtilitySample]]:
    return list(zip(samples[::2], samples[1::2], strict=True))


def places(samples: list[UtilitySample]) -> list[tuple[str, int, int, str, tuple[int, ...]]]:
    # Not the samples themselves: a utility that is NaN equals nothing.
    return [(s.sample_id, s.pair_id, s.iteration, s.kind, s.indices) for s in samples]


def frequencies(sizes: Sizes, k: int, min_size: int, draws: int) -> dict[tuple[tuple[int, ...], ...], float]:
    generator = np.random.default_rng(0)
    found: dict[tuple[tuple[int, ...], ...], float] = {}
    for _ in range(draws):
        pair = draw_pair(generator, k, min_size, sizes)
        found[pair] = found.get(pair, 0.0) + 1 / draws
    return found


class TestSampleId:
    @given(SUBSET, st.text(max_size=20), st.randoms())
    def test_order_does_not_count(self, subset: set[int], identity: str, random: object) -> None:
        shuffled = list(subset)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        assert sample_id(shuffled, identity) == sample_id(sorted(subset), identity)

    @given(SUBSET, st.text(max_size=20))
    def test_numpy_integers_are_integers(self, subset: set[int], identity: str) -> None:
        assert sample_id(np.array(list(subset), np.int32), identity) == sample_id(list(subset), identity)  # type: ignore[arg-type]

    def test_it_is_the_hash_that_stored_files_hold(self) -> None:
        # Another way to hash would make every sample on disk unknown.
        content = json.dumps(["who", [3, 11, 20]]).encode()
        assert sample_id((20, 3, 11), "who") == hashlib.sha256(content).hexdigest()[:32]

    def test_content_and_identity_both_count(self) -> None:
        subsets = [s for d in range(1, 6) for s in itertools.combinations(range(12), d)]
        # (1, 23), (12, 3) and (123,) would collide if the numbers were only put one after the other.
        subsets += [(1, 23), (12, 30), (123,), (1, 2, 30)]
        ids = {sample_id(s, identity) for s in subsets for identity in ("", "a", "b", "[1]")}
        assert len(ids) == 4 * len(subsets)


class TestDrawPair:
    @given(k_and_min_size(), st.sampled_from(["uniform", "powerset"]), SEED)
    def test_two_different_sorted_subsets_of_one_size(self, drawn: tuple[int, int], sizes: Sizes, seed: int) -> None:
        k, min_size = drawn
        first, second = draw_pair(np.random.default_rng(seed), k, min_size, sizes)
        assert first != second and len(first) == len(second)
        assert min_size <= len(first) < k
        for subset in (first, second):
            assert list(subset) == sorted(set(subset)) and subset[0] >= 0 and subset[-1] < k
            assert all(type(position) is int for position in subset)  # they are written into JSON

    @pytest.mark.parametrize(("k", "min_size"), [(10, 0), (10, -1), (10, 10), (10, 11), (1, 1)])
    def test_nothing_to_draw_is_refused(self, k: int, min_size: int) -> None:
        with pytest.raises(ValueError, match=f"^min_size={min_size}: .*k={k}$"):
            draw_pair(np.random.default_rng(0), k, min_size, "uniform")

    @pytest.mark.parametrize("min_size", [1, 2])
    def test_powerset_against_every_pair_that_can_be_drawn(self, min_size: int) -> None:
        # Two members uniform in 2^S_0 given one size: every ordered pair of distinct ones is as likely.
        allowed = [
            pair for d in range(min_size, 4) for pair in itertools.permutations(itertools.combinations(range(4), d), 2)
        ]
        draws = 4000
        found = frequencies("powerset", 4, min_size, draws)
        assert set(found) == set(allowed)
        tolerance = 5 * math.sqrt(1 / len(allowed) / draws)
        assert all(abs(share - 1 / len(allowed)) < tolerance for share in found.values())

    def test_a_law_that_hardly_ever_gives_a_pair_is_drawn_from_until_it_does(self) -> None:
        # Two sizes of 8 or 9 of 10 agree in 0.2 % of the draws: most batches of them hold no pair at all.
        found = [draw_pair(np.random.default_rng(seed), 10, 8, "powerset") for seed in range(20)]
        assert {(len(first), len(second)) for first, second in found} <= {(8, 8), (9, 9)}
        assert all(first != second for first, second in found)

    def test_uniform_sizes_are_uniform_and_so_are_the_subsets_of_each(self) -> None:
        draws = 6000
        found = frequencies("uniform", 9, 3, draws)
        by_size = {d: sum(share for pair, share in found.items() if len(pair[0]) == d) for d in range(3, 9)}
        # d = 8 has 9 subsets, so that a ninth of its draws are one subset twice and drawn anew.
        weights = {d: 1 - 1 / math.comb(9, d) for d in by_size}
        expected = {d: weight / sum(weights.values()) for d, weight in weights.items()}
        assert all(abs(by_size[d] - expected[d]) < 5 * math.sqrt(expected[d] / draws) for d in by_size)
        members = np.zeros(9)
        for (first, _), share in found.items():
            if len(first) == 4:
                members[list(first)] += share / by_size[4]
        assert np.all(np.abs(members - 4 / 9) < 5 * math.sqrt(0.25 / (draws * by_size[4])))

    def test_the_two_laws_differ(self) -> None:
        def middle(sizes: Sizes) -> float:
            found = frequencies(sizes, 40, 5, 400)
            return sum(share for (first, _), share in found.items() if 16 <= len(first) <= 24)

        # Uniform: 9 of 35 sizes. Powerset: sum over 16..24 of C(40, d)^2, over all d: above 0.99.
        assert middle("uniform") < 0.45 and middle("powerset") > 0.9


class TestOfflinePairs:
    @given(st.integers(0, 12), st.integers(0, 12), SEED, st.sampled_from(["uniform", "powerset"]))
    @hypothesis_settings(max_examples=30)
    def test_pair_i_does_not_depend_on_how_many_there_are(self, a: int, b: int, seed: int, sizes: Sizes) -> None:
        few, many = sorted((a, b))
        longer, shorter = (places(offline_pairs(count, 12, 3, sizes, seed, "x")) for count in (many, few))
        assert longer[: 2 * few] == shorter and len(shorter) == 2 * few

    def test_numbered_named_and_not_measured_yet(self) -> None:
        samples = offline_pairs(30, 20, 4, "uniform", 5, "who")
        assert [s.pair_id for s in samples] == [i // 2 for i in range(60)]
        for first, second in pairs_of(samples):
            assert first.size == second.size and first.indices != second.indices
            assert 4 <= first.size < 20
        for s in samples:
            assert (s.sample_id, s.iteration, s.kind) == (sample_id(s.indices, "who"), -1, "retrained")
            assert s.measurement is None and math.isnan(s.utility)

    def test_seed_law_and_identity_count(self) -> None:
        base = offline_pairs(5, 20, 4, "uniform", 5, "who")
        assert places(base) == places(offline_pairs(5, 20, 4, "uniform", 5, "who"))
        for other in (offline_pairs(5, 20, 4, "uniform", 6, "who"), offline_pairs(5, 20, 4, "powerset", 5, "who")):
            assert [s.indices for s in other] != [s.indices for s in base]
        renamed = offline_pairs(5, 20, 4, "uniform", 5, "whom")
        assert [s.indices for s in renamed] == [s.indices for s in base]
        assert not {s.sample_id for s in renamed} & {s.sample_id for s in base}


class TestPrefixes:
    @given(st.sets(st.integers(1, 60), min_size=1, max_size=6), SEED)
    def test_nested_of_the_given_sizes_and_at_last_everything(self, drawn: set[int], seed: int) -> None:
        sizes = sorted(drawn)
        nested_sets = nested_samples(sizes, seed, "who")
        assert [p.size for p in nested_sets] == sizes
        assert nested_sets[-1].indices == tuple(range(sizes[-1]))
        for smaller, larger in itertools.pairwise(nested_sets):
            assert set(smaller.indices) < set(larger.indices)
        for i, p in enumerate(nested_sets):
            assert list(p.indices) == sorted(set(p.indices))
            assert (p.pair_id, p.iteration, p.kind) == (-1, i, "retrained")
            assert p.sample_id == sample_id(p.indices, "who")

    def test_random_and_another_division_goes_the_same_way(self) -> None:
        first = {nested_samples([5, 40], seed, "")[0].indices for seed in range(5)}
        assert len(first) == 5
        # The sizes between do not move the images that a size holds.
        assert nested_samples([5, 10, 20, 40], 3, "")[2].indices == nested_samples([20, 40], 3, "")[0].indices


class TestHeldOut:
    @pytest.mark.parametrize(("k", "size"), [(2, 1), (3, 2), (4, 3), (8, 6), (200, 150), (201, 151)])
    def test_three_quarters_of_s_0_and_never_all(self, k: int, size: int) -> None:
        for s in held_out_samples(7, k, 0, ""):
            assert s.size == size == len(set(s.indices))
            assert list(s.indices) == sorted(s.indices) and s.indices[0] >= 0 and s.indices[-1] < k
            assert (s.pair_id, s.iteration, s.kind) == (-1, -1, "retrained")

    def test_different_and_not_moved_by_their_number(self) -> None:
        samples = held_out_samples(20, 40, 1, "who")
        assert len({s.sample_id for s in samples}) == 20
        assert places(held_out_samples(8, 40, 1, "who")) == places(samples)[:8]
        assert held_out_samples(20, 40, 2, "who")[0].indices != samples[0].indices
        assert held_out_samples(0, 40, 1, "who") == []


class TestInterpolation:
    @given(st.sets(st.integers(2, 40), min_size=1, max_size=4), st.integers(0, 4), st.integers(1, 50), SEED)
    def test_pairs_lie_inside_s_i(self, drawn: set[int], n: int, min_size: int, seed: int) -> None:
        nested_sets = nested_samples(sorted(drawn), seed, "who")
        samples = interpolation_pairs(nested_sets, n, 100, min_size, seed, "who")
        tau_1 = len(nested_sets) - 1  # the last prefix is all of S_0: nothing is drawn from it
        assert [s.iteration for s in samples] == [i for i in range(tau_1) for _ in range(2 * n)]
        assert [s.pair_id for s in samples] == [100 + i // 2 for i in range(2 * n * tau_1)]
        for first, second in pairs_of(samples):
            inside = nested_sets[first.iteration]
            assert first.size == second.size and first.indices != second.indices
            # A first S_i smaller than min_size still gives pairs: of all but one of its images.
            assert min(min_size, inside.size - 1) <= first.size < inside.size
            assert set(first.indices) | set(second.indices) <= set(inside.indices)
        for s in samples:
            assert list(s.indices) == sorted(s.indices)
            assert (s.kind, s.sample_id) == ("interpolated", sample_id(s.indices, "who"))
            assert s.measurement is None and math.isnan(s.utility)

    def test_a_larger_n_keeps_what_a_smaller_one_drew(self) -> None:
        nested_sets = nested_samples([10, 20, 30], 0, "")
        few, many = (interpolation_pairs(nested_sets, n, 0, 3, 0, "") for n in (2, 5))
        for i in range(2):
            drawn = [[s.indices for s in samples if s.iteration == i] for samples in (few, many)]
            assert drawn[0] == drawn[1][:4] and len(drawn[1]) == 10


class TestMeasurement:
    measurement = Measurement(0.5, 0.4, 1.25, 0.1, 0.2, 0.3, 7.0, 9, 180, 2.5)

    def test_larger_utility_is_better(self) -> None:
        assert self.measurement.utility("accuracy") == 0.5
        assert self.measurement.utility("soft_accuracy") == 0.4
        assert self.measurement.utility("neg_val_loss") == -1.25

    def test_measured_adds_the_measurement_and_nothing_else(self) -> None:
        sample = offline_pairs(1, 9, 2, "uniform", 0, "")[1]
        measured = sample.measured(self.measurement, "neg_val_loss")
        assert (measured.measurement, measured.utility) == (self.measurement, -1.25)
        assert places([measured]) == places([sample]) and measured.size == sample.size
        assert sample.measurement is None
