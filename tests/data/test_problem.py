"""The division into S_0 | S_val | U_0, and what a problem holds and hides."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.data.images import Images, LabeledImages
from rambo_ray.data.problem import STD_FLOOR, Problem, Revealed, check_overlap, divide, split, statistics
from rambo_ray.errors import UserError

from .written_images import pictures

NAMES = ("cat", "dog", "owl")


def dataset(count: int = 40, seed: int = 0) -> LabeledImages:
    labels = np.random.default_rng(seed).integers(0, len(NAMES), count)
    return LabeledImages(pictures(count, seed), tuple(f"image {i}" for i in range(count)), labels)


def problem(seed: int = 0, num_labeled: int = 10) -> Problem:
    return divide(dataset(), NAMES, num_labeled=num_labeled, num_validation=10, seed=seed)[0]


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int, int]:
    count = draw(st.integers(3, 300))
    labeled = draw(st.integers(1, count - 2))
    return count, labeled, draw(st.integers(1, count - labeled - 1))


class TestSplit:
    @given(sizes(), st.integers(0, 2**32))
    def test_parts_are_disjoint_and_cover_everything(self, drawn: tuple[int, int, int], seed: int) -> None:
        count, k, validation = drawn
        parts = split(count, num_labeled=k, num_validation=validation, seed=seed)
        assert (len(parts.labeled), len(parts.validation)) == (k, validation)
        assert sorted(np.concatenate(parts).tolist()) == list(range(count))

    @given(sizes(), st.integers(0, 2**32), st.integers(1, 400))
    def test_pool_limit_keeps_a_prefix(self, drawn: tuple[int, int, int], seed: int, limit: int) -> None:
        count, k, validation = drawn
        whole = split(count, num_labeled=k, num_validation=validation, seed=seed)
        part = split(count, num_labeled=k, num_validation=validation, seed=seed, pool_limit=limit)
        assert part.pool.tolist() == whole.pool.tolist()[:limit]
        assert part.labeled.tolist() == whole.labeled.tolist()
        assert part.validation.tolist() == whole.validation.tolist()

    def test_seed_decides(self) -> None:
        def order(seed: int) -> list[int]:
            parts = split(100, num_labeled=20, num_validation=30, seed=seed)
            return [int(position) for position in np.concatenate(parts)]

        assert order(7) == order(7) != order(8)

    def test_every_image_is_as_likely_in_each_part(self) -> None:
        labeled = np.zeros(10)
        for seed in range(600):
            labeled[split(10, num_labeled=3, num_validation=3, seed=seed).labeled] += 1
        assert np.all(np.abs(labeled / 600 - 0.3) < 0.1)  # more than five standard deviations

    @pytest.mark.parametrize(("k", "validation"), [(5, 5), (11, 1), (1, 30)])
    def test_no_pool_left(self, k: int, validation: int) -> None:
        with pytest.raises(UserError) as error:
            split(10, num_labeled=k, num_validation=validation)
        for part in (f"data.num_labeled={k}", f"data.num_validation={validation}", "only 10", "lower"):
            assert part in str(error.value)


class TestDivide:
    def test_labels_and_images_stay_together(self) -> None:
        whole = dataset()
        given_problem, pool_labels = divide(whole, NAMES, num_labeled=10, num_validation=10, seed=3)
        label_of = dict(zip(whole.ids, whole.labels.tolist(), strict=True))
        image_of = dict(zip(whole.ids, whole.pixels, strict=True))
        labels = {
            "labeled": given_problem.labeled.labels,
            "validation": given_problem.validation.labels,
            "pool": pool_labels,
        }
        for part, found in labels.items():
            images: Images = getattr(given_problem, part)
            assert found.tolist() == [label_of[name] for name in images.ids]
            assert np.array_equal(images.pixels, np.stack([image_of[name] for name in images.ids]))

    def test_pool_has_no_labels(self) -> None:
        assert type(problem().pool) is Images

    def test_k_below_the_number_of_classes(self) -> None:
        with pytest.raises(UserError, match=r"labeled=2: must be at least 3.*set data\.num_labeled=3"):
            problem(num_labeled=2)

    def test_a_missing_class_is_survived(self) -> None:
        labels = np.zeros(40, np.int64)
        labels[:20] = 1  # class 2 occurs nowhere
        images = LabeledImages(pictures(40), dataset().ids, labels)
        divided, _ = divide(images, NAMES, num_labeled=20, num_validation=10)
        assert divided.class_names == NAMES

    def test_a_single_class_is_not(self) -> None:
        images = LabeledImages(pictures(40), dataset().ids, np.zeros(40, np.int64))
        with pytest.raises(UserError, match=r"all .cat.*raise data\.num_labeled or change data\.split_seed"):
            divide(images, NAMES, num_labeled=10, num_validation=10)

    def test_normalisation_is_that_of_s_0_unless_given(self) -> None:
        divided = problem()
        assert (divided.mean, divided.std) == statistics(divided.labeled.pixels)
        given_numbers, _ = divide(dataset(), NAMES, num_labeled=10, num_validation=10, normalisation=((0.25,), (0.5,)))
        assert (given_numbers.mean, given_numbers.std) == ((0.25,), (0.5,))


class TestStatistics:
    def test_against_numpy_per_channel(self) -> None:
        pixels = pictures(7, channels=3)
        mean, std = statistics(pixels)
        assert mean == pytest.approx((pixels / 255).mean((0, 1, 2)))
        assert std == pytest.approx((pixels / 255).std((0, 1, 2)))

    def test_a_constant_channel_does_not_divide_by_zero(self) -> None:
        assert statistics(np.full((2, 3, 3, 1), 51, np.uint8)) == ((0.2,), (STD_FLOOR,))


class TestFingerprints:
    def test_same_data_same_fingerprint(self) -> None:
        assert problem().fingerprint == problem().fingerprint
        assert problem().pool_fingerprint == problem().pool_fingerprint
        assert len(problem().fingerprint) == 64

    def test_each_thing_that_a_sample_depends_on_changes_it(self) -> None:
        base = problem()
        pixels, labels = base.labeled.pixels.copy(), base.validation.labels.copy()
        pixels[0, 0, 0, 0] ^= 1
        labels[0] = (labels[0] + 1) % 3
        changed = [
            dataclasses.replace(base, labeled=dataclasses.replace(base.labeled, pixels=pixels)),
            dataclasses.replace(base, validation=dataclasses.replace(base.validation, labels=labels)),
            dataclasses.replace(base, labeled=base.labeled.take(np.arange(10)[::-1])),
            dataclasses.replace(base, class_names=("cat", "dog", "bat")),
            dataclasses.replace(base, mean=(0.5,)),
            dataclasses.replace(base, std=(0.5,)),
        ]
        assert len({other.fingerprint for other in [base, *changed]}) == 7
        assert {other.pool_fingerprint for other in changed} == {base.pool_fingerprint}

    def test_the_pool_has_its_own(self) -> None:
        base = problem()
        smaller = dataclasses.replace(base, pool=base.pool.take(np.arange(5)))
        renamed = dataclasses.replace(base, pool=Images(base.pool.pixels, tuple(map(str, range(20)))))
        assert len({base.pool_fingerprint, smaller.pool_fingerprint, renamed.pool_fingerprint}) == 3
        assert base.fingerprint == smaller.fingerprint == renamed.fingerprint

    def test_what_is_revealed_changes_nothing(self) -> None:
        whole = dataset()
        divided, pool_labels = divide(whole, NAMES, num_labeled=10, num_validation=10)
        in_pool = np.isin(whole.ids, divided.pool.ids)
        garbled = dataclasses.replace(whole, labels=np.where(in_pool, (whole.labels + 1) % 3, whole.labels))
        other, other_labels = divide(garbled, NAMES, num_labeled=10, num_validation=10)
        assert Revealed(pool_labels, None).pool_labels.tolist() != other_labels.tolist()
        assert (divided.fingerprint, divided.pool_fingerprint) == (other.fingerprint, other.pool_fingerprint)

    def test_survives_pickling(self) -> None:
        base = problem()
        assert pickle.loads(pickle.dumps(base)).fingerprint == base.fingerprint


class TestProblem:
    @pytest.mark.parametrize(
        ("part", "value"),
        [
            ("pool", dataset()),
            ("pool", Images(pictures(3, side=5), ("a", "b", "c"))),
            ("pool", Images(pictures(0), ())),
            ("class_names", ("cat", "cat", "dog")),
            ("class_names", ("cat", "dog")),
            ("mean", (0.5, 0.5)),
            ("std", (0.0,)),
        ],
    )
    def test_what_does_not_fit_together_is_refused(self, part: str, value: object) -> None:
        with pytest.raises(ValueError):
            dataclasses.replace(problem(), **{part: value})  # type: ignore[arg-type]


class TestOverlap:
    def parts(self) -> tuple[Images, Images, Images]:
        pixels = pictures(12)
        first, second, third = (Images(pixels[i : i + 4], tuple(f"{i}-{j}" for j in range(4))) for i in (0, 4, 8))
        return first, second, third

    def test_disjoint_parts_pass_and_a_pool_may_repeat_itself(self) -> None:
        labeled, validation, pool = self.parts()
        pixels = pool.pixels.copy()
        pixels[1] = pixels[0]
        pool = Images(pixels, pool.ids)
        check_overlap(labeled, validation, pool, frozenset({"labeled", "validation", "pool"}))

    @pytest.mark.parametrize(("first", "second"), [(0, 1), (0, 2), (1, 2)])
    def test_same_pixels(self, first: int, second: int) -> None:
        parts, keys = list(self.parts()), ("labeled", "validation", "pool")
        pixels = parts[second].pixels.copy()
        pixels[[1, 3]] = parts[first].pixels[[0, 0]]
        parts[second] = Images(pixels, parts[second].ids)
        with pytest.raises(UserError) as error:
            check_overlap(parts[0], parts[1], parts[2])
        line = str(error.value)
        assert line.startswith(f"data.{keys[second]}: 2 of its images are also in data.{keys[first]}")
        assert f"first: '{parts[second].ids[1]}'" in line
        assert f"remove them from data.{keys[second]}" in line

    def test_same_id_counts_only_where_ids_were_given(self) -> None:
        labeled, validation, pool = self.parts()
        pool = Images(pool.pixels, (*pool.ids[:3], labeled.ids[2]))
        check_overlap(labeled, validation, pool)
        check_overlap(labeled, validation, pool, frozenset({"pool", "validation"}))
        with pytest.raises(UserError, match=r"pool: 1 of its ids are also in data\.labeled \(first: '0-2'"):
            check_overlap(labeled, validation, pool, frozenset({"pool", "labeled"}))
