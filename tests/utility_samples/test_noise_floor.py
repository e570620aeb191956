"""The noise floor: what two trainings of one set differ by, and which utilities it leaves untold apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rambo_ray.pipeline.plan import _tied
from rambo_ray.utility_model.objective import Pairs
from rambo_ray.utility_samples.sampling import Measurement, UtilitySample, noise_floor

NOTHING = Measurement(0.5, 0.5, 1.0, 0.0, 0.0, 0.0, float("nan"), epochs=1, images_seen=1, seconds=0.0)


def samples(repeats: int, deviation: float, count: int) -> list[UtilitySample]:
    """Samples whose soft accuracy is the mean of `repeats` normal draws."""
    generator = np.random.default_rng(0)
    found = []
    for number in range(count):
        draws = generator.normal(0.6, deviation, repeats)
        measurement = replace(NOTHING, soft_accuracy=float(draws.mean()), soft_accuracy_std=float(draws.std()))
        found.append(UtilitySample(str(number), number, -1, "retrained", (0,)).measured(measurement, "soft_accuracy"))
    return found


@pytest.mark.parametrize("repeats", [2, 5])
def test_is_the_standard_error_of_a_mean(repeats: int) -> None:
    drawn = samples(repeats, 0.03, 4000)
    found = noise_floor(drawn, "soft_accuracy", repeats)
    assert found == pytest.approx(0.03 / np.sqrt(repeats), rel=0.05)
    assert found == pytest.approx(np.std([s.utility for s in drawn]), rel=0.05)


def test_nothing_is_known_of_single_trainings() -> None:
    assert noise_floor(samples(1, 0.03, 10), "soft_accuracy", 1) == 0.0
    assert noise_floor([], "neg_val_loss", 3) == 0.0


def test_pairs_within_the_noise_tie() -> None:
    utility = np.array([[0.50, 0.51], [0.50, 0.56], [0.7, 0.7]])
    pairs = Pairs(((0,),) * 3, ((1,),) * 3, utility, np.ones((3, 2)))
    assert np.array_equal(_tied(pairs, 0.0).utility, utility)
    tied = _tied(pairs, 0.02).utility
    assert np.allclose(tied, [[0.505, 0.505], [0.50, 0.56], [0.7, 0.7]])
    assert tied[0, 0] == tied[0, 1]
