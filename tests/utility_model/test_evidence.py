"""Evidence: temperatures against a grid, the numbers by hand, and whose mean and deviation are taken."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from rambo_ray.data.problem import NONE
from rambo_ray.utility_model import evidence
from rambo_ray.utility_model.evidence import EvidenceScale


def drawn(count: int, classes: int, sharpness: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a classifier that is `sharpness` times surer than it may be, float32, and labels."""
    generator = np.random.default_rng(seed)
    true = generator.normal(size=(count, classes)) * 2
    labels = (softmax(true, axis=1).cumsum(axis=1) > generator.random((count, 1))).argmax(axis=1)
    return (true * sharpness).astype(np.float32), labels


class TestTemperature:
    @pytest.mark.parametrize("sharpness", [0.2, 1.0, 5.0])
    def test_is_the_best_of_a_fine_grid(self, sharpness: float) -> None:
        logits, labels = drawn(300, 4, sharpness)
        found = evidence.temperature(logits, labels)
        grid = np.exp(np.linspace(-3, 3, 6001))
        losses = [-log_softmax(logits / t, axis=1)[np.arange(300), labels].mean() for t in grid]
        assert found == pytest.approx(grid[int(np.argmin(losses))], rel=2e-3)
        assert found == pytest.approx(sharpness, rel=0.3)

    def test_in_closed_form(self) -> None:
        # Two classes, logits (1, 0), a share p of the first: sigmoid(1 / T) = p.
        logits, labels = np.tile(np.float32([1, 0]), (100, 1)), np.repeat([0, 1], [80, 20])
        assert evidence.temperature(logits, labels) == pytest.approx(1 / math.log(0.8 / 0.2), rel=1e-4)

    def test_stays_within_its_bounds(self) -> None:
        logits = np.tile(np.float32([1, 0]), (10, 1))
        always, never = np.zeros(10, dtype=int), np.ones(10, dtype=int)
        assert evidence.temperature(logits, always) == pytest.approx(math.exp(-3), rel=1e-3)
        assert evidence.temperature(logits, never) == pytest.approx(math.exp(3), rel=1e-3)

    def test_no_images(self) -> None:
        with pytest.raises(ValueError, match="labels: none"):
            evidence.temperature(np.zeros((0, 3)), np.zeros(0, dtype=int))


class TestRaw:
    def test_of_two_classes_by_hand(self) -> None:
        posterior, own = np.array([[0.75, 0.25], [0.5, 0.5]]), np.array([[0.1, 0.9], [1.0, 0.0]])
        found = evidence.raw(posterior, own)
        entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
        #                 p0    p1    margin entropy  agreement                f errs
        expected = [[0.75, 0.25, 0.8, entropy, 0.75 * 0.1 + 0.25 * 0.9, 0.75], [0.5, 0.5, 1.0, math.log(2), 0.5, 0.5]]
        assert np.allclose(found, expected, rtol=1e-12)

    def test_none_is_a_class_of_the_posterior_and_not_of_f(self) -> None:
        found = evidence.raw(np.array([[0.2, 0.1, 0.7]]), np.array([[0.6, 0.4]]))
        entropy = -sum(p * math.log(p) for p in (0.2, 0.1, 0.7))
        assert np.allclose(found, [[0.2, 0.1, 0.7, 0.2, entropy, 0.2 * 0.6 + 0.1 * 0.4, 0.8]], rtol=1e-12)

    def test_a_probability_of_zero_has_no_entropy(self) -> None:
        assert np.allclose(evidence.raw(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]])), [[1, 0, 0, 0, 0.5, 0]])

    @given(st.integers(1, 6), st.integers(2, 5), st.booleans(), st.integers(0, 99))
    def test_names_and_numbers_go_together(self, count: int, classes: int, rejected: bool, seed: int) -> None:
        generator = np.random.default_rng(seed)
        posterior = generator.dirichlet(np.ones(classes + rejected), count)
        found = evidence.raw(posterior, generator.dirichlet(np.ones(classes), count))
        names = evidence.names([str(i) for i in range(classes)], rejected)
        assert found.shape == (count, len(names)) and len(set(names)) == len(names)
        assert ("p(none)" in names) == rejected
        entropy, agreement, errs = found[:, -3:].T
        assert (entropy >= -1e-12).all() and (entropy <= math.log(classes + rejected) + 1e-12).all()
        assert ((agreement >= 0) & (agreement <= 1) & (errs >= 0) & (errs <= 1)).all()


def fitted(rejected: int = 0, classes: int = 3, count: int = 50) -> tuple[EvidenceScale, np.ndarray, tuple]:
    own, labels = drawn(count + rejected, classes, 3.0)
    logits = own / np.float32(6)
    if rejected:
        none = np.random.default_rng(1).normal(size=count + rejected) + (np.arange(count + rejected) >= count)
        logits = np.column_stack([logits, none.astype(np.float32)])
    labels[count:] = NONE
    scale, items = evidence.fit(logits, own, labels)
    return scale, items, (logits, own, labels)


class TestFit:
    def test_temperatures_are_those_of_each_classifier(self) -> None:
        scale, _, (logits, own, labels) = fitted()
        assert scale.own_temperature == evidence.temperature(own, labels)
        assert scale.temperature == evidence.temperature(logits, labels)
        assert scale.own_temperature > scale.temperature

    @pytest.mark.parametrize("rejected", [0, 20])
    def test_S_val_has_mean_0_and_deviation_1(self, rejected: int) -> None:
        scale, items, (logits, own, labels) = fitted(rejected)
        known = labels != NONE
        assert items.shape == (50 + rejected, 3 + (rejected > 0) + 4) and items.dtype == np.float64
        assert np.allclose(items[known].mean(axis=0), 0, atol=1e-12)
        assert np.allclose(items[known].std(axis=0), 1)
        # And what was rejected is measured by S_val's yardstick.
        numbers = evidence.raw(
            softmax(logits / scale.temperature, axis=1), softmax(own / scale.own_temperature, axis=1)
        )
        by_hand = (numbers - numbers[known].mean(axis=0)) / numbers[known].std(axis=0)
        assert np.allclose(items, by_hand, rtol=1e-3, atol=1e-4)  # logits are float32

    def test_what_was_rejected_is_the_last_class_to_the_second_opinion_and_none_to_f(self) -> None:
        scale, _, (logits, own, labels) = fitted(20)
        known = labels != NONE
        assert scale.own_temperature == evidence.temperature(own[known], labels[known])
        assert scale.temperature == evidence.temperature(logits, np.where(known, labels, 3))

    def test_a_number_that_never_changes_is_0_and_not_nan(self) -> None:
        own, labels = np.tile(np.float32([1, 0]), (10, 1)), np.arange(10) % 2
        _, items = evidence.fit(own, own, labels)
        assert np.allclose(items, 0)


class TestScale:
    def test_of_several_opinions_is_the_mean_of_their_numbers(self) -> None:
        scale, _, _ = fitted()
        own, _ = drawn(7, 3, seed=5)
        opinions = [drawn(7, 3, seed=seed)[0] for seed in (6, 7, 8)]
        each = [scale.of([opinion], own) for opinion in opinions]
        assert np.allclose(scale.of(opinions, own), np.mean(each, axis=0), rtol=1e-12, atol=1e-12)
        # Of the numbers, not of the probabilities: entropy is not linear in them.
        pooled = scale.of([np.mean(opinions, axis=0)], own)
        assert not np.allclose(pooled[:, -3], scale.of(opinions, own)[:, -3], atol=1e-2)

    def test_an_image_s_evidence_does_not_depend_on_its_company(self) -> None:
        scale, _, _ = fitted()
        own, opinion = drawn(200, 3, seed=5)[0], drawn(200, 3, seed=6)[0]
        whole = scale.of([opinion, own], own)
        for part in (slice(0, 1), slice(3, 50), slice(77, 200)):
            assert np.array_equal(scale.of([opinion[part], own[part]], own[part]), whole[part])

    @pytest.mark.parametrize("rejected", [0, 20])
    def test_gives_the_posterior_back(self, rejected: int) -> None:
        scale, items, (logits, _, _) = fitted(rejected)
        expected = softmax(logits.astype(float) / scale.temperature, axis=1)[:, :3]
        assert np.allclose(scale.posterior(items, 3), expected, atol=1e-6)
