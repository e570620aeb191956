"""Features of images on disk, found again by the images' content: append-only Parquet files.

A frozen network's features of an image never change, so they are computed once for all runs of a user. There is
a folder for each network and way of rounding, and in it a file for each piece of work, written under a temporary
name and then renamed: a reader never sees half a file, and any number of runs may write at once. A file that
cannot be read, cut off with the machine that wrote it, counts as not there: its images are computed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rambo_ray.errors import UserError
from rambo_ray.files import WriteError, remove_leftovers, replacing

DIGEST = 16  # bytes, of `Images.digests`


class FeatureCache:
    """The features float32 [F] of any number of images, by the digests of their pixels."""

    def __init__(self, root: str | Path, identity: Sequence[object], width: int) -> None:
        """Use the folder of `identity`, what features depend on, below `root`; width: F.

        Raises UserError where the folder cannot be made.
        """
        name = json.dumps(list(identity))
        self.width = width
        self.folder = Path(root).expanduser() / hashlib.sha256(name.encode()).hexdigest()[:16]
        self.schema = pa.schema(
            [
                pa.field("digest", pa.binary(DIGEST), nullable=False),
                pa.field("features", pa.list_(pa.float32(), width), nullable=False),
            ]
        )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.folder)
            described = self.folder / "identity.json"  # for a person who wonders what it is
            if not described.is_file():
                with replacing(described) as temporary:
                    temporary.write_text(name + "\n", encoding="utf-8")
        except (OSError, WriteError) as error:
            reason = error.reason if isinstance(error, WriteError) else error.strerror
            raise UserError(
                f"classifier.embedding_cache={root}: cannot be written ({reason}); name another folder"
            ) from error

    def find(self, digests: Sequence[bytes], into: np.ndarray) -> np.ndarray:
        """Fill the rows of `into` [n, F] of those of n distinct digests that are known; returns which, bool [n]."""
        found = np.zeros(len(digests), dtype=bool)
        places = {digest: place for place, digest in enumerate(digests)}
        for path in sorted(self.folder.glob("part-*.parquet")):
            try:
                stored = self._column(path, "digest").to_pylist()
                rows = [row for row, digest in enumerate(stored) if digest in places]
                if not rows:
                    continue
                features = self._column(path, "features").flatten().to_numpy().reshape(-1, self.width)[rows]
            except (pa.ArrowException, OSError, KeyError, ValueError, IndexError):
                continue
            wanted = [places[stored[row]] for row in rows]
            into[wanted] = features
            found[wanted] = True
        return found

    def add(self, digests: Sequence[bytes], features: np.ndarray) -> Path:
        """Write the features float32 [n, F] of n images; returns their file."""
        if features.dtype != np.float32 or features.shape != (len(digests), self.width):
            raise ValueError(
                f"features: {features.dtype} {features.shape}; expected float32 ({len(digests)}, {self.width})"
            )
        flat = pa.array(np.ascontiguousarray(features).reshape(-1))
        table = pa.table(
            [pa.array(list(digests), pa.binary(DIGEST)), pa.FixedSizeListArray.from_arrays(flat, self.width)],
            schema=self.schema,
        )
        path = self.folder / f"part-{hashlib.sha256(b''.join(digests)).hexdigest()[:16]}.parquet"
        with replacing(path, durable=False) as temporary:  # checked when it is read
            # Float features hardly get smaller by compression, and a dictionary of them is larger than they are.
            pq.write_table(table, temporary, compression="none", use_dictionary=False, write_page_checksum=True)
        return path

    def _column(self, path: Path, name: str) -> pa.Array:
        column = pq.ParquetFile(path, page_checksum_verification=True).read([name]).column(name).combine_chunks()
        if column.type != self.schema.field(name).type:
            raise ValueError(f"{name} of type {column.type}")
        return column
