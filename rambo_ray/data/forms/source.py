"""What a set of images or embeddings is to the rest of the package, whatever form it lies in.

A source knows how many there are, their ids and labels, and gives the images as stored or the numbers. It reads no
more than it is asked for: the labels that may lie beside a pool are never looked at.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rambo_ray.config.schema import DataConfig
from rambo_ray.data import names
from rambo_ray.data.decoding import Encoded
from rambo_ray.data.labels import Labels
from rambo_ray.errors import UserError, nearest

Content = Literal["images", "pixels", "embeddings"]
"""images: encoded files; pixels: uint8 arrays; embeddings: numbers [N, D]."""


@dataclass(frozen=True)
class Columns:
    """Which columns or arrays hold what, where the owner says so; None: those of the usual names."""

    content: str | None = None
    label: str | None = None
    id: str | None = None

    @classmethod
    def of(cls, data: DataConfig) -> Columns:
        """Those that the configuration names."""
        return cls(data.column, data.label_column, data.id_column)

    def check(self, named: str, there: Sequence[str]) -> None:
        """Raise UserError where the ids' column is not among those that are there; the labels' is checked when read."""
        if self.id is not None and self.id not in there:
            raise missing("id_column", self.id, named, there)

    def label_in(self, named: str, there: Sequence[str], usual: str, what: str = "column") -> str:
        """The labels' column. Raises UserError where it is not there."""
        if self.label is not None and self.label not in there:
            raise missing("label_column", self.label, named, there)
        if self.label is None and usual not in there:
            raise UserError(
                f"{named}: has no {what} '{usual}', which holds the classes (it has: {', '.join(there)}); set "
                "data.label_column to the one that does"
            )
        return self.label or usual


def missing(key: str, value: str, named: str, there: Sequence[str]) -> UserError:
    """What is said of a column that a key names and that is not there."""
    hint = nearest(value, there)
    hint = f"; {hint}" if hint.startswith("did") else ""
    return UserError(f"data.{key}={value}: {named} has no such column (it has: {', '.join(there)}){hint}")


class Source(ABC):
    """N images or embeddings of one of the three sets.

    named: what an error calls it, such as "data.pool=photos"; form: what it is, in a person's words; skipped: files
    that were passed over, by kind; unreadable: of images that cannot be read here for want of a library, by kind.
    """

    form: str
    content: Content = "images"

    def __init__(self, named: str) -> None:
        self.named = named
        self.skipped: Counter[str] = Counter()
        self.unreadable: Counter[str] = Counter()

    @abstractmethod
    def __len__(self) -> int:
        """N."""

    def ids(self) -> tuple[str, ...]:
        """Distinct names [N]. Raises UserError for ids that repeat themselves, and such as `names.check` refuses."""
        found = self.stored_ids()
        names.check(found, self.named)
        return found

    @abstractmethod
    def stored_ids(self) -> tuple[str, ...]:
        """The same, whatever they hold."""

    @property
    def ids_are_shared(self) -> bool:
        """Whether the same id in another set means the same thing: its owner gave it, and it is no row number."""
        return False

    def labels(self) -> Labels:
        """The class of each. Raises UserError where there are none, or bad ones."""
        found = self.stored_labels()
        names.check(found.names, self.named, "classes")
        stripped = [name.strip() for name in found.names]
        if "" in stripped:
            count = int((found.codes == stripped.index("")).sum())
            raise UserError(f"{self.named}: the class of {count:,} images is an empty name; name it, or remove them")
        return found

    @abstractmethod
    def stored_labels(self) -> Labels:
        """The same, whatever they are called."""

    def encoded(self) -> Iterator[Sequence[Encoded]]:
        """The images as stored, in order and in batches; of content "images"."""
        raise TypeError(f"{self.named} holds {self.content}")

    def array(self) -> npt.NDArray[Any]:
        """Pixels uint8 [N, H, W, C], or embeddings float32 [N, D]; of content "pixels" and "embeddings"."""
        raise TypeError(f"{self.named} holds {self.content}")

    def originals(self, positions: Sequence[int]) -> Iterator[tuple[int, bytes, Path | None]]:
        """Of images at some positions: the position, the file's content, its path where it is on this machine."""
        raise TypeError(f"{self.named} holds {self.content}")


def row_ids(key: str, count: int) -> tuple[str, ...]:
    """Row numbers as ids, which belong to their set: those of S_0 and S_val say so."""
    prefix = "" if key == "pool" else f"{key}/"
    return tuple(f"{prefix}{row}" for row in range(count))


def are_row_numbers(ids: Sequence[str]) -> bool:
    """Whether ids that somebody wrote down only count rows, from 0 or from 1: they name nothing beyond their file."""
    if not ids or ids[0] not in ("0", "1"):
        return False
    first = int(ids[0])
    return all(name == str(row) for row, name in enumerate(ids, first))


def positions_of(labels: Labels, name: str) -> npt.NDArray[np.int64]:
    """Where a class stands among labels [N]; none where it has no such name."""
    if name not in labels.names:
        return np.zeros(0, np.int64)
    return np.flatnonzero(labels.codes == labels.names.index(name)).astype(np.int64)
