"""Features of one's own: asked for in batches of one size, known by their source, refused in a line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rambo_ray.config import loading
from rambo_ray.data import datasets
from rambo_ray.embeddings import networks, own, weights
from rambo_ray.errors import UserError
from rambo_ray.own import names
from rambo_ray.pipeline import plan


def of_digits(function: Any, *overrides: str) -> tuple[Any, Any]:
    name = names.given(function)
    config = loading.load(
        None, ["data.num_labeled=40", "data.num_validation=60", "data.pool_limit=90", "classifier.name=linear",
               f"classifier.embedding={name}", *overrides]
    )  # fmt: skip
    return config, datasets.load(config.data, 0)[0]


def means(pixels: np.ndarray) -> np.ndarray:
    return np.stack([pixels[:, :4].mean((1, 2, 3)), pixels[:, 4:].mean((1, 2, 3))], axis=1)


def local(factor: float) -> Any:
    def scaled(pixels: np.ndarray) -> np.ndarray:
        assert pixels.shape[0] == networks.BATCH and pixels.dtype == np.uint8
        return factor * means(pixels)

    return scaled


def test_each_image_s_numbers_whatever_its_company() -> None:
    config, problem = of_digits(local(2.0))
    source = weights.source(config)
    network = source.build(source.state())
    pixels = problem.pool.pixels
    found = networks.features(network, pixels)
    np.testing.assert_allclose(found, 2 * means(pixels), rtol=1e-6)
    np.testing.assert_array_equal(networks.features(network, pixels[5:9]), found[5:9])


def test_fewer_numbers_than_components_are_no_error() -> None:
    config, problem = of_digits(local(2.0))
    assert weights.width(config.classifier, problem.labeled.array) == 2
    assert weights.kept(config.classifier, problem) == 2
    settings = plan.training_settings(config, problem)
    assert settings.image_shape == (2, 1, 1)
    assert weights.kept(loading.with_values(config, {"classifier.components": 1}).classifier, problem) == 1


def test_the_identity_is_that_of_the_source() -> None:
    one, other, again = (plan.training_settings(*of_digits(local(factor))).identity() for factor in (2.0, 3.0, 2.0))
    assert one == again != other


def test_a_tensor_will_do() -> None:
    config, problem = of_digits(lambda pixels: torch.tensor(pixels).float().flatten(1)[:, :5])
    assert weights.width(config.classifier, problem.labeled.array) == 5


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda pixels: pixels.mean(), "of 16 images it made float64 ()"),
        (lambda pixels: pixels[:3].reshape(3, -1), "must be numbers [16, F]"),
        (lambda pixels: np.full((16, 2), np.nan), "not finite"),
        (lambda pixels: [["a"]] * 16, "it made <U1"),
        (lambda pixels: 1 / 0, "it raised ZeroDivisionError"),
    ],
)
def test_refused_before_a_cluster_is_started(function: Any, words: str) -> None:
    with pytest.raises(UserError) as caught:
        plan.training_settings(*of_digits(function))
    assert str(caught.value).startswith("classifier.embedding=given:lambda@") and words in str(caught.value)


def test_an_unknown_name_is_a_line() -> None:
    config, problem = of_digits(local(1.0), "classifier.embedding=resnet81")
    with pytest.raises(UserError, match="classifier.embedding=resnet81: no such features; did you mean 'resnet18'?"):
        plan.training_settings(config, problem)
    assert not own.is_own("efficientnet_lite0")
