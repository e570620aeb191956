"""How good u_hat's ranking is, judged on truly retrained subsets it was not fitted to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import kendalltau

from rambo_ray.utility_model.network import UtilityModel, membership
from rambo_ray.utility_model.objective import ranking_accuracy


@dataclass(frozen=True)
class RankingQuality:
    """Of G held-out subsets of one size: share of their G (G - 1) / 2 pairs in the right order, and Kendall's tau-b.

    Pairs of equal utility do not count. NaN where fewer than two subsets differ.
    """

    pairwise_accuracy: float
    kendall_tau: float
    subsets: int
    size: int


def set_scores(model: UtilityModel, images: np.ndarray, subsets: Sequence[Sequence[int]]) -> np.ndarray:
    """u_hat's scores, [G] float64, of subsets of S_0 whose inputs are images [k, ...]."""
    with torch.no_grad():
        encodings = model.encode(torch.tensor(images))
        phi = model.embed(membership(subsets, len(images)).to(encodings) @ encodings)
        return model.score(phi).double().numpy()


def judge(
    model: UtilityModel, images: np.ndarray, subsets: Sequence[Sequence[int]], utilities: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, RankingQuality]:
    """u_hat's scores and the true utilities, [G] each, of held-out subsets of one size, and how well they agree."""
    scores = set_scores(model, images, subsets) if subsets else np.zeros(0)
    true = np.array(utilities, dtype=np.float64)
    return scores, true, ranking_quality(scores, true, len(subsets[0]) if subsets else 0)


def ranking_quality(scores: np.ndarray, utilities: np.ndarray, size: int) -> RankingQuality:
    """Compare scores [G] with true utilities [G] of subsets of `size` images."""
    first, second = np.triu_indices(len(scores), k=1)
    pairs = np.stack([first, second], axis=1)
    if len(pairs) == 0 or np.ptp(utilities) == 0:
        return RankingQuality(math.nan, math.nan, len(scores), size)
    tau = float(kendalltau(scores, utilities).statistic)
    return RankingQuality(ranking_accuracy(scores[pairs], utilities[pairs]), tau, len(scores), size)
