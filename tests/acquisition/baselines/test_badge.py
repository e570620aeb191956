"""BADGE against materialised gradients, and where rounding could decide."""

from __future__ import annotations

import numpy as np
import pytest

from rambo_ray.acquisition.baselines.badge import badge

from .drawn_inputs import inputs, of_pool
from .reference_baselines import badge as badge_slowly
from .reference_baselines import gradient


@pytest.mark.parametrize("seed", range(6))
def test_against_materialised_gradients(seed: int) -> None:
    given = inputs(60, classes=5, width=7, seed=seed)
    picked = badge(given, 40, np.random.default_rng(seed))
    assert picked.tolist() == badge_slowly(given, 40, np.random.default_rng(seed))


def test_the_first_has_the_largest_gradient() -> None:
    given = inputs(80, seed=3)
    sizes = [
        np.linalg.norm(gradient(z, e, int(z.argmax()), bias=False))
        for z, e in zip(given.logits, given.embeddings, strict=True)
    ]
    for seed in range(3):
        assert badge(given, 1, np.random.default_rng(seed)).tolist() == [int(np.argmax(sizes))]


def test_probability_is_the_squared_distance() -> None:
    # All logits are 0: gradients are (-1/2, 1/2) (x) e. From the first pick 10, squared distances to the
    # others are as 1 : 4 : 25.
    given = of_pool([[10.0], [9.0], [8.0], [5.0]])
    second = np.array([badge(given, 2, np.random.default_rng(seed)) for seed in range(3000)])
    assert (second[:, 0] == 0).all()
    often = np.bincount(second[:, 1], minlength=4) / 3000
    expected = np.array([0, 1, 4, 25]) / 30
    assert np.abs(often - expected).max() < 5 * np.sqrt(0.25 / 3000)


def test_copies_come_last() -> None:
    # 10 kinds of images, 20 copies each. Rounding must not let a copy in while a kind is missing.
    rng = np.random.default_rng(0)
    kinds, logits = rng.normal(size=(10, 40)) * 1000, rng.normal(size=(10, 5))
    for seed in range(20):
        of_image = rng.permutation(np.repeat(np.arange(10), 20))
        picked = badge(of_pool(kinds[of_image], logits[of_image]), 30, np.random.default_rng(seed))
        assert sorted(of_image[picked[:10]].tolist()) == list(range(10))


def test_a_cluster_near_the_origin_is_chosen() -> None:
    # One huge gradient and its copies, and a cluster of distinct images a million times smaller: with a
    # threshold relative to the largest norm, all of the cluster would be taken for one point at the most.
    rng = np.random.default_rng(1)
    embeddings = np.concatenate([np.full((20, 3), 1e6), rng.normal(size=(20, 3)) * 1e-3])
    picked = badge(of_pool(embeddings), 21, np.random.default_rng(0))
    assert picked[0] == 0 and sorted(picked[1:].tolist()) == list(range(20, 40))


def test_confident_images_differ_too() -> None:
    # Probabilities of 1 to the last bit: gradients of about 1e-20, still apart from each other.
    logits = np.array([[46.0, 0.0, 0.0], [0.0, 46.0, 0.0], [0.0, 0.0, 46.0], [46.0, 0.0, 0.0]])
    for seed in range(10):
        picked = badge(of_pool(np.ones((4, 2)), logits), 3, np.random.default_rng(seed))
        assert sorted(set(picked.tolist()) & {1, 2}) == [1, 2]


def test_what_coincides_is_drawn_uniformly() -> None:
    given = of_pool(np.ones((6, 3)))
    picks = np.array([badge(given, 2, np.random.default_rng(seed)) for seed in range(3000)])
    assert (picks[:, 0] == 0).all()
    often = np.bincount(picks[:, 1], minlength=6) / 3000
    assert often[0] == 0 and np.abs(often[1:] - 0.2).max() < 5 * np.sqrt(0.2 * 0.8 / 3000)
