"""Images in memory, and how files become them.

Every image of a run has the same height, width and number of channels, so a set of N images is one
array of bytes: N x H x W x C, C = 1 (grey) or 3 (red, green, blue). It is scaled and normalised
only where a network needs it, because bytes take a quarter of the memory and hash the same
everywhere.

N images, H height, W width, C channels.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError
from typing_extensions import Self

from rambo_ray.data.items import Integers, Items, as_positions, checked, checked_labels
from rambo_ray.errors import UserError

Pixels = npt.NDArray[np.uint8]
Shape = tuple[int, int, int]
Encoded = tuple[str, bytes | Path]
"""One image as stored: the name by which an error calls it, and its bytes or its file."""

BATCH = 1024
"""Encoded images held at a time."""

# Raster formats only: some of Pillow's other readers start external programs.
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM")
_GREY_MODES = ("1", "L", "LA", "La")
_DEEP_GREY_MODES = ("I;16", "I;16B", "I;16L", "I;16N")
# Images below this many bytes cost mostly Python's time, and there threads only wait for each other:
# 60 000 PNGs of 28 pixels take 2.6 s on one thread, 4.5 s on two.
_BYTES_WORTH_A_THREAD = 8192


@dataclass(frozen=True, eq=False)
class Images(Items):
    """N images and the names by which their owner knows them.

    `pixels` is uint8 [N, H, W, C], C-contiguous, and read-only from here on; `ids` holds N distinct
    strings. Raises ValueError for anything else.
    """

    pixels: Pixels
    ids: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4:
            found = f"{self.pixels.dtype} {self.pixels.shape}"
            raise ValueError(f"pixels are {found}; must be uint8 [N, H, W, C]")
        if self.pixels.shape[3] not in (1, 3):
            raise ValueError(f"pixels have {self.pixels.shape[3]} channels; must be 1 or 3")
        object.__setattr__(self, "pixels", checked(self.pixels, self.ids, "pixels", "image"))

    @property
    def array(self) -> npt.NDArray[Any]:
        return self.pixels

    @property
    def shape(self) -> Shape:
        """H, W, C of every image."""
        _, height, width, channels = self.pixels.shape
        return height, width, channels

    @property
    def described(self) -> str:
        return describe(self.shape)

    def take(self, positions: npt.ArrayLike) -> Self:
        """The images at integer `positions`, in that order, copied. Raises IndexError beyond N."""
        chosen = as_positions(positions)
        return type(self)(self.pixels[chosen], tuple(self.ids[i] for i in chosen))

    def unlabeled(self) -> Images:
        """The same images without labels; the pixels are shared, not copied."""
        return Images(self.pixels, self.ids)


@dataclass(frozen=True, eq=False)
class LabeledImages(Images):
    """Images and the class of each: `labels` is int64 [N], 0 or more. Raises ValueError otherwise."""

    labels: Integers

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "labels", checked_labels(self.labels, len(self.ids)))

    def take(self, positions: npt.ArrayLike) -> Self:
        """The images at integer `positions` with their labels, in that order, copied."""
        chosen = as_positions(positions)
        return type(self)(self.pixels[chosen], tuple(self.ids[i] for i in chosen), self.labels[chosen])


@dataclass(frozen=True)
class Format:
    """What images must be brought to.

    `image_size`: side in pixels of the square to resize to; `channels`: 1 or 3. None leaves the
    images as stored, and then they must all agree: with each other and, where `like` gives the name
    and shape of an image read earlier, with that one.
    """

    image_size: int | None = None
    channels: int | None = None
    like: tuple[str, Shape] | None = field(default=None, kw_only=True)


def decode(batches: Iterable[Sequence[Encoded]], count: int, wanted: Format) -> Pixels:
    """Decode `count` encoded images, which come in batches, into one array [count, H, W, C].

    Grey is Pillow's "L" (ITU-R 601 weights), 16-bit grey keeps its upper 8 bits, transparency is
    dropped, photographs are turned upright, resizing is bilinear and does not keep the aspect
    ratio. Raises UserError that names the first image that cannot be read or has another size.
    """
    pixels: Pixels | None = None
    like = wanted.like
    start = 0
    with ThreadPoolExecutor(_threads()) as executor:
        for batch in batches:
            if pixels is None:
                name, stored = batch[0]
                first = _decode_one(name, stored, wanted)
                like = like or (name, _shape(first))
                pixels = np.empty((count, *like[1]), np.uint8)
            assert like is not None
            slots = pixels[start : start + len(batch)]
            start += len(batch)
            if isinstance(batch[0][1], bytes) and len(batch[0][1]) < _BYTES_WORTH_A_THREAD:
                _fill(slots, batch, wanted, like)
                continue
            step = max(1, len(batch) // (4 * _threads()))
            parts = [
                executor.submit(_fill, slots[i : i + step], batch[i : i + step], wanted, like)
                for i in range(0, len(batch), step)
            ]
            for part in parts:  # in order, so that the first bad image is the one reported
                part.result()
    if pixels is None or start != count:
        raise ValueError(f"{start} images came, not {count}")
    return pixels


def reshape(pixels: Pixels, wanted: Format) -> Pixels:
    """Images [N, H, W, C] brought to `wanted` (its `like` is not looked at); unchanged where they fit."""
    _, height, width, channels = pixels.shape
    size = wanted.image_size
    if (size is None or height == width == size) and wanted.channels in (None, channels):
        return pixels
    flat = pixels[..., 0] if channels == 1 else pixels
    return np.stack([_array(_fit(Image.fromarray(image), wanted)) for image in flat])


def in_batches(encoded: Sequence[Encoded]) -> Iterator[Sequence[Encoded]]:
    """`encoded` in pieces of at most BATCH images, as `decode` takes them."""
    for start in range(0, len(encoded), BATCH):
        yield encoded[start : start + BATCH]


def describe(shape: Shape) -> str:
    """H, W, C as a user says it: "28x32 pixels, 1 channel" (width first)."""
    height, width, channels = shape
    return f"{width}x{height} pixels, {channels} channel{'s' if channels > 1 else ''}"


def _fill(slots: Pixels, encoded: Sequence[Encoded], wanted: Format, like: tuple[str, Shape]) -> None:
    for slot, (name, stored) in zip(slots, encoded, strict=True):
        image = _decode_one(name, stored, wanted)
        if image.shape != like[1]:
            raise UserError(
                f"{name}: {describe(_shape(image))}, but {like[0]} has {describe(like[1])}; "
                f"set {_remedy(_shape(image), like[1])}"
            )
        slot[...] = image


def _remedy(shape: Shape, like: Shape) -> str:
    keys = []
    if shape[:2] != like[:2]:
        keys.append(f"data.image_size={max(like[:2])} to resize all")
    if shape[2] != like[2]:
        keys.append(f"data.channels={like[2]} to convert all")
    return " and ".join(keys)


def _decode_one(name: str, stored: bytes | Path, wanted: Format) -> Pixels:
    file = io.BytesIO(stored) if isinstance(stored, bytes) else stored
    try:
        with Image.open(file, formats=_FORMATS) as image:
            if image.format in ("JPEG", "MPO", "WEBP"):  # cameras store which way is up beside the pixels
                ImageOps.exif_transpose(image, in_place=True)
            return _array(_fit(image, wanted))
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    except Exception as error:  # a damaged file can fail anywhere in a reader, in any way
        raise UserError(f"{name}: not a readable image ({_reason(error)}); replace or remove it") from error


def _fit(image: Image.Image, wanted: Format) -> Image.Image:
    if image.mode in _DEEP_GREY_MODES or (image.mode == "I" and image.format == "PNG"):  # "I": Pillow 10
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise UserError("pixels of 32 bits have no known range; convert it to 8 or 16 bits")
    channels = wanted.channels or (1 if image.mode in _GREY_MODES else 3)
    mode = "L" if channels == 1 else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    side = wanted.image_size
    if side is not None and image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.BILINEAR)
    return image


def _array(image: Image.Image) -> Pixels:
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


def _shape(pixels: Pixels) -> Shape:
    height, width, channels = pixels.shape
    return height, width, channels


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "unknown format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _threads() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
