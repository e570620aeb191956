"""Files written whole or not at all, and what JSON can hold.

What is half-written has a temporary name beside its file that says whose it is: `.NAME.MACHINE-PID-RANDOM.tmp`. No
two processes of any machines share one, and what a killed process has left is known as such and removed by the next
run (`remove_leftovers`).
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from rambo_ray.errors import RunError

OLD_S = 3600.0
"""Seconds after which what another machine was writing counts as left over: nothing here takes an hour to write."""

_AGAIN = "{}, then run the same command again: it goes on where this one stopped"
_OURS = re.compile(r"^\..+\.(?:(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}|\d+)\.tmp$")  # \d+: earlier versions'
_FULL = (errno.ENOSPC, errno.EDQUOT)


def make_folder(folder: Path) -> None:
    """Make a folder with those above it, if need be. Raises WriteError where that cannot be."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


class WriteError(RunError):
    """A file that could not be written; reason: the system's word for it."""

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary name beside `path` to write to: what is there in the end becomes `path`, whole or not at all.

    durable: it also survives that the machine fails the moment after; what can be computed again and is checked when
    it is read need not. Where the block fails nothing is left. Raises WriteError where the system does not let it.
    """
    temporary = temporary_name(path)
    with writing(path):
        try:
            yield temporary
            if durable:
                _sync(temporary)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        if durable:
            sync_folder(path.parent)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A block that writes `path`: what the system says against that is raised as WriteError, a line with a remedy."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split())[:200]
        raise WriteError(_said(path, error.errno, reason), reason) from error


def _said(path: Path, number: int | None, reason: str) -> str:
    """Why `path` could not be written, how much room there is, and what to do."""
    if number in _FULL:
        return f"{path}: {reason}{_room(path)}; {_AGAIN.format('make room there')}"
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{path}: {reason}; {_AGAIN.format('make it writable')}"
    return f"{path}: cannot be written ({reason}); {_AGAIN.format('see to it')}"


def full(folder: Path) -> str:
    """What is said where something of others, who say less, could not be written below `folder` on a full disk."""
    return _said(folder, errno.ENOSPC, os.strerror(errno.ENOSPC))


def _room(path: Path) -> str:
    """How much is free where `path` is or would be."""
    for folder in (path, *path.parents):
        with suppress(OSError):
            usage = shutil.disk_usage(folder)
            return f" ({usage.free / 1e6:.1f} of {usage.total / 1e6:.1f} MB are free)"
    return ""


def temporary_name(path: Path) -> Path:
    """A name beside `path` that nobody else writes to."""
    return path.with_name(f".{path.name[:200]}.{machine()}-{os.getpid()}-{secrets.token_hex(4)}.tmp")


@cache
def machine() -> str:
    """Eight hexadecimal digits that are this machine's since it was started, and this container's."""
    said = [socket.gethostname()]
    with suppress(OSError):  # as on macOS
        said.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        said.append(os.readlink("/proc/self/ns/pid"))  # process numbers mean something within it
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:8]


def is_alive(pid: int) -> bool:
    """Whether this machine has such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove what dead processes were writing in `folder` and below; returns what it was.

    Only by names of ours. What another machine was writing counts as left over when it is OLD_S old.
    """
    removed = []
    for parent, folders, files in os.walk(folder):
        for name in [*files, *folders]:
            path = Path(parent, name)
            if _is_leftover(path):
                with suppress(OSError):  # removed by somebody else
                    if path.is_dir() and not path.is_symlink():
                        shutil.rmtree(path)
                    else:
                        path.unlink()
                    removed.append(path)
        folders[:] = [name for name in folders if not _OURS.match(name)]
    return removed


def is_temporary(path: Path) -> bool:
    """Whether a name is one of `temporary_name`'s."""
    return _OURS.match(path.name) is not None


def _is_leftover(path: Path) -> bool:
    found = _OURS.match(path.name)
    if found is None:
        return False
    if found["machine"] == machine():
        return not is_alive(int(found["pid"]))
    with suppress(OSError):
        return time.time() - path.lstat().st_mtime > OLD_S
    return False


def set_aside(path: Path) -> Path:
    """Give a damaged file or folder another name beside it, under which nobody looks; returns that."""
    number = 0
    while (aside := path.with_name(f"{path.name}.damaged{number or ''}")).exists():
        number += 1
    with writing(path):
        os.replace(path, aside)
    return aside


def put_aside(path: Path) -> str:
    """The same for a file that a run can do without; in words, what became of it."""
    try:
        return f"set aside as {set_aside(path).name}"
    except WriteError as error:
        return f"it cannot be renamed ({error.reason}) and is not read" if path.exists() else "another run set it aside"


def sync_folder(folder: Path) -> None:
    """Return when the names in `folder` are on the disk, where the system can say so."""
    with suppress(OSError):  # some network file systems cannot
        _sync(folder)


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write_table(content: pa.Table, path: Path) -> None:
    """Write a table as `path`.parquet and `path`.csv."""
    with replacing(path.with_suffix(".parquet")) as temporary:
        pq.write_table(content, temporary)
    with replacing(path.with_suffix(".csv")) as temporary:
        pyarrow.csv.write_csv(content, temporary)


def from_json(text: str | bytes) -> Any:
    """What JSON says. Raises ValueError for what is none, also where it is nested beyond any use."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def finite(value: Any) -> Any:
    """`value` with every float that JSON cannot hold replaced by None."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
