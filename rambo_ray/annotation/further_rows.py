"""Labelled sets that are tables, with further rows: Parquet, lists of files in CSV, and arrays in npz."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from rambo_ray.annotation.names import copy_stem
from rambo_ray.annotation.request import Request
from rambo_ray.data import datasets, originals, parquet
from rambo_ray.data.formats import readable
from rambo_ray.data.forms.source import Columns
from rambo_ray.data.originals import Stored
from rambo_ray.errors import UserError

_VECTORS = ("embedding", "embeddings", "vector", "vectors", "features")


@dataclass(frozen=True)
class Bought:
    """An image that joins the labelled ones: its id in the pool and its class, by name."""

    id: str
    label: str


@dataclass(frozen=True)
class Pool:
    """The pool that a request is of, as its owner has it."""

    asked: Request

    def stored(self, bought: Sequence[Bought]) -> Iterator[Stored]:
        """The images' own files."""
        return originals.stored(self.asked.data, self.asked.seed, [image.id for image in bought])

    @cached_property
    def _vectors(self) -> tuple[np.ndarray, dict[str, int]]:
        pool = datasets.load(self.asked.data, self.asked.seed)[0].pool
        return pool.array, {name: place for place, name in enumerate(pool.ids)}

    def vectors(self, bought: Sequence[Bought]) -> np.ndarray:
        """The embeddings float32 [n, D] of what was bought, where the pool is of embeddings."""
        array, places = self._vectors
        return array[[places[image.id] for image in bought]]


def write(form: str, source: Path, pool: Pool, bought: Sequence[Bought], made: Path, number: int) -> None:
    """The set at `source`, "parquet", "list" or "arrays", with what was bought, into the folder `made`.

    number: of the round. Raises UserError where what was bought does not fit in.
    """
    writers: dict[str, Callable[..., None]] = {"parquet": _shards, "list": _list, "arrays": _arrays}
    writers[form](source, pool, bought, made, number)


def copy_to(folder: Path, stored: Stored) -> Path:
    """Write an image's file into a folder, under its own name or, where that is taken, one with a hash of its id."""
    path = folder / stored.name
    if path.exists():
        path = folder / f"{copy_stem(0, stored.id).partition('-')[2]}{Path(stored.name).suffix}"
    path.write_bytes(stored.content)
    return path


# -- Parquet -------------------------------------------------------------------------------------------------------


def _shards(source: Path, pool: Pool, bought: Sequence[Bought], made: Path, number: int) -> None:
    """The files as they are, and one more of the first one's schema."""
    files = [source] if source.is_file() else sorted(source.rglob("*.parquet"))
    if source.is_file():
        shutil.copy2(source, made / source.name)
    else:
        shutil.copytree(source, made, dirs_exist_ok=True)
    schema = pq.read_schema(files[0])
    rows = _columns(schema, files, pool, bought, Columns.of(pool.asked.data))
    beside = made / files[0].relative_to(source).parent if source.is_dir() else made
    name = f"round_{number}.parquet"
    stem = files[0].stem.partition("-")[0]
    if stem in ("train", "labeled", "labelled") and "-" in files[0].stem:
        name = f"{stem}-{name}"  # where the shards of a split go by their names
    if (beside / name).exists():
        raise UserError(f"{source}: holds {name} already; give --output another set, or rename that file")
    try:
        table = pa.table([pa.array(rows[field.name], field.type) for field in schema], schema=schema)
    except (pa.ArrowException, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{source}: what was bought does not fit its schema ({reason}); add it by hand") from error
    pq.write_table(table, beside / name)


def _columns(
    schema: pa.Schema, files: Sequence[Path], pool: Pool, bought: Sequence[Bought], given: Columns
) -> dict[str, list[Any]]:
    """A value for each column and image; null where nobody knows. given: columns of other names than the usual."""
    id_column = given.id or parquet.ID_COLUMN
    rows: dict[str, list[Any]] = {name: [None] * len(bought) for name in schema.names}
    label = given.label or parquet.LABEL_COLUMN
    rows[label] = _label_values(schema, files, bought, label)
    known = _VECTORS if given.content is None else (given.content,)
    vectors = next((name for name in schema.names if name in known and _is_list(schema.field(name).type)), None)
    if vectors is not None:
        rows[vectors] = pool.vectors(bought).tolist()
    else:
        column = given.content or next(name for name in parquet.IMAGE_COLUMNS if name in schema.names)
        content = [stored.content for stored in pool.stored(bought)]
        if pa.types.is_struct(schema.field(column).type):
            rows[column] = [{"bytes": c, "path": b.id} for c, b in zip(content, bought, strict=True)]
        else:
            rows[column] = content
    if id_column in schema.names:
        rows[id_column] = _ids(schema.field(id_column).type, files, bought, id_column)
    if parquet.PATH_COLUMN in schema.names and pa.types.is_string(schema.field(parquet.PATH_COLUMN).type):
        rows[parquet.PATH_COLUMN] = [image.id for image in bought]
    return rows


def _label_values(schema: pa.Schema, files: Sequence[Path], bought: Sequence[Bought], column: str) -> list[Any]:
    kind = schema.field(column).type
    if not pa.types.is_integer(kind):
        return [image.label for image in bought]
    labels = parquet.read_labels(list(files), column)
    if labels.said_as == "declared":
        return [labels.names.index(image.label) if image.label in labels.names else None for image in bought]
    return [int(image.label) for image in bought]


def _ids(kind: pa.DataType, files: Sequence[Path], bought: Sequence[Bought], column: str) -> list[Any]:
    """The pool's own ids where the labelled ones leave them free, else ones that say where they are from."""
    taken = {str(name) for file in files for name in pq.read_table(file, columns=[column])[column].to_pylist()}
    if pa.types.is_integer(kind):
        free = all(image.id.isdecimal() and image.id not in taken for image in bought)
        if not free:
            raise UserError(
                f"{files[0]}: its ids are {kind}, and the pool's (such as '{bought[0].id}') are no such numbers or are "
                "taken; make the labelled ids strings, or go by annotations.parquet"
            )
        return [int(image.id) for image in bought]
    found = []
    for image in bought:
        name = image.id
        while name in taken:
            name = f"pool/{name}"
        taken.add(name)
        found.append(name)
    return found


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


# -- lists of files and arrays -------------------------------------------------------------------------------------


def _list(source: Path, pool: Pool, bought: Sequence[Bought], made: Path, number: int) -> None:
    """A list with absolute paths of what there was, and copies beside it of what was bought."""
    text = source.read_bytes().decode("utf-8-sig")
    delimiter = max("\t,;", key=text.partition("\n")[0].count)
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    header = [name.strip() for name in rows[0]]
    given = Columns.of(pool.asked.data)
    path = header.index(given.content if given.content in header else "path")
    label, id_column = header.index(given.label or "label"), given.id or "id"
    taken = {row[header.index(id_column)].strip() for row in rows[1:]} if id_column in header else set()
    for row in rows[1:]:
        here = row[path].strip()
        if "://" not in here and here[0] not in "/~":
            row[path] = str((source.parent / here).resolve())
    (made / "images").mkdir()
    for image, stored in zip(bought, pool.stored(bought), strict=True):
        fresh = [""] * len(header)
        fresh[path] = f"images/{copy_to(made / 'images', stored).name}"
        fresh[label] = image.label
        if id_column in header:
            name = image.id
            while name in taken:
                name = f"pool/{name}"
            taken.add(name)
            fresh[header.index(id_column)] = name
        rows.append(fresh)
    with open(made / source.name, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)


def _arrays(source: Path, pool: Pool, bought: Sequence[Bought], made: Path, number: int) -> None:
    """All arrays with a row more for each image."""
    with np.load(source, allow_pickle=False) as loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    given = Columns.of(pool.asked.data)
    label, id_column = given.label or "label", given.id or "id"
    count = len(arrays[label])
    for name, array in arrays.items():
        if name == label:
            numbers = array.dtype.kind in "iu"
            further: np.ndarray = np.array([int(image.label) if numbers else image.label for image in bought])
        elif name == id_column:
            taken = {str(value) for value in array.tolist()}
            numbers = array.dtype.kind in "iu"
            if numbers and not all(image.id.isdecimal() and image.id not in taken for image in bought):
                numbers, array = False, array.astype(str)
            further = np.array([int(i.id) if numbers else (f"pool/{i.id}" if i.id in taken else i.id) for i in bought])
        elif array.ndim == 2 and array.dtype.kind == "f" and len(array) == count:
            further = pool.vectors(bought).astype(array.dtype)
        elif array.ndim >= 3 and len(array) == count:
            further = np.stack([_pixels(stored, array.shape[1:]) for stored in pool.stored(bought)])
        elif array.ndim and len(array) == count:
            raise UserError(f"{source}: nobody knows the array '{name}' of what was bought; add it by hand")
        else:
            continue
        arrays[name] = np.concatenate([array, further.astype(array.dtype) if array.dtype.kind != "U" else further])
    np.savez(made / source.name, **arrays)  # type: ignore[arg-type]


def _pixels(stored: Stored, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(Image.open(io.BytesIO(stored.content), formats=readable()))
    if array.size != int(np.prod(shape)):
        raise UserError(
            f"{stored.id}: is {list(array.shape)}, but the labelled images are {list(shape)}; add it by hand"
        )
    return array.reshape(shape)
