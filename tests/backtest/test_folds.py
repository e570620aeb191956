"""How S_val is dealt out to a round: nobody plays twice, and the mock pool lacks what the real one lacks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rambo_ray import seeds
from rambo_ray.backtest.folds import Shares, divided, draw, played, size_of_pool, tempered, thinned
from rambo_ray.config.schema import Config
from rambo_ray.errors import UserError

SHARES = Shares()


def fold_of(number: int, labels: np.ndarray, mix: np.ndarray, rejected: int = 0, k: int = 50, seed: int = 0):  # type: ignore[no-untyped-def]
    return draw(number, labels, rejected, k, mix, SHARES, seed)


@given(st.integers(0, 1000), st.integers(60, 300), st.integers(2, 8), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_no_image_is_in_two_parts_of_a_round(seed: int, count: int, classes: int, rejected: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=count)
    made = fold_of(seed % 7, labels, generator.dirichlet(np.ones(classes)) + 1e-3, rejected, seed=seed)
    every = np.concatenate([made.pool, made.validation, made.judges, made.rejected])
    assert len(np.unique(every)) == len(every) and every.max(initial=0) < count + rejected
    assert (made.validation < count).all() and (made.judges < count).all() and (made.rejected >= count).all()
    assert len(made.judges) == pytest.approx(count * 0.25, abs=count / 20 + 1)


def test_a_round_depends_on_its_number_and_the_seed_alone() -> None:
    labels, mix = np.arange(200) % 5, np.full(5, 0.2)
    first, again, other = (fold_of(3, labels, mix, seed=s) for s in (1, 1, 2))
    assert (first.pool == again.pool).all() and (first.judges == again.judges).all() and first.seed == again.seed
    assert first.seed != other.seed and not np.array_equal(first.judges, other.judges)
    assert not np.array_equal(first.judges, fold_of(4, labels, mix, seed=1).judges)


def test_all_images_judge_equally_often() -> None:
    labels = np.arange(100) % 4
    judged = np.concatenate([fold_of(i, labels, np.full(4, 0.25)).judges for i in range(12)])
    assert np.bincount(judged, minlength=100).tolist() == [3] * 100
    first = np.concatenate([fold_of(i, labels, np.full(4, 0.25)).judges for i in range(4)])
    assert len(np.unique(first)) == 100


def test_the_mock_pool_has_the_tempered_shares_and_is_as_large_as_they_allow() -> None:
    labels = np.repeat(np.arange(3), 100)
    mix = np.array([0.64, 0.32, 0.04])  # roots 8 : 5.66 : 2
    counts = np.mean([np.bincount(labels[thinned(labels, tempered(mix), seeds.generator(s, "backtest"))], minlength=3)
                      for s in range(200)], axis=0)  # fmt: skip
    assert counts == pytest.approx([100, 100 * np.sqrt(0.5), 25], abs=0.5)
    assert size_of_pool(np.array([100, 100, 100]), mix) == pytest.approx(100 / 0.64)


def test_a_class_that_s_val_lacks_leaves_a_pool_of_the_others() -> None:
    there, mix = np.array([10, 10, 10, 10, 10, 10, 10, 10, 2, 0]), np.full(10, 0.1)
    assert size_of_pool(there, mix) == pytest.approx(20)  # one of the two is passed over, the other counts
    assert size_of_pool(np.array([10] * 9 + [0]), mix) == pytest.approx(100)
    labels = np.repeat(np.arange(9), 10)
    assert len(thinned(labels, mix, seeds.generator(0, "backtest"))) == 90
    assert size_of_pool(np.array([0, 50]), np.array([0.5, 0.5])) == 0.0  # half of the pool cannot be made up for


def test_even_classes_are_thinned_by_nothing() -> None:
    labels = np.repeat(np.arange(4), 25)
    assert (thinned(labels, np.full(4, 0.25), seeds.generator(0, "backtest")) == np.arange(100)).all()


def test_a_class_with_half_an_image_is_there_in_half_of_the_rounds() -> None:
    labels = np.repeat(np.arange(2), [50, 50])
    mix = np.array([0.99, 0.01])
    there = [(labels[thinned(labels, mix, seeds.generator(s, "backtest"))] == 1).sum() for s in range(400)]
    assert set(there) == {0, 1} and np.mean(there) == pytest.approx(50 / 99, abs=0.08)


def test_parts_are_alike_in_their_classes() -> None:
    labels = np.repeat(np.arange(5), 40)
    for number in range(5):
        part = divided(labels, SHARES, number, seed=0)
        for c in range(5):
            assert np.bincount(part[labels == c], minlength=3).tolist() == [16, 14, 10]


def test_a_class_of_few_images_has_some_in_each_part() -> None:
    labels = np.concatenate([np.full(200, 0), np.full(5, 1), np.full(13, 2)])
    for number in range(12):
        part = divided(labels, SHARES, number, seed=number)
        for c in (1, 2):
            assert np.bincount(part[labels == c], minlength=3).min() >= 1


def test_rejected_images_are_met_as_often_as_when_s_0_was_labelled() -> None:
    """40 rejected for 80 labelled: one of none for two of a class would be met, as far as half of the 40 allows."""
    labels = np.arange(400) % 4
    made = fold_of(0, labels, np.full(4, 0.25), rejected=40, k=80)
    assert (made.pool >= 400).sum() == 20 and len(made.rejected) == 20  # the rest is known as rejected
    made = fold_of(0, labels, np.full(4, 0.25), rejected=40, k=400)
    assert (made.pool < 400).sum() == 160 and (made.pool >= 400).sum() == 16


def config(**acquisition: int) -> Config:
    return Config.model_validate({"acquisition": acquisition})


def test_what_counts_images_is_scaled_down_with_the_pool() -> None:
    small = played(config(budget=500, batch_size=50, margin_pool=5000), 300, 50_000, 0.3, 0.35)
    ask = small.acquisition
    assert (ask.budget, ask.batch_size, ask.margin_pool) == (90, 9, 180)  # a tenth of 300 would be below twice 90
    wide = played(config(budget=500, batch_size=50, margin_pool=5000), 300, 5000, 0.3, 0.35).acquisition
    assert wide.margin_pool == 300


def test_a_budget_below_the_share_is_played_as_it_is() -> None:
    ask = played(config(budget=8, batch_size=4, margin_pool=50), 300, 1000, 0.3, 0.35).acquisition
    assert (ask.budget, ask.batch_size) == (8, 4)


def test_sizes_of_mock_rounds_that_were_set_shrink_with_s_val() -> None:
    base = Config.model_validate({"utility_samples": {"min_round": 20, "max_round": 100}})
    samples = played(base, 300, 5000, 0.3, 0.35).utility_samples
    assert (samples.min_round, samples.max_round) == (7, 35)


def test_a_pool_too_small_to_tell_anything_is_refused_with_the_remedy() -> None:
    with pytest.raises(UserError, match="mock pool of 10 images and buys 3.*give more validation images"):
        played(config(), 10, 5000, 0.3, 0.35)


class TestCopies:
    """Copies take one part, that of the first, and the mock pool has each image once."""

    @given(st.integers(0, 1000), st.integers(60, 200), st.integers(0, 30))
    @settings(max_examples=40, deadline=None)
    def test_no_group_is_on_two_sides(self, seed: int, count: int, rejected: int) -> None:
        generator = np.random.default_rng(seed)
        labels, mix = generator.integers(4, size=count), np.full(4, 0.25)
        v, r = (np.sort(generator.integers(max(1, n // 2), size=n)) for n in (count, rejected))
        same = np.concatenate([np.searchsorted(v, v), count + np.searchsorted(r, r)])
        made = draw(seed % 5, labels, rejected, 50, mix, SHARES, seed, same)
        sides = [set(same[part].tolist()) for part in (made.pool, made.validation, made.judges, made.rejected)]
        for one, other in itertools.combinations(sides, 2):
            assert not one & other
        assert len(sides[0]) == len(made.pool)  # once each
        for part in (made.validation, made.judges):  # of a group all images or none
            assert len(part) == np.isin(same[:count], same[part]).sum()

    def test_too_few_different_images_are_refused(self) -> None:
        labels, mix = np.arange(60) % 2, np.full(2, 0.5)
        with pytest.raises(
            UserError, match="its 60 images are copies, exact or near, of 2.*to (buy|play with|judge by)"
        ):
            draw(0, labels, 0, 50, mix, SHARES, 0, np.arange(60) % 2)

    def test_without_copies_nothing_changes(self) -> None:
        labels, mix = np.arange(100) % 4, np.array([0.4, 0.3, 0.2, 0.1])
        one, other = (draw(2, labels, 10, 50, mix, SHARES, 3, same) for same in (None, np.arange(110)))
        for name in ("pool", "validation", "judges", "rejected"):
            assert (getattr(one, name) == getattr(other, name)).all()
