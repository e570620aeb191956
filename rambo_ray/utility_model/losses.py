"""The losses of u_hat: Definitions 2 to 4, and the regression variant of the ablation.

Every function returns one value per pair, [P], so that pairs can be weighted, sharded and summed
by whoever calls. Letters: P pairs; index 1 and 2 the members of a pair.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Appendix B.1.3: lambda_1 = lambda_2 = 0.5, lambda_3 = 1.
LAMBDA_1, LAMBDA_2, LAMBDA_3 = 0.5, 0.5, 1.0


def targets(utility_1: Tensor, utility_2: Tensor) -> Tensor:
    """P-bar_12 of Definition 2, [P]: 1 where u_1 > u_2, 0 where u_1 < u_2, 0.5 where they tie."""
    return 0.5 * (1.0 + torch.sign(utility_1 - utility_2))


def ranking(score_1: Tensor, score_2: Tensor, target: Tensor) -> Tensor:
    """Definition 2, [P]: cross-entropy of P_12 = sigmoid(score_1 - score_2) against `target`.

    Computed from the difference of scores, so that it neither over- nor underflows.
    """
    return F.binary_cross_entropy_with_logits(score_1 - score_2, target, reduction="none")


def ot_distance(predicted_1: Tensor, predicted_2: Tensor, ot_1: Tensor, ot_2: Tensor) -> Tensor:
    """Definition 3, [P]: squared errors of both predicted OT distances, and a penalty on negative ones.

    The targets are OTDDs divided by their mean over the offline samples, hence without unit.
    """
    errors = LAMBDA_1 * (predicted_1 - ot_1) ** 2 + LAMBDA_2 * (predicted_2 - ot_2) ** 2
    return errors - LAMBDA_3 * (predicted_1.clamp(max=0.0) + predicted_2.clamp(max=0.0))


def regression(predicted_1: Tensor, predicted_2: Tensor, utility_1: Tensor, utility_2: Tensor) -> Tensor:
    """The "RankNet off" ablation (B.2.2), [P]: mean squared error of the pair's two utilities."""
    return 0.5 * ((predicted_1 - utility_1) ** 2 + (predicted_2 - utility_2) ** 2)
