"""A list of image files: CSV or TSV with columns `path` and `label`, and `id` where the owner has names of their own.
(Other names: data.column, data.label_column, data.id_column.)

Paths are relative to the list, or absolute, or addresses. Separators are commas, tabs or semicolons, whichever the
first line holds; text is UTF-8.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rambo_ray.data import names
from rambo_ray.data.decoding import Encoded
from rambo_ray.data.forms.images import contents
from rambo_ray.data.forms.source import Columns, Source, are_row_numbers, missing, row_ids
from rambo_ray.data.items import first_repeated
from rambo_ray.data.labels import Labels, from_names, from_numbers
from rambo_ray.data.places import File, at, content, is_address
from rambo_ray.errors import UserError

PATH, LABEL, ID = "path", "label", "id"
_SEPARATORS = ("\t", ",", ";")


class ListedFiles(Source):
    """The images that a list names, in its order."""

    def __init__(self, named: str, key: str, file: File, given: Columns) -> None:
        """key: which of the three sets it is; given: columns of other names. Raises UserError for what is no list."""
        super().__init__(named)
        self.file, self.key = file, key
        self.columns, separator = _columns(file, named)
        kind = {"\t": "tabs", ",": "commas", ";": "semicolons"}[separator]
        self.form = f"list of image files (CSV, {kind})"
        there = list(self.columns)
        path = given.content if given.content in there else PATH  # tables of the other sets may have that column
        if path not in there and given.content is not None:
            raise missing("column", given.content, named, there)
        if path not in there:
            raise UserError(
                f"{named}: has no column '{PATH}', which holds the images' files (it has: {', '.join(there)}); set "
                "data.column to the one that does"
            )
        given.check(named, there)
        self.given, self.id = given, given.id or ID
        self.paths = self.columns[path]
        if not self.paths:
            raise UserError(f"{named}: no rows; give a list that names images")
        if "" in self.paths:
            raise UserError(f"{named} row {self.paths.index('')}: no path; fill or remove the row")
        names.check(self.columns.get(self.id, self.paths), named)

    def __len__(self) -> int:
        return len(self.paths)

    def stored_ids(self) -> tuple[str, ...]:
        given = self.columns.get(self.id)
        if given is not None:
            repeated = first_repeated(given)
            if "" in given or repeated is not None:
                problem = "is empty in a row" if "" in given else f"holds '{repeated}' twice"
                raise UserError(
                    f"{self.named}: column '{self.id}' {problem}; ids must be distinct: correct it, or drop the column "
                    "to go by path"
                )
            return tuple(given)
        return tuple(self.paths) if first_repeated(self.paths) is None else row_ids(self.key, len(self.paths))

    @property
    def ids_are_shared(self) -> bool:
        return self.id in self.columns and not are_row_numbers(self.columns[self.id])

    def stored_labels(self) -> Labels:
        return labels_of(self.columns[self.given.label_in(self.named, list(self.columns), LABEL)], self.named)

    def files(self) -> list[File]:
        """The images' files."""
        folder = self.file.parent
        return [at(path, self.named) if is_address(path) or path[0] in "/~" else folder / path for path in self.paths]

    def encoded(self) -> Iterator[Sequence[Encoded]]:
        return contents(self.files(), self.named)

    def originals(self, positions: Sequence[int]) -> Iterator[tuple[int, bytes, Path | None]]:
        files = self.files()
        for position in positions:
            file = files[position]
            yield position, file.read_bytes(), file if isinstance(file, Path) else None


def labels_of(values: Sequence[str], named: str) -> Labels:
    """Classes as a list says them: numbers where all are whole numbers, else names."""
    if "" in values:
        row = list(values).index("")
        raise UserError(
            f"{named} row {row}: label is empty; label or remove the {list(values).count('')} rows without one"
        )
    if all(value.isascii() and value.isdigit() and str(int(value)) == value for value in values):
        return from_numbers(np.array([int(value) for value in values], np.int64))
    return from_names(values)


def column_names(file: File, named: str) -> list[str]:
    """The names of a list's columns."""
    return list(_columns(file, named)[0])


def _columns(file: File, named: str) -> tuple[dict[str, list[str]], str]:
    """Each column by its name, and the separator."""
    try:
        text = content(file, named).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{named}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    first = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=first.count)
    separator = separator if separator in first else ","
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
        table = [row for row in rows if row]
    except csv.Error as error:
        raise UserError(f"{named}: not a readable CSV file (line {rows.line_num}: {error}); write it anew") from error
    if not header:
        raise UserError(f"{named}: is empty; give a list with a first line that names its columns, such as path,label")
    if (repeated := first_repeated(header)) is not None:
        raise UserError(f"{named}: has the column '{repeated}' twice; rename one")
    for number, row in enumerate(table):
        if len(row) != len(header):
            raise UserError(
                f"{named} row {number}: {len(row)} values, but the first line names {len(header)} columns; quote "
                "values that hold separators"
            )
    return {name: [row[i].strip() for row in table] for i, name in enumerate(header)}, separator
