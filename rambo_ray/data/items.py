"""What images and vectors have in common: N things with ids, and the array of numbers that f or its network sees.

The selection looks at S_0, S_val and the pool through this only, so that it does not care whether they are
pictures or embeddings that somebody has computed already, of whatever modality.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

Integers = npt.NDArray[np.int64]
_BYTES, _HASHES = 16, "_hashes"  # of a hash, and where they are kept
_Same = TypeVar("_Same", bound="Items")


class Items(ABC):
    """N things and the names by which their owner knows them.

    `ids` holds N distinct strings; `array` has a row for each, C-contiguous and read-only.
    """

    ids: tuple[str, ...]

    @property
    @abstractmethod
    def array(self) -> npt.NDArray[Any]:
        """A row for each: pixels uint8 [N, H, W, C], or vectors float32 [N, D]."""

    @property
    @abstractmethod
    def described(self) -> str:
        """What one of them is, in a user's words: "28x32 pixels, 1 channel", "512 numbers"."""

    def take(self, positions: npt.ArrayLike) -> Self:
        """Those at integer `positions`, with their labels if they have any, in that order, copied.

        Raises IndexError beyond N.
        """
        chosen = as_positions(positions)
        ids = tuple(self.ids[i] for i in chosen)
        labels = getattr(self, "labels", None)
        if labels is None:
            made = type(self)(self.array[chosen], ids)  # type: ignore[call-arg]  # each kind is a dataclass of these
        else:
            made = type(self)(self.array[chosen], ids, labels[chosen])  # type: ignore[call-arg]
        if _HASHES in self.__dict__:
            made.__dict__[_HASHES] = b"".join([self._hash(i) for i in chosen])
        return made

    @abstractmethod
    def unlabeled(self) -> Items:
        """The same without labels; the array is shared, not copied."""

    def __len__(self) -> int:
        return len(self.ids)

    def digests(self) -> list[bytes]:
        """A 16-byte hash of each one's numbers; equal where, and only where, these are. Computed once."""
        return [self._hash(place) for place in range(len(self))]

    def as_hashed(self, made: _Same) -> _Same:
        """`made`, which holds the same array, with the hashes of these, where they are known already."""
        if _HASHES in self.__dict__:
            made.__dict__[_HASHES] = self.__dict__[_HASHES]
        return made

    def _hash(self, place: int) -> bytes:
        return self._hashes[_BYTES * place : _BYTES * (place + 1)]

    @cached_property
    def _hashes(self) -> bytes:
        """All of them, one after the other: a bytes object each would take three times the memory."""
        return b"".join([hashlib.blake2b(row, digest_size=_BYTES).digest() for row in self.array])

    def __getstate__(self) -> dict[str, Any]:
        """What travels to other processes: all but what they can compute."""
        return {name: value for name, value in self.__dict__.items() if name != _HASHES}


def checked(array: npt.NDArray[Any], ids: tuple[str, ...], what: str, each: str) -> npt.NDArray[Any]:
    """`array` [N, ...] as a read-only view, where it and its `ids` are fit to be items; ValueError otherwise."""
    if not array.flags.c_contiguous:
        raise ValueError(f"{what} are not C-contiguous; pass numpy.ascontiguousarray({what})")
    if not isinstance(ids, tuple) or len(ids) != len(array):
        raise ValueError(f"ids must be a tuple of {len(array)} strings, one per {each}")
    if len(set(ids)) != len(ids):
        raise ValueError(f"id {first_repeated(ids)!r} occurs twice; ids must be distinct")
    # On a cluster the array lies in shared memory, where a write would reach every process.
    return read_only(array)


def checked_labels(labels: Integers, count: int) -> Integers:
    """`labels` as a read-only view, where they are int64 [count], 0 or more; ValueError otherwise."""
    if labels.dtype != np.int64 or labels.shape != (count,):
        raise ValueError(f"labels are {labels.dtype} {labels.shape}; must be int64 [{count}]")
    if len(labels) and labels.min() < 0:
        raise ValueError(f"label {labels.min()} is negative; labels are classes, counted from 0")
    return read_only(labels)


def as_positions(positions: npt.ArrayLike) -> Integers:
    """`positions` as int64 [n]; ValueError for anything but integers in one dimension."""
    array = np.asarray(positions)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"positions are {array.dtype} {array.shape}; must be integers [n]")
    return array.astype(np.int64)


def first_repeated(names: Sequence[str]) -> str | None:
    """The first of `names` that stood there before; None where all differ."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A view of `array` that cannot be written through."""
    view = array.view()
    view.flags.writeable = False
    return view
