"""Images in table files, Parquet or Arrow, in the layout of Hugging Face datasets.

The column `image` (or `img`) is a struct of `bytes`, an encoded image file, and `path`, its name;
or the bytes alone. Where there are no bytes, `path` is a file, relative to the table's folder. `label`
holds integers or strings; names of the integers may stand in the schema's metadata under the key
`huggingface`. Columns that are not needed are never read: a pool's labels stay on the disk.

N images over all files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from rambo_ray.data import table_files
from rambo_ray.data.decoding import Encoded, Missing
from rambo_ray.data.items import first_repeated
from rambo_ray.data.labels import Labels, from_names, from_numbers
from rambo_ray.data.places import File, at, is_address
from rambo_ray.errors import UserError, nearest

IMAGE_COLUMNS = ("image", "img")
VECTOR_COLUMNS = ("embedding", "embeddings")
LABEL_COLUMN = "label"
ID_COLUMN = "id"
PATH_COLUMN = "path"


def find(path: Path) -> list[Path]:
    """The Parquet files at `path`: itself, or those directly in it, sorted; [] where there is none."""
    if path.is_dir():
        return sorted(file for file in path.iterdir() if _is_parquet(file) and not file.name.startswith("."))
    return [path] if _is_parquet(path) else []


def of_split(files: Sequence[Path], split: str) -> list[Path]:
    """Those named <split>-*.parquet or <split>.parquet."""
    return [file for file in files if file.stem == split or file.name.startswith(f"{split}-")]


def read_labels(files: Sequence[File], column: str = LABEL_COLUMN) -> Labels:
    """The classes of the N images of `files`, in their `column`.

    Raises UserError where there are none, for a missing column, a null or negative label, labels that
    are neither integers nor strings, and a label beyond the declared names.
    """
    count(files)
    names = _declared_names(files[0], column)
    columns = [_label_column(file, column) for file in files]
    for file, values in zip(files, columns, strict=True):
        if pa.types.is_string(values.type) != pa.types.is_string(columns[0].type):
            raise UserError(f"{file}: labels are {values.type}, but {columns[0].type} in {files[0]}; write one type")
        if _declared_names(file, column) != names:
            raise UserError(f"{file}: declares other class names than {files[0]}; write both alike")
    if pa.types.is_string(columns[0].type):
        strings = [name for values in columns for name in values.to_pylist()]
        return _among(strings, names, files[0]) if names else from_names(strings)
    numbers = np.concatenate([values.to_numpy() for values in columns])
    if names is None:
        return from_numbers(numbers)
    if numbers.max(initial=0) >= len(names):
        raise UserError(
            f"{files[0]}: label {numbers.max()} is beyond the {len(names)} class names of the metadata; correct either"
        )
    return Labels(numbers, names, "declared")


def names(
    files: Sequence[File], row_prefix: str = "", unique_ids: bool = True, id_column: str | None = None
) -> tuple[str, ...]:
    """The ids of the N images of `files`, by default those of one's own pool; no image is read.

    They come from the first of these whose values are all there and distinct: the column `id` (or `id_column`), the
    column `path`, the `path` beside the image's bytes; else they are `row_prefix` and the row number over all files.
    With `unique_ids` an `id` column that repeats itself is an error.
    """
    found = (
        _ids(files, id_column or ID_COLUMN, unique_ids) or _ids(files, PATH_COLUMN, False) or _distinct(_paths(files))
    )
    return found or tuple(f"{row_prefix}{row}" for row in range(count(files)))


def encoded(files: Sequence[File], rows: Collection[int], column: str | None = None) -> Iterator[tuple[int, bytes]]:
    """Of those of the N images that stand in these rows the row and the image file's bytes, in the order of rows."""
    start = 0
    for batch in batches(files, column):
        for row, (name, stored) in enumerate(batch, start):
            if row in rows:
                if isinstance(stored, Missing):
                    raise UserError(f"{name}: {stored.reason}")
                yield row, stored if isinstance(stored, bytes) else stored.read_bytes()
        start += len(batch)


def has_ids(files: Sequence[File], column: str | None = None) -> bool:
    """Whether all files have a column of ids, `id` or this one: then an id means the same image wherever it stands."""
    return all((column or ID_COLUMN) in table_files.schema(file).names for file in files)


def count(files: Sequence[File]) -> int:
    """N. Raises UserError where there are no rows."""
    found = sum(map(table_files.rows, files))
    if found == 0:
        raise UserError(f"{files[0]}: no rows; give a Parquet file that holds images")
    return found


def batches(files: Sequence[File], column: str | None = None) -> Iterator[list[Encoded]]:
    """The encoded images of all files, from `column` or the first of IMAGE_COLUMNS; no bytes: the file at `path`."""
    for file in files:
        name = _image_column(file, table_files.schema(file), column)
        row = 0
        for array in table_files.read(file, name):
            yield encoded_in(file, name, array, range(row, row + len(array)))
            row += len(array)


def encoded_in(file: File, column: str, array: pa.Array, rows: Iterable[int]) -> list[Encoded]:
    """The encoded images of a part of a file's column, in these rows of it."""
    is_struct = pa.types.is_struct(array.type)
    stored = (array.field("bytes") if is_struct else array).to_pylist()
    has_path = is_struct and array.type.get_field_index("path") >= 0
    paths = array.field("path").to_pylist() if has_path else [None] * len(stored)
    return [
        (f"{file} row {row}", _content(file, column, *one))
        for row, one in zip(rows, zip(stored, paths, strict=True), strict=True)
    ]


def vectors(files: Sequence[File], column: str) -> np.ndarray:
    """The numbers [N, D] of a column of lists. Raises UserError for rows without, or of another length."""
    parts: list[np.ndarray] = []
    for file in files:
        row = 0
        for array in table_files.read(file, column):
            parts.append(numbers_of(file, column, array, row, parts[0].shape[1] if parts else None))
            row += len(array)
    return np.concatenate(parts)


def content(file: File, column: str | None = None) -> tuple[str, str]:
    """The column of a file that holds what is looked at, and whether that is "images" or "embeddings".

    Raises UserError where there is none, or one of each and `column` does not say which.
    """
    schema = table_files.schema(file)
    if column is not None and column not in schema.names:
        raise UserError(f"data.column={column}: {file} has no such column; {nearest(column, schema.names)}")
    images = [name for name in IMAGE_COLUMNS if name in schema.names]
    numbers = [name for name in VECTOR_COLUMNS if name in schema.names]
    if column is None and images and numbers:
        raise UserError(
            f"{file}: has both a column '{images[0]}' and a column '{numbers[0]}'; set data.column={images[0]} or "
            f"data.column={numbers[0]}"
        )
    chosen = column or (numbers[0] if numbers else _image_column(file, schema))
    is_list = _is_list(schema.field(chosen).type)
    if not is_list:
        _image_column(file, schema, chosen)
    return chosen, "embeddings" if is_list else "images"


def _content(file: File, column: str, stored: bytes | None, path: str | None) -> bytes | Path | Missing:
    """A row's image: its bytes, or else the file that its path names."""
    if stored is not None:
        return stored
    if not path:
        return Missing(f"no image bytes in column '{column}'; fill or remove the row")
    beside = at(path, str(file)) if is_address(path) or path.startswith("/") else file.parent / path
    try:
        return beside if isinstance(beside, Path) else beside.read_bytes()
    except Exception as error:  # each filesystem has its own
        return Missing(f"no image bytes in column '{column}', and {beside} cannot be read ({type(error).__name__})")


def numbers_of(file: File, column: str, array: pa.Array, row: int, width: int | None) -> np.ndarray:
    if array.null_count:
        raise UserError(
            f"{file} row {row + array.is_null().to_pylist().index(True)}: no {column}; fill or remove the row"
        )
    if pa.types.is_fixed_size_list(array.type):
        lengths = np.full(len(array), array.type.list_size)
    else:
        lengths = array.value_lengths().to_numpy(zero_copy_only=False)
    flat = array.flatten()
    if not (pa.types.is_floating(flat.type) or pa.types.is_integer(flat.type)):
        raise UserError(f"{file}: column '{column}' holds lists of {flat.type}; must be numbers: cast it")
    width = int(lengths[0]) if width is None else width
    if (lengths != width).any():
        other = int(np.flatnonzero(lengths != width)[0])
        raise UserError(
            f"{file} row {row + other}: {lengths[other]} numbers, but {width} in the rows before; write one length"
        )
    if flat.null_count:
        other = flat.is_null().to_pylist().index(True) // max(width, 1)
        raise UserError(f"{file} row {row + other}: a number of {column} is missing; fill or remove the row")
    return flat.to_numpy(zero_copy_only=False).reshape(len(array), width)


def _paths(files: Sequence[File]) -> list[str | None]:
    """The paths that stand beside the images' bytes."""
    found: list[str | None] = []
    for file in files:
        schema = table_files.schema(file)
        column = next((name for name in IMAGE_COLUMNS if name in schema.names), None)
        if column is None:
            return []
        kind = schema.field(column).type
        if not pa.types.is_struct(kind) or kind.get_field_index("path") < 0:
            return []
        for array in table_files.read(file, f"{column}.path"):
            found += array.field("path").to_pylist()
    return found


def _image_column(file: File, schema: pa.Schema, column: str | None = None) -> str:
    for name in IMAGE_COLUMNS if column is None else (column,):
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


def _label_column(file: File, name: str) -> pa.Array:
    """The labels of one file: int64 or string, without nulls."""
    schema = table_files.schema(file)
    if name not in schema.names:
        raise UserError(f"{file}: no column '{name}'; rename the one that holds classes ({_columns(schema)})")
    pieces = list(table_files.read(file, name))
    if pieces and pa.types.is_dictionary(pieces[0].type):
        pieces = [piece.dictionary_decode() for piece in pieces]
    column = pa.concat_arrays(pieces) if pieces else pa.array([], pa.int64())
    if column.null_count:
        row, nulls = column.is_null().to_pylist().index(True), column.null_count
        raise UserError(f"{file} row {row}: label is null; label or remove the {nulls} rows without one")
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column.cast(pa.string())
    if not pa.types.is_integer(column.type):
        raise UserError(f"{file}: column '{name}' is {column.type}; must be integers or strings: cast it")
    try:
        column = column.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise UserError(f"{file}: column '{name}': {error}; must fit 64 bits: relabel") from error
    negative = np.flatnonzero(column.to_numpy() < 0)
    if len(negative):
        row = int(negative[0])
        raise UserError(
            f"{file} row {row}: label {column[row]} is negative, but classes count from 0; relabel or remove the row"
        )
    return column


def _among(strings: Sequence[str], names: tuple[str, ...], file: File) -> Labels:
    code = {name: i for i, name in enumerate(names)}
    for name in strings:
        if name not in code:
            raise UserError(f"{file}: class '{name}' is not declared in the metadata; {nearest(name, names)}")
    return Labels(np.array([code[name] for name in strings], np.int64), names, "declared")


def _declared_names(file: File, column: str) -> tuple[str, ...] | None:
    """Class names in the metadata, None where there are none that can be used."""
    try:
        names = table_files.declared(file)[column]["names"]
    except (KeyError, TypeError):
        return None
    if isinstance(names, list) and len(names) == len(set(map(str, names))) > 0:
        return tuple(map(str, names))
    return None


def _ids(files: Sequence[File], column: str, must_be_unique: bool) -> tuple[str, ...] | None:
    ids: list[str | None] = []
    for file in files:
        schema = table_files.schema(file)
        if column not in schema.names:
            return None
        kind = schema.field(column).type
        if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            if must_be_unique:
                raise UserError(f"{file}: column '{column}' is {kind}; must be strings or integers: cast it")
            return None
        for array in table_files.read(file, column):
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


def _columns(schema: pa.Schema) -> str:
    return f"it has: {', '.join(schema.names)}"


def _is_parquet(file: Path) -> bool:
    return file.suffix.lower() == ".parquet" and file.is_file()


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
