"""Embeddings that somebody has computed already, of images, texts, sounds or anything: f is a head on them.

Any encoder will do, and its numbers may have any scale: `rambo_ray.embeddings.given` says how they are brought to
one. N vectors of D numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rambo_ray.data.items import Integers, Items, checked, checked_labels
from rambo_ray.errors import UserError

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Vectors(Items):
    """N vectors of D numbers and their owner's names for them.

    `vectors` is float32 [N, D], finite, C-contiguous, and read-only from here on; `ids` holds N distinct strings.
    Raises ValueError for anything else.
    """

    vectors: Floats
    ids: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.vectors.dtype != np.float32 or self.vectors.ndim != 2 or self.vectors.shape[1] < 1:
            raise ValueError(f"vectors are {self.vectors.dtype} {self.vectors.shape}; must be float32 [N, D], D >= 1")
        if (row := first_not_finite(self.vectors)) is not None:
            raise ValueError(f"vectors hold a number that is not finite in row {row}")
        object.__setattr__(self, "vectors", checked(self.vectors, self.ids, "vectors", "vector"))

    @property
    def array(self) -> npt.NDArray[Any]:
        return self.vectors

    @property
    def described(self) -> str:
        return f"{self.vectors.shape[1]} number{'s' if self.vectors.shape[1] > 1 else ''}"

    def unlabeled(self) -> Vectors:
        """The same vectors without labels; the numbers are shared, not copied."""
        return self.as_hashed(Vectors(self.vectors, self.ids))


@dataclass(frozen=True, eq=False)
class LabeledVectors(Vectors):
    """Vectors and the class of each: `labels` is int64 [N], 0 or more. Raises ValueError otherwise."""

    labels: Integers

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "labels", checked_labels(self.labels, len(self.ids)))


def as_vectors(array: npt.NDArray[Any], source: str) -> Floats:
    """What a file or a caller holds as float32 [N, D].

    Integers and other floats are converted. Raises UserError, which begins with `source`, for another shape or
    type, for no columns, and for a number that is not finite, also only as float32, naming its row.
    """
    if array.ndim != 2 or array.shape[1] < 1 or array.dtype.kind not in "fiu":
        raise UserError(f"{source}: embeddings are {array.dtype} {array.shape}; must be numbers [N, D], a row for each")
    with np.errstate(over="ignore"):
        vectors = np.ascontiguousarray(array, dtype=np.float32)
    if (row := first_not_finite(vectors)) is not None:
        column = int(np.flatnonzero(~np.isfinite(vectors[row]))[0])
        raise UserError(
            f"{source} row {row}: number {column} is {array[row, column]}, must be finite (and fit into float32); "
            "correct or remove the row"
        )
    return vectors


def first_not_finite(vectors: Floats) -> int | None:
    """The first row of vectors [N, D] that holds NaN or an infinity; None where all are finite."""
    for first in range(0, len(vectors), _ROWS):
        bad = ~np.isfinite(vectors[first : first + _ROWS]).all(axis=1)
        if bad.any():
            return first + int(bad.argmax())
    return None


_ROWS = 65536  # looked at together: a mask as large as all vectors would be a quarter more memory
