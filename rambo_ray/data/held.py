"""Data that a Python program holds: arrays, tensors, pictures, datasets of torch and of Hugging Face.

`keep` reads them once and gives them a name, `memory:...`, which stands in a configuration where a path would, so
that everything else does the same whatever the data's form. The name holds a digest: a directory with results on
other data is then refused, as with any other key that differs.

`rambo_ray.data.arrays` and `rambo_ray.data.foreign` say what is read, and how. N items.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rambo_ray.data import names
from rambo_ray.data.decoding import Encoded
from rambo_ray.data.items import first_repeated
from rambo_ray.data.labels import Labels
from rambo_ray.errors import UserError

PREFIX = "memory:"

Content = np.ndarray | Sequence[bytes | Path]
"""Pixels uint8 [N, H, W, C], vectors float32 [N, D], or N encoded images: their bytes, or their files."""

_held: dict[str, Held] = {}


@dataclass(frozen=True, eq=False)
class Held:
    """Items in memory. ids: None where the owner gave none; labels: None of a pool."""

    name: str
    content: Content
    ids: tuple[str, ...] | None
    labels: Labels | None

    def __len__(self) -> int:
        return len(self.content)

    @property
    def of_vectors(self) -> bool:
        """Whether these are embeddings."""
        return isinstance(self.content, np.ndarray) and self.content.ndim == 2

    def encoded(self) -> list[Encoded]:
        """The encoded images, as the decoder takes them."""
        assert not isinstance(self.content, np.ndarray)
        return [(str(one) if isinstance(one, Path) else f"image {row}", one) for row, one in enumerate(self.content)]

    def classes(self, source: str) -> Labels:
        """The class of each. Raises UserError for a pool, which has none."""
        if self.labels is None:
            raise UserError(f"{source}: has no labels; give (images, labels)")
        return self.labels


def keep(content: Content, labels: Labels | None, ids: Sequence[object] | None, what: str) -> str:
    """The name under which these items are found from now on; `what` is what a message calls them ("pool").

    Raises UserError where labels or ids do not fit it.
    """
    count = len(content)
    if count == 0:
        raise UserError(f"{what}: holds nothing; give at least one image or embedding")
    if labels is not None and len(labels.codes) != count:
        raise UserError(f"{what}: {count} images or embeddings, but {len(labels.codes)} labels; give one each")
    named = None if ids is None else tuple(map(str, ids))
    if named is not None and len(named) != count:
        raise UserError(f"{what}: {count} images or embeddings, but {len(named)} ids; give one each")
    if named is not None and (double := first_repeated(named)) is not None:
        raise UserError(f"{what}: id '{double}' occurs twice; ids must be distinct")
    if named is not None:
        names.check(named, what)
    shape = "x".join(map(str, content.shape)) if isinstance(content, np.ndarray) else f"{count} files"
    name = f"{PREFIX}{shape}-{_digest(content, labels, named)}"
    _held[name] = Held(name, content, named, labels)
    return name


def forget(kept: Sequence[str]) -> None:
    """Let go of what was kept."""
    for name in kept:
        _held.pop(name, None)


def is_name(path: str) -> bool:
    """Whether a configuration's path means something in memory."""
    return path.startswith(PREFIX) and not path.startswith(f"{PREFIX}//")  # an address of fsspec's


def find(name: str, key: str) -> Held:
    """What was kept under a name. Raises UserError where that was in another process."""
    if name not in _held:
        raise UserError(f"{key}={name}: was given in Python, and not to this process; give it there again, or a path")
    return _held[name]


def _digest(content: Content, labels: Labels | None, ids: tuple[str, ...] | None) -> str:
    told = hashlib.sha256()
    if isinstance(content, np.ndarray):
        told.update(f"{content.dtype} {content.shape}".encode())
        told.update(content.data)
    else:
        for one in content:
            told.update(str(one).encode() if isinstance(one, Path) else hashlib.sha256(one).digest())
    if labels is not None:
        told.update(repr(labels.names).encode() + labels.codes.tobytes())
    told.update(repr(ids).encode())
    return told.hexdigest()[:16]
