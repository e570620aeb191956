"""What every baseline is given, and the few quantities that several of them derive from it.

Letters: N images in the pool, k in S_0, V in S_val, K classes, E numbers in an embedding, B images acquired.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from rambo_ray.classifier.probabilities import probabilities
from rambo_ray.data.problem import LabeledArrays

Outputs = tuple[np.ndarray, np.ndarray]
"""Of f on n images: logits [n, K] and embeddings [n, E]."""


@dataclass(frozen=True)
class StrategyInputs:
    """What a strategy may look at: the classifier f's outputs on pool, S_0 and S_val; labels of S_0 and S_val only.

    Raises ValueError for shapes that do not fit together, fewer than two classes, labels that are not
    integers in 0..K-1, and for any value that is not finite: a NaN compares as neither smaller nor
    larger, so that a ranking would put it first or last by accident of the sort.
    """

    logits: np.ndarray  # [N, K] float32, pool
    embeddings: np.ndarray  # [N, E] float32, pool (input of f's last linear layer)
    labeled_embeddings: np.ndarray  # [k, E], k may be 0
    labeled_logits: np.ndarray  # [k, K]
    labels: np.ndarray  # [k] int64
    validation_embeddings: np.ndarray  # [V, E]
    validation_logits: np.ndarray  # [V, K]
    validation_labels: np.ndarray  # [V]

    @classmethod
    def of(
        cls, pool: Outputs, labeled: LabeledArrays, validation: LabeledArrays, f: Callable[[np.ndarray], Outputs]
    ) -> StrategyInputs:
        """From f's outputs on the pool, S_0 `labeled`, S_val, and what gives f's outputs on images."""
        logits, embeddings = pool
        labeled_logits, labeled_embeddings = f(labeled.inputs)
        validation_logits, validation_embeddings = f(validation.inputs)
        return cls(
            logits=logits,
            embeddings=embeddings,
            labeled_embeddings=labeled_embeddings,
            labeled_logits=labeled_logits,
            labels=labeled.labels,
            validation_embeddings=validation_embeddings,
            validation_logits=validation_logits,
            validation_labels=validation.labels,
        )

    def __post_init__(self) -> None:
        for name in ("logits", "embeddings"):
            if getattr(self, name).ndim != 2:
                raise ValueError(f"{name}: shape {getattr(self, name).shape}; two axes are needed")
        (n, classes), width = self.logits.shape, self.embeddings.shape[1]
        k, v = len(self.labels), len(self.validation_labels)
        if classes < 2:
            raise ValueError(f"logits: shape {self.logits.shape}; at least two classes are needed")
        shapes = {
            "logits": (n, classes),
            "embeddings": (n, width),
            "labels": (k,),
            "labeled_embeddings": (k, width),
            "labeled_logits": (k, classes),
            "validation_labels": (v,),
            "validation_embeddings": (v, width),
            "validation_logits": (v, classes),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape:
                raise ValueError(f"{name}: shape {array.shape}; {shape} fits the other arrays")
            if not np.isfinite(array).all():
                raise ValueError(f"{name}: {np.sum(~np.isfinite(array))} of {array.size} values are not finite")
        for name in ("labels", "validation_labels"):
            array = getattr(self, name)
            if array.dtype.kind not in "iu" or (len(array) and not 0 <= array.min() <= array.max() < classes):
                raise ValueError(f"{name}: {array.dtype} labels must be integers in 0..{classes - 1}")

    def take(self, positions: np.ndarray) -> StrategyInputs:
        """The same with only the images at `positions` of the pool in it."""
        return replace(self, logits=self.logits[positions], embeddings=self.embeddings[positions])

    def __len__(self) -> int:
        """N, the number of images in the pool."""
        return len(self.logits)


# Exactly `budget` distinct positions in the pool, int64 [B], in the order picked.
Strategy = Callable[[StrategyInputs, int, np.random.Generator], np.ndarray]


def check_budget(budget: int, n: int) -> None:
    """Raises ValueError unless `budget` images can be acquired from a pool of n, 0 <= budget <= n."""
    if budget < 0:
        raise ValueError(f"budget={budget}: must not be negative")
    if budget > n:
        raise ValueError(f"budget={budget}: exceeds the pool's {n} images")


def nothing() -> np.ndarray:
    """The selection of a budget of 0: an int64 array without elements."""
    return np.empty(0, dtype=np.int64)


def residuals(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Gradient of the cross-entropy with respect to the logits: softmax - onehot(labels), float64 [N, K].

    logits [N, K], labels [N]. The label's own entry p - 1 is computed as minus the sum of the others:
    of a confident image, 1 - p would leave nothing but rounding.
    """
    a = probabilities(logits)
    rows = np.arange(len(a))
    a[rows, labels] = 0.0
    a[rows, labels] = -a.sum(axis=1)
    return a


def unit(embeddings: np.ndarray) -> np.ndarray:
    """Rows of embeddings [n, E] scaled to length 1, float32; rows of zeros stay."""
    lengths = np.sqrt(np.einsum("ij,ij->i", embeddings, embeddings, dtype=np.float64))[:, None]
    return np.divide(embeddings, lengths, out=np.zeros(embeddings.shape), where=lengths > 0).astype(np.float32)
