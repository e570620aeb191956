"""Pools as they really are: what each scenario promises of its parts, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st

from rambo_ray.config import loading
from rambo_ray.config.schema import SCENARIO_KEYS, Config, DataConfig
from rambo_ray.data import scenarios
from rambo_ray.data.datasets import load
from rambo_ray.data.images import LabeledImages
from rambo_ray.data.problem import NONE, Problem, Revealed
from rambo_ray.errors import UserError

from .refused import refusal
from .written_images import pictures

NAMES = ("ant", "bee", "cat", "dog", "owl")
ODD = ("long_tail", "off_target", "duplicates")


def dataset(each: int | list[int] = 60, seed: int = 0, side: int = 6, prefix: str = "image") -> LabeledImages:
    counts = [each] * len(NAMES) if isinstance(each, int) else each
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(NAMES)), counts)).astype(np.int64)
    names = tuple(f"{prefix} {i}" for i in range(len(labels)))
    return LabeledImages(pictures(len(labels), seed, side), names, labels)


def data(scenario: str = "long_tail", k: int = 20, v: int = 24, **keys: Any) -> DataConfig:
    if scenario == "off_target":
        keys = {"target_classes": 3, **keys}
    if scenario == "duplicates":
        keys = {"copies": 7, **keys}
    return DataConfig(scenario=scenario, num_labeled=k, num_validation=v, **keys)  # type: ignore[arg-type]


def divided(ask: DataConfig, seed: int = 0, whole: LabeledImages | None = None) -> tuple[Problem, Revealed]:
    test = dataset(each=[9, 10, 8, 12, 11], seed=1, prefix="test")
    return scenarios.divide(dataset() if whole is None else whole, test, NAMES, ask, seed, None)


def label_of(whole: LabeledImages) -> dict[str, str]:
    return {name: NAMES[label] for name, label in zip(whole.ids, whole.labels, strict=True)}


@pytest.mark.parametrize("scenario", ODD)
class TestAny:
    def test_parts_are_disjoint_and_labels_are_those_of_the_images(self, scenario: str) -> None:
        problem, revealed = divided(data(scenario))
        true, rejected = label_of(dataset()), () if problem.rejected is None else problem.rejected.ids
        parts = (problem.labeled.ids, problem.validation.ids, problem.pool.ids, rejected)
        assert len(set().union(*parts)) == sum(map(len, parts))
        for ids, labels in zip(
            parts[:3], (problem.labeled.labels, problem.validation.labels, revealed.pool_labels), strict=True
        ):
            for name, label in zip(ids, labels, strict=True):
                name = name.partition(" (near-copy")[0]
                if label == NONE:
                    assert true[name] not in problem.class_names
                else:
                    assert true[name] == problem.class_names[label]

    def test_s_0_is_as_large_as_asked_and_s_val_and_test_are_even(self, scenario: str) -> None:
        problem, revealed = divided(data(scenario))
        assert len(problem.labeled) == 20 and len(problem.validation) == 24
        counts = np.bincount(problem.validation.labels, minlength=len(problem.class_names))
        assert counts.sum() == 24 and counts.max() - counts.min() <= 1
        assert revealed.test is not None
        tested = np.bincount(revealed.test.labels, minlength=len(problem.class_names))
        assert len(set(tested.tolist())) == 1 and tested[0] >= 8

    def test_the_seed_decides_all_of_it(self, scenario: str) -> None:
        def prints(seed: int) -> tuple[str, str, list[int]]:
            problem, revealed = divided(data(scenario), seed)
            return problem.fingerprint, problem.pool_fingerprint, revealed.pool_labels.tolist()

        assert prints(4) == prints(4) != prints(5)

    def test_pool_limit_keeps_a_prefix(self, scenario: str) -> None:
        (whole, revealed), (part, fewer) = divided(data(scenario)), divided(data(scenario, pool_limit=11))
        assert part.pool.ids == whole.pool.ids[:11] and part.fingerprint == whole.fingerprint
        assert fewer.pool_labels.tolist() == revealed.pool_labels[:11].tolist()

    def test_no_images_left_for_a_pool(self, scenario: str) -> None:
        with pytest.raises(UserError, match=r"^data.num_labeled=200, data.scenario=\w+: must leave a pool, but"):
            divided(data(scenario, k=200, v=150))

    def test_more_validation_images_than_a_class_has(self, scenario: str) -> None:
        with pytest.raises(UserError, match=r"^data.num_validation=301: a balanced S_val takes .*'\w+' has 60; set"):
            divided(data(scenario, v=301))

    def test_fewer_labels_than_classes(self, scenario: str) -> None:
        with pytest.raises(UserError, match=r"^data.num_labeled=2: must be at least"):
            divided(data(scenario, k=2))

    def test_of_real_images_through_the_configuration(self, scenario: str) -> None:
        config = loading.load("jobs/configs/digits.yaml", [f"data.scenario={scenario}"])
        problem, revealed = load(config.data, 0)
        assert revealed is not None and len(problem.labeled) == 100 and len(problem.pool) == len(revealed.pool_labels)
        assert scenarios.describe(config.data).startswith(f"scenario {scenario}")


class TestLongTail:
    @given(st.lists(st.integers(1, 4000), min_size=2, max_size=12), st.floats(1.01, 200), st.integers(0, 2**32))
    def test_counts_keep_the_ratio_and_use_up_a_class(self, available: list[int], ratio: float, seed: int) -> None:
        rank = np.random.default_rng(seed).permutation(len(available))
        counts = scenarios.long_tail_counts(np.array(available), rank, ratio)
        assert (counts <= available).all() and (counts == available).any()
        in_order = counts[np.argsort(rank)]
        assert (np.diff(in_order) <= 0).all()
        exact = in_order.max() * ratio ** (-np.arange(len(rank)) / (len(rank) - 1))
        assert np.abs(in_order - exact).max() <= 1.0  # half of the head's rounding, and their own

    def test_s_0_and_the_pool_are_one_population_of_that_ratio(self) -> None:
        problem, revealed = divided(data(imbalance=10.0), whole=dataset([400] * 5))
        both = np.bincount(np.concatenate([problem.labeled.labels, revealed.pool_labels]))
        assert sorted(both.tolist(), reverse=True) == [395, 222, 125, 70, 40] or max(both) in (395, 396)
        assert max(both) / min(both) == pytest.approx(10, rel=0.03)

    def test_s_0_is_drawn_from_it(self) -> None:
        share = np.zeros(5)
        for seed in range(40):
            problem, _ = divided(data(imbalance=10.0), seed)
            share += np.sort(np.bincount(problem.labeled.labels, minlength=5))[::-1] / (40 * 20)
        expected = 10.0 ** (-np.arange(5) / 4)
        assert np.abs(share - expected / expected.sum()).max() < 0.08

    def test_the_order_of_the_classes_is_another_for_another_seed(self) -> None:
        most = {int(np.bincount(divided(data(), seed)[1].pool_labels).argmax()) for seed in range(12)}
        assert len(most) > 2

    def test_too_long_a_tail(self) -> None:
        with pytest.raises(
            UserError, match=r"^data.imbalance=500: leaves no image of '\w+', of which .*lower data.imb"
        ):
            divided(data(imbalance=500.0))


class TestOffTarget:
    def test_numbers_and_names_are_those_of_the_targets(self) -> None:
        problem, revealed = divided(data("off_target"))
        assert len(problem.class_names) == 3 and list(problem.class_names) == sorted(problem.class_names)
        assert set(np.unique(revealed.pool_labels)) == {NONE, 0, 1, 2}
        assert len({divided(data("off_target"), seed)[0].class_names for seed in range(8)}) > 2

    @how(max_examples=10)
    @given(st.sampled_from([0.1, 0.3, 0.5, 0.8]), st.integers(0, 1000))
    def test_the_share_of_the_population_and_what_was_met_on_the_way(self, share: float, seed: int) -> None:
        problem, revealed = divided(data("off_target", off_target_share=share), seed)
        rejected = 0 if problem.rejected is None else len(problem.rejected)
        junk = rejected + int((revealed.pool_labels == NONE).sum())
        everything = rejected + 20 + len(revealed.pool_labels)
        assert abs(junk - share * everything) <= 1
        # All of one side are used: 156 images of the targets, or 120 of the others.
        assert everything - junk == 156 or junk == 120

    def test_rejected_are_as_many_as_an_annotator_would_have_met(self) -> None:
        met = [len(divided(data("off_target"), seed)[0].rejected or ()) for seed in range(40)]
        assert np.mean(met) == pytest.approx(20, abs=4)

    def test_every_class_a_target(self) -> None:
        with pytest.raises(UserError, match=r"^data.target_classes=5: must be below 5, the number of classes"):
            divided(data("off_target", target_classes=5))


class TestDuplicates:
    def test_as_many_images_as_before_half_of_them_near_copies_in_equal_groups(self) -> None:
        problem, revealed = divided(data("duplicates"))
        ids = [*problem.labeled.ids, *problem.pool.ids]
        assert len(ids) == 300 - 24
        copied = [name.partition(" (near-copy")[0] for name in ids if "near-copy" in name]
        assert len(copied) == 138 // 7 * 7
        assert set(np.unique(copied, return_counts=True)[1]) == {7} and set(copied) <= set(ids)

    def test_near_and_not_equal(self) -> None:
        smooth = np.add.outer(np.arange(28), np.arange(28)).astype(np.uint8)[None, :, :, None] * 4
        generator = np.random.default_rng(0)
        copies = scenarios.near_copies(np.repeat(smooth, 200, axis=0), generator)
        assert copies.dtype == np.uint8 and copies.shape == (200, 28, 28, 1)
        assert len({copy.tobytes() for copy in copies} | {smooth.tobytes()}) == 201
        off = np.abs(copies.astype(int) - smooth).mean((1, 2, 3))
        assert np.median(off) < 12 and off.max() < 35  # levels of 255; two such images at random are 66 apart

    def test_shifts_are_of_a_pixel_or_two(self) -> None:
        for side, most in ((8, 0), (28, 1), (32, 2)):
            dot = np.zeros((1, side, side, 1), np.uint8)
            dot[0, side // 2, side // 2] = 255
            copies = scenarios.near_copies(np.repeat(dot, 300, axis=0), np.random.default_rng(2))
            places = copies.reshape(300, -1).argmax(axis=1)
            moved = {(int(p) // side - side // 2, int(p) % side - side // 2) for p in places}
            assert len(moved) == (2 * most + 1) ** 2 and max(max(map(abs, m)) for m in moved) == most

    @pytest.mark.parametrize(
        ("keys", "line"),
        [
            ({"copies": 200}, r"^data.copies=200: must be at most 138, .*; lower data.copies"),
            (
                {"copies": 1, "duplicate_share": 0.7},
                r"^data.copies=1: leaves 83 originals to have them, .*; raise data",
            ),
        ],
    )
    def test_what_cannot_be(self, keys: dict[str, Any], line: str) -> None:
        with pytest.raises(UserError, match=line):
            divided(data("duplicates", **keys))


class TestConfiguration:
    def test_own_images_are_what_they_are(self) -> None:
        own = ["data.name=own", "data.labeled=a", "data.validation=b", "data.pool=c", "data.scenario=long_tail"]
        with pytest.raises(UserError, match=r"^data.scenario=long_tail: your own pool is what it is"):
            loading.load(None, own)

    @pytest.mark.parametrize("key", [key for keys in SCENARIO_KEYS.values() for key in keys])
    def test_keys_that_the_scenario_does_not_read(self, key: str) -> None:
        (reads,) = (scenario for scenario, keys in SCENARIO_KEYS.items() if key in keys)
        value = 0.25 if "share" in key else 3
        for scenario in set(SCENARIO_KEYS) - {reads}:
            with pytest.raises(UserError, match=f"^data.{key}={value}.*: only read when data.scenario={reads}; set"):
                loading.load(None, [f"data.scenario={scenario}", f"data.{key}={value}"])
        assert getattr(loading.load(None, [f"data.scenario={reads}", f"data.{key}={value}"]).data, key) == value

    def test_what_is_not_read_is_no_part_of_a_runs_identity(self) -> None:
        assert not any("scenario" in key or "copies" in key for key in loading.relevant(Config()))
        kept = loading.relevant(loading.load(None, ["data.scenario=long_tail"]))
        assert kept["data.scenario"] == "long_tail" and kept["data.imbalance"] == 50 and "data.copies" not in kept

    def test_in_words(self) -> None:
        assert scenarios.describe(data()) == "scenario long_tail 50:1"
        assert scenarios.describe(data("off_target")).endswith("50 % of the pool belong to none of 3 classes")
        assert scenarios.describe(data("duplicates")).endswith("50 % of the pool near-copies, 7 of a kind")

    def test_digits_have_too_few_images_for_some(self) -> None:
        assert refusal(data(imbalance=5000.0)).startswith("data.imbalance=5000: leaves no image of")
        assert "lower data.num_labeled" in refusal(data(k=400, v=300))
