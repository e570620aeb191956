"""YAML from whoever: data only, of a size that a configuration can have, and read in well under a second.

Tags that would make objects are no part of it. Depth, and what aliases and merges would grow to, are counted while
the text is read, so that a bomb of a few lines ends where it passes a limit, and not in memory.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from rambo_ray.errors import UserError

MOST_BYTES = 100_000
MOST_VALUES = 10_000  # with every alias counted as what it stands for
MOST_DEEP = 20
_MOST_DIGITS = 50

_STREAMS = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")  # of a shell: --config <(sed ... digits.yaml)


class Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-3 is a number, as in YAML 1.2, and a key may not occur twice."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._values = self._depth = 0
        self._sizes: dict[str, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        before, anchor = self._values, getattr(self.peek_event(), "anchor", None)
        is_alias = self.check_event(yaml.AliasEvent)
        mark = self.peek_event().start_mark
        if is_alias and anchor in self.anchors and anchor not in self._sizes:
            raise yaml.composer.ComposerError(None, None, f"*{anchor} stands inside itself", mark)
        self._values += self._sizes.get(str(anchor), 0) if is_alias else 1
        self._depth += 1
        if self._depth > MOST_DEEP:
            raise yaml.composer.ComposerError(None, None, f"more than {MOST_DEEP} levels deep", mark)
        if self._values > MOST_VALUES:
            raise yaml.composer.ComposerError(None, None, f"more than {MOST_VALUES:,} values", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if anchor is not None and not is_alias:
            self._sizes[str(anchor)] = self._values - before
        return node

    def construct_yaml_int(self, node: Any) -> int:
        if len(node.value) > _MOST_DIGITS:  # Python takes its time with thousands of them
            raise yaml.constructor.ConstructorError(
                None, None, f"a number of {len(node.value):,} characters, must have at most {_MOST_DIGITS}",
                node.start_mark,
            )  # fmt: skip
        return super().construct_yaml_int(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is not a name", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} occurs twice; keep one", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)


class Dumper(yaml.SafeDumper):
    """Quotes what `Loader` would read as a number: a folder named 1e3."""


for _side in (Loader, Dumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$|^[-+]?\.\d+([eE][-+]?\d+)?$"),
        list("-+0123456789."),
    )


def parsed(text: str) -> Any:
    """What YAML says. Raises ValueError, in one line, for what is none, is beyond the limits or makes objects."""
    if len(text) > MOST_BYTES:
        raise ValueError(f"{len(text):,} characters, must be at most {MOST_BYTES:,}")
    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:  # ValueError: a date such as 2020-13-45
        raise ValueError(_said(error)) from error


def _said(error: Exception) -> str:
    """What is wrong and where, in a line."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).replace('in "<unicode string>", ', "at ").split())
    mark = error.problem_mark or error.context_mark
    where = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
    return " ".join(f"{error.context or ''} {error.problem or 'cannot be read'}".split()) + where


def read(path: str | Path, option: str) -> Any:
    """What a YAML file says; raises UserError, which names the `option` it came by, where it cannot be read."""
    try:
        content = _content(Path(path))
        text = content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            reason = "not UTF-8 text"
        else:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UserError(f"{option} {path}: {reason}; give the path of a YAML file") from error
    try:
        return parsed(text)
    except ValueError as error:
        raise UserError(f"{option} {path}: not valid YAML: {error}; correct it there") from error


def _content(path: Path) -> bytes:
    """All of a file. Raises ValueError for one that is too large, and for a pipe or a device but the shell's own."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode) and not str(path).startswith(_STREAMS):
        raise ValueError("is a pipe or a device, not a file")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"holds more than {MOST_BYTES:,} bytes")
    return content
