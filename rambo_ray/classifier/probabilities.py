"""What logits say: probabilities and margins, in float64, without torch.

Letters: N images, K classes.
"""

from __future__ import annotations

import numpy as np
from scipy.special import softmax


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of logits [N, K], float64 [N, K]; no logit overflows it."""
    return softmax(logits.astype(np.float64), axis=1)


def margins(logits: np.ndarray) -> np.ndarray:
    """p_(1) - p_(2) of the softmax of logits [N, K], float64 [N] in [0, 1] (Fig. 2, line 16).

    Raises ValueError for fewer than two classes.
    """
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(f"logits: shape {logits.shape}; a margin needs [N, K] with at least two classes")
    p = probabilities(logits)
    p.partition(p.shape[1] - 2, axis=1)
    return p[:, -1] - p[:, -2]
