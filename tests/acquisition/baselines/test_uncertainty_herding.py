"""Uncertainty Herding against the whole kernel, its calibration and its bandwidth against loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rambo_ray.acquisition.baselines import StrategyInputs, uncertainty_herding
from rambo_ray.acquisition.baselines.inputs import unit
from rambo_ray.acquisition.baselines.uncertainty_herding import bandwidth, temperature
from rambo_ray.acquisition.baselines.uncertainty_herding import uncertainty_herding as herd

from .drawn_inputs import inputs
from .reference_baselines import softmax


def rows(embeddings: np.ndarray) -> np.ndarray:
    e = embeddings.astype(np.float64)
    return e / np.linalg.norm(e, axis=1, keepdims=True)


def herd_slowly(given: StrategyInputs, budget: int) -> list[int]:
    """The whole kernel of pool and labelled images in float64, every gain in every step."""
    scale = temperature(given.validation_logits, given.validation_labels)
    p = np.sort([softmax(z / scale) for z in given.logits.astype(np.float64)], axis=1)
    u = 1 - (p[:, -1] - p[:, -2])
    pool, own = rows(given.embeddings), rows(given.labeled_embeddings)
    sigma = min(np.linalg.norm(own[i] - own[j]) for i in range(len(own)) for j in range(i))

    def kernel(others: np.ndarray) -> np.ndarray:
        return np.exp(-((pool[:, None] - others[None]) ** 2).sum(-1) / sigma**2)

    covered, among, picked = kernel(own).max(axis=1), kernel(pool), []
    for _ in range(budget):
        gains = (u[:, None] * np.maximum(among - covered[:, None], 0)).sum(axis=0)
        gains[picked] = -1
        picked.append(int(gains.argmax()))
        covered = np.maximum(covered, among[:, picked[-1]])
    return picked


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("k", [3, 8])
def test_against_the_whole_kernel(seed: int, k: int) -> None:
    given = inputs(150, k=k, v=40, classes=5, width=5, seed=seed)
    assert herd(given, 60, np.random.default_rng(0)).tolist() == herd_slowly(given, 60)


class TestSample:
    def test_of_all_images_but_one_estimates_nearly_the_same_gains(self, monkeypatch: pytest.MonkeyPatch) -> None:
        given = inputs(400, k=4, v=40, width=3)
        points, u = unit(given.embeddings), np.random.default_rng(0).random(400)

        def gains(sample: int, seed: int = 0) -> np.ndarray:
            monkeypatch.setattr(uncertainty_herding, "SAMPLE", sample)
            coverage = uncertainty_herding._Coverage(points, u, 0.5, np.random.default_rng(seed))
            coverage.add(unit(given.labeled_embeddings))
            return coverage.gains(np.arange(400))

        whole = gains(400)
        assert gains(399) == pytest.approx(whole, rel=0.05, abs=0.3)
        # Of fewer, drawn again and again, they are right on average.
        assert np.mean([gains(60, seed) for seed in range(200)], axis=0) == pytest.approx(whole, rel=0.1, abs=0.4)

    def test_an_image_outside_of_it_counts_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # With a tiny bandwidth an image covers itself alone: the most uncertain are picked, in the sample or not.
        given = inputs(200, k=6, v=30, width=6)
        twin = given.labeled_embeddings.copy()
        twin[1] = twin[0] + 0.01
        given = replace(given, labeled_embeddings=twin)
        assert bandwidth(unit(twin)) < 0.02
        monkeypatch.setattr(uncertainty_herding, "SAMPLE", 20)
        scale = temperature(given.validation_logits, given.validation_labels)
        p = np.sort([softmax(z / scale) for z in given.logits.astype(np.float64)], axis=1)
        expected = np.argsort(p[:, -1] - p[:, -2], kind="stable")[:30]
        assert herd(given, 30, np.random.default_rng(0)).tolist() == expected.tolist()


class TestTemperature:
    @pytest.mark.parametrize("true", [0.25, 1.0, 4.0])
    def test_finds_what_the_labels_were_drawn_with(self, true: float) -> None:
        rng = np.random.default_rng(3)
        z = rng.normal(size=(20000, 4)) * 3
        y = np.array([rng.choice(4, p=softmax(row / true)) for row in z])
        assert temperature(z, y) == pytest.approx(true, rel=0.13)  # a step of the grid

    def test_without_labels_and_for_the_overconfident(self) -> None:
        assert temperature(np.zeros((0, 3)), np.zeros(0, dtype=np.int64)) == 1.0
        z = np.eye(2)[np.zeros(100, dtype=np.int64)] * 20
        assert temperature(z, np.arange(100) % 2) == pytest.approx(10)


class TestBandwidth:
    def test_is_the_smallest_distance_above_zero(self) -> None:
        points = rows(np.random.default_rng(1).normal(size=(300, 7)))
        points[17] = points[4]
        away = np.linalg.norm(points[:, None] - points[None], axis=-1)
        assert bandwidth(points.astype(np.float32)) == pytest.approx(away[away > 1e-6].min(), rel=1e-3)

    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_where_there_are_no_two(self, count: int) -> None:
        assert bandwidth(np.tile(np.float32([0.6, 0.8]), (count, 1))) == 1.0
