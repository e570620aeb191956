"""GLISTER-ONLINE: images whose gradients lower the loss on S_val.

Letters: N images in the pool, k in S_0, V in S_val, K classes, E numbers in an embedding, B images
acquired. Image i has the residual a_i [K] and the embedding with a 1 appended, e_i [E + 1], so that
a_i (x) e_i is the gradient of the last layer's weights and biases together.
"""

from __future__ import annotations

import numpy as np

from rambo_ray.acquisition.baselines.inputs import StrategyInputs, check_budget, nothing, residuals

# Step length of every gradient step. The paper leaves it open: it only has to be short enough for a
# first-order expansion to hold.
LEARNING_RATE = 0.05


def glister(
    inputs: StrategyInputs, budget: int, generator: np.random.Generator, *, learning_rate: float = LEARNING_RATE
) -> np.ndarray:
    """Greedily the images that help f on S_val the most, int64 [B] (Killamsetty et al. 2021, GLISTER-ONLINE).

    To first order, a gradient step on image i lowers the validation loss by learning_rate * <g_i, g_val>,
    where g_i is the gradient of the last layer for i's predicted label at f's parameters, and g_val the
    mean gradient of S_val at the parameters reached so far: f's, one step along the mean gradient of
    S_0, and one step along g_j for each image j picked. Each pick has the largest product, the first
    among equals.

    The parameters are never formed, since logits are linear in them: a step along a_j (x) e_j moves the
    logits of validation image v by -learning_rate (e_v.e_j) a_j. One pick costs (N + V) E K
    multiplications. Deterministic. Raises ValueError for an empty S_val and for a budget that is
    negative or exceeds the pool.
    """
    check_budget(budget, len(inputs))
    if len(inputs.validation_labels) == 0:
        raise ValueError("validation_labels: none; GLISTER measures its gain on S_val")
    if budget == 0:
        return nothing()
    e, e_val = _with_bias(inputs.embeddings), _with_bias(inputs.validation_embeddings)
    a = residuals(inputs.logits, inputs.logits.argmax(axis=1))
    z = inputs.validation_logits.astype(np.float64)
    if len(inputs.labels):
        e_own, a_own = _with_bias(inputs.labeled_embeddings), residuals(inputs.labeled_logits, inputs.labels)
        z -= learning_rate * (e_val @ (e_own.T @ a_own / len(a_own)))
    picked = np.empty(budget, dtype=np.int64)
    left = np.ones(len(a), dtype=bool)
    for count in range(budget):
        g_val = e_val.T @ residuals(z, inputs.validation_labels) / len(z)
        gains = np.einsum("ij,ij->i", e @ g_val, a)
        position = int(np.where(left, gains, -np.inf).argmax())
        picked[count] = position
        left[position] = False
        z -= learning_rate * np.outer(e_val @ e[position], a[position])
    return picked


def _with_bias(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings [N, E] with a column of ones, float64 [N, E + 1]."""
    made = np.ones((len(embeddings), embeddings.shape[1] + 1))
    made[:, :-1] = embeddings
    return made
