"""CoreSet against distances computed afresh for each pick, and in one dimension by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rambo_ray.acquisition.baselines import coreset as module
from rambo_ray.acquisition.baselines.coreset import coreset

from .drawn_inputs import inputs, of_pool
from .reference_baselines import coreset as coreset_slowly

GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize("k", [0, 1, 7])
@pytest.mark.parametrize("seed", range(3))
def test_against_distances_computed_afresh(k: int, seed: int) -> None:
    given = inputs(60, k=k, width=5, seed=seed)
    picked = coreset(given, 60, np.random.default_rng(seed))
    assert picked.tolist() == coreset_slowly(given, 60, np.random.default_rng(seed))


def test_labelled_images_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs(50, k=30)
    whole = coreset(given, 20, GENERATOR)
    monkeypatch.setattr(module, "_CHUNK", 7)
    assert coreset(given, 20, GENERATOR).tolist() == whole.tolist()


def test_on_a_line() -> None:
    # From 0: 10 is farthest; then 5 halves the gap; then 2 and 8 are equally far, the first in the pool wins.
    given = of_pool([[8.0], [2.0], [5.0], [10.0], [0.0]], labeled=[[0.0]])
    assert coreset(given, 5, GENERATOR).tolist() == [3, 2, 0, 1, 4]


def test_the_first_of_none_labelled_is_random() -> None:
    given = inputs(10, k=0)
    first = [int(coreset(given, 1, np.random.default_rng(seed))[0]) for seed in range(2000)]
    assert np.abs(np.bincount(first, minlength=10) / 2000 - 0.1).max() < 5 * np.sqrt(0.1 * 0.9 / 2000)


def test_copies_go_by_position_and_come_last() -> None:
    # Far from the origin and close to each other, where squared norms are mostly rounding.
    kinds = 1e4 + np.array([[0.0], [1.0], [2.0]]) * np.ones(30)
    given = of_pool(np.repeat(kinds, 5, axis=0), labeled=kinds[:1])
    assert coreset(given, 15, GENERATOR).tolist() == [10, 5, 0, 1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14]
