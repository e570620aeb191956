"""By which names annotation tools know the picked images, and whose id such a name is.

A tool that hands through what it was given returns the owner's id. Others return the image's path or address, with
whatever they put before it, or the name of a copy. Nothing here looks at a tool's own numbers or at the order of its
rows.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from rambo_ray.errors import UserError

IMAGE_SUFFIXES = frozenset(
    [".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"]
    + [".heic", ".heif", ".avif", ".jp2"]
)
# Label Studio stores an uploaded file under its name with eight hexadecimal digits before it.
_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")


def copy_stem(order: int, name: str) -> str:
    """What a copy of the image with this id is called, without suffix, such as 00017-cat_7-1f3a9c2e40.

    The order is for people; the digits at the end are a hash of the id, which no other id shares.
    """
    last = PurePosixPath(name).name
    if PurePosixPath(last).suffix.lower() in IMAGE_SUFFIXES:
        last = last[: last.rindex(".")]
    readable = re.sub(r"[^A-Za-z0-9]+", "_", last).strip("_")[:40] or "image"
    return f"{order:05d}-{readable}-{_hash(name)}"


class Names:
    """The ids of a request, found by what tools call their images."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = set(ids)
        self._copies = {_hash(name): name for name in ids}

    def found(self, names: Sequence[str]) -> list[str | None]:
        """The id of each of a file's names; None for one that is nobody's.

        A name is an id itself, the name of a copy (`copy_stem`), or a path or address that ends with an id. What
        stands before the id must then be the same for all of the file, so that the picked 7.png is not taken for the
        pool's cat/7.png. Raises UserError where as many ids are found by another beginning.
        """
        known = [name if name in self._ids else self._copy(name) for name in names]
        waiting = [i for i, name in enumerate(known) if name is None]
        ends = {i: {path[: len(path) - len(end)]: end for path, end in self._ends(names[i])} for i in waiting}
        reached: dict[str, set[str]] = defaultdict(set)
        for found in ends.values():
            for start, end in found.items():
                reached[start].add(end)
        if not reached:
            return known
        beginning, *others = sorted(reached, key=lambda start: -len(reached[start]))
        if others and len(reached[others[0]]) == len(reached[beginning]):
            raise UserError(
                f"images such as '{names[waiting[0]]}' can be read as ids in {len(reached)} ways; give the ids of "
                "selection.parquet beside them"
            )
        for i in waiting:
            known[i] = ends[i].get(beginning)
        return known

    def _copy(self, name: str) -> str | None:
        last = PurePosixPath(_path(name)).name
        if PurePosixPath(last).suffix.lower() in IMAGE_SUFFIXES:
            last = last[: last.rindex(".")]
        return self._copies.get(last.rpartition("-")[2]) if last.count("-") >= 2 else None

    def _ends(self, name: str) -> Iterator[tuple[str, str]]:
        """The paths that a name may mean, each with an id that it ends with."""
        whole = _path(name)
        folder, slash, last = whole.rpartition("/")
        for path in dict.fromkeys([whole, folder + slash + _UPLOADED.sub("", last)]):
            parts = path.split("/")
            for first in range(1, len(parts)):
                end = "/".join(parts[first:])
                if end in self._ids:
                    yield path, end
            if path != name and path in self._ids:
                yield path, path


def _path(name: str) -> str:
    """The path in an address, or the name itself with forward slashes."""
    if "?d=" in name:  # Label Studio's own files: /data/local-files/?d=photos/7.png
        return unquote(name.split("?d=", 1)[1].split("&", 1)[0])
    if "://" in name:
        return unquote(urlsplit(name).path)
    return name.replace("\\", "/")


def _hash(name: str) -> str:
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
