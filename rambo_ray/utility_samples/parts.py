"""The files of a store of utility samples: written whole and with checksums, read with distrust, merged when many.

A part's name ends in the hash of its bytes, and its pages have checksums of their own: one that a disk, a copy or a
person has changed is told from a good one, whatever was changed. Parts of earlier versions have neither and go on
being read. A merged part is on the disk before those that it holds are removed: a kill between leaves rows twice,
which a reader takes once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rambo_ray.errors import RunError
from rambo_ray.files import make_folder, replacing

MEANS = ("accuracy", "soft_accuracy", "val_loss")
DEVIATIONS = ("accuracy_std", "soft_accuracy_std", "val_loss_std")

# One training of f on the set; float64, so that a mean over more of them is that of a run that had them all at once.
TRAINING = pa.struct(
    [
        *(pa.field(name, pa.float64(), nullable=False) for name in MEANS),
        pa.field("epochs", pa.int32(), nullable=False),
        pa.field("passes", pa.int64(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
    ]
)

# Which data, seed and rule a row belongs to, and the trainings it is the mean of: null in rows of earlier versions.
ORIGIN = [
    pa.field("training_id", pa.string()),
    pa.field("data", pa.string()),
    pa.field("seed", pa.int64()),
    pa.field("rule", pa.string()),
    pa.field("trainings", pa.list_(TRAINING)),
]

# Which command trained it, and when; null for a row of what another row holds, and in rows of earlier versions.
RUN = pa.field("run", pa.string())

SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("pair_id", pa.int64(), nullable=False),
        pa.field("iteration", pa.int32(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("indices", pa.list_(pa.int32()), nullable=False),
        pa.field("size", pa.int32(), nullable=False),
        *(pa.field(name, pa.float32()) for name in MEANS),
        *(pa.field(name, pa.float32()) for name in DEVIATIONS),
        pa.field("utility", pa.float32()),
        pa.field("otdd", pa.float32()),
        pa.field("epochs", pa.int32()),
        pa.field("passes", pa.int64()),
        pa.field("seconds", pa.float32()),
        pa.field("fold", pa.int32()),
        *ORIGIN,
        RUN,
    ]
)
_OPTIONAL = {"fold", "run", *(field.name for field in ORIGIN)}  # columns that files of earlier versions lack

MERGE_AT = 64  # small parts there are before they become one
FULL_ROWS = 4096  # a part of so many rows, or bytes, is never written again
FULL_BYTES = 8_000_000

_NAMED = re.compile(r"part-([0-9a-f]{32})\.parquet")


class Damaged(Exception):
    """A part whose content cannot be trusted; says why."""


@dataclass(frozen=True)
class Part:
    """A part and how much it holds; foreign: columns of a later version, too, which a merge would lose."""

    path: Path
    rows: int
    size: int
    foreign: bool = False

    @property
    def small(self) -> bool:
        """Whether it may be merged with others."""
        return self.rows < FULL_ROWS and self.size < FULL_BYTES and not self.foreign


def listed(folder: Path) -> list[Path]:
    """The parts in a folder, in the order of their names; none where there is no such folder."""
    return sorted(folder.glob("part-*.parquet"))


def write(folder: Path, table: pa.Table, *, durable: bool = False) -> Part:
    """Write rows as a new part; durable: they are on the disk itself when this returns."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_page_checksum=True)
    content = sink.getvalue()
    path = folder / f"part-{hashlib.sha256(content).hexdigest()[:32]}.parquet"
    make_folder(folder)
    with replacing(path, durable=durable) as temporary:
        temporary.write_bytes(content)
    return Part(path, table.num_rows, content.size)


def read(path: Path, columns: Sequence[str]) -> tuple[pa.Table, Part]:
    """Those of `columns` that the part has, in the schema's types.

    Raises Damaged for content that is not what was written, FileNotFoundError for a part that is gone, RunError for
    one that cannot be read at all.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}; make it readable, then run the same command again") from error
    if not content:
        raise Damaged("it is empty")
    named = _NAMED.fullmatch(path.name)
    if named is not None and hashlib.sha256(content).hexdigest()[:32] != named.group(1):
        raise Damaged("its content does not match the checksum in its name")
    try:
        with pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as file:
            held = set(file.schema_arrow.names)
            absent = [name for name in columns if name not in held and name not in _OPTIONAL]
            if absent:
                raise Damaged(f"it has no column {absent[0]}")
            table = file.read(columns=[name for name in columns if name in held])
        # Once more, for types: null where none may be, or text for numbers.
        table = table.cast(pa.schema([SCHEMA.field(name) for name in table.column_names]))
        table.validate(full=named is None)
        for field in table.schema:
            if (not field.nullable or field.name in ("epochs", "passes")) and table[field.name].null_count:
                raise Damaged(f"its column {field.name} has gaps")
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, MemoryError, OverflowError) as error:
        raise Damaged(f"not a file of utility samples: {' '.join(str(error).split())[:100]}") from error
    return table, Part(path, table.num_rows, len(content), foreign=not held <= set(SCHEMA.names))


def merged(folder: Path, small: Sequence[Part]) -> tuple[list[Part], Part | None]:
    """Make one part of as many small ones as it takes to fill it; returns what is left of them, and the new one.

    A part that somebody else has merged meanwhile, or that is damaged by now, is left out of both.
    """
    tables: list[pa.Table] = []
    taken: list[Part] = []
    rest = list(small)
    rows = size = 0
    while rest and rows < FULL_ROWS and size < FULL_BYTES and len(taken) < 4 * MERGE_AT:
        part = rest.pop(0)
        try:
            table, _ = read(part.path, SCHEMA.names)
        except (Damaged, FileNotFoundError):
            continue
        tables.append(_complete(table))
        taken.append(part)
        rows, size = rows + part.rows, size + part.size
    if len(taken) < 2:
        return [*taken, *rest], None
    made = write(folder, pa.concat_tables(tables), durable=True)
    for part in taken:
        if part.path != made.path:
            part.path.unlink(missing_ok=True)
    return rest, made


def contents(
    folder: Path, columns: Sequence[str], told: Callable[[Path, Damaged], None] = lambda path, why: None
) -> Iterator[tuple[pa.Table, Part]]:
    """Every part that can be read; `told` is told of damaged ones, and why.

    What another run merges meanwhile is in a part that the next listing has.
    """
    seen: set[Path] = set()
    while new := [path for path in listed(folder) if path not in seen]:
        for path in new:
            seen.add(path)
            try:
                yield read(path, columns)
            except FileNotFoundError:
                continue
            except Damaged as error:
                told(path, error)


def _complete(table: pa.Table) -> pa.Table:
    """With all columns of the schema; null in those that are not there, -1 for the fold."""
    columns = []
    for field in SCHEMA:
        if field.name in table.column_names:
            columns.append(table[field.name])
        elif field.name == "fold":
            columns.append(pa.array([-1] * table.num_rows, field.type))
        else:
            columns.append(pa.nulls(table.num_rows, field.type))
    return pa.table(columns, schema=SCHEMA)
