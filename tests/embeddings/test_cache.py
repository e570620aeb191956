"""Features on disk: found again bit by bit, whatever happened to other files, and whoever else writes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest

from rambo_ray.embeddings.cache import FeatureCache
from rambo_ray.errors import UserError

WIDTH = 7


def cache_in(folder: Path, *identity: object) -> FeatureCache:
    return FeatureCache(folder, identity or ("network", 96), WIDTH)


def made(count: int, start: int = 0) -> tuple[list[bytes], np.ndarray]:
    """Digests and features of images start, start + 1, ...; any bits, as float32 has them."""
    digests = [blake2b(str(start + i).encode(), digest_size=16).digest() for i in range(count)]
    features = [np.random.default_rng(start + i).normal(size=WIDTH).astype(np.float32) for i in range(count)]
    return digests, np.array(features).reshape(count, WIDTH)


def looked_up(cache: FeatureCache, digests: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    into = np.full((len(digests), WIDTH), np.nan, np.float32)
    return cache.find(digests, into), into


def test_what_was_added_is_found_bit_by_bit(tmp_path: Path) -> None:
    digests, features = made(20)
    cache_in(tmp_path).add(digests[:8], features[:8])
    cache_in(tmp_path).add(digests[8:15], features[8:15])
    order = np.random.default_rng(0).permutation(20)
    found, into = looked_up(cache_in(tmp_path), [digests[i] for i in order])
    np.testing.assert_array_equal(found, order < 15)
    np.testing.assert_array_equal(into[found], features[order[found]])
    assert np.isnan(into[~found]).all(), "what is not known is not touched"


def test_an_empty_cache_knows_nothing(tmp_path: Path) -> None:
    digests, _ = made(3)
    assert not looked_up(cache_in(tmp_path), digests)[0].any()
    assert looked_up(cache_in(tmp_path), [])[0].shape == (0,)


def test_networks_do_not_share_features(tmp_path: Path) -> None:
    digests, features = made(3)
    cache_in(tmp_path, "network", 96).add(digests, features)
    assert not looked_up(cache_in(tmp_path, "network", 64), digests)[0].any()
    assert len(list(tmp_path.glob("*/identity.json"))) == 2


@pytest.mark.parametrize("left", [0, 4, 0.5, 0.98])
def test_a_torn_file_counts_as_not_there(tmp_path: Path, left: float) -> None:
    digests, features = made(10)
    cache = cache_in(tmp_path)
    torn = cache.add(digests[:5], features[:5])
    cache.add(digests[5:], features[5:])
    content = torn.read_bytes()
    torn.write_bytes(content[: int(left * len(content)) if left < 1 else int(left)])
    found, into = looked_up(cache, digests)
    np.testing.assert_array_equal(found, [False] * 5 + [True] * 5)
    np.testing.assert_array_equal(into[5:], features[5:])
    cache.add(digests[:5], features[:5])
    assert looked_up(cache, digests)[0].all()


def test_a_damaged_byte_is_noticed(tmp_path: Path) -> None:
    digests, features = made(5)
    cache = cache_in(tmp_path)
    path = cache.add(digests, features)
    content = bytearray(path.read_bytes())
    content[content.index(features[2].tobytes())] ^= 1
    path.write_bytes(content)
    assert not looked_up(cache, digests)[0].any()


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    digests, features = made(4)
    cache = cache_in(tmp_path)
    cache.add(digests, features)
    (cache.folder / ".part-x.parquet.123.tmp").write_bytes(b"half")
    narrow = FeatureCache(tmp_path, ("network", 96), WIDTH - 1)  # as if F had been another
    assert narrow.folder == cache.folder
    assert not narrow.find(digests, np.zeros((4, WIDTH - 1), np.float32)).any()


def test_many_writers_at_once(tmp_path: Path) -> None:
    parts = [made(6, 6 * (i // 2)) for i in range(16)]  # each part by two of them

    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        for number, part in enumerate(parts):
            (one if number % 2 else other).submit(lambda p: cache_in(tmp_path).add(*p), part)
    digests, features = made(48)
    found, into = looked_up(cache_in(tmp_path), digests)
    assert found.all()
    np.testing.assert_array_equal(into, features)


def test_only_its_own_width_is_added(tmp_path: Path) -> None:
    digests, features = made(3)
    for wrong in (features[:2], features[:, :2], features.astype(np.float64)):
        with pytest.raises(ValueError, match=rf"expected float32 \(3, {WIDTH}\)"):
            cache_in(tmp_path).add(digests, wrong)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^classifier.embedding_cache=.*file: cannot be written \(.*\); name another"):
        cache_in(tmp_path / "file")
