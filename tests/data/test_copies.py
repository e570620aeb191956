"""Copies in a pool against slow, obvious versions, and near-copies as photographs have them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from rambo_ray.data import copies
from rambo_ray.data.copies import BITS, Copies


def scenes(count: int, side: int = 48, seed: int = 0) -> np.ndarray:
    """Smooth colour images uint8 [count, side, side, 3], as photographs are smooth."""
    noise = np.random.default_rng(seed).normal(size=(count, side, side, 3))
    smooth = gaussian_filter(noise, (0, 5, 5, 0))
    low, high = smooth.min(axis=(1, 2, 3), keepdims=True), smooth.max(axis=(1, 2, 3), keepdims=True)
    return ((smooth - low) / (high - low) * 255).astype(np.uint8)


def as_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def first_that_stays(distances: np.ndarray, limit: float) -> list[int]:
    """Who stands for each, one after the other."""
    of: list[int] = []
    for i in range(len(distances)):
        near = [j for j in range(i) if of[j] == j and distances[i, j] <= limit]
        of.append(near[0] if near else i)
    return of


class TestExact:
    @given(st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), max_size=12))
    def test_the_first_of_each_stays(self, digests: list[bytes]) -> None:
        found = copies.exact(digests)
        assert found.of.tolist() == [digests.index(digest) for digest in digests]
        assert [digests[i] for i in found.kept] == list(dict.fromkeys(digests))
        assert found.exact == len(digests) - len(set(digests)) and found.near == 0
        assert found.copied == sum(digests.count(digest) > 1 for digest in set(digests))

    def test_in_words(self) -> None:
        assert copies.exact([b"a", b"a", b"b"]).sentence() == "1 exact copy of 1 image in the pool: each is bought once"
        found = copies.exact([b"a", b"a", b"b", b"c"]).then(np.array([0, 1, 1]))
        assert found.sentence() == "1 exact and 1 near copies of 2 images in the pool: each is bought once"


class TestNear:
    @given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(0, BITS))
    def test_hashes_one_by_one(self, seed: int, count: int, distance: int) -> None:
        generator = np.random.default_rng(seed)
        hashes = generator.random((count, BITS)) < generator.choice([0.05, 0.5])
        distances = (hashes[:, None] != hashes).sum(axis=2)
        assert copies.near_by_hash(hashes, distance).tolist() == first_that_stays(distances, distance)

    @given(st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.3]))
    def test_angles_one_by_one(self, seed: int, distance: float) -> None:
        vectors = np.random.default_rng(seed).normal(size=(30, 3)).astype(np.float32)
        vectors[7] = 0.0
        with np.errstate(invalid="ignore"):
            unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        distances = np.nan_to_num(1.0 - unit @ unit.T, nan=9.0)
        if np.abs(distances - distance).min() > 1e-5:  # nothing on the edge
            assert copies.near_by_angle(vectors, distance).tolist() == first_that_stays(distances, distance)

    def test_across_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        vectors = np.random.default_rng(1).normal(size=(200, 2)).astype(np.float32)
        whole = copies.near_by_angle(vectors, 0.02)
        monkeypatch.setattr(copies, "_BLOCK", 7)
        assert np.array_equal(copies.near_by_angle(vectors, 0.02), whole) and (whole != np.arange(200)).sum() > 100

    def test_scale_does_not_matter_to_an_angle(self) -> None:
        vectors = np.random.default_rng(2).normal(size=(5, 4)).astype(np.float32)
        found = copies.near_by_angle(np.concatenate([vectors, 3 * vectors]), 1e-4)
        assert found.tolist() == [0, 1, 2, 3, 4] * 2

    @given(st.integers(0, 2**32 - 1))
    def test_near_ones_after_exact_ones(self, seed: int) -> None:
        """Composed as if each image were looked at by itself."""
        generator = np.random.default_rng(seed)
        names, groups = generator.integers(0, 8, 20), generator.integers(0, 3, 8)
        found = copies.exact([bytes([name]) for name in names])
        of = found.kept
        classes = groups[names[of]]
        made = found.then(np.array([classes.tolist().index(value) for value in classes]))
        assert made.of.tolist() == [groups[names].tolist().index(value) for value in groups[names]]
        assert made.exact == found.exact and made.near + made.exact + len(made.kept) == 20


class TestPerceptualHashes:
    def test_what_photographs_go_through_changes_few_bits(self) -> None:
        images = scenes(40)
        hashes = copies.perceptual_hashes(images)
        brighter = np.clip(images.astype(int) + 12, 0, 255).astype(np.uint8)
        for others in (
            np.stack([as_jpeg(image, 60) for image in images]),
            np.stack([np.asarray(Image.fromarray(image).resize((96, 96))) for image in images]),
            brighter,
            np.repeat(np.stack([np.asarray(Image.fromarray(i).convert("L")) for i in images])[..., None], 3, axis=3),
        ):
            apart = (copies.perceptual_hashes(others) != hashes).sum(axis=1)
            assert np.mean(apart <= 6) >= 0.95, apart
        between = (hashes[:, None] != hashes).sum(axis=2)[np.triu_indices(40, k=1)]
        assert between.min() > 6, "and different images differ in many"

    def test_an_image_of_one_colour(self) -> None:
        flat = np.full((2, 8, 8, 1), 7, dtype=np.uint8)
        flat[1] = 200
        assert not copies.perceptual_hashes(flat).any()

    def test_many_are_hashed_as_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        images = scenes(9, side=12)
        whole = copies.perceptual_hashes(images)
        monkeypatch.setattr(copies, "_IMAGES", 4)
        assert np.array_equal(copies.perceptual_hashes(images), whole) and whole.shape == (9, BITS)


def test_nothing() -> None:
    assert copies.exact([]).kept.tolist() == [] and copies.nothing(3).kept.tolist() == [0, 1, 2]
    assert isinstance(copies.nothing(0).then(np.zeros(0, dtype=np.int64)), Copies)
