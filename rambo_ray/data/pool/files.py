"""The Parquet files of a pool that is never in memory as a whole: how many images, their ids, and any rows of them.

The footers say how many rows there are; the ids are read once, column by column, to see that they are distinct.
Images are decoded where they are needed, by whatever process asks for rows. An image's position is its row over
all files, in the order of their names; nothing but `pool_index` of a selection depends on it.

N images over all files, n of a batch; H x W x C a single image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rambo_ray.data import names, parquet, table_files
from rambo_ray.data.decoding import decode_each
from rambo_ray.data.images import Format
from rambo_ray.data.places import File
from rambo_ray.data.vectors import as_vectors
from rambo_ray.errors import UserError

IDS_AT_ONCE = 65536
BATCH = 1024  # rows decoded at a time
READS_OF_A_GROUP = 16
READ_ROWS = 65536  # rows of one read, about, where nobody asks for another number


@dataclass(frozen=True)
class PoolFile:
    """One file: where it is, the rows of each of its row groups, and a key that another content would change."""

    path: File
    groups: tuple[int, ...]
    key: str

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return sum(self.groups)


@dataclass(frozen=True)
class Rows:
    """n rows of one file: row numbers in it int64 [n], ids, pixels uint8 [n, H, W, C] or vectors float32 [n, D].

    errors: why an image cannot be used, None where it can; unlike: whether it could be read and is of another size
    than the others. The pixels of those that cannot be used are zeros.
    """

    rows: np.ndarray
    ids: Sequence[str]
    array: np.ndarray
    errors: Sequence[str | None]
    unlike: Sequence[bool]

    def digests(self) -> list[bytes]:
        """A 16-byte hash of each row's numbers, as `Items.digests`."""
        return [hashlib.blake2b(row, digest_size=16).digest() for row in self.array]


@dataclass(frozen=True)
class PoolFiles:
    """A pool of images or of vectors in Parquet files.

    column: of these; id_column: of the ids, dotted where it is inside a struct; None: ids are row numbers.
    shape: of every row, H x W x C of images or D of vectors; wanted: how images are decoded, None for vectors.
    """

    files: tuple[PoolFile, ...]
    column: str
    id_column: str | None
    shape: tuple[int, ...]
    wanted: Format | None

    @classmethod
    def of(
        cls,
        paths: Sequence[File],
        column: str,
        shape: tuple[int, ...],
        wanted: Format,
        known: Iterable[str] = (),
        id_column: str | None = None,
    ) -> PoolFiles:
        """The files at `paths` with images like `wanted.like`, or with vectors where that is None.

        known: ids of S_0 and S_val that mean the same thing in any set, so that no row of the pool may have them;
        id_column: which column has the pool's ids, None: `id`, where there is one.
        Raises UserError for a damaged file, and ids that repeat themselves.
        """
        files = tuple(_file(path, column) for path in paths)
        schemas = [table_files.schema(path) for path in paths]
        id_column = _id_column(paths, schemas, column, frozenset(known), id_column or parquet.ID_COLUMN)
        return cls(files, column, id_column, shape, wanted if wanted.like is not None else None)

    def __len__(self) -> int:
        """N."""
        return sum(file.rows for file in self.files)

    @property
    def described(self) -> str:
        """In a user's words: "20 files, 4.3 GB"."""
        size = sum(_size_and_time(file.path)[0] for file in self.files)
        count = "1 file" if len(self.files) == 1 else f"{len(self.files):,} files"
        return f"{count}, {size / 1e9:.1f} GB" if size >= 1e8 else f"{count}, {size / 1e6:.1f} MB"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of which files these are, not of what is in them."""
        named = [*(file.key for file in self.files), self.column, self.id_column, repr(self.shape)]
        return hashlib.sha256(repr(named).encode()).hexdigest()

    @property
    def row_bytes(self) -> int:
        """Of one decoded image, or one vector."""
        return int(np.prod(self.shape)) * (1 if self.wanted is not None else 4)

    @cached_property
    def places(self) -> dict[str, int]:
        """Which file has a key; of files alike in everything the last."""
        return {file.key: number for number, file in enumerate(self.files)}

    @cached_property
    def starts(self) -> np.ndarray:
        """Position of each file's first row, int64."""
        return np.concatenate([[0], np.cumsum([file.rows for file in self.files])])[:-1].astype(np.int64)

    def reads(self, wanted: Mapping[str, np.ndarray] | None = None, rows_each: int = READ_ROWS) -> list[Read]:
        """What must be read for the `wanted` rows, bool [rows], of files by their keys; of None all there are.

        Each read is whole row groups of one file that follow each other, of about `rows_each` rows.
        """
        found = []
        for file in self.files:
            of_file = np.ones(file.rows, dtype=bool) if wanted is None else wanted.get(file.key)
            if of_file is None:
                continue
            ends = np.cumsum(file.groups)
            needed = [g for g, end in enumerate(ends.tolist()) if of_file[end - file.groups[g] : end].any()]
            while needed:
                count, rows = 1, file.groups[needed[0]]
                while (
                    count < len(needed)
                    and needed[count] == needed[0] + count
                    and rows + file.groups[needed[count]] <= rows_each
                ):
                    rows += file.groups[needed[count]]
                    count += 1
                groups, needed = needed[:count], needed[count:]
                first = int(ends[groups[0]]) - file.groups[groups[0]]
                found.append(Read(self, file, tuple(groups), first, of_file[first : first + rows]))
        return found

    def masks(self, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Row numbers of files by their keys as what `reads` takes."""
        found = {}
        for file in self.files:
            if len(chosen := rows.get(file.key, ())):
                found[file.key] = np.zeros(file.rows, dtype=bool)
                found[file.key][chosen] = True
        return found


@dataclass(frozen=True)
class Read:
    """Row groups of one file of a pool, the row of their first image, and which of their rows are wanted, bool."""

    pool: PoolFiles
    file: PoolFile
    groups: tuple[int, ...]
    first: int
    wanted: np.ndarray

    def __reduce__(self) -> tuple[object, ...]:
        """A worker needs of the pool this file alone."""
        alone = replace(self.pool, files=(self.file,))
        return Read, (alone, self.file, self.groups, self.first, self.wanted)

    def divided(self, rows: int) -> list[Read]:
        """The same as reads of about so many wanted rows, where it is of one row group; not too many of them.

        Each reads the row group from its start, but decodes its own rows only.
        """
        if len(self.groups) > 1:
            return [self]
        chosen = np.flatnonzero(self.wanted)
        found = []
        for part in np.array_split(chosen, min(max(1, round(len(chosen) / rows)), READS_OF_A_GROUP)):
            wanted = np.zeros_like(self.wanted)
            wanted[part] = True
            found.append(replace(self, wanted=wanted))
        return found

    def batches(self) -> Iterator[Rows]:
        """The wanted rows, images decoded, in their order. Raises UserError where the file is not as it was."""
        pool, row = self.pool, self.first
        columns = [pool.column] if pool.id_column is None else [pool.column, pool.id_column]
        with table_files.parquet_file(self.file.path) as opened:
            for batch in opened.iter_batches(BATCH, row_groups=list(self.groups), columns=columns):
                chosen = np.flatnonzero(self.wanted[row - self.first :][: len(batch)])
                if len(chosen):
                    yield self._decoded(batch, chosen, row)
                row += len(batch)

    def _decoded(self, batch: pa.RecordBatch, chosen: np.ndarray, row: int) -> Rows:
        pool, path = self.pool, self.file.path
        column = batch.column(pool.column)
        if len(chosen) < len(batch):
            column = column.take(pa.array(chosen))
        rows = row + chosen
        errors: Sequence[str | None] = [None] * len(rows)
        unlike: Sequence[bool] = [False] * len(rows)
        if pool.wanted is None:
            numbers = parquet.numbers_of(path, pool.column, column, int(rows[0]), pool.shape[0])
            array: np.ndarray = as_vectors(numbers, f"{path} from row {rows[0]} on")
        else:
            array, errors, unlike = decode_each(parquet.encoded_in(path, pool.column, column, rows), pool.wanted)
        if pool.id_column is None:
            ids: Sequence[str] = [""] * len(rows)  # its position, which only the driver knows
        else:
            ids = _strings(_inner(batch, pool.id_column).take(pa.array(chosen)))
        return Rows(rows, ids, array, errors, unlike)


def _file(path: File, column: str) -> PoolFile:
    if isinstance(path, Path):
        path = path.resolve()
    with table_files.parquet_file(path) as opened:
        table_files.check_size(opened, path, column)
        footer = opened.metadata
        groups = tuple(footer.row_group(number).num_rows for number in range(footer.num_row_groups))
    named = "\n".join(map(str, (path, *_size_and_time(path), groups)))
    return PoolFile(path, groups, hashlib.sha256(named.encode()).hexdigest()[:24])


def _size_and_time(file: File) -> tuple[int, str]:
    """A file's bytes, and when it was written, as far as its filesystem says."""
    if isinstance(file, Path):
        stat = file.stat()
        return stat.st_size, str(stat.st_mtime_ns)
    info = file.system.info(file.path)
    times = [str(info[key]) for key in ("ETag", "etag", "LastModified", "last_modified", "mtime") if key in info]
    return int(info.get("size") or 0), " ".join(times)


def _id_column(
    paths: Sequence[File], schemas: Sequence[pa.Schema], image: str, known: frozenset[str], named: str
) -> str | None:
    """The first of `named`, `path` and the path beside the image's bytes whose values are all there and distinct."""
    if all(named in schema.names for schema in schemas):
        for path, schema in zip(paths, schemas, strict=True):
            if not _is_id(kind := schema.field(named).type):
                raise UserError(f"{path}: column '{named}' is {kind}; must be strings or integers: cast it")
        problem = _not_distinct(paths, named, known)
        if problem is not None:
            raise UserError(
                f"{paths[0]}: column '{named}' {problem}; ids must be distinct: correct it, or drop the "
                "column to go by path or row number"
            )
        return named
    inner = f"{image}.path"
    for column, there in (
        (parquet.PATH_COLUMN, all(_has_id(schema, parquet.PATH_COLUMN) for schema in schemas)),
        (inner, all(_has_path(schema, image) for schema in schemas)),
    ):
        if there and _not_distinct(paths, column, frozenset()) is None:
            return column
    return None


def _is_id(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _has_id(schema: pa.Schema, column: str) -> bool:
    return column in schema.names and _is_id(schema.field(column).type)


def _has_path(schema: pa.Schema, image: str) -> bool:
    kind = schema.field(image).type
    return bool(pa.types.is_struct(kind)) and kind.get_field_index("path") >= 0


def _not_distinct(paths: Sequence[File], column: str, known: frozenset[str]) -> str | None:
    """What is wrong with a column of ids; None where all are there and distinct. 8 bytes an image are held.

    Raises UserError for an id that is among `known`, unless the ids are row numbers, which mean nothing elsewhere.
    """
    marks: list[np.ndarray] = []
    shared: set[str] = set()
    numbers, row = {0, 1}, 0  # what row numbers may count from
    for ids in _ids(paths, column):
        if not all(ids):
            return "holds nulls or empty strings"
        shared |= known.intersection(ids)
        numbers = {first for first in numbers if all(name == str(i) for i, name in enumerate(ids, row + first))}
        row += len(ids)
        packed = b"".join(_mark(name) for name in ids)
        marks.append(np.frombuffer(packed, dtype=np.uint64))
    together = np.sort(np.concatenate(marks))
    doubtful = set(together[1:][together[1:] == together[:-1]].tolist())
    seen: set[str] = set()  # two ids may have one mark
    for ids in _ids(paths, column) if doubtful else ():
        for name in ids:
            if int(np.frombuffer(_mark(name), dtype=np.uint64)[0]) in doubtful:
                if name in seen:
                    return f"holds '{name}' twice"
                seen.add(name)
    if shared and not numbers:
        raise UserError(
            f"data.pool: {len(shared)} of its ids are also in data.labeled or data.validation (first: "
            f"'{min(shared)}'), must be none; remove them from data.pool"
        )
    return None


def _mark(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


def _ids(paths: Sequence[File], column: str) -> Iterator[list[str]]:
    for path in paths:
        with table_files.parquet_file(path) as opened:
            for batch in opened.iter_batches(IDS_AT_ONCE, columns=[column]):
                ids = _strings(table_files.checked(_inner(batch, column), path, column))
                names.check([name for name in ids if name], str(path))
                yield ids


def _inner(batch: pa.RecordBatch, column: str) -> pa.Array:
    outer, _, inner = column.partition(".")
    return batch.column(outer).field(inner) if inner else batch.column(outer)


def _strings(array: pa.Array) -> list[str]:
    return pc.cast(array, pa.string()).to_pylist()
