"""A pool's files: any rows of them as they would be read at once, ids, and what is refused."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rambo_ray.data import parquet
from rambo_ray.data.decoding import decode
from rambo_ray.data.images import Format, Images
from rambo_ray.data.pool.files import READS_OF_A_GROUP, PoolFiles
from rambo_ray.errors import UserError

LIKE = ("labeled row 0", (8, 8, 1))


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write(
    folder: Path,
    pixels: np.ndarray,
    shards: Sequence[int],
    groups: int,
    ids: Sequence[object] | None = None,
    paths: Sequence[str | None] | None = None,
    wrong: dict[int, bytes | None] | None = None,
) -> list[Path]:
    """Shards of these numbers of images; `wrong`: other bytes for some."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = [{"bytes": png(image), "path": None if paths is None else paths[i]} for i, image in enumerate(pixels)]
    for row, content in (wrong or {}).items():
        stored[row]["bytes"] = content
    first, files = 0, []
    for number, count in enumerate(shards):
        part = slice(first, first + count)
        first += count
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        columns: dict[str, object] = {"image": pa.array(stored[part], kind)}
        if ids is not None:
            columns["id"] = pa.array(ids[part], pa.array(ids).type)
        files.append(folder / f"part-{number:03d}.parquet")
        pq.write_table(pa.table(columns), files[-1], row_group_size=groups)
    assert first == len(pixels)
    return files


def pool_of(files: Sequence[Path], known: Sequence[str] = ()) -> PoolFiles:
    return PoolFiles.of(files, "image", LIKE[1], Format(like=LIKE), known)


def some(count: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, 8, 8), dtype=np.uint8)


def test_all_rows_are_what_reading_at_once_gives(tmp_path: Path) -> None:
    pixels = some(53)
    files = write(tmp_path, pixels, (20, 0, 33), 7, ids=[f"p{i}" for i in range(53)])
    pool = pool_of(files)
    assert len(pool) == 53 and pool.shape == (8, 8, 1)
    whole = Images(decode(parquet.batches(files), 53, Format()), parquet.names(files))
    found = {}
    for read in pool.reads():
        for rows in read.batches():
            assert list(rows.errors) == [None] * len(rows.rows)
            for row, name, image in zip(rows.rows.tolist(), rows.ids, rows.array, strict=True):
                found[int(pool.starts[pool.places[read.file.key]]) + row] = (name, image)
    assert [found[i][0] for i in range(53)] == list(whole.ids)
    np.testing.assert_array_equal(np.stack([found[i][1] for i in range(53)]), whole.pixels)


def test_only_wanted_rows_are_decoded_and_only_their_row_groups_read(tmp_path: Path) -> None:
    pixels = some(40)
    files = write(tmp_path, pixels, (25, 15), 5, wrong={3: b"not an image"})
    pool = pool_of(files)
    wanted = {pool.files[0].key: np.array([6, 24]), pool.files[1].key: np.array([0])}
    reads = pool.reads(pool.masks(wanted))
    assert [(read.file.key == pool.files[0].key, read.groups, read.first) for read in reads] == [
        (True, (1,), 5),
        (True, (4,), 20),
        (False, (0,), 0),
    ]
    rows = [int(row) for read in reads for part in read.batches() for row in part.rows]
    assert rows == [6, 24, 0]


def test_a_large_row_group_is_divided_and_several_are_not(tmp_path: Path) -> None:
    pixels = some(50)
    files = write(tmp_path, pixels, (50,), 50, ids=[f"p{i}" for i in range(50)])
    pool = pool_of(files)
    wanted = {pool.files[0].key: np.delete(np.arange(50), [3, 17, 44])}
    (read,) = pool.reads(pool.masks(wanted))
    parts = read.divided(10)
    assert [int(part.wanted.sum()) for part in parts] == [10, 10, 9, 9, 9]
    rows = [int(row) for part in parts for found in part.batches() for row in found.rows]
    assert rows == wanted[pool.files[0].key].tolist()
    assert len(read.divided(1)) == READS_OF_A_GROUP and len(read.divided(100)) == 1

    several = pool_of(write(tmp_path / "several", pixels, (50,), 10)).reads()
    assert [len(one.groups) for one in several] == [5] and several[0].divided(10) == several


def test_a_read_that_was_sent_knows_one_file_and_reads_the_same(tmp_path: Path) -> None:
    files = write(tmp_path, some(30), (10, 10, 10), 4)
    read = pool_of(files).reads()[1]
    sent = pickle.loads(pickle.dumps(read))
    assert [file.path for file in sent.pool.files] == [read.file.path]
    for one, other in zip(read.batches(), sent.batches(), strict=True):
        np.testing.assert_array_equal(one.array, other.array)


def test_broken_images_are_named_one_by_one_and_the_others_decoded(tmp_path: Path) -> None:
    pixels = some(6)
    large = png(np.zeros((9, 8), np.uint8))
    files = write(tmp_path, pixels, (6,), 6, wrong={1: b"x", 2: None, 4: large})
    (read,) = pool_of(files).reads()
    (rows,) = read.batches()
    assert [error is None for error in rows.errors] == [True, False, False, True, False, True]
    assert "row 1: not a readable image" in (rows.errors[1] or "")
    assert "row 2: no image bytes" in (rows.errors[2] or "")
    assert "row 4: 8x9 pixels" in (rows.errors[4] or "") and "labeled row 0" in (rows.errors[4] or "")
    np.testing.assert_array_equal(rows.array[[0, 3, 5], ..., 0], pixels[[0, 3, 5]])
    assert not rows.array[[1, 2, 4]].any()


@pytest.mark.parametrize(
    ("ids", "paths", "column"),
    [
        (["b", "a", "c"], None, "id"),
        ([7, 8, 9], ["x", "y", "z"], "id"),
        (None, ["x", "y", "z"], "image.path"),
        (None, ["x", "x", "z"], None),
        (None, ["x", None, "z"], None),
        (None, None, None),
    ],
)
def test_ids_come_from_where_reading_at_once_takes_them(
    tmp_path: Path, ids: list[object] | None, paths: list[str | None] | None, column: str | None
) -> None:
    files = write(tmp_path, some(3), (2, 1), 2, ids=ids, paths=paths)
    pool = pool_of(files)
    assert pool.id_column == column
    if column is not None:
        names = [name for read in pool.reads() for rows in read.batches() for name in rows.ids]
        assert tuple(names) == parquet.names(files)


@pytest.mark.parametrize(
    ("ids", "known", "words"),
    [
        (["a", "b", "a"], (), "holds 'a' twice; ids must be distinct"),
        (["a", None, "c"], (), "holds nulls"),
        ([0.5, 1.5, 2.5], (), "must be strings or integers"),
        (["a", "b", "c"], ("b", "q"), "1 of its ids are also in data.labeled or data.validation"),
    ],
)
def test_ids_that_cannot_be_are_refused(tmp_path: Path, ids: list[object], known: tuple[str, ...], words: str) -> None:
    files = write(tmp_path, some(3), (2, 1), 2, ids=ids)
    with pytest.raises(UserError, match=words):
        pool_of(files, known)


def test_the_fingerprint_is_that_of_the_files(tmp_path: Path) -> None:
    files = write(tmp_path, some(5), (5,), 2)
    before = pool_of(files).fingerprint
    assert pool_of(files).fingerprint == before
    write(tmp_path, some(6), (6,), 2)
    assert pool_of(files).fingerprint != before
