"""Evidence: what an image is to u_hat when only classifiers that have not seen it may speak.

f knows the images it was trained on by heart, so its outputs mean something else for them than for the
pool. Evidence of an image comes from two classifiers that have not seen it: f, trained on S_0, and a
*second opinion*, trained on S_0 and a part of S_val (and of what was rejected, as a class of its own) that
the image is not in. So it is the same kind of number for an image of S_val, which plays in mock rounds, and
for one of the pool.

Letters: N images, K classes, K' = K, or K + 1 where something was rejected; F = K' + 4 numbers of evidence;
V images in S_val, R rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from rambo_ray.classifier.probabilities import probabilities
from rambo_ray.data.problem import NONE

# Logarithms of the temperatures that are looked at.
_TEMPERATURES = (-3.0, 3.0)
# A number that is the same for all images says nothing of them, whatever its unit.
_LEAST_DEVIATION = 1e-6


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature at which softmax(logits / temperature) has the least cross-entropy (Guo et al. 2017).

    logits [N, K] of images that the classifier has not seen, labels int64 [N] in 0..K-1. Raises ValueError for
    no images.
    """
    if not len(labels):
        raise ValueError("labels: none; a temperature is fitted to at least one image")
    z, rows = logits.astype(np.float64), np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(z / np.exp(log_temperature), axis=1)[rows, labels].mean())

    return float(np.exp(minimize_scalar(loss, bounds=_TEMPERATURES, method="bounded").x))


def names(class_names: Sequence[str], rejected: bool) -> list[str]:
    """What each of the F numbers is, for reports."""
    return [*(f"p({name})" for name in class_names), *(["p(none)"] if rejected else []), "margin", "entropy",
            "agreement", "p(f errs)"]  # fmt: skip


def raw(posterior: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The F numbers of each image, float64 [N, F], in their own units.

    posterior [N, K']: probabilities of the second opinion; own [N, K]: those of f. The numbers: the posterior;
    f's margin; the posterior's entropy in nats; agreement, the probability that labels drawn from both are
    equal; the probability, by the posterior, that f's most likely class is wrong.
    """
    p, q = posterior.astype(np.float64), own.astype(np.float64)
    entropy = -(p * np.log(np.maximum(p, np.finfo(np.float64).tiny))).sum(axis=1)
    agreement = (p[:, : q.shape[1]] * q).sum(axis=1)
    errs = 1.0 - p[np.arange(len(p)), q.argmax(axis=1)]
    two = np.partition(q, q.shape[1] - 2, axis=1)
    return np.column_stack([p, two[:, -1] - two[:, -2], entropy, agreement, errs])


@dataclass(frozen=True)
class EvidenceScale:
    """What turns logits into evidence: temperatures of both classifiers, mean and deviation [F] over S_val's images."""

    own_temperature: float
    temperature: float
    mean: np.ndarray
    deviation: np.ndarray

    def of(self, logits: Sequence[np.ndarray], own_logits: np.ndarray) -> np.ndarray:
        """Standardised evidence, float64 [N, F], of images that neither f nor any second opinion has seen.

        logits: those of each second opinion, [N, K']; own_logits: f's, [N, K]. The evidence is the mean over the
        opinions, as each is of the kind that u_hat was fitted to.
        """
        own = probabilities(own_logits / self.own_temperature)
        total = np.zeros((len(own_logits), len(self.mean)))
        for opinion in logits:
            total += raw(probabilities(opinion / self.temperature), own)
        return self._standardised(total / len(logits))

    def posterior(self, evidence: np.ndarray, num_classes: int) -> np.ndarray:
        """The second opinion's probabilities of the K classes, float64 [N, K], out of evidence [N, F]."""
        found: np.ndarray = evidence[:, :num_classes] * self.deviation[:num_classes] + self.mean[:num_classes]
        return found

    def _standardised(self, numbers: np.ndarray) -> np.ndarray:
        return (numbers - self.mean) / self.deviation


@dataclass(frozen=True)
class ComparedEvidence:
    """Mean evidence [F], in its own units, of what was picked, of the M smallest margins and of the whole pool."""

    picked: np.ndarray
    filtered: np.ndarray
    pool: np.ndarray


def fit(logits: np.ndarray, own_logits: np.ndarray, labels: np.ndarray) -> tuple[EvidenceScale, np.ndarray]:
    """The scale, and the evidence float64 [V + R, F], of the images that play in mock rounds.

    logits [V + R, K']: of each image's own second opinion, which has not seen it; own_logits [V + R, K]: f's;
    labels int64 [V + R], NONE for what was rejected. Mean and deviation are S_val's.
    """
    known = labels != NONE
    classes = np.where(known, labels, logits.shape[1] - 1)
    scale = EvidenceScale(
        own_temperature=temperature(own_logits[known], labels[known]),
        temperature=temperature(logits, classes),
        mean=np.zeros(logits.shape[1] + 4),
        deviation=np.ones(logits.shape[1] + 4),
    )
    numbers = scale.of([logits], own_logits)
    deviation = np.maximum(numbers[known].std(axis=0), _LEAST_DEVIATION)
    scale = EvidenceScale(scale.own_temperature, scale.temperature, numbers[known].mean(axis=0), deviation)
    return scale, scale.of([logits], own_logits)
