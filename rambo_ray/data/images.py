"""Images in memory; `rambo_ray.data.decoding` makes them of files.

Every image of a run has the same height, width and number of channels, so a set of N images is one
array of bytes: N x H x W x C, C = 1 (grey) or 3 (red, green, blue). It is scaled and normalised
only where a network needs it, because bytes take a quarter of the memory and hash the same
everywhere.

N images, H height, W width, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from rambo_ray.data.items import Integers, Items, checked, checked_labels

Pixels = npt.NDArray[np.uint8]
Shape = tuple[int, int, int]


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

    def unlabeled(self) -> Images:
        """The same images without labels; the pixels are shared, not copied."""
        return self.as_hashed(Images(self.pixels, self.ids))


@dataclass(frozen=True, eq=False)
class LabeledImages(Images):
    """Images and the class of each: `labels` is int64 [N], 0 or more. Raises ValueError otherwise."""

    labels: Integers

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "labels", checked_labels(self.labels, len(self.ids)))


@dataclass(frozen=True)
class Format:
    """What images must be brought to.

    `image_size`: side in pixels of the square to resize to; `channels`: 1 or 3. None leaves the
    images as stored, and then they must all agree: with each other and, where `like` gives the name
    and shape of an image read earlier, with that one. `bits`: how many of the 16 bits of deep grey images they use.
    """

    image_size: int | None = None
    channels: int | None = None
    like: tuple[str, Shape] | None = field(default=None, kw_only=True)
    bits: int = field(default=16, kw_only=True)


def describe(shape: Shape) -> str:
    """H, W, C as a user says it: "28x32 pixels, 1 channel" (width first)."""
    height, width, channels = shape
    return f"{width}x{height} pixels, {channels} channel{'s' if channels > 1 else ''}"
