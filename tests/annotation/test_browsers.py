"""What a browser is given of an image file."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rambo_ray.annotation.browsers import LARGEST, shown
from rambo_ray.errors import UserError


def encoded(array: np.ndarray, kind: str, **how: Any) -> bytes:
    """An image file."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **how)
    return file.getvalue()


def decoded(content: bytes) -> np.ndarray:
    """Its pixels."""
    return np.asarray(Image.open(io.BytesIO(content)))


PIXELS = np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3)


@pytest.mark.parametrize(
    ("kind", "media"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("GIF", "image/gif"), ("WEBP", "image/webp")]
)
def test_what_browsers_know_is_passed_on_as_it_is(kind: str, media: str) -> None:
    content = encoded(PIXELS, kind)
    assert shown(content) == (content, media)


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "PPM"])
def test_other_formats_become_png(kind: str) -> None:
    content, media = shown(encoded(PIXELS, kind))
    assert media == "image/png"
    np.testing.assert_array_equal(decoded(content), PIXELS)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_twelve_bits_in_sixteen_are_not_black(kind: str) -> None:
    deep = np.array([[100, 1100], [2100, 4095]], np.uint16)
    content, media = shown(encoded(deep, kind))
    assert media == "image/png"
    np.testing.assert_array_equal(decoded(content), [[0, 64], [128, 255]])


def test_deep_grey_of_one_level_is_no_error() -> None:
    np.testing.assert_array_equal(decoded(shown(encoded(np.full((2, 2), 7, np.uint16), "TIFF"))[0]), 0)


def test_a_photograph_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    content, _ = shown(encoded(PIXELS, "TIFF", exif=exif))
    np.testing.assert_array_equal(decoded(content), np.rot90(PIXELS, -1))


def test_print_colours_become_those_of_a_screen() -> None:
    file = io.BytesIO()
    Image.new("CMYK", (2, 2), (0, 255, 255, 0)).save(file, "TIFF")
    assert decoded(shown(file.getvalue())[0])[0, 0].tolist() == [255, 0, 0]


def test_what_is_larger_than_any_screen_becomes_smaller() -> None:
    assert decoded(shown(encoded(np.zeros((2, LARGEST + 96), np.uint8), "BMP"))[0]).shape[1] == LARGEST


@pytest.mark.parametrize(
    "content", [b"", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", b"<html>", b"BM12"]
)
def test_what_is_no_image_is_refused(content: bytes) -> None:
    with pytest.raises(UserError, match="not a readable image"):
        shown(content)
