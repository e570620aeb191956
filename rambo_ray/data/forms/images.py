"""Image files: those below a folder, or those that match a pattern.

Files are taken in the order of their paths, whatever the order on the disk; an id is a file's path below the folder,
or below where the pattern begins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rambo_ray.data import names
from rambo_ray.data.decoding import BATCH, Encoded, Missing
from rambo_ray.data.forms import classes
from rambo_ray.data.forms.kinds import Kinds
from rambo_ray.data.forms.source import Source
from rambo_ray.data.labels import Labels, from_names
from rambo_ray.data.places import File, Remote, read_many

_REMOTE_BATCH = 256  # files fetched together
_NOT_THERE = "not a readable image (empty, or not there); replace or remove it"


class ImageFiles(Source):
    """Image files below `base`; labels are names of folders."""

    def __init__(self, named: str, form: str, base: File, kinds: Kinds, class_level: int | None) -> None:
        """kinds: of all files that there are; class_level: which folder is the class, see `classes.of_paths`."""
        super().__init__(named)
        names.check(kinds.images, named)  # now, and not after a million of them were decoded
        self.form, self.base, self.paths, self.class_level = form, base, kinds.images, class_level
        self.unreadable = Counter(kinds.unreadable)
        self.skipped = Counter(kinds.other)
        for paths in (kinds.lists, kinds.arrays):
            self.skipped.update(f".{path.rpartition('.')[2].lower()}" for path in paths)

    def __len__(self) -> int:
        return len(self.paths)

    def stored_ids(self) -> tuple[str, ...]:
        return tuple(self.paths)

    def stored_labels(self) -> Labels:
        return from_names(classes.of_paths(self.paths, self.class_level, self.named))

    def encoded(self) -> Iterator[Sequence[Encoded]]:
        return contents([self.base / path for path in self.paths], self.named)

    def originals(self, positions: Sequence[int]) -> Iterator[tuple[int, bytes, Path | None]]:
        for position in positions:
            file = self.base / self.paths[position]
            yield position, file.read_bytes(), file if isinstance(file, Path) else None


def contents(files: Sequence[File], named: str) -> Iterator[Sequence[Encoded]]:
    """Image files in batches as the decoder takes them; those elsewhere are fetched, several at a time."""
    size = BATCH if all(isinstance(file, Path) for file in files) else _REMOTE_BATCH
    for start in range(0, len(files), size):
        batch = files[start : start + size]
        elsewhere: dict[int, list[Remote]] = {}
        for file in batch:
            if isinstance(file, Remote):
                elsewhere.setdefault(id(file.system), []).append(file)
        fetched = {
            str(f): c for group in elsewhere.values() for f, c in zip(group, read_many(group, named), strict=True)
        }
        yield [
            (str(file), file if isinstance(file, Path) else fetched[str(file)] or Missing(_NOT_THERE)) for file in batch
        ]
