"""Ranking quality against brute force, and scores against one set at a time."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.utility_model.network import Architecture, initialise
from rambo_ray.utility_model.ranking import HeldOut, RankingQuality, set_scores

LEVEL = st.integers(0, 5).map(float)


def ranking_quality(scores: np.ndarray, utilities: np.ndarray, size: int) -> RankingQuality:
    """Of sets of one group."""
    count = len(scores)
    return HeldOut(scores, utilities, (0,) * count, (size,) * count).quality()


@given(st.lists(st.tuples(LEVEL, LEVEL), min_size=2, max_size=12))
def test_against_all_pairs_one_by_one(both: list[tuple[float, float]]) -> None:
    scores, utilities = np.array(both).T
    quality = ranking_quality(scores, utilities, size=7)
    right = decided = concordance = tied_scores = 0.0
    for (s_1, u_1), (s_2, u_2) in itertools.combinations(both, 2):
        tied_scores += s_1 == s_2
        if u_1 != u_2:
            decided += 1
            right += 0.5 if s_1 == s_2 else float((s_1 > s_2) == (u_1 > u_2))
            concordance += 0 if s_1 == s_2 else 1 if (s_1 > s_2) == (u_1 > u_2) else -1
    assert (quality.subsets, quality.size) == (len(both), 7)
    if not decided:
        assert math.isnan(quality.pairwise_accuracy) and math.isnan(quality.kendall_tau)
        return
    assert quality.pairwise_accuracy == pytest.approx(right / decided)
    all_pairs = len(both) * (len(both) - 1) / 2
    if tied_scores == all_pairs:
        assert math.isnan(quality.kendall_tau)
    else:  # tau-b, ties in either on the scale
        assert quality.kendall_tau == pytest.approx(concordance / math.sqrt(decided * (all_pairs - tied_scores)))


def test_perfect_and_reversed_order() -> None:
    utilities = np.array([0.1, 0.5, 0.2, 0.9])
    best = ranking_quality(np.exp(utilities), utilities, 3)
    assert (best.pairwise_accuracy, best.kendall_tau, best.subsets, best.size) == (1.0, pytest.approx(1.0), 4, 3)
    worst = ranking_quality(-utilities, utilities, 3)
    assert (worst.pairwise_accuracy, worst.kendall_tau) == (0.0, pytest.approx(-1.0))


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_subsets_have_no_quality(count: int) -> None:
    quality = ranking_quality(np.zeros(count), np.zeros(count), 0)
    assert math.isnan(quality.pairwise_accuracy) and math.isnan(quality.kendall_tau) and quality.subsets == count


def test_set_scores_are_those_of_each_set_alone() -> None:
    model = initialise(Architecture("pixels", (1, 8, 8), 4, 16, 8, 8, 0.1, "ranknet"), seed=0).eval()
    images = np.random.default_rng(0).normal(size=(10, 1, 8, 8)).astype(np.float32)
    model.deviation.fill_(0.1)
    subsets = [(0, 1, 2), (9, 3), (4,), (2, 1, 0)]
    scores = set_scores(model, images, subsets)
    assert scores.dtype == np.float64 and scores[0] == scores[3]
    assert len(set(scores[:3].tolist())) == 3
    for subset, score in zip(subsets, scores, strict=True):
        with torch.no_grad():
            pooled = model.encode(torch.from_numpy(images[list(subset)])).mean(dim=0, keepdim=True)
            assert score == pytest.approx(model.score(model.embed(pooled)).item(), abs=1e-5)
