"""Where hostile inputs are given to the command: a folder of good data, which each case spoils in its own way."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import ray

from rambo_ray.cli.main import main

from ..data.written_images import pictures, write_file

OWN = ("data.name=own", "data.labeled=labeled", "data.validation=validation", "data.pool=pool")
SMALL = ("acquisition.budget=20", "acquisition.batch_size=10", "utility_samples.num_pairs=6",
         "utility_samples.num_held_out=4")  # fmt: skip

# What every refusal has beside the value and the rule: what to do about it.
REMEDIES = ("; ", "did you mean", "allowed: ")
SECONDS = 30.0  # most of them take a twentieth of one; machines of CI are slow, and busy


@dataclass(frozen=True)
class Hostile:
    """An input that must be refused: what it does to the folder, the arguments beside, and words of the refusal."""

    name: str
    words: str | Sequence[str]
    spoil: Callable[[Path], object] = lambda _: None
    arguments: Sequence[str] = field(default=())
    command: Sequence[str] = ("run", *OWN, *SMALL)

    def __str__(self) -> str:
        return self.name.replace(" ", "-")

    @property
    def line(self) -> list[str]:
        """The whole command line; what writes is told where."""
        writes = self.command[0] in ("run", "collect", "backtest", "sweep", "benchmark")
        told = [part for part in (*self.command, *self.arguments) if part == "--output"]
        return [*self.command, *self.arguments, *(["--output", "out"] if writes and not told else [])]


def good(folder: Path) -> Path:
    """S_0 of 12 images, S_val of 40 and a pool of 40, of cats and dogs."""
    for part, count in (("labeled", 12), ("validation", 40)):
        for i, image in enumerate(pictures(count, seed=count + len(part))):
            write_file(folder / part / ("cat", "dog")[i % 2] / f"{i}.png", image)
    for i, image in enumerate(pictures(40, seed=9)):
        write_file(folder / f"pool/{i}.png", image)
    return folder


@dataclass(frozen=True)
class Said:
    """How the command ended."""

    code: int
    out: str
    err: str
    seconds: float


def called(line: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    """The command in this process; it fails the test where Ray would be started."""

    def started(*_: object, **__: object) -> None:
        raise AssertionError("Ray is started")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", started)
    out, err, began = io.StringIO(), io.StringIO(), time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(line))
    return Said(code, out.getvalue(), err.getvalue(), time.monotonic() - began)


def check(hostile: Hostile, folder: Path, said: Said, before: set[str]) -> None:
    """Exit code 2, one line with what was expected and a remedy, soon, and nothing written."""
    line = said.err
    assert said.code == 2, (said.out, line)
    assert line.count("\n") == 1 and line.endswith("\n") and line.isprintable() is False, line
    assert line[:-1].isprintable() and "Traceback" not in line and len(line) < 2200, line
    words = (hostile.words,) if isinstance(hostile.words, str) else hostile.words
    assert all(word in line for word in words), line
    assert any(remedy in line for remedy in REMEDIES), line
    assert said.seconds < SECONDS
    assert names(folder) == before, "something was written"


def names(folder: Path) -> set[str]:
    """All that lies in a folder, but what Python caches of modules."""
    found = {os.path.join(parent, name) for parent, _, files in os.walk(folder) for name in files}
    found |= {os.path.join(parent, name) for parent, folders, _ in os.walk(folder) for name in folders}
    return {name for name in found if "__pycache__" not in name}


def copied(source: Path, folder: Path) -> Path:
    """A folder of good data of one's own."""
    shutil.copytree(source, folder, dirs_exist_ok=True, copy_function=os.link)
    return folder


def replaced(file: Path, content: bytes) -> None:
    """Other content at a file's place; the file itself is shared by all cases."""
    file.unlink(missing_ok=True)
    file.write_bytes(content)


def png_saying(width: int, height: int) -> bytes:
    """A PNG whose header says this size, with next to nothing behind it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0")), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
