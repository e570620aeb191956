"""How image files become one array of pixels, and what is noticed on the way.

Of an image of several pages or frames the first is read, and they are counted. Grey is Pillow's "L" (ITU-R 601
weights), transparency is dropped, photographs are turned upright, resizing is bilinear and does not keep the aspect
ratio. Grey images of 16 bits keep the upper 8 of the bits that they use (`Format.bits`): a camera's 12 bits in a file
of 16 would be black otherwise.

All images are looked at, also behind one that cannot be read, so that a person learns of all of them at once.
N images, H height, W width, C channels.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from rambo_ray import limits
from rambo_ray.data import memory
from rambo_ray.data.formats import readable
from rambo_ray.data.images import Format, Pixels, Shape, describe
from rambo_ray.data.items import Integers
from rambo_ray.data.places import is_to_be_read
from rambo_ray.errors import UserError


@dataclass(frozen=True)
class Missing:
    """Stands for an image that is not there, and says why."""

    reason: str


Encoded = tuple[str, bytes | Path | Missing]
"""One image as stored: the name by which an error calls it, and its bytes or its file."""

BATCH = 1024
"""Encoded images held at a time."""

_TURNED = ("JPEG", "MPO", "WEBP", "HEIF", "AVIF")  # cameras store which way is up beside the pixels
_GREY_MODES = ("1", "L", "LA", "La")
_DEEP_GREY_MODES = ("I;16", "I;16B", "I;16L", "I;16N")
# Images below this many bytes cost mostly Python's time, and there threads only wait for each other:
# 60 000 PNGs of 28 pixels take 2.6 s on one thread, 4.5 s on two.
_BYTES_WORTH_A_THREAD = 8192
_NAMED = 10  # of the broken images


@dataclass(frozen=True)
class Broken:
    """An image that cannot be read: its position among those that were asked for, its name, what is wrong."""

    position: int
    name: str
    problem: str


@dataclass
class Seen:
    """What images were like as stored. sizes: (width, height); deep: the largest value in grey ones of 16 bits, -1
    where there was none; deep_colour: the largest upper byte in coloured ones of 16 bits; odd: the first image of
    another size or number of channels than the others, as an error; paged: images of several pages or frames."""

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    broken: list[Broken] = field(default_factory=list)
    deep: int = -1
    deep_colour: int = -1
    odd: UserError | None = None
    paged: int = 0

    def add(self, other: Seen) -> None:
        """Join what was seen of images that come after these."""
        self.sizes += other.sizes
        self.modes += other.modes
        self.broken += other.broken
        self.deep, self.deep_colour = max(self.deep, other.deep), max(self.deep_colour, other.deep_colour)
        self.odd, self.paged = self.odd or other.odd, self.paged + other.paged


@dataclass(frozen=True)
class Decoded:
    """pixels uint8 [n, H, W, C] of the n images that can be read; kept int64 [n]: where they were asked for."""

    pixels: Pixels
    kept: Integers
    seen: Seen


def decode(batches: Iterable[Sequence[Encoded]], count: int, wanted: Format) -> Pixels:
    """Decode `count` encoded images, which come in batches, into one array [count, H, W, C].

    Raises UserError that names the images that cannot be read, or the first that has another size.
    """
    found = decode_all(batches, count, wanted)
    if found.seen.broken:
        raise refusal(found.seen.broken, count)
    if found.seen.odd is not None:
        raise found.seen.odd
    return found.pixels


def decode_all(batches: Iterable[Sequence[Encoded]], count: int, wanted: Format, total: int | None = None) -> Decoded:
    """The same, but what is wrong with an image is noted and not raised.

    Its place is left out of the pixels, that of an image of another size not. total: how many images there are
    in all, whose pixels must fit into memory; default: `count`. Raises UserError where they do not.
    """
    pixels: Pixels | None = None
    like = wanted.like
    seen, start = Seen(), 0
    with ThreadPoolExecutor(limits.cpus()) as executor:
        for batch in batches:
            if pixels is None and (like := like or _first(batch, wanted, total or count)) is not None:
                memory.check(total or count, like[1], like[0], resized=wanted.image_size is not None)
                pixels = np.empty((count, *like[1]), np.uint8)
            if like is None or pixels is None:  # not one of them can be read
                seen.broken += [Broken(start + i, *_problem(*one, wanted)) for i, one in enumerate(batch)]
                start += len(batch)
                continue
            slots = pixels[start : start + len(batch)]
            first, start = start, start + len(batch)
            if isinstance(batch[0][1], bytes) and len(batch[0][1]) < _BYTES_WORTH_A_THREAD:
                seen.add(_fill(slots, batch, wanted, like, first))
                continue
            step = max(1, len(batch) // (4 * limits.cpus()))
            parts = [
                executor.submit(_fill, slots[i : i + step], batch[i : i + step], wanted, like, first + i)
                for i in range(0, len(batch), step)
            ]
            for part in parts:  # in order, so that what comes first is said first
                seen.add(part.result())
    if start != count:
        raise ValueError(f"{start} images came, not {count}")
    kept = np.delete(np.arange(count, dtype=np.int64), [one.position for one in seen.broken])
    if pixels is None:
        pixels = np.empty((count, 1, 1, 1), np.uint8)
    return Decoded(pixels if len(kept) == count else pixels[kept], kept, seen)


def decode_each(encoded: Sequence[Encoded], wanted: Format) -> tuple[Pixels, list[str | None], list[bool]]:
    """Decode images on one thread, noting of each what is wrong with it: pixels [n, H, W, C] of the shape of `like`.

    Then why it cannot be used, None where it can, and whether it can be read but is unlike the others. The pixels of
    an image that cannot be used are zeros.
    """
    assert wanted.like is not None
    pixels = np.zeros((len(encoded), *wanted.like[1]), np.uint8)
    errors: list[str | None] = [None] * len(encoded)
    unlike = [False] * len(encoded)
    seen = _fill(pixels, encoded, wanted, wanted.like, 0)
    if not (seen.broken or seen.odd is not None or seen.deep >= 2**wanted.bits):
        return pixels, errors, unlike
    for place, one in enumerate(encoded):  # one at a time, as only the first unlike the others is named
        pixels[place] = 0
        alone = _fill(pixels[place : place + 1], [one], wanted, wanted.like, 0)
        if alone.broken:
            errors[place] = f"{alone.broken[0].name}: {alone.broken[0].problem}"
        elif alone.odd is not None:
            errors[place], unlike[place] = str(alone.odd), True
        elif alone.deep >= 2**wanted.bits:
            errors[place], unlike[place] = f"{one[0]}: holds the value {alone.deep}, set data.bit_depth=16", True
        if errors[place] is not None:
            pixels[place] = 0
    return pixels, errors, unlike


def refusal(broken: Sequence[Broken], count: int) -> UserError:
    """What is said of `count` images of which these cannot be read: the first ten by name."""
    if len(broken) == 1:
        return UserError(f"{broken[0].name}: {broken[0].problem}")
    listed = ", ".join(one.name for one in broken[:_NAMED])
    more = f", and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
    return UserError(
        f"{len(broken)} of {count} images cannot be read: {listed}{more}; the first: {broken[0].problem} "
        "(data.on_error=skip goes without them)"
    )


def in_batches(encoded: Sequence[Encoded]) -> Iterator[Sequence[Encoded]]:
    """`encoded` in pieces of at most BATCH images, as `decode` takes them."""
    for start in range(0, len(encoded), BATCH):
        yield encoded[start : start + BATCH]


def reshape(pixels: Pixels, wanted: Format) -> Pixels:
    """Images [N, H, W, C] brought to `wanted` (its `like` is not looked at); unchanged where they fit."""
    count, height, width, channels = pixels.shape
    size = wanted.image_size
    if (size is None or height == width == size) and wanted.channels in (None, channels):
        return pixels
    memory.check(count, (size or height, size or width, wanted.channels or channels), resized=size is not None)
    flat = pixels[..., 0] if channels == 1 else pixels
    return np.stack([_array(_fit(Image.fromarray(image), wanted)) for image in flat])


def _first(batch: Sequence[Encoded], wanted: Format, count: int) -> tuple[str, Shape] | None:
    """Name and final shape of the first image of a batch that can be read; only its header is, where that says it."""
    for name, stored in batch:
        try:
            with _opened(stored) as image:
                channels = wanted.channels or (1 if image.mode in (*_GREY_MODES, *_DEEP_GREY_MODES, "I", "F") else 3)
                width, height = image.size
                if wanted.image_size is not None:
                    shape = (wanted.image_size, wanted.image_size, channels)
                    memory.check(count, shape, name, resized=True)
                elif image.format in _TURNED:
                    shape = _shape(_upright(image, wanted))
                else:
                    shape = (height, width, channels)
                image.load()
            return name, shape
        except UserError:
            raise
        except Exception:  # said where it is decoded
            continue
    return None


def _fill(slots: Pixels, encoded: Sequence[Encoded], wanted: Format, like: tuple[str, Shape], first: int) -> Seen:
    seen = Seen()
    for place, (slot, (name, stored)) in enumerate(zip(slots, encoded, strict=True), first):
        try:
            image = _decode_one(stored, wanted, seen)
        except Exception as error:  # a damaged file can fail anywhere in a reader, in any way
            seen.broken.append(Broken(place, name, _said(error)))
            continue
        if image.shape == like[1]:
            slot[...] = image
        elif seen.odd is None:
            seen.odd = UserError(
                f"{name}: {describe(_shape(image))}, but {like[0]} has {describe(like[1])}; "
                f"set {_remedy(_shape(image), like[1])}"
            )
    return seen


def _remedy(shape: Shape, like: Shape) -> str:
    keys = []
    if shape[:2] != like[:2]:
        keys.append(f"data.image_size={max(like[:2])} to resize all")
    if shape[2] != like[2]:
        keys.append(f"data.channels={like[2]} to convert all")
    return " and ".join(keys)


def _opened(stored: bytes | Path | Missing) -> Image.Image:
    if isinstance(stored, Missing):
        raise UserError(stored.reason)
    if isinstance(stored, Path):
        is_to_be_read(stored)
    return Image.open(io.BytesIO(stored) if isinstance(stored, bytes) else stored, formats=readable())


def _decode_one(stored: bytes | Path | Missing, wanted: Format, seen: Seen) -> Pixels:
    with _opened(stored) as image:
        size, mode = image.size, image.mode
        seen.paged += _pages(image) > 1
        deep = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
        array = _upright(image, wanted, seen, deep)
    seen.sizes[size] += 1
    seen.modes[f"{mode} of 16 bits" if deep and mode not in _DEEP_GREY_MODES else mode] += 1
    return array


def _pages(image: Image.Image) -> int:
    """Pages of a TIFF, frames of an animation; 1 where what follows the first is damaged, as that alone is read.

    What cameras put behind a photograph (MPO) is a smaller copy of it, or what a bright screen shows more of.
    """
    with suppress(Exception):  # a reader can fail anywhere behind the first page, in any way
        return 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))
    image.seek(0)
    return 1


def _upright(image: Image.Image, wanted: Format, seen: Seen | None = None, deep: bool = False) -> Pixels:
    if image.format in _TURNED:
        ImageOps.exif_transpose(image, in_place=True)
    return _array(_fit(image, wanted, seen, deep))


def _fit(image: Image.Image, wanted: Format, seen: Seen | None = None, deep: bool = False) -> Image.Image:
    if image.mode in _DEEP_GREY_MODES or (image.mode == "I" and image.format == "PNG"):  # "I": Pillow 10
        values = np.asarray(image)
        if seen is not None:
            seen.deep = max(seen.deep, int(values.max()))
        image = Image.fromarray(np.minimum(values >> (wanted.bits - 8), 255).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise UserError("pixels of 32 bits have no known range; convert it to 8 or 16 bits")
    elif deep and seen is not None:
        seen.deep_colour = max(seen.deep_colour, int(np.asarray(image.convert("RGB")).max()))
    channels = wanted.channels or (1 if image.mode in _GREY_MODES else 3)
    mode = "L" if channels == 1 else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    side = wanted.image_size
    if side is not None and image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.BILINEAR)
    return image


def _problem(name: str, stored: bytes | Path | Missing, wanted: Format) -> tuple[str, str]:
    """The name of an image that cannot be read, and why."""
    try:
        _decode_one(stored, wanted, Seen())
    except Exception as error:
        return name, _said(error)
    return name, "not a readable image"


def _said(error: Exception) -> str:
    return (
        str(error) if isinstance(error, UserError) else f"not a readable image ({_reason(error)}); replace or remove it"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "unknown format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, Image.DecompressionBombError):
        return f"its header says more pixels than the {2 * (Image.MAX_IMAGE_PIXELS or 0):,} that are read"
    return " ".join(str(error).split()) or type(error).__name__


def _array(image: Image.Image) -> Pixels:
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


def _shape(pixels: Pixels) -> Shape:
    return pixels.shape[0], pixels.shape[1], pixels.shape[2]
