"""What a pass over a pool leaves behind: Parquet files of any of its rows, each row with the place of its image.

Whoever computes them writes them, in any order and division, under temporary names that are then renamed. So a pass
that is interrupted goes on with the rows that no part has, and a reader never sees half a part. A part that cannot
be read, cut off with the machine that wrote it, counts as not there.

Columns: `file`, the key of the image's file; `row` in it; `id`; `digest` of its pixels; `mark`, of digest and id;
`error`, why it cannot be used, or null; `unlike`, whether that is for its size, unlike the others'; and the pass's
own: `margin` float32, or `features` float32 [F].
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rambo_ray.data.pool.files import PoolFiles
from rambo_ray.files import make_folder, replacing

ROWS = 4096  # of a part, about

PLACE = (
    pa.field("file", pa.string(), nullable=False),
    pa.field("row", pa.int64(), nullable=False),
    pa.field("id", pa.string(), nullable=False),
    pa.field("digest", pa.binary(16), nullable=False),
    pa.field("mark", pa.uint64(), nullable=False),
    pa.field("error", pa.string()),
    pa.field("unlike", pa.bool_(), nullable=False),
)
MARGINS = pa.schema([*PLACE, pa.field("margin", pa.float32(), nullable=False)])


def features_schema(width: int) -> pa.Schema:
    """The columns of parts with `width` features of each image."""
    return pa.schema([*PLACE, pa.field("features", pa.list_(pa.float32(), width), nullable=False)])


def mark(digest: bytes, name: str) -> int:
    """A 64-bit hash of an image's content and id: their sum over a pool does not depend on any order."""
    return int.from_bytes(hashlib.blake2b(digest + name.encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True)
class Parts:
    """A folder of parts whose columns are `schema`."""

    folder: Path
    schema: pa.Schema

    @property
    def width(self) -> int:
        """F, where these are parts of features."""
        return int(self.schema.field("features").type.list_size)

    def write(self, table: pa.Table) -> Path:
        """Write rows as a part; the same rows replace themselves. Returns its file."""
        table = table.select(self.schema.names).cast(self.schema)
        content = hashlib.sha256()
        for name in ("file", "row"):
            content.update(repr(table.column(name).to_pylist()).encode())
        make_folder(self.folder)
        path = self.folder / f"part-{content.hexdigest()[:24]}.parquet"
        # Features hardly get smaller by compression, nor do digests.
        packed = ["file", "row", "id", "error"]
        with replacing(path, durable=False) as temporary:  # checked when it is read
            pq.write_table(
                table,
                temporary,
                compression={name: "snappy" if name in packed else "none" for name in self.schema.names},
                use_dictionary=["file", "error"],
                write_page_checksum=True,
                row_group_size=ROWS,
            )
        return path

    def missing(self, pool: PoolFiles) -> dict[str, np.ndarray]:
        """Of each of the pool's files by its key the rows that no part has, bool [rows]."""
        left = {file.key: np.ones(file.rows, dtype=bool) for file in pool.files}
        for table in self._tables(["file", "row"]):
            for key, rows, _ in _by_file(table):
                if key in left:
                    left[key][rows] = False
        return left

    def unread(self, missing: Mapping[str, np.ndarray]) -> Iterator[tuple[Path, np.ndarray]]:
        """Each part with the places in it of rows that are `missing`, bool [rows] of files by their keys, each once."""
        left = {key: mask.copy() for key, mask in missing.items()}
        for path, table in self._named(["file", "row"]):
            chosen = []
            for key, rows, places in _by_file(table):
                if key in left:
                    chosen.append(places[_first(rows) & left[key][rows]])
                    left[key][rows] = False
            if sum(map(len, chosen)):
                yield path, np.sort(np.concatenate(chosen))

    def tables(self, pool: PoolFiles, columns: Sequence[str]) -> Iterator[tuple[np.ndarray, pa.Table]]:
        """Positions int64 [n] and `columns` of n rows, a part at a time; each image of the pool once."""
        left = {file.key: np.ones(file.rows, dtype=bool) for file in pool.files}
        for table in self._tables(["file", "row", *columns]):
            for key, rows, places in _by_file(table):
                if key not in left:
                    continue
                new = _first(rows) & left[key][rows]
                left[key][rows] = False
                if new.any():
                    yield pool.starts[pool.places[key]] + rows[new], table.take(pa.array(places[new]))

    def _tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        for _, table in self._named(columns):
            yield table

    def _named(self, columns: Sequence[str]) -> Iterator[tuple[Path, pa.Table]]:
        for path in sorted(self.folder.glob("part-*.parquet")):
            try:
                opened = pq.ParquetFile(path, page_checksum_verification=True)
                found = opened.read(list(columns)).select(list(columns))
            except (pa.ArrowException, OSError, KeyError):
                continue
            yield path, found


def _first(rows: np.ndarray) -> np.ndarray:
    """Which of rows [n] stand there for the first time, bool [n]."""
    first = np.zeros(len(rows), dtype=bool)
    first[np.unique(rows, return_index=True)[1]] = True
    return first


def _by_file(table: pa.Table) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """For each file of a part its key, row numbers in it, and these rows' places in the part."""
    coded = table.column("file").combine_chunks().dictionary_encode()
    codes = coded.indices.to_numpy(zero_copy_only=False)
    rows = table.column("row").to_numpy()
    for code, key in enumerate(coded.dictionary.to_pylist()):
        places = np.flatnonzero(codes == code)
        yield key, rows[places], places
