"""What a file that comes back from annotators says, whatever tool wrote it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# What the annotators can say of an image that belongs to no class; the name of that choice in exported tasks.
NONE_OF_THESE = "none of these"

# Under this key exported tasks carry the owner's id. `id` is what most tools overwrite with a number of their own.
ID_KEY = "rambo_id"


@dataclass(frozen=True)
class Entry:
    """What one annotator says of one image.

    names: what the image is called, its owner's id where the tool handed it through (`is_id`); else a path or an
    address, or several of which one is right. labels: the classes it was given, none where nothing was said, several
    where the tool let that pass. rejected: whether it belongs to none of the classes. annotator: "" where unknown.
    where: which part of the file this is, for messages.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    where: str
    rejected: bool = False
    annotator: str = ""
    is_id: bool = False

    @property
    def said(self) -> bool:
        """Whether anything was said."""
        return bool(self.labels) or self.rejected


def choices(value: Any) -> tuple[str, ...]:
    """The classes in a tool's value: a text, a number, a list of them, or {"choices": [...]}; () for nothing.

    Raises ValueError for anything else.
    """
    if value is None or value == "" or value == []:
        return ()
    if isinstance(value, dict) and isinstance(value.get("choices"), list):
        return choices(value["choices"])
    if isinstance(value, list):
        return tuple(dict.fromkeys(name for inner in value for name in choices(inner)))
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{str(value)[:60]} is no class")
    return (str(value),)


def annotator(value: Any) -> str:
    """Who, in what a tool writes there: a name, a number, or a mapping with an email or id."""
    if isinstance(value, dict):
        value = value.get("email") or value.get("username") or value.get("id")
    return "" if value is None or isinstance(value, list | dict) else str(value)


def listed(names: Iterable[str], most: int = 20) -> str:
    """Names in a line, each in quotes, at most `most` of them: "'a', 'b' and 3 more"."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(f"'{name}'" for name in every[:most]) + more
