"""Images in a folder: one file each, and one subfolder per class where they are labelled.

Files are taken in the order of their paths, whatever the order on the disk; hidden files and
folders are passed over; links are followed.
"""

from __future__ import annotations

import os
from pathlib import Path

from rambo_ray.data.images import Format, Images, decode, in_batches
from rambo_ray.data.labels import Labels, from_names
from rambo_ray.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")


def read(folder: Path, wanted: Format, source: str) -> Images:
    """All images below `folder`; ids are paths relative to it, with forward slashes.

    `source` is what an error calls the folder, such as "data.pool=photos". Raises UserError where
    there is no image, or one that cannot be read or has another size.
    """
    return _decoded(folder, _paths(folder, source), wanted)


def read_classes(folder: Path, wanted: Format, source: str) -> tuple[Images, Labels]:
    """All images below `folder` and their classes, the names of its subfolders (sorted).

    Raises UserError as `read` does, and for an image that lies in no subfolder.
    """
    paths = _paths(folder, source)
    for path in paths:
        if "/" not in path:
            raise UserError(f"{source}: {path} lies in no class folder; move it to CLASS/{path}")
    return _decoded(folder, paths, wanted), from_names([path.partition("/")[0] for path in paths])


def _decoded(folder: Path, paths: list[str], wanted: Format) -> Images:
    encoded = [(str(folder / path), folder / path) for path in paths]
    return Images(decode(in_batches(encoded), len(encoded), wanted), tuple(paths))


def _paths(folder: Path, source: str) -> list[str]:
    paths: list[str] = []
    entered: set[str] = set()

    def stop(error: OSError) -> None:
        raise UserError(f"{source}: {error.filename}: {error.strerror}; make it readable") from error

    for parent, folders, files in os.walk(folder, onerror=stop, followlinks=True):
        real = os.path.realpath(parent)
        if real in entered:  # a link back to where we have been
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [
            Path(parent, name).relative_to(folder).as_posix()
            for name in files
            if not name.startswith(".") and name.lower().endswith(SUFFIXES)
        ]
    if not paths:
        allowed = " ".join(suffix[1:] for suffix in SUFFIXES)
        raise UserError(f"{source}: holds neither Parquet files nor images; images end in one of: {allowed}")
    return sorted(paths)
