"""One server for one folder: a lock that ends with its owner, and the address that stays when it comes again.

`label.lock` in the folder holds the address and the token of whoever serves it. The lock on it is the kernel's
(flock), so a killed server leaves none behind. The next one takes over the token and, where it is free, the port: a
page that was open goes on. Only the owner of the file may read it, since the token in it lets people answer.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

from rambo_ray.errors import UserError

LOCK = "label.lock"


class Tenancy:
    """The right to serve a folder. token: what its address holds; port: the last server's, None for the first."""

    def __init__(self, file: int, token: str, port: int | None) -> None:
        self._file, self.token, self.port = file, token, port

    def serve_at(self, address: str, port: int) -> None:
        """Say in the file where the folder is served now."""
        self.port = port
        content = {"address": address, "port": port, "token": self.token, "pid": os.getpid()}
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps(content).encode() + b"\n", 0)


@contextmanager
def taken(folder: Path) -> Iterator[Tenancy]:
    """The right to serve `folder`, until the block or this process ends.

    Raises UserError where another process has it, or where no lock can be had.
    """
    path = folder / LOCK
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give a folder you can write to") from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            known = _content(file)
            where, who = known.get("address", "an address of its own"), known.get("pid", "unknown")
            raise UserError(
                f"{folder}: is served already, at {where} (process {who}); open that address, or end that process first"
            ) from error
        except OSError as error:
            raise UserError(f"{path}: cannot be locked ({error.strerror}); copy the folder to a local disk") from error
        known = _content(file)
        token, port = known.get("token"), known.get("port")
        yield Tenancy(file, token if _whole(token) else _token(), port if isinstance(port, int) else None)
    finally:
        os.close(file)


def _whole(token: Any) -> TypeGuard[str]:
    """Whether it is one that `_token` made."""
    return isinstance(token, str) and len(token) >= 20 and token.isascii() and token.replace("-", "_").isidentifier()


def _token() -> str:
    """128 bits that nobody guesses; begins with a letter, as an identifier does."""
    return "t" + secrets.token_urlsafe(16)


def _content(file: int) -> dict[str, Any]:
    """What the file says; empty where a server ended before it had said all."""
    try:
        content = json.loads(os.pread(file, 4096, 0))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
