"""The classes' shares in a pool whose labels nobody knows, on made pools where we do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rambo_ray.backtest.mix import class_mix, counted, is_even, pool_posterior
from rambo_ray.classifier.training import TrainingSettings
from rambo_ray.config.schema import ClassifierConfig
from rambo_ray.data.problem import LabeledArrays

EVEN = np.full(3, 1 / 3)


def gaussian(generator: np.random.Generator, labels: np.ndarray, noise: float = 1.0) -> np.ndarray:
    """Points about three corners of a triangle: what classes overlap follows from `noise`."""
    corners = 2.0 * np.array([[0.0, 1.0], [0.87, -0.5], [-0.87, -0.5]])
    return (corners[labels] + noise * generator.normal(size=(len(labels), 2))).astype(np.float32)


def posterior(points: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The true probabilities of the classes where they have these shares."""
    corners = 2.0 * np.array([[0.0, 1.0], [0.87, -0.5], [-0.87, -0.5]])
    density = np.exp(-((points[:, None] - corners) ** 2).sum(axis=2) / 2) * shares
    return density / density.sum(axis=1, keepdims=True)


def test_without_anybody_to_ask_the_labels_alone_speak() -> None:
    labels = np.array([0] * 6 + [1] * 2)
    assert class_mix(labels, np.zeros((0, 3)), EVEN) == pytest.approx(np.array([6.5, 2.5, 0.5]) / 9.5)
    assert counted(labels, 3) == pytest.approx(np.array([6.5, 2.5, 0.5]) / 9.5)


@pytest.mark.parametrize("true", [(0.8, 0.15, 0.05), (1 / 3, 1 / 3, 1 / 3), (0.5, 0.49, 0.01)])
def test_a_true_posterior_for_other_shares_leads_to_the_pools_own(true: tuple[float, ...]) -> None:
    generator = np.random.default_rng(0)
    labels = generator.choice(3, size=4000, p=true)
    found = class_mix(labels[:200], posterior(gaussian(generator, labels), EVEN), EVEN)
    assert found.sum() == pytest.approx(1.0)
    assert np.abs(found - true).max() < 0.045  # of 200 labels a share of a half is known to 3.5 points


def test_the_pools_images_make_the_shares_better_known_than_few_labels_do() -> None:
    """Of 30 labels a class of a fifth may have two or ten; the pool's 3000 images know better."""
    true, off, alone = np.array([0.6, 0.2, 0.2]), [], []
    for seed in range(20):
        generator = np.random.default_rng(seed)
        labels = generator.choice(3, size=3000, p=true)
        few = labels[:30]
        off.append(np.abs(class_mix(few, posterior(gaussian(generator, labels), EVEN), EVEN) - true).max())
        alone.append(np.abs(counted(few, 3) - true).max())
    assert np.mean(off) < 0.75 * np.mean(alone)


@given(st.integers(0, 10_000), st.integers(2, 6))
@settings(max_examples=40, deadline=None)
def test_shares_are_positive_and_sum_to_one_whatever_the_posterior(seed: int, classes: int) -> None:
    generator = np.random.default_rng(seed)
    p = generator.dirichlet(np.full(classes, 0.1), size=50)
    known = generator.dirichlet(np.full(classes, 0.5))
    known[generator.integers(classes)] = 0.0  # S_val may lack a class
    found = class_mix(generator.integers(classes, size=10), p, known / known.sum())
    assert (found > 0).all() and found.sum() == pytest.approx(1.0)


def test_two_classifiers_that_have_not_seen_what_calibrates_them_find_a_long_tail() -> None:
    generator = np.random.default_rng(1)
    even = np.arange(240) % 3
    validation = LabeledArrays(gaussian(generator, even), even)
    labels = generator.choice(3, size=2000, p=[0.7, 0.25, 0.05])
    rule = TrainingSettings.from_config(
        ClassifierConfig(name="linear", components=2), mean=(), std=(), image_shape=(2, 1, 1), num_classes=3,
        device="cpu", embedding="made",
    )  # fmt: skip
    found, known = pool_posterior(validation, gaussian(generator, labels), rule, seed=0, device="cpu")
    assert found.shape == (2000, 3) and found.sum(axis=1) == pytest.approx(np.ones(2000))
    assert known == pytest.approx(EVEN)
    assert np.abs(class_mix(labels[:100], found, known) - [0.7, 0.25, 0.05]).max() < 0.05


@pytest.mark.parametrize(("classes", "labels"), [(2, 20), (10, 50), (10, 200), (100, 200)])
def test_a_pool_is_taken_for_what_it_is(classes: int, labels: int) -> None:
    """As S_0's labels and a classifier that knows the shares estimate them."""
    generator = np.random.default_rng(7)
    shares = {True: np.full(classes, 1 / classes), False: np.geomspace(1, 1 / 50, classes)}
    for even, share in shares.items():
        share = share / share.sum()
        found = [
            is_even((counted(generator.choice(classes, labels, p=share), classes) + share) / 2, labels)
            for _ in range(50)
        ]
        assert found.count(even) >= 48
