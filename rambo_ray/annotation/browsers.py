"""Image files as a browser can show them: as they are where it knows the format, else as PNG."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

from rambo_ray.data.formats import readable
from rambo_ray.errors import UserError

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_BITS = 24
"""Where in a PNG file its bits per sample stand."""

LARGEST = 4096
"""Sides of what has to be written anew, in pixels: no screen shows more."""


def shown(content: bytes) -> tuple[bytes, str]:
    """An image file's content and its media type, for a page; judged by the content and not by a name.

    Grey of more than 8 bits is spread over what a screen can show: 12 bits in a file of 16 would be black.
    Raises UserError where no image can be made of it.
    """
    kind = _kind(content)
    if kind is not None:
        return content, kind
    try:
        with Image.open(io.BytesIO(content), formats=readable()) as opened:
            image: Image.Image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I") or image.mode == "F":
                image = _spread(image)
            elif image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
                image = image.convert("RGB")
            image.thumbnail((LARGEST, LARGEST))
            file = io.BytesIO()
            image.save(file, "PNG", compress_level=1)
    except Exception as error:  # a damaged file can fail anywhere in a reader, in any way
        reason = " ".join(str(error).split()) or type(error).__name__
        if "cannot identify" in reason:
            reason = f"of no format that can be read here; it begins with {content[:12]!r}"
        raise UserError(f"not a readable image: {reason[:200]}") from error
    return file.getvalue(), "image/png"


def _kind(content: bytes) -> str | None:
    """The media type of what every browser shows rightly; None for all else."""
    if content.startswith(_PNG):
        return "image/png" if content[_PNG_BITS : _PNG_BITS + 1] <= b"\x08" else None
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    if content[4:12] in (b"ftypavif", b"ftypavis"):
        return "image/avif"
    return None


def _spread(image: Image.Image) -> Image.Image:
    """Deep grey as 8 bits: its darkest pixel black, its brightest white."""
    values = np.asarray(image).astype(np.float64)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    scaled = (values - low) * (255 / (high - low) if high > low else 0)
    return Image.fromarray(np.nan_to_num(scaled).round().astype(np.uint8))
