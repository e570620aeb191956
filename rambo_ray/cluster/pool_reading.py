"""What one piece of a pass over a pool reads: rows of a file with their images decoded, or features of a part.

Nothing here needs torch: a process that only reads starts in a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rambo_ray.data.pool import parts as parts_of
from rambo_ray.data.pool.files import Read, Rows


@dataclass(frozen=True)
class Decoding:
    """Images to be read and decoded by one task."""

    read: Read

    @property
    def rows(self) -> int:
        return int(self.read.wanted.sum())

    def tables(self) -> Iterator[pa.Table]:
        """The rows with their images as the column `array`."""
        for found in self.read.batches():
            yield decoded_table(self.read.file.key, found)


@dataclass(frozen=True)
class Reusing:
    """Rows of a part with features, to be read by one task; places: which rows."""

    path: Path
    places: np.ndarray

    @property
    def rows(self) -> int:
        return len(self.places)

    def tables(self) -> Iterator[pa.Table]:
        """The rows with their features as the column `array`."""
        table = pq.read_table(self.path).take(pa.array(self.places))
        names = ["array" if name == "features" else name for name in table.column_names]
        yield table.rename_columns(names)


def decoded_table(key: str, found: Rows) -> pa.Table:
    """Decoded rows as a block of Ray Data."""
    count, shape = len(found.rows), found.array.shape[1:]
    digests = found.digests()
    array = pa.FixedSizeListArray.from_arrays(pa.array(found.array.reshape(-1)), int(np.prod(shape)))
    of_array = pa.field("array", array.type, metadata={"shape": " ".join(map(str, shape))})
    columns = [
        pa.array([key] * count),
        pa.array(found.rows),
        pa.array(found.ids, pa.string()),
        pa.array(digests, pa.binary(16)),
        pa.array([parts_of.mark(*pair) for pair in zip(digests, found.ids, strict=True)], pa.uint64()),
        pa.array(found.errors, pa.string()),
        pa.array(found.unlike, pa.bool_()),
        array,
    ]
    return pa.table(columns, schema=pa.schema([*parts_of.PLACE, of_array]))


def numbered(number: int) -> list[pa.Table]:
    """The number of a reading, for an actor that does it itself, as a block of Ray Data."""
    return [pa.table({"id": [number]})]
