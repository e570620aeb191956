"""NumPy files: `.npz` with arrays `images` or `embeddings`, and `label` and `id` where there are any; or one `.npy`.

Nothing in them is ever unpickled: a file of somebody else's could run whatever it likes.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rambo_ray.data import memory, places
from rambo_ray.data.forms.listing import labels_of
from rambo_ray.data.forms.source import Columns, Source, are_row_numbers, row_ids
from rambo_ray.data.items import first_repeated
from rambo_ray.data.labels import Labels, from_numbers
from rambo_ray.data.places import File, opened
from rambo_ray.data.vectors import as_vectors
from rambo_ray.errors import UserError, nearest

IMAGES, EMBEDDINGS, LABEL, ID = "images", "embeddings", "label", "id"


class Arrays(Source):
    """The rows of a file's arrays."""

    def __init__(self, named: str, key: str, file: File, given: Columns) -> None:
        """key: which of the three sets it is; given: arrays that have other names than the usual."""
        super().__init__(named)
        self.file, self.key = file, key
        self.name, self.arrays, self.known = _loaded(file, named, given)
        self.form = "NumPy arrays (.npz)" if self.name else "NumPy array (.npy)"
        self.values = self.arrays[self.name]
        is_pixels = self.values.ndim >= 3 or self.name == IMAGES
        self.content = "pixels" if is_pixels else "embeddings"
        if self.values.ndim == 0 or not len(self.values):
            raise UserError(f"{named}: no rows; give an array of images or embeddings")
        given.check(named, self.known)
        self.given, self.id = given, given.id or ID
        for name in (given.label or LABEL, self.id):
            if name in self.arrays and self.arrays[name].shape != (len(self.values),):
                raise UserError(
                    f"{named}: array '{name}' is {list(self.arrays[name].shape)}, must be [{len(self.values)}], one "
                    f"for each row of {self.name}"
                )

    def __len__(self) -> int:
        return len(self.values)

    def stored_ids(self) -> tuple[str, ...]:
        if self.id not in self.arrays:
            return row_ids(self.key, len(self.values))
        given = self.arrays[self.id]
        if given.dtype.kind not in "iuUS":
            raise UserError(f"{self.named}: array '{self.id}' is {given.dtype}; must be strings or integers")
        names = tuple(_text(given, self.named))
        if "" in names or (repeated := first_repeated(names)) is not None:
            problem = "is empty in a row" if "" in names else f"holds '{repeated}' twice"
            raise UserError(
                f"{self.named}: array '{self.id}' {problem}; ids must be distinct: correct it, or leave it out"
            )
        return names

    @property
    def ids_are_shared(self) -> bool:
        return self.id in self.arrays and not are_row_numbers(self.stored_ids())

    def stored_labels(self) -> Labels:
        if not self.name:
            raise UserError(f"{self.named}: is one array alone, without classes; save an .npz with an array '{LABEL}'")
        name = self.given.label_in(self.named, self.known, LABEL, "array")
        given = self.arrays[name]
        if given.dtype.kind in "US":
            return labels_of(_text(given, self.named), self.named)
        if given.dtype.kind not in "iu":
            raise UserError(f"{self.named}: array '{name}' is {given.dtype}; must be integers or strings: cast it")
        if given.min() < 0 or given.max() > np.iinfo(np.int64).max:
            row = int(given.argmin())
            raise UserError(
                f"{self.named} row {row}: label {given[row]}: classes count from 0 and fit 64 bits; relabel it"
            )
        return from_numbers(given.astype(np.int64))

    def array(self) -> npt.NDArray[Any]:
        if self.content == "embeddings":
            return as_vectors(self.values, self.named)
        return _pixels(self.values, self.named)


def _pixels(values: npt.NDArray[Any], named: str) -> npt.NDArray[np.uint8]:
    if values.dtype == np.bool_ or values.dtype != np.uint8:
        raise UserError(f"{named}: images are {values.dtype}; must be uint8, 0 to 255: scale and cast them")
    pixels = values[..., None] if values.ndim == 3 else values
    if pixels.ndim != 4 or pixels.shape[3] not in (1, 3) or 0 in pixels.shape:
        turn = "; transpose them from [N, C, H, W]" if values.ndim == 4 and values.shape[1] in (1, 3) else ""
        raise UserError(f"{named}: images are {list(values.shape)}; must be [N, H, W] or [N, H, W, 1 or 3]{turn}")
    return np.ascontiguousarray(pixels)


def _loaded(file: File, named: str, given: Columns) -> tuple[str, dict[str, npt.NDArray[Any]], list[str]]:
    """The name of the array that is looked at, "" for the one of an .npy; it, labels and ids; all names there are."""
    try:
        with opened(file) if isinstance(file, Path) else io.BytesIO(places.content(file, named)) as content:
            if file.suffix.lower() == ".npy":
                _check_header(content, named)
                return "", {"": np.lib.format.read_array(content, allow_pickle=False)}, []
            with zipfile.ZipFile(content) as archive:
                sizes = {i.filename[:-4]: i.file_size for i in archive.infolist() if i.filename.endswith(".npy")}
                chosen = _chosen(list(sizes), given.content, named)
                wanted = [
                    name for name in dict.fromkeys((chosen, given.label or LABEL, given.id or ID)) if name in sizes
                ]
                memory.check_bytes(sum(sizes[name] for name in wanted), named, "give fewer rows")
                return chosen, {name: _member(archive, name, named) for name in wanted}, list(sizes)
    except UserError:
        raise
    except ValueError as error:
        if "pickle" in str(error).lower():
            raise UserError(
                f"{named}: holds Python objects, which are never unpickled; save numbers as numbers and names as "
                "strings (array.astype(str))"
            ) from error
        raise UserError(f"{named}: not a readable NumPy file ({_short(error)}); save it anew") from error
    except Exception as error:  # a damaged zip file fails in many ways
        raise UserError(f"{named}: not a readable NumPy file ({_short(error)}); save it anew") from error


def _member(archive: zipfile.ZipFile, name: str, named: str) -> npt.NDArray[Any]:
    """An array of an .npz. Raises ValueError where its header says more than there is."""
    with archive.open(f"{name}.npy") as header:
        _check_header(header, named, archive.getinfo(f"{name}.npy").file_size)
    with archive.open(f"{name}.npy") as content:
        return np.lib.format.read_array(content, allow_pickle=False)


def _check_header(content: Any, named: str, size: int | None = None) -> None:
    """Raise UserError where an array says that it holds more bytes than follow; size: of the file, default: to its end.

    Room would be made for it else before anything is read. Where there is a place to go back to, it does.
    """
    begin = content.tell()
    version = np.lib.format.read_magic(content)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(content)
    if size is None:
        data, size = content.tell(), content.seek(0, io.SEEK_END)
        content.seek(begin)
    else:
        data = content.tell()
    if not kind.hasobject and math.prod(shape) * kind.itemsize > size - data:
        raise UserError(
            f"{named}: its header says {list(shape)} of {kind}, but only {size - data:,} bytes follow; save it anew"
        )


def _chosen(arrays: Sequence[str], column: str | None, named: str) -> str:
    known = ", ".join(arrays)
    if column is not None:
        if column not in arrays:
            raise UserError(f"data.column={column}: {named} has no such array; {nearest(column, arrays)}")
        return column
    found = [name for name in (IMAGES, EMBEDDINGS) if name in arrays]
    if len(found) == 2:
        raise UserError(f"{named}: has arrays of both images and embeddings; set data.column={IMAGES} or {EMBEDDINGS}")
    if not found:
        raise UserError(f"{named}: has neither an array '{IMAGES}' nor '{EMBEDDINGS}' (it has {known}); rename it, or "
                        "set data.column")  # fmt: skip
    return found[0]


def _text(values: npt.NDArray[Any], named: str) -> list[str]:
    if values.dtype.kind != "S":
        return [str(value) for value in values.tolist()]
    try:
        return [value.decode("utf-8") for value in values.tolist()]
    except UnicodeDecodeError as error:
        raise UserError(f"{named}: holds strings that are not UTF-8; save them as str") from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
