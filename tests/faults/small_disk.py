"""A file system of a few kilobytes, for tests; where none can be mounted they are skipped, and say so."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """A mounted tmpfs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resize(self, kilobytes: int) -> None:
        """Give it room for so much."""
        _run("mount", "-o", f"remount,size={kilobytes}k", str(self.folder))

    def read_only(self, yes: bool = True) -> None:
        """Let nobody write to it, or again."""
        _run("mount", "-o", f"remount,{'ro' if yes else 'rw'}", str(self.folder))

    @property
    def free(self) -> int:
        """Bytes."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    @contextmanager
    def filled(self, left: int = 0) -> Iterator[None]:
        """Filled by somebody else but for so many bytes."""
        filler = self.folder / "filler of somebody else"
        filler.write_bytes(bytes(max(self.free - left, 0)))
        try:
            yield
        finally:
            filler.unlink()


@contextmanager
def mounted(folder: Path, kilobytes: int) -> Iterator[SmallDisk]:
    """A small disk at `folder`; skips the test where this user cannot mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        pytest.skip("needs a small disk: only root can mount one")
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs a small disk: it cannot be mounted here ({error})")
    try:
        yield SmallDisk(folder)
    finally:
        _run("umount", "-l", str(folder))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
