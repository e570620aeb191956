"""Which ids say what is in an image: whoever reads "cat/003.png" under a picture no longer looks whether it is a cat.

A class is told where its name stands in an id between other signs, in whatever case: "cat/003.png", "black_Cat-3.jpg",
"cat003.png", but not "category/3.png". A name of digits alone, or of one or two letters, must be a whole folder: row
numbers and the parts of a hash hold such names by chance.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

Ids = Literal["auto", "show", "hide"]
"""Whether annotators see ids: show, hide, and auto: where none says what is in its image."""

_WORD = re.compile(r"[^\W\d_]+|\d+")  # letters, or digits
_LETTERS = 3  # a name of fewer is met by chance


def telling(ids: Sequence[str], class_names: Sequence[str]) -> list[str]:
    """Those of `ids` that say a class, in order."""
    words = [_words(name) for name in class_names]
    long = {tuple(name) for name in words if sum(map(len, name)) >= _LETTERS and not all(map(str.isdigit, name))}
    folders = {name.casefold() for name in class_names}
    return [one for one in ids if _in_folder(one, folders) or _in_words(_words(one), long)]


def captions(ids: Sequence[str], class_names: Sequence[str], shown: Ids) -> list[str]:
    """What stands under each image: its id, or its place among those asked about.

    Either all ids are seen or none: those that are left would say something of the others.
    """
    if shown == "show" or (shown == "auto" and not telling(ids, class_names)):
        return list(ids)
    return [f"image {place}" for place in range(1, len(ids) + 1)]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _in_folder(one: str, folders: set[str]) -> bool:
    return any(folder in folders for folder in re.split(r"[/\\]", one.casefold())[:-1])


def _in_words(words: list[str], names: set[tuple[str, ...]]) -> bool:
    """Whether one of the names stands among the words, its own words one after the other."""
    lengths = {len(name) for name in names}
    return any(tuple(words[i : i + n]) in names for n in lengths for i in range(len(words) - n + 1))
