"""Formats of image files that are read, where there is a reader for them."""

from __future__ import annotations

import warnings
from contextlib import suppress
from functools import cache

from PIL import Image

# Raster formats only: some of Pillow's other readers start external programs. HEIF is that of pillow-heif.
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF")


@cache
def readable() -> tuple[str, ...]:
    """The formats among ours that there is a reader for: HEIF only with pillow-heif."""
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    Image.init()
    # Of half the pixels of what is refused; whether they fit into memory is checked apart.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    return tuple(name for name in _FORMATS if name in Image.OPEN)
