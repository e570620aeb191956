"""Copies in a pool: the same image several times, exactly or nearly, of which one is worth buying.

Two images are exact copies where their pixels are equal, two vectors where their numbers are. Near-copies are told by
a perceptual hash, or by the angle between embeddings: an image is one where an earlier image of the pool that stays is
within a distance. So the first of a group stays, in the order of the pool.

Letters: N images in the pool, n of them that stay, D numbers in a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Close = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Which of the second are close to which of the first, [a, b] bool."""

BITS = 63  # of a perceptual hash
_SIDE, _LOW = 32, 8  # pixels of the square that is hashed, and frequencies of either direction that count
_BLOCK = 512  # images compared at once with all that stay
_IMAGES = 2048  # images hashed at once


@dataclass(frozen=True, eq=False)
class Copies:
    """Who stands for whom in a pool where copies are bought once.

    of int64 [N]: the position of the image that stands for each, its own where it stays; exact: how many of those that
    do not are exact copies; fingerprint: the `Problem.pool_fingerprint` of the pool they were found in.
    """

    of: np.ndarray
    exact: int
    fingerprint: str = ""

    @cached_property
    def kept(self) -> np.ndarray:
        """Positions [n] of those that stay, in order."""
        return np.flatnonzero(self.of == np.arange(len(self.of)))

    @property
    def near(self) -> int:
        """Images that are left out and no exact copies."""
        return len(self.of) - len(self.kept) - self.exact

    @property
    def copied(self) -> int:
        """Images that stand for others, too."""
        return int((np.bincount(self.of, minlength=len(self.of)) > 1).sum())

    def then(self, of: np.ndarray) -> Copies:
        """These and near-copies among those that stay; of [n]: who stands for each of them, as a place among them."""
        place = np.zeros(len(self.of), dtype=np.int64)
        place[self.kept] = np.arange(len(self.kept))
        return Copies(self.kept[of[place[self.of]]], self.exact, self.fingerprint)

    def counted(self) -> str:
        """How many copies of how many images, in words."""
        counts = [(self.exact, "exact"), (self.near, "near")]
        said = " and ".join(f"{count:,} {kind}" for count, kind in counts if count)
        copies = "copy" if self.exact + self.near == 1 else "copies"
        images = "image" if self.copied == 1 else "images"
        return f"{said} {copies} of {self.copied:,} {images}"

    def sentence(self) -> str:
        """The counts of a pool's in words."""
        return f"{self.counted()} in the pool: each is bought once"


def exact(digests: Sequence[bytes]) -> Copies:
    """Among images by the hashes [N] of their content."""
    first: dict[bytes, int] = {}
    of = np.array([first.setdefault(digest, position) for position, digest in enumerate(digests)], dtype=np.int64)
    return Copies(of, len(of) - len(first))


def nothing(count: int) -> Copies:
    """Of `count` images that all stay."""
    return Copies(np.arange(count), 0)


def near_by_hash(hashes: np.ndarray, distance: int) -> np.ndarray:
    """Who stands for each image, int64 [N], by perceptual hashes bool [N, BITS]: within `distance` bits that differ."""
    return _stand_for(*_of_hashes(hashes, distance))


def near_by_angle(vectors: np.ndarray, distance: float) -> np.ndarray:
    """Who stands for each vector, int64 [N]: within a cosine distance, 1 less the cosine, of vectors float32 [N, D].

    A vector of zeros has no direction and is near to none.
    """
    return _stand_for(*_of_angles(vectors, distance))


def groups_by_hash(hashes: np.ndarray, distance: int) -> np.ndarray:
    """The first of each image's group, int64 [N], where images within `distance` bits are of one group.

    So are all that a chain of such images joins: the first and the last of it may differ by more. See `near_by_hash`.
    """
    return _joined(*_of_hashes(hashes, distance))


def groups_by_angle(vectors: np.ndarray, distance: float) -> np.ndarray:
    """The same of vectors float32 [N, D] within a cosine distance."""
    return _joined(*_of_angles(vectors, distance))


def perceptual_hashes(pixels: np.ndarray) -> np.ndarray:
    """Hashes bool [N, BITS] of images uint8 [N, H, W, C], of which few bits differ between images that look alike.

    Of the image's brightness on a square of 32 pixels the 63 lowest frequencies beside the mean (by a discrete cosine
    transform), and of each whether it is above their median (pHash; Zauner 2010).
    """
    hashes = np.zeros((len(pixels), BITS), dtype=bool)
    for start in range(0, len(pixels), _IMAGES):
        squares = np.stack([_square(image) for image in pixels[start : start + _IMAGES]])
        low = dctn(squares, axes=(1, 2), norm="ortho")[:, :_LOW, :_LOW].reshape(len(squares), -1)[:, 1:]
        low = np.where(np.abs(low) < 1e-9, 0.0, low)  # what rounding has left of nothing
        hashes[start : start + len(squares)] = low > np.median(low, axis=1, keepdims=True)
    return hashes


def _square(image: np.ndarray) -> np.ndarray:
    """Brightness of an image [H, W, C] on a square, float64."""
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).convert("L")
    return np.asarray(picture.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR), dtype=np.float64)


def _of_hashes(hashes: np.ndarray, distance: int) -> tuple[np.ndarray, Close]:
    """What is compared of hashes bool [N, BITS], and how."""
    signs = np.where(hashes, 1.0, -1.0).astype(np.float32)  # products of signs count bits, exactly
    return signs, lambda some, others: some @ others.T >= BITS - 2 * distance


def _of_angles(vectors: np.ndarray, distance: float) -> tuple[np.ndarray, Close]:
    """The same of vectors float32 [N, D]."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    directions = np.divide(vectors, lengths, out=np.zeros(vectors.shape), where=lengths > 0).astype(np.float32)
    return directions, lambda some, others: some @ others.T >= 1.0 - distance


def _joined(items: np.ndarray, close: Close) -> np.ndarray:
    """The first of the connected component of each of items [N, ...], where neighbours are close; int64 [N]."""
    pairs = [np.zeros((0, 2), dtype=np.int64)]
    for start in range(0, len(items), _BLOCK):
        block, offset = items[start : start + _BLOCK], np.array([[start, start]])
        pairs.append(np.argwhere(close(block, items[start:])) + offset)
    found = np.concatenate(pairs)
    graph = coo_array((np.ones(len(found), dtype=bool), (found[:, 0], found[:, 1])), shape=(len(items),) * 2)
    _, component = connected_components(graph, directed=False)
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    groups: np.ndarray = first[inverse]
    return groups


def _stand_for(items: np.ndarray, close: Close) -> np.ndarray:
    """Who stands for each of items [N, ...]: the first earlier one that stays and is close, else itself; int64 [N].

    Items are compared with all that stay, a
    block at a time.
    """
    of, kept = np.arange(len(items)), np.zeros(0, dtype=np.int64)
    for start in range(0, len(items), _BLOCK):
        block = items[start : start + _BLOCK]
        if len(kept):
            found = close(block, items[kept])
            of[start : start + len(block)] = np.where(
                found.any(axis=1), kept[found.argmax(axis=1)], of[start : start + len(block)]
            )
        inside = close(block, block)
        for place in range(len(block)):
            if of[start + place] != start + place:
                continue
            for other in np.flatnonzero(inside[:place, place]) + start:
                if of[other] == other:
                    of[start + place] = other
                    break
        own = np.arange(start, start + len(block))
        kept = np.concatenate([kept, own[of[own] == own]])
    return of
