"""The picked images as the report shows them, and what its pages are filled into.

A picture each, and how many there are of each class.

N images in the pool, B picked, K classes.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from PIL import Image

from rambo_ray.acquisition.greedy import Selection
from rambo_ray.data.images import Images
from rambo_ray.data.problem import NONE, Problem, Revealed

# The page stays below 3 MB whatever is picked: pictures end where they have used up their share.
MOST_BYTES = 1_200_000
TILE = 96  # pixels a picked image takes on the page, about
PHOTO = 64  # images with a longer side are photographs: shrunk, JPEG, drawn smoothly
PHOTO_PIXELS = 160
MOST_CLASSES = 30
NO_CLASS = "none"  # of the classes: what an annotator would say
NAME_LETTERS, ID_LETTERS, SHORT_ID_LETTERS = 60, 200, 28


@dataclass(frozen=True)
class Picture:
    """An image of the pool: its picture as a data URI, its size on the page in pixels, its id.

    source: "" of an embedding, which has no picture.
    """

    source: str
    width: int
    height: int
    smooth: bool
    id: str
    short_id: str

    @property
    def most_bytes(self) -> int:
        """What it takes on the page: its markup, its strings up to three times, a letter up to 5 when escaped."""
        return len(self.source) + 500 + 15 * len(self.id)


@dataclass(frozen=True)
class Tile(Picture):
    """A picture with its caption."""

    order: int
    step: int
    margin: float
    class_name: str | None


@dataclass(frozen=True)
class Bar:
    """A row of a bar chart; length and mark in percent of the longest bar, mark None where there is none."""

    name: str
    length: float
    value: str
    mark: float | None = None
    second: str = ""


def tiles(selection: Selection, problem: Problem, revealed: Revealed | None, count: int) -> Iterator[Tile]:
    """The first `count` picked images, fewer where their pictures would exceed MOST_BYTES."""
    left = MOST_BYTES
    for order, index in enumerate(selection.pool_index[:count].tolist()):
        name = None
        if revealed is not None:
            label = int(revealed.pool_labels[index])
            name = NO_CLASS if label == NONE else shortened(problem.class_names[label], NAME_LETTERS)
        seen = pool_picture(problem, index)
        left -= seen.most_bytes + 15 * len(name or "")
        if left < 0:
            return
        margin = float(selection.margin[order])
        yield Tile(**vars(seen), order=order, step=int(selection.step[order]), margin=margin, class_name=name)


def pool_picture(problem: Problem, index: int) -> Picture:
    """The pool's image at a position."""
    given = shortened(problem.pool.ids[index], ID_LETTERS)
    source, width, height, smooth = "", TILE, 0, False
    if isinstance(problem.pool, Images):
        source, width, height, smooth = picture(problem.pool.pixels[index])
    return Picture(source, width, height, smooth, given, shortened(given, SHORT_ID_LETTERS))


def picture(pixels: np.ndarray) -> tuple[str, int, int, bool]:
    """An image uint8 [H, W, C] as a data URI, its width and height on the page, whether to draw it smoothly.

    A small image is stored as it is and drawn by a whole number of screen pixels per pixel.
    """
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    longest = max(height, width)
    file = io.BytesIO()
    if longest <= PHOTO:
        image.save(file, "PNG", optimize=True)
        scale = max(1, round(TILE / longest))
        return data_uri(file.getvalue(), "png"), width * scale, height * scale, False
    image.thumbnail((PHOTO_PIXELS, PHOTO_PIXELS), Image.Resampling.LANCZOS)
    image.save(file, "JPEG", quality=80, optimize=True)
    wide, high = (max(1, round(TILE * side / longest)) for side in (width, height))
    return data_uri(file.getvalue(), "jpeg"), wide, high, True


def class_bars(selection: Selection, problem: Problem, revealed: Revealed | None) -> list[Bar]:
    """How many picked images are of each class; the mark is where the bar would end were they like the pool.

    Empty where labels are not known. Of many classes the most picked ones, and the rest in one row.
    """
    if revealed is None:
        return []
    names, labels = list(problem.class_names), revealed.pool_labels
    if (labels == NONE).any():
        names, labels = [*names, NO_CLASS], np.where(labels == NONE, len(names), labels)
    picked = np.bincount(labels[selection.pool_index], minlength=len(names))
    pool = np.bincount(labels, minlength=len(names)) / max(1, len(labels))
    expected = pool * picked.sum()
    by_count = np.argsort(-picked, kind="stable")
    shown, rest = (np.arange(len(names)), by_count[:0])
    if len(names) > MOST_CLASSES:
        shown, rest = by_count[:MOST_CLASSES], by_count[MOST_CLASSES:]
    longest = max(float(picked[shown].max()), float(expected[shown].max()), 1.0)
    bars = [
        Bar(
            shortened(names[c], NAME_LETTERS),
            length=round(100 * float(picked[c]) / longest, 2),
            value=f"{picked[c]:,}",
            mark=round(100 * float(expected[c]) / longest, 2),
            second=_percent(float(pool[c])),
        )
        for c in shown
    ]
    if len(rest):
        others = f"{picked[rest].sum():,}"
        bars.append(Bar(f"{len(rest):,} other classes", 0.0, others, None, _percent(float(pool[rest].sum()))))
    return bars


def shortened(text: str, letters: int) -> str:
    """`text` with its middle left out where it is longer; names of files differ at their ends."""
    if len(text) <= letters:
        return text
    head = letters // 3
    return f"{text[:head]}…{text[len(text) - (letters - head - 1) :]}"


def data_uri(data: bytes, kind: str) -> str:
    """The bytes of a picture ("png", "jpeg") as the address of an <img> that needs no file."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def template(name: str) -> Template:
    """A page of `templates/`; what is put into it is escaped, and a name that it lacks is an error."""
    environment = Environment(
        loader=PackageLoader("rambo_ray.report", "templates"),
        autoescape=True,  # for every template: the names here do not end in .html
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["decimals"] = _decimals
    return environment.get_template(name)


def _decimals(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"
