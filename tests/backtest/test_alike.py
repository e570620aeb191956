"""Which validation images are copies of one another: exact ones, near ones by hash or embedding, and chains of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from rambo_ray.backtest import alike
from rambo_ray.backtest.playing import Material
from rambo_ray.backtest.store import identity
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data import copies
from rambo_ray.data.images import Images, LabeledImages
from rambo_ray.data.problem import Problem
from rambo_ray.data.vectors import LabeledVectors, Vectors
from rambo_ray.pipeline import plan

OWN = ["data.name=own", "data.labeled=a", "data.validation=b", "data.pool=c"]


def config(*overrides: str) -> Config:
    return loading.load(None, [*OWN, *overrides])


def scene(seed: int, side: int = 48) -> np.ndarray:
    """A picture of a few shapes, uint8 [side, side, 3]."""
    generator = np.random.default_rng(seed)
    picture = Image.new("RGB", (side, side), tuple(int(c) for c in generator.integers(256, size=3)))
    for _ in range(6):
        x, y, w, h = (int(v) for v in generator.integers(side, size=4))
        ImageDraw.Draw(picture).ellipse(
            (x, y, x + w, y + h), fill=tuple(int(c) for c in generator.integers(256, size=3))
        )
    return np.asarray(picture)


def frame(pixels: np.ndarray, seed: int) -> np.ndarray:
    """Nearly the same picture."""
    noise = np.random.default_rng(seed).normal(0, 2, size=pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def of_images(pixels: np.ndarray, rejected: np.ndarray | None = None) -> Problem:
    ids = tuple(map(str, range(len(pixels))))
    images = LabeledImages(np.ascontiguousarray(pixels), ids, np.arange(len(pixels)) % 2)
    none = None if rejected is None else Images(rejected, tuple(f"r{i}" for i in range(len(rejected))))
    scale = (0.5,) * pixels.shape[3]
    return Problem(images, images, images.unlabeled(), ("a", "b"), scale, scale, none)


def of_vectors(vectors: np.ndarray) -> Problem:
    ids = tuple(map(str, range(len(vectors))))
    made = LabeledVectors(vectors.astype(np.float32), ids, np.arange(len(vectors)) % 2)
    return Problem(made, made, Vectors(made.vectors, ids), ("a", "b"), (), ())


SCENES = np.stack([scene(0), scene(1), scene(0), frame(scene(1), 5), scene(2), scene(0)])


def test_exact_and_near_copies_of_colour_images_are_found_without_being_asked_for() -> None:
    validation, rejected = alike.of(config(), of_images(SCENES, SCENES[[0, 4, 4]]))
    assert validation.of.tolist() == [0, 1, 0, 1, 4, 0] and (validation.exact, validation.near) == (2, 1)
    assert rejected.of.tolist() == [0, 1, 1]
    assert alike.joined(validation, rejected).tolist() == [0, 1, 0, 1, 4, 0, 6, 7, 7]
    assert alike.sentence(validation) == (
        "2 exact and 1 near copies of 2 images in S_val: copies take the same part in a round, and its mock pool has "
        "one of them"
    )
    assert alike.sentence(copies.nothing(3)) is None


def test_of_small_and_grey_images_near_copies_are_looked_for_where_that_is_asked_for() -> None:
    grey = np.ascontiguousarray(SCENES[..., :1])
    assert alike.of(config(), of_images(grey))[0].of.tolist() == [0, 1, 0, 3, 4, 0]
    assert alike.of(config("acquisition.near_copies=hash"), of_images(grey))[0].of.tolist() == [0, 1, 0, 1, 4, 0]


def test_where_copies_are_kept_nobody_stands_for_another() -> None:
    for made in (config("acquisition.copies=keep"), loading.load(None, ["data.name=digits"])):
        assert alike.of(made, of_images(SCENES))[0].of.tolist() == list(range(6))


def test_embeddings_are_near_by_their_angle_given_or_computed() -> None:
    vectors = np.array([[1, 0, 0], [0, 1, 0], [2, 0.01, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]], dtype=np.float32)
    assert alike.of(config(), of_vectors(vectors))[0].of.tolist() == [0, 1, 2, 0, 4, 4]
    near = config("acquisition.near_copies=embedding", "classifier.name=linear")
    assert alike.of(near, of_vectors(vectors))[0].of.tolist() == [0, 1, 0, 0, 4, 4]
    assert alike.of(near, of_images(SCENES), vectors)[0].of.tolist() == [
        0,
        1,
        0,
        0,
        4,
        0,
    ]  # 2 and 5 are copies of 0 anyway
    assert alike.of(near, of_images(SCENES))[0].of.tolist() == [0, 1, 0, 3, 4, 0]  # not known before the network ran


@pytest.mark.parametrize("count", [1, 5, 700])
def test_chains_join_all_their_images(count: int) -> None:
    """Neighbours on an arc are near; the ends of the chain are not."""
    angles = np.arange(count) * 0.2 + (np.arange(count) >= count // 2) * 1.0
    vectors = np.stack([np.cos(angles / 30), np.sin(angles / 30)], axis=1).astype(np.float32)
    found = copies.groups_by_angle(vectors, 3e-5)
    assert found.tolist() == [0] * (count // 2) + [count // 2] * (count - count // 2)
    hashes = np.random.default_rng(0).random((3, copies.BITS)) > 0.5
    chain = np.repeat(hashes[:1], 4, axis=0)
    for i in range(1, 4):
        chain[i:, 4 * i : 4 * i + 4] ^= True
    assert copies.groups_by_hash(np.concatenate([chain, hashes[1:]]), 4).tolist() == [0, 0, 0, 0, 4, 5]


def test_the_plays_of_a_backtest_without_copies_keep_their_names() -> None:
    problem = of_images(SCENES[[0, 1, 4]])
    settings = plan.training_settings(config(), problem)
    array = problem.validation.array
    made = Material(problem, array, array, array[:0], settings, 3)
    names = {identity(config(), replace(made, same=s), np.ones(2) / 2, []) for s in (None, np.arange(3))}
    assert (
        len(names) == 1 and identity(config(), replace(made, same=np.array([0, 0, 2])), np.ones(2) / 2, []) not in names
    )
