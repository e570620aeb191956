"""Finished runs whose images lie in a folder, for the page that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .runs import finished

# An image of class c is of one colour, so that a test can see on the page which it is.
COLOURS = ((220, 40, 40), (40, 180, 60), (50, 80, 230))
CLASSES = ("cat", "dog", "Owl")


def colour(number: int) -> tuple[int, int, int]:
    """Of the image number `number`, the next of COLOURS."""
    return COLOURS[number % len(COLOURS)]


def of_colours(
    folder: Path, count: int, classes: Sequence[str] = CLASSES, ids: Sequence[str] | None = None, side: int = 28
) -> Path:
    """A finished run in `folder`/run that asks for `count` images of one colour each, in the pool `folder`/pool."""
    names = [f"deep/{number:03d}.png" for number in range(count)] if ids is None else list(ids)
    for number, name in enumerate(names):
        path = folder / "pool" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((side, side, 3), colour(number), np.uint8)).save(path, "PNG")
    own = [f"data.{part}={folder / part}" for part in ("labeled", "validation", "pool")]
    return finished(folder / "run", names, classes, ["data.name=own", *own])
