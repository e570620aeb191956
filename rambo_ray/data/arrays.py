"""What a caller's arrays, tensors and lists of pictures are: images, embeddings, classes.

What numbers mean is never guessed from their values. Of N items:

- uint8 [N, H, W, C], [N, C, H, W] or [N, H, W]: images, C = 1 (grey) or 3 (colour);
- floats of these shapes, all in [0, 1]: images, rounded to 255 levels;
- floats [N, D]: embeddings;
- a list of pictures (Pillow's), of encoded images (bytes), or of files of them (str or Path).

Anything else is refused, with what to do about it: a wrong guess would train a classifier on noise, and nobody
would see it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from rambo_ray.data.held import Content
from rambo_ray.data.labels import Labels, from_names, from_numbers
from rambo_ray.data.vectors import as_vectors
from rambo_ray.errors import UserError

_CHANNELS = (1, 3)


def content(x: object, what: str) -> Content:
    """Images or embeddings, from arrays, tensors, or lists of pictures, bytes, files or equal arrays.

    `what` is what a message calls them. Raises UserError, in one line, for whatever could mean two things or none.
    """
    array = as_array(x)
    if array is None:
        if not isinstance(x, Sequence) or isinstance(x, str | bytes):
            raise UserError(f"{what}: a {type(x).__name__}; give an array, a tensor, a list of pictures, or a dataset")
        return _of_list(x, what)
    if array.dtype == object:
        return _of_list(list(array), what)
    if array.ndim == 1 and array.dtype.kind in "US":
        return [Path(str(name)).expanduser() for name in array]
    if array.dtype.kind in "fiu" and array.ndim == 2:
        if array.dtype.kind != "f":
            raise UserError(
                f"{what}: {array.dtype} {array.shape}: images without their shape, or embeddings? Give images as "
                "x.reshape(N, H, W) or (N, H, W, 3), embeddings as x.astype('float32')"
            )
        return as_vectors(array, what)
    if array.ndim not in (3, 4):
        raise UserError(
            f"{what}: {array.dtype} {array.shape}: neither images [N, H, W] or [N, H, W, C] nor embeddings [N, D]; "
            "reshape it"
        )
    return _bytes(_channels_last(array, what), what)


def as_array(x: object) -> np.ndarray | None:
    """An array, a tensor, a data frame of numbers, or a list of numbers as an array; None for anything else."""
    if isinstance(x, np.ndarray):
        return x
    if hasattr(x, "detach") and hasattr(x, "cpu"):  # a tensor of torch's
        x = x.detach().cpu()
        return x.float().numpy() if "bfloat16" in str(x.dtype) else x.numpy()  # type: ignore[attr-defined]
    if hasattr(x, "toarray") and hasattr(x, "nnz"):  # scipy's sparse matrices
        return np.asarray(x.toarray())
    if not isinstance(x, list | tuple) and hasattr(x, "__array__") and not isinstance(x, Image.Image):
        return np.asarray(x)
    if isinstance(x, list | tuple) and len(x) and all(isinstance(row, int | float | list | tuple) for row in x):
        try:
            return np.asarray(x)
        except ValueError:  # rows of different lengths
            return None
    return None


def labels(y: object, class_names: Sequence[str] | None, what: str) -> Labels:
    """The classes of N items: integers that count from 0, or names; class_names: those that integers stand for.

    Raises UserError for anything else, such as floats, truth values, or a class beyond the names.
    """
    array = as_array(y)
    if array is None:  # numpy would turn 1 beside "a" into "1"
        array = np.array(y, object) if isinstance(y, list | tuple) else np.asarray(y)
    if array.ndim != 1:
        raise UserError(f"{what}: labels of shape {array.shape}; must be [N], one class each (of one-hot: y.argmax(1))")
    if array.dtype == object:
        wrong = next((row for row, value in enumerate(array) if not isinstance(value, str)), None)
        if wrong is None:
            array = array.astype(str)
        elif all(isinstance(value, int | np.integer) and not isinstance(value, bool) for value in array):
            array = array.astype(np.int64)
        else:
            raise UserError(f"{what}: label {array[wrong]!r} in row {wrong}; all must be integers, or all names")
    if array.dtype.kind in "US":
        names = [str(name) for name in array]
        if class_names is not None:
            return from_numbers_named(_positions(names, class_names, what), class_names, what)
        return from_names(names)
    if array.dtype.kind not in "iu":
        remedy = "give y.astype(int)" if array.dtype.kind in "fb" else "give integers or names"
        raise UserError(f"{what}: labels are {array.dtype}; must be integers from 0, or names: {remedy}")
    if len(array) and array.min() < 0:
        row = int(array.argmin())
        raise UserError(f"{what}: label {array[row]} in row {row}; classes count from 0")
    numbers = array.astype(np.int64)
    return from_numbers(numbers) if class_names is None else from_numbers_named(numbers, class_names, what)


def from_numbers_named(numbers: np.ndarray, class_names: Sequence[str], what: str) -> Labels:
    """Labels of these numbers [N], positions in `class_names`."""
    names = tuple(map(str, class_names))
    if len(set(names)) != len(names):
        raise UserError(f"{what}: class_names {list(names)}: must be distinct")
    if len(numbers) and numbers.max() >= len(names):
        raise UserError(f"{what}: label {numbers.max()} is beyond the {len(names)} class_names; correct either")
    return Labels(numbers.astype(np.int64), names, "declared")


def _positions(found: Sequence[str], class_names: Sequence[str], what: str) -> np.ndarray:
    place = {str(name): number for number, name in enumerate(class_names)}
    for row, name in enumerate(found):
        if name not in place:
            raise UserError(f"{what}: label '{name}' in row {row} is not among class_names; add it")
    return np.array([place[name] for name in found], np.int64)


def _of_list(x: Sequence[Any], what: str) -> Content:
    if not len(x):
        raise UserError(f"{what}: holds nothing; give at least one image or embedding")
    if all(isinstance(one, str | Path) for one in x):
        return [Path(one).expanduser() for one in x]
    if all(isinstance(one, bytes) for one in x):
        return list(x)
    if all(isinstance(one, Image.Image) for one in x):
        return _pictures(x, what)
    arrays = [as_array(one) for one in x]
    if all(array is not None and array.dtype.kind in "fiub" for array in arrays):
        return _stacked([array for array in arrays if array is not None], what)
    kinds = sorted({type(one).__name__ for one in x})
    raise UserError(
        f"{what}: a list of {', '.join(kinds)[:100]}; must be all pictures, all bytes, all files, or all arrays"
    )


def _stacked(arrays: Sequence[np.ndarray], what: str) -> Content:
    """Arrays of one item each: of one shape one array, images of several sizes as pictures."""
    if len({array.shape for array in arrays}) == 1:
        return content(np.stack(arrays), what)
    pictures = []
    for row, array in enumerate(arrays):
        one = f"{what}, image {row}"
        if array.ndim not in (2, 3):
            raise UserError(
                f"{one}: shape {array.shape}, others have {arrays[0].shape}; embeddings are all of one size"
            )
        pixels = _bytes(_channels_last(array[None], one), one)[0]
        pictures.append(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    return _pictures(pictures, what)


def _pictures(x: Sequence[Image.Image], what: str) -> Content:
    """Pictures of one size and mode as pixels; others as files would hold them, to be brought to one size later."""
    upright = [ImageOps.exif_transpose(one) for one in x]
    if len({(one.mode, one.size) for one in upright}) == 1 and upright[0].mode in ("L", "RGB"):
        pixels = np.stack([np.asarray(one) for one in upright])
        return pixels if pixels.ndim == 4 else pixels[..., None]
    encoded = []
    for row, one in enumerate(upright):
        if one.mode == "F":
            raise UserError(f"{what}, image {row}: pixels of 32 bits have no known range; convert it to 8 or 16 bits")
        file = io.BytesIO()
        plain = one if one.mode in ("1", "L", "LA", "RGB", "RGBA", "P", "I;16", "I") else one.convert("RGB")
        plain.save(file, "PNG", compress_level=1)
        encoded.append(file.getvalue())
    return encoded


def _channels_last(array: np.ndarray, what: str) -> np.ndarray:
    """[N, H, W] or [N, H, W, C] or [N, C, H, W] as [N, H, W, C], C = 1 or 3."""
    if array.ndim == 3:
        if array.shape[2] in (3, 4):
            raise UserError(
                f"{what}: {array.shape}: one colour image, or grey ones {array.shape[2]} pixels wide? Give x[None] for "
                "the first, x[..., None] for the second"
            )
        return array[..., None]
    first, last = array.shape[1] in _CHANNELS, array.shape[3] in _CHANNELS
    if first and last:
        raise UserError(
            f"{what}: {array.shape}: channels first or last? Give [N, H, W, C] with sides other than 1 and 3 pixels"
        )
    if last:
        return array
    if first:
        return np.moveaxis(array, 1, 3)
    if array.shape[3] == 4 or array.shape[1] == 4:
        kept = "x[..., :3]" if array.shape[3] == 4 else "x[:, :3]"
        raise UserError(f"{what}: {array.shape}: images have 1 or 3 channels; leave the transparency out: {kept}")
    raise UserError(f"{what}: {array.shape}: no axis of 1 or 3 channels; give images as [N, H, W, C]")


def _bytes(array: np.ndarray, what: str) -> np.ndarray:
    """Images of bytes, or of floats in [0, 1], as uint8."""
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind != "f":
        remedy = "(255 * x).astype('uint8')" if array.dtype.kind == "b" else "x.astype('uint8') where 255 is white"
        if array.dtype == np.uint16:
            remedy = "(x >> 8).astype('uint8') where 65535 is white, (x >> 4) of 12 bits"
        raise UserError(f"{what}: images of {array.dtype}; must be uint8, or floats in [0, 1]: give {remedy}")
    if not array.size:
        return array.astype(np.uint8)
    low, high = float(array.min()), float(array.max())
    if not 0 <= low <= high <= 1:  # also where there is a NaN
        if low != low:
            raise UserError(f"{what}: images hold numbers that are not finite; correct them")
        remedy = "they seem normalised: give them as they were before" if low < 0 else f"give x / {max(high, 1):g}"
        if low >= 0 and 1 < high <= 255:
            remedy = "give x / 255 or x.astype('uint8') where 255 is white" if high > 16 else f"give x / {high:g}"
        raise UserError(f"{what}: images of floats from {low:g} to {high:g}; must be in [0, 1]: {remedy}")
    return np.round(array * np.float64(255)).astype(np.uint8)
