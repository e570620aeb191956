"""Which pools stay in their files, and that nothing else of a problem is another one then."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rambo_ray.config.schema import DataConfig
from rambo_ray.data import datasets
from rambo_ray.data.pool import staying
from rambo_ray.data.vectors import Vectors
from rambo_ray.errors import UserError

from ..written_images import pictures, write_file, write_parquet


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    for part, seed, count in (("labeled", 1, 6), ("validation", 2, 4), ("pool", 3, 9)):
        labels = None if part == "pool" else [("cat", "dog")[i % 2] for i in range(count)]
        ids = [f"{part} {i}" for i in range(count)]
        write_parquet(tmp_path / part / "a.parquet", pictures(count, seed=seed), labels, id=ids)
    return tmp_path


def own(root: Path, **keys: Any) -> DataConfig:
    parts = {part: keys.pop(part, str(root / part)) for part in ("labeled", "validation", "pool")}
    return DataConfig(name="own", **parts, **keys)


def test_a_streamed_pool_is_counted_and_not_read(sets: Path) -> None:
    streamed = datasets.read(own(sets, stream="always"), 0, streams=True)
    memory = datasets.read(own(sets, stream="never"), 0, streams=True)
    assert (len(streamed.problem.pool), streamed.problem.num_pool, memory.problem.num_pool) == (0, 9, 9)
    assert streamed.problem.fingerprint == memory.problem.fingerprint
    assert streamed.reading is not None and "9 images, streamed from 1 file" in streamed.reading.text()
    files = streamed.problem.streamed
    assert files is not None and files.id_column == "id" and files.row_bytes == 36
    (rows,) = files.reads()[0].batches()
    np.testing.assert_array_equal(rows.array, memory.problem.pool.array)
    assert tuple(rows.ids) == memory.problem.pool.ids
    assert rows.digests() == memory.problem.pool.digests()


@pytest.mark.parametrize(("stream", "streams", "limit", "stays"), [
    ("auto", True, 9 * 36, True),
    ("auto", True, 9 * 36 + 1, False),
    ("never", True, 1, False),
    ("always", False, 1, False),
])  # fmt: skip
def test_it_stays_where_it_is_large_and_the_caller_can_do_with_it(
    sets: Path, monkeypatch: pytest.MonkeyPatch, stream: str, streams: bool, limit: int, stays: bool
) -> None:
    monkeypatch.setattr(staying, "STREAM_BYTES", limit)
    problem = datasets.read(own(sets, stream=stream), 0, streams=streams).problem
    assert (problem.streamed is not None) == stays
    assert problem.num_pool == 9


def test_a_folder_of_images_is_never_streamed(sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i, image in enumerate(pictures(5, seed=4)):
        write_file(sets / "photos" / f"{i}.png", image)
    pool = str(sets / "photos")
    monkeypatch.setattr(staying, "STREAM_BYTES", 1)
    assert datasets.read(own(sets, pool=pool), 0, streams=True).problem.streamed is None
    with pytest.raises(UserError, match="data.stream=always: .*photos is no Parquet"):
        datasets.read(own(sets, pool=pool, stream="always"), 0, streams=True)


def test_ids_of_labelled_images_are_refused_before_the_pass(sets: Path) -> None:
    write_parquet(sets / "pool" / "b.parquet", pictures(2, seed=9), id=["validation 3", "new"])
    with pytest.raises(UserError, match="1 of its ids are also in data.labeled or data.validation"):
        datasets.read(own(sets, stream="always"), 0, streams=True)


def test_deep_images_need_their_depth_said(sets: Path) -> None:
    for part in ("labeled", "validation", "pool"):
        labels = None if part == "pool" else ["cat", "dog"] * 2
        values = {"labeled": (0, 900, 1800, 2700), "validation": (300, 1200, 2100, 3000), "pool": (50, 500, 6000, 4095)}
        deep = [_deep(value) for value in values[part]]
        write_parquet(sets / part / "a.parquet", deep, labels, id=[f"{part} {i}" for i in range(4)])
    with pytest.raises(UserError, match="set data.bit_depth to 8, 10"):
        datasets.read(own(sets, stream="always"), 0, streams=True)
    files = datasets.read(own(sets, stream="always", bit_depth=12), 0, streams=True).problem.streamed
    assert files is not None
    (rows,) = files.reads()[0].batches()
    assert rows.errors[0] is None and "holds the value 6000" in (rows.errors[2] or "") and rows.unlike[2]


def _deep(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((6, 6), value, np.uint16)).save(file, "PNG")
    return file.getvalue()


def test_vectors_are_streamed_as_they_would_be_read(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for part, count in (("labeled", 6), ("validation", 4), ("pool", 9)):
        columns: dict[str, Any] = {
            "embedding": list(generator.random((count, 5))),
            "id": [f"{part}{i}" for i in range(count)],
        }
        if part != "pool":
            columns["label"] = [("cat", "dog")[i % 2] for i in range(count)]
        (tmp_path / part).mkdir()
        pq.write_table(pa.table(columns), tmp_path / part / "a.parquet", row_group_size=4)
    memory = datasets.read(own(tmp_path), 0, streams=True).problem
    streamed = datasets.read(own(tmp_path, stream="always"), 0, streams=True).problem
    assert isinstance(streamed.pool, Vectors) and streamed.num_pool == 9 and streamed.streamed is not None
    assert streamed.streamed.row_bytes == 20
    rows = [part for read in streamed.streamed.reads() for part in read.batches()]
    np.testing.assert_array_equal(np.concatenate([part.array for part in rows]), memory.pool.array)
