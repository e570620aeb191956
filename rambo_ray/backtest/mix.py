"""Which classes the pool is made of, as far as it can be known without its labels.

S_0 was drawn as the pool was, so its labels are a sample of the pool's; but a class of one image in fifty has
four in a S_0 of 200. A classifier adds what the pool's own images say: classifiers trained on one half of S_val
and calibrated on the other give each pool image probabilities of the classes, which hold for the classes'
frequencies in S_val; by expectation maximisation (Saerens, Latinne and Decaestecker, "Adjusting the Outputs of a
Classifier to New a Priori Probabilities", 2002) they are brought to the frequencies that the pool's images
themselves are most likely under, S_0's labels counted with them.

Letters: K classes, k images in S_0, V in S_val, R rejected, N of the pool that are looked at.
"""

from __future__ import annotations

import numpy as np

from rambo_ray import seeds
from rambo_ray.classifier import prediction, training
from rambo_ray.classifier.probabilities import probabilities
from rambo_ray.classifier.training import TrainingSettings
from rambo_ray.data.problem import LabeledArrays
from rambo_ray.utility_model.evidence import temperature
from rambo_ray.utility_samples.mock_rounds import parts

LOOKED_AT = 5000  # images of the pool, evenly apart: a share of a hundredth is then known to 0.14 points
STEPS, CLOSE = 1000, 1e-7
EVEN = 0.85  # of the classes that an even pool would seem to have: with fewer a pool is uneven
PRIOR = 0.5  # of an image of each class, so that none that may be rare is impossible


def class_mix(labels: np.ndarray, posterior: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Shares [K] of the classes in the pool; each above 0, together 1.

    labels int64 [k]: of S_0. posterior [N, K]: what a classifier thinks of the pool's images that was trained
    where the classes have the shares `known` [K]; of no images where there is nobody to ask. The pool's images
    count together as much as S_0's labels do: they are many, but their classifier errs the same way again and again.
    """
    drawn = counted(labels, len(known))
    if not len(posterior):
        return drawn
    # A class that S_val lacks is one the classifier cannot speak of.
    odds = posterior / np.where(known > 0, known, 1.0)
    share = drawn
    for _ in range(STEPS):
        weighted = odds * share
        total = np.maximum(weighted.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        new = (drawn + (weighted / total).mean(axis=0)) / 2
        new /= new.sum()
        moved, share = float(np.abs(new - share).max()), new
        if moved < CLOSE:
            break
    return share


def counted(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """The classes' shares [K] among labels int64 [k], each above 0: PRIOR of an image is added to each class."""
    found = np.bincount(labels, minlength=num_classes) + PRIOR
    shares: np.ndarray = found / found.sum()
    return shares


def is_even(mix: np.ndarray, labeled: int) -> bool:
    """Whether a pool of estimated shares `mix` [K] has classes about as frequent as each other, by k labels of S_0.

    Measured by the effective number of classes, the exponential of the shares' entropy. Of a pool that is perfectly
    even the estimate is not: half of it are k drawn labels, whose shares vary by K / k relative to themselves squared.
    """
    effective = float(np.exp(-(mix * np.log(mix)).sum()))
    return effective >= EVEN * len(mix) * float(np.exp(-len(mix) / (8 * labeled)))


def pool_posterior(
    validation: LabeledArrays, pool: np.ndarray, settings: TrainingSettings, seed: int, device: str
) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities [N, K] of up to LOOKED_AT pool images, and the class shares [K] they hold for.

    Means over two classifiers, each trained on one half of S_val and calibrated on the other.
    """
    asked = pool[np.linspace(0, len(pool) - 1, min(len(pool), LOOKED_AT)).round().astype(np.int64)]
    half = parts(validation.labels, 2, seeds.generator(seed, "backtest", 0))
    found = np.zeros((len(asked), settings.num_classes))
    for number in (0, 1):
        learned, held = half == number, half != number
        trained = training.train(
            validation.inputs[learned],
            validation.labels[learned],
            settings,
            seeds.integer(seed, "backtest", 1, number),
            device=device,
        )
        logits, _ = prediction.predict(trained.model, validation.inputs[held], settings, device)
        heat = temperature(logits, validation.labels[held])
        found += probabilities(prediction.predict(trained.model, asked, settings, device)[0] / heat) / 2
    known = np.bincount(validation.labels, minlength=settings.num_classes) / len(validation.labels)
    return found, known
