"""Tables: Parquet or Arrow files with a column of images or of embeddings, in the layout of Hugging Face datasets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy.typing as npt

from rambo_ray.data import parquet, table_files
from rambo_ray.data.decoding import Encoded
from rambo_ray.data.forms.source import Columns, Source, are_row_numbers, row_ids
from rambo_ray.data.labels import Labels
from rambo_ray.data.places import File
from rambo_ray.data.vectors import as_vectors
from rambo_ray.errors import UserError


class Tables(Source):
    """The rows of table files, one after the other."""

    def __init__(self, named: str, form: str, key: str, files: Sequence[File], given: Columns) -> None:
        """key: which of the three sets it is; given: columns that have other names than the usual."""
        super().__init__(named)
        self.given = given
        self.form, self.key, self.files = form, key, list(files)
        found = [parquet.content(file, given.content) for file in self.files]
        self.column, self.content = found[0]  # type: ignore[assignment]
        for file, (other, content) in zip(self.files, found, strict=True):
            if (other, content) != found[0]:
                raise UserError(
                    f"{file}: holds {content} in column '{other}', but {self.files[0]} {self.content} in "
                    f"'{self.column}'; write both alike"
                )

        if given.id is not None:
            for file in self.files:
                given.check(str(file), table_files.schema(file).names)

    # Each is asked for several times, and files may be many and far away.
    @cached_property
    def _count(self) -> int:
        return parquet.count(self.files)

    @cached_property
    def _ids(self) -> tuple[str, ...]:
        return parquet.names(self.files, row_ids(self.key, 1)[0][:-1], id_column=self.given.id)

    def __len__(self) -> int:
        return self._count

    def stored_ids(self) -> tuple[str, ...]:
        return self._ids

    @property
    def ids_are_shared(self) -> bool:
        return parquet.has_ids(self.files, self.given.id) and not are_row_numbers(self._ids)

    def stored_labels(self) -> Labels:
        for file in self.files:
            column = self.given.label_in(str(file), table_files.schema(file).names, parquet.LABEL_COLUMN)
        return parquet.read_labels(self.files, column)

    def encoded(self) -> Iterator[Sequence[Encoded]]:
        return parquet.batches(self.files, self.column)

    def array(self) -> npt.NDArray[Any]:
        return as_vectors(parquet.vectors(self.files, self.column), str(self.files[0]))

    def originals(self, positions: Sequence[int]) -> Iterator[tuple[int, bytes, Path | None]]:
        for row, content in parquet.encoded(self.files, frozenset(positions), self.column):
            yield row, content, None
