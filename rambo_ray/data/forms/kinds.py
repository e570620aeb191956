"""What files are, by the ends of their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from rambo_ray.data.formats import readable

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm",
)  # fmt: skip
# Images that only some installations can read: the format that the reader must have.
SOME = {
    ".heic": "HEIF", ".heif": "HEIF", ".avif": "AVIF", ".jp2": "JPEG2000", ".j2k": "JPEG2000", ".jpx": "JPEG2000",
}  # fmt: skip
# Images that nothing here reads: a person converts them.
OTHER = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".raw", ".psd", ".svg", ".jxl", ".exr", ".hdr",
         ".dcm", ".nii", ".ico", ".tga", ".pcx", ".eps")  # fmt: skip
TABLES = (".parquet", ".arrow", ".feather")
LISTS = (".csv", ".tsv")
ARRAYS = (".npz", ".npy")

EXTRA = "pip install 'rambo-ray[formats]' to read them"


@dataclass
class Kinds:
    """Files of a folder by what they are: relative paths, sorted. unreadable, other: how many, by suffix."""

    images: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)
    arrays: list[str] = field(default_factory=list)
    unreadable: Counter[str] = field(default_factory=Counter)
    other: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, paths: Sequence[str]) -> Kinds:
        """The kinds of these files."""
        made, formats = cls(), readable()
        for path in paths:
            end = suffix(path)
            if end in SUFFIXES or SOME.get(end) in formats:
                made.images.append(path)
            elif end in TABLES:
                made.tables.append(path)
            elif end in LISTS:
                made.lists.append(path)
            elif end in ARRAYS:
                made.arrays.append(path)
            elif end in SOME or end in OTHER:
                made.unreadable[end] += 1
            else:
                made.other[end or "without a suffix"] += 1
        return made


def suffix(path: str) -> str:
    """The end of a file's name, in lower case, with its dot; "" where there is none."""
    name = path.rpartition("/")[2]
    stem, dot, end = name.rpartition(".")
    return f".{end.lower()}" if dot and stem else ""


def listed(counts: Counter[str]) -> str:
    """Counts by suffix in words: "500 .heic, 2 .txt"."""
    return ", ".join(f"{count} {end}" for end, count in counts.most_common())
