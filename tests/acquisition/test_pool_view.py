"""Which images are looked at for the report, and that f is asked once of each."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from rambo_ray.acquisition import pool_view
from rambo_ray.acquisition.greedy import Selection
from rambo_ray.acquisition.pool_view import PoolView, evenly_apart
from rambo_ray.config.schema import AcquisitionConfig


def looked(
    margins: np.ndarray, picked: np.ndarray, margin_pool: int, sampled: np.ndarray | None = None
) -> tuple[PoolView, list[np.ndarray]]:
    ask = AcquisitionConfig(budget=len(picked), batch_size=min(len(picked), margin_pool), margin_pool=margin_pool)
    empty = np.zeros(len(picked))
    asked: list[np.ndarray] = []

    def pool(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        asked.append(positions)
        return np.column_stack([positions, -positions, positions]) / 1e4, positions[:, None] * np.ones(4)

    selection = Selection(picked, empty, margins[picked], empty, ())
    every = np.arange(len(margins)) if sampled is None else sampled
    view = pool_view.look(selection, margins, every, ask, pool, lambda at: (at[:, None] * 1.0, at[:, None] * 2.0), 50)
    return view, asked


@pytest.fixture(scope="module")
def margins() -> np.ndarray:
    return np.random.default_rng(0).random(9000)


def test_each_image_is_asked_for_once_and_found_again(margins: np.ndarray) -> None:
    picked = np.argsort(margins)[10:0:-1].copy()
    view, asked = looked(margins, picked, 100)
    assert len(asked) == 1 and (np.diff(asked[0]) > 0).all() and np.array_equal(asked[0], view.positions)
    assert len(asked[0]) <= 10 + pool_view.MOST_OF_POOL + pool_view.MOST_REMOVED
    assert np.array_equal(view.embeddings[view.rows(view.picked)][:, 0], picked)  # in the order picked
    assert view.probabilities == pytest.approx(
        softmax(np.column_stack([view.positions, -view.positions, view.positions]) / 1e4, axis=1)
    )
    assert np.array_equal(view.labeled[:, 0], 2.0 * np.arange(50))


def test_what_was_removed_is_what_no_step_could_pick(margins: np.ndarray) -> None:
    view, _ = looked(margins, np.argsort(margins)[:10], 100)
    order = np.argsort(margins)
    assert len(view.removed) == pool_view.MOST_REMOVED
    assert view.removed[0] == order[110] and view.removed[-1] == order[-1]
    assert (np.diff(margins[view.removed]) > 0).all()


def test_nothing_is_removed_where_every_image_is_a_candidate(margins: np.ndarray) -> None:
    view, _ = looked(margins, np.arange(10), 8990)
    assert len(view.removed) == 0


def test_a_sample_stands_for_a_pool_of_which_the_rest_is_not_here(margins: np.ndarray) -> None:
    sampled = np.array([8999, 3, 77])
    view, asked = looked(margins, np.arange(10), 8990, sampled)
    assert view.evenly.tolist() == [3, 77, 8999] and set(asked[0]) == {*range(10), 77, 8999}


def test_a_large_choice_is_looked_at_in_part() -> None:
    margins = np.linspace(0, 1, 6000)
    view, asked = looked(margins, np.arange(5000), 1000)
    assert len(view.picked) == pool_view.MOST_PICKED and len(view.evenly) == pool_view.MOST_OF_POOL
    assert len(asked[0]) <= pool_view.MOST_PICKED + pool_view.MOST_OF_POOL


def test_evenly_apart_keeps_the_ends() -> None:
    assert evenly_apart(np.arange(100), 4).tolist() == [0, 33, 66, 99]
    assert evenly_apart(np.arange(3), 9).tolist() == [0, 1, 2]
    assert len(evenly_apart(np.arange(0), 9)) == 0
