"""One owner for one folder: a lock that its owner's end releases, on one machine and over several.

The lock is a file in the folder that says who holds it: machine, process, since when. Two things hold it.

The kernel's lock on it (flock) ends with the process, however that ends. Between processes of one machine it decides
alone, on whatever file system that has it.

Between machines it decides nothing: some network file systems have no flock, others keep it to one machine. There the
owner writes the file anew every BEAT_S seconds, and whoever comes from another machine believes in an owner whose last
sign of life is less than LEASE_S old. Both times are told by the clock of the file system, as that of another machine
may be wrong. An owner that stood still for longer than that, and has lost the folder meanwhile, learns it by `check`.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rambo_ray import files
from rambo_ray.errors import RunError, UserError
from rambo_ray.progress import duration

RUN = "run.lock"
"""Held in an output directory by whatever computes there."""

BEAT_S, LEASE_S = 10.0, 60.0
_SETTLES_S = 2.0  # of two that come at once without a common kernel the last to write has it: each looks once more
_TRIES, _PAUSE_S = 5, 0.05  # who only looks (`refuse_held`) has the kernel's lock for a moment, too


@dataclass(frozen=True)
class Owner:
    """Who holds a folder, as the file says. age_s: of the last sign of life, 0 where nobody asked."""

    content: Mapping[str, Any]
    age_s: float = 0.0

    @property
    def here(self) -> bool:
        """Whether it is, or was, a process of this machine."""
        return self.content.get("machine") == files.machine()

    def __str__(self) -> str:
        host, since = self.content.get("host"), self.content.get("since")
        where = f" on {host}" if host and not self.here else ""
        return f"process {self.content.get('pid', 'unknown')}{where}" + (f", since {since}" if since else "")


def in_use(folder: Path, owner: Owner) -> str:
    """The error where another command computes in an output directory."""
    said = f"--output {folder}: {owner} is at work there; wait for it or end it, or give another directory"
    if not owner.here and owner.age_s:
        said += (
            f" (its last sign of life is {duration(owner.age_s)} old; if that machine is gone, the directory is free "
            f"in {duration(max(LEASE_S - owner.age_s, 1.0))})"
        )
    return said


Refusal = Callable[[Path, Owner], str]


class Lock:
    """A held lock. earlier: what the file said of an owner that is no more; empty where there was none."""

    def __init__(self, path: Path, file: int, earlier: Mapping[str, Any]) -> None:
        self.path, self.earlier, self._file = path, earlier, file
        self._said: dict[str, Any] = {
            "machine": files.machine(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": datetime.now().astimezone().isoformat(timespec="seconds"),
            "lock": secrets.token_hex(8),
        }
        self._ended, self._one = threading.Event(), threading.Lock()

    def say(self, **more: Any) -> None:
        """Write who holds it, and what else the next one should know. Raises WriteError where that fails."""
        self._said = {**self._said, **more}
        with files.writing(self.path):
            self._write()

    def is_mine(self) -> bool:
        """Whether the file names this lock."""
        return bool(_read(self.path).get("lock") == self._said["lock"])

    def is_lost(self) -> bool:
        """Whether the file names another lock."""
        return bool(_read(self.path).get("lock", self._said["lock"]) != self._said["lock"])

    def check(self) -> None:
        """Raises RunError where another process has taken the folder while this one stood still."""
        if self.is_lost():
            raise RunError(
                f"{self.path.parent}: this process stood still for so long that {Owner(_read(self.path))} has taken "
                "the directory; nothing more is written there"
            )

    def beat(self) -> None:
        """Show signs of life until `end`, in a thread of its own."""
        while not self._ended.wait(BEAT_S):
            with suppress(OSError):  # a full disk, a server that is away: the next one may get through
                if self.is_lost():
                    return
                self._write()

    def end(self) -> None:
        """No more signs of life."""
        self._ended.set()

    def _write(self) -> None:
        line = json.dumps(self._said).encode() + b"\n"
        with self._one:
            # Over what was there, which is then cut: who reads in between finds the whole line first.
            os.pwrite(self._file, line, 0)
            os.ftruncate(self._file, len(line))
            os.fsync(self._file)


@contextmanager
def held(path: Path, refusal: Refusal = in_use, *, kept: Sequence[str] = (), mode: int = 0o644) -> Iterator[Lock]:
    """Hold the lock file `path` until the block or this process ends.

    refusal: the error where somebody holds it. kept: what the file goes on saying of the owner before and to the next
    one; without any it is removed in the end. Raises UserError where another process has it, or where there can be
    none; nothing was touched then.
    """
    file, earlier, locked = _taken(path, refusal, mode)
    lock = Lock(path, file, earlier)
    beats = threading.Thread(target=lock.beat, daemon=True, name=f"signs of life in {path.name}")
    try:
        try:
            lock.say(**{key: earlier[key] for key in kept if key in earlier})
        except files.WriteError as error:
            raise UserError(str(error)) from error
        if not locked or earlier.get("machine", files.machine()) != files.machine():
            time.sleep(_SETTLES_S)
            if not lock.is_mine():
                raise UserError(refusal(path.parent, Owner(_read(path))))
        beats.start()
        yield lock
    finally:
        lock.end()
        if beats.ident is not None:
            beats.join(timeout=BEAT_S)
        with suppress(OSError):
            if not kept and not lock.is_lost():
                path.unlink()
        os.close(file)


def refuse_held(path: Path, refusal: Refusal = in_use) -> None:
    """Raises UserError where somebody holds the lock file `path`; changes nothing."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:  # nobody does, or what is wrong is said by whoever writes there
        return
    try:
        owner = _holder(file, _flock(file, fcntl.LOCK_SH), path)
    finally:
        os.close(file)
    if owner is not None:
        raise UserError(refusal(path.parent, owner))


def _taken(path: Path, refusal: Refusal, mode: int) -> tuple[int, dict[str, Any], bool]:
    """The file, open; what it said; and whether this process has the kernel's lock on it."""
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, mode)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}; give a folder you can write to") from error
        try:
            locked = _flock(file, fcntl.LOCK_EX)
            owner = _holder(file, locked, path)
            if owner is not None:
                raise UserError(refusal(path.parent, owner))
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), os.stat(path)):
                    return file, _content(file), bool(locked)
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # its owner has just ended, and taken it away


def _flock(file: int, kind: int) -> bool | None:
    """Whether this process has the kernel's lock; None: there is none on this file system."""
    for left in reversed(range(_TRIES)):
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if left:
                time.sleep(_PAUSE_S)
        except OSError:
            return None
    return False


def _holder(file: int, locked: bool | None, path: Path) -> Owner | None:
    """Who holds the lock; None: nobody does."""
    content = _content(file)
    owner = Owner(content)
    if owner.here and locked is not None:
        return None if locked else owner
    if "machine" in content:
        owner = Owner(content, max(_age(file, path), 0.0))
    if locked is False:
        return owner
    pid = content.get("pid")
    if owner.here and not (isinstance(pid, int) and files.is_alive(pid)):
        return None
    return owner if "machine" in content and owner.age_s < LEASE_S else None


def _age(file: int, path: Path) -> float:
    """Seconds since the file was written, by the clock of its file system where that can be asked."""
    written = os.fstat(file).st_mtime
    probe = files.temporary_name(path)
    try:
        probe.touch()
        return probe.stat().st_mtime - written
    except OSError:
        return time.time() - written
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        file = os.open(path, os.O_RDONLY)  # opened anew: that is when a network file system asks its server
    except OSError:
        return {}
    try:
        return _content(file)
    finally:
        os.close(file)


def _content(file: int) -> dict[str, Any]:
    """What the file says; empty where its owner ended before it had said all."""
    try:
        content = json.loads(os.pread(file, 4096, 0))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
