"""GLISTER against materialised gradients and an explicit last layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rambo_ray.acquisition.baselines.glister import glister

from .drawn_inputs import inputs
from .reference_baselines import glister as glister_slowly
from .reference_baselines import softmax

GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize("k", [0, 6])
@pytest.mark.parametrize("rate", [0.05, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_against_materialised_gradients(k: int, rate: float, seed: int) -> None:
    given = inputs(40, k=k, v=9, classes=4, width=6, seed=seed)
    picked = glister(given, 40, GENERATOR, learning_rate=rate)
    assert picked.tolist() == glister_slowly(given, 40, GENERATOR, rate)


def test_a_step_on_the_first_pick_lowers_the_validation_loss_most() -> None:
    # The gain by its definition: take the step on each image in turn and look at the loss.
    given, rate = inputs(30, k=0, v=20, seed=2), 1e-4
    losses = []
    for z, e in zip(given.logits, given.embeddings, strict=True):
        residual = softmax(z) - np.eye(3)[z.argmax()]
        moved = given.validation_logits - rate * np.outer(given.validation_embeddings @ e + 1.0, residual)
        losses.append(-np.mean([np.log(softmax(m)[y]) for m, y in zip(moved, given.validation_labels, strict=True)]))
    assert glister(given, 1, GENERATOR).tolist() == [int(np.argmin(losses))]


def test_labels_of_s_val_and_of_s_0_count() -> None:
    given = inputs(60, k=6, v=30)
    whole = glister(given, 20, GENERATOR, learning_rate=2.0).tolist()
    for name in ("labels", "validation_labels"):
        turned = replace(given, **{name: (getattr(given, name) + 1) % 3})
        assert glister(turned, 20, GENERATOR, learning_rate=2.0).tolist() != whole


def test_needs_validation_images() -> None:
    with pytest.raises(ValueError, match="validation_labels: none; GLISTER measures its gain on S_val"):
        glister(inputs(5, v=0), 2, GENERATOR)
