"""Images in Parquet files, in the layout of Hugging Face datasets.

The column `image` (or `img`) is a struct of `bytes`, an encoded image file, and `path`, its name;
or the bytes alone. `label` holds integers or strings; names of the integers may stand in the
schema's metadata under the key `huggingface`. Columns that are not needed are never read: a pool's
labels stay on the disk.

N images over all files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rambo_ray.data.images import BATCH, Encoded, Format, Images, decode
from rambo_ray.data.items import first_repeated
from rambo_ray.data.labels import Labels, from_names, from_numbers
from rambo_ray.errors import UserError, nearest

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMN = "label"
ID_COLUMN = "id"
PATH_COLUMN = "path"

T = TypeVar("T")


def find(path: Path) -> list[Path]:
    """The Parquet files at `path`: itself, or those directly in it, sorted; [] where there is none."""
    if path.is_dir():
        return sorted(file for file in path.iterdir() if _is_parquet(file) and not file.name.startswith("."))
    return [path] if _is_parquet(path) else []


def of_split(files: Sequence[Path], split: str) -> list[Path]:
    """Those named <split>-*.parquet or <split>.parquet."""
    return [file for file in files if file.stem == split or file.name.startswith(f"{split}-")]


def read(files: Sequence[Path], wanted: Format, row_prefix: str = "", unique_ids: bool = False) -> Images:
    """The N images of `files`, in order; nothing but images and ids is read.

    Ids come from the first of these whose values are all there and distinct: the column `id`, the
    column `path`, the `path` beside the image's bytes; else they are `row_prefix` and the row number
    over all files. With `unique_ids` an `id` column that repeats itself is an error.

    Raises UserError for a file that is damaged or lacks the column, for a row without an image, and
    for an image that cannot be read or has another size.
    """
    count = _count(files)
    paths: list[str | None] = []
    pixels = decode(_batches(files, paths), count, wanted)
    ids = _ids(files, ID_COLUMN, unique_ids) or _ids(files, PATH_COLUMN, False) or _distinct(paths)
    return Images(pixels, ids or tuple(f"{row_prefix}{row}" for row in range(count)))


def read_labels(files: Sequence[Path]) -> Labels:
    """The classes of the N images of `files`.

    Raises UserError where there are none, for a missing column, a null or negative label, labels that
    are neither integers nor strings, and a label beyond the declared names.
    """
    _count(files)
    names = _declared_names(files[0])
    columns = [_label_column(file) for file in files]
    for file, column in zip(files, columns, strict=True):
        if pa.types.is_string(column.type) != pa.types.is_string(columns[0].type):
            raise UserError(f"{file}: labels are {column.type}, but {columns[0].type} in {files[0]}; write one type")
        if _declared_names(file) != names:
            raise UserError(f"{file}: declares other class names than {files[0]}; write both alike")
    if pa.types.is_string(columns[0].type):
        strings = [name for column in columns for name in column.to_pylist()]
        return _among(strings, names, files[0]) if names else from_names(strings)
    numbers = np.concatenate([column.to_numpy() for column in columns])
    if names is None:
        return from_numbers(numbers)
    if numbers.max(initial=0) >= len(names):
        raise UserError(
            f"{files[0]}: label {numbers.max()} is beyond the {len(names)} class names of the metadata; correct either"
        )
    return Labels(numbers, names, "declared")


def names(files: Sequence[Path]) -> tuple[str, ...]:
    """The ids that `read` gives the N images of `files` of one's own; no image is read."""
    count = _count(files)
    found = _ids(files, ID_COLUMN, True) or _ids(files, PATH_COLUMN, False) or _distinct(_paths(files))
    return found or tuple(str(row) for row in range(count))


def encoded(files: Sequence[Path], rows: Collection[int]) -> Iterator[tuple[int, bytes]]:
    """Of those of the N images that stand in these rows the row and the image file's bytes, in the order of rows."""
    start = 0
    for batch in _batches(files, []):
        for row, (_, stored) in enumerate(batch, start):
            if row in rows:
                assert isinstance(stored, bytes)
                yield row, stored
        start += len(batch)


def has_ids(files: Sequence[Path]) -> bool:
    """Whether all files have an `id` column: then an id means the same image wherever it stands."""
    return all(_opened(file, lambda opened: ID_COLUMN in opened.schema_arrow.names) for file in files)


def _count(files: Sequence[Path]) -> int:
    count = sum(_opened(file, lambda opened: int(opened.metadata.num_rows)) for file in files)
    if count == 0:
        raise UserError(f"{files[0]}: no rows; give a Parquet file that holds images")
    return count


def _batches(files: Sequence[Path], paths: list[str | None]) -> Iterator[list[Encoded]]:
    """Encoded images of all files; their stored paths are appended to `paths` on the way."""
    for file in files:
        column = _image_column(file, _opened(file, lambda opened: opened.schema_arrow))
        row = 0
        for array in _read(file, column):
            is_struct = pa.types.is_struct(array.type)
            stored = (array.field("bytes") if is_struct else array).to_pylist()
            if is_struct and array.type.get_field_index("path") >= 0:
                paths += array.field("path").to_pylist()
            else:
                paths += [None] * len(stored)
            names = [f"{file} row {row + i}" for i in range(len(stored))]
            for name, content in zip(names, stored, strict=True):
                if content is None:
                    raise UserError(f"{name}: no image bytes in column '{column}'; fill or remove the row")
            row += len(stored)
            yield list(zip(names, stored, strict=True))


def _paths(files: Sequence[Path]) -> list[str | None]:
    """The paths that stand beside the images' bytes."""
    found: list[str | None] = []
    for file in files:
        schema = _opened(file, lambda opened: opened.schema_arrow)
        kind = schema.field(column := _image_column(file, schema)).type
        if not pa.types.is_struct(kind) or kind.get_field_index("path") < 0:
            return []
        for array in _read(file, f"{column}.path"):
            found += array.field("path").to_pylist()
    return found


def _image_column(file: Path, schema: pa.Schema) -> str:
    for name in IMAGE_COLUMNS:
        if name in schema.names:
            kind = schema.field(name).type
            if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
                kind = kind.field("bytes").type
            if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
                raise UserError(
                    f"{file}: column '{name}' is {kind}; must be image files, as struct of bytes and path, "
                    "or binary: write it so"
                )
            return name
    raise UserError(f"{file}: no column 'image'; rename the one that holds images ({_columns(schema)})")


def _label_column(file: Path) -> pa.Array:
    """The labels of one file: int64 or string, without nulls."""
    schema = _opened(file, lambda opened: opened.schema_arrow)
    if LABEL_COLUMN not in schema.names:
        raise UserError(f"{file}: no column '{LABEL_COLUMN}'; rename the one that holds classes ({_columns(schema)})")
    pieces = list(_read(file, LABEL_COLUMN))
    if pieces and pa.types.is_dictionary(pieces[0].type):
        pieces = [piece.dictionary_decode() for piece in pieces]
    column = pa.concat_arrays(pieces) if pieces else pa.array([], pa.int64())
    if column.null_count:
        row, nulls = column.is_null().to_pylist().index(True), column.null_count
        raise UserError(f"{file} row {row}: label is null; label or remove the {nulls} rows without one")
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column.cast(pa.string())
    if not pa.types.is_integer(column.type):
        raise UserError(f"{file}: column 'label' is {column.type}; must be integers or strings: cast it")
    try:
        column = column.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise UserError(f"{file}: column '{LABEL_COLUMN}': {error}; must fit 64 bits: relabel") from error
    negative = np.flatnonzero(column.to_numpy() < 0)
    if len(negative):
        row = int(negative[0])
        raise UserError(
            f"{file} row {row}: label {column[row]} is negative, but classes count from 0; relabel or remove the row"
        )
    return column


def _among(strings: Sequence[str], names: tuple[str, ...], file: Path) -> Labels:
    code = {name: i for i, name in enumerate(names)}
    for name in strings:
        if name not in code:
            raise UserError(f"{file}: class '{name}' is not declared in the metadata; {nearest(name, names)}")
    return Labels(np.array([code[name] for name in strings], np.int64), names, "declared")


def _declared_names(file: Path) -> tuple[str, ...] | None:
    """Class names in the metadata, None where there are none that can be used."""
    metadata = _opened(file, lambda opened: opened.schema_arrow.metadata) or {}
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][LABEL_COLUMN]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    if isinstance(names, list) and len(names) == len(set(map(str, names))) > 0:
        return tuple(map(str, names))
    return None


def _ids(files: Sequence[Path], column: str, must_be_unique: bool) -> tuple[str, ...] | None:
    ids: list[str | None] = []
    for file in files:
        schema = _opened(file, lambda opened: opened.schema_arrow)
        if column not in schema.names:
            return None
        kind = schema.field(column).type
        if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            if must_be_unique:
                raise UserError(f"{file}: column '{column}' is {kind}; must be strings or integers: cast it")
            return None
        for array in _read(file, column):
            ids += array.cast(pa.string()).to_pylist()
    distinct = _distinct(ids)
    if distinct is None and must_be_unique:
        repeated = first_repeated([value for value in ids if value is not None])
        problem = "holds nulls" if None in ids else f"holds '{repeated}' twice"
        raise UserError(
            f"{files[0]}: column '{column}' {problem}; ids must be distinct: correct it, or drop the column "
            "to go by path or row number"
        )
    return distinct


def _distinct(values: Sequence[str | None]) -> tuple[str, ...] | None:
    present = tuple(value for value in values if value)
    return present if values and len(set(present)) == len(values) else None


def _read(file: Path, column: str) -> Iterator[pa.Array]:
    """One column of a file, in pieces of at most BATCH rows."""
    try:
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(BATCH, columns=[column]):
                yield batch.column(0)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _opened(file: Path, question: Callable[[pq.ParquetFile], T]) -> T:
    """The answer to a question about a file's footer."""
    try:
        with pq.ParquetFile(file) as opened:
            return question(opened)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:120]
    return UserError(f"{file}: not a readable Parquet file ({reason}); write it anew")


def _columns(schema: pa.Schema) -> str:
    return f"it has: {', '.join(schema.names)}"


def _is_parquet(file: Path) -> bool:
    return file.suffix.lower() == ".parquet" and file.is_file()
