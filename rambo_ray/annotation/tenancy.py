"""One server for one folder, and the address that stays when it comes again.

`label.lock` in the folder is held (`rambo_ray.locks`) by whoever serves it, and says the address and the token. The
next one takes over the token and, where it is free, the port: a page that was open goes on. Only the owner of the file
may read it, since the token in it lets people answer.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

from rambo_ray import locks
from rambo_ray.locks import Lock, Owner

LOCK = "label.lock"


class Tenancy:
    """The right to serve a folder. token: what its address holds; port: the last server's, None for the first."""

    def __init__(self, lock: Lock) -> None:
        token, port = lock.earlier.get("token"), lock.earlier.get("port")
        self._lock = lock
        self.token = token if _whole(token) else _token()
        self.port = port if isinstance(port, int) else None

    def serve_at(self, address: str, port: int) -> None:
        """Say in the file where the folder is served now."""
        self.port = port
        self._lock.say(address=address, port=port, token=self.token)


@contextmanager
def taken(folder: Path) -> Iterator[Tenancy]:
    """The right to serve `folder`, until the block or this process ends.

    Raises UserError where another process has it, or where no lock can be had.
    """
    with locks.held(folder / LOCK, _served, kept=("token", "port"), mode=0o600) as lock:
        yield Tenancy(lock)


def refuse_served(folder: Path) -> None:
    """Raises UserError where somebody serves `folder`: people are looking at what it asks of them."""
    locks.refuse_held(folder / LOCK, _served)


def _served(folder: Path, owner: Owner) -> str:
    where = owner.content.get("address", "an address of its own")
    return f"{folder}: is served already, at {where} ({owner}); open that address, or end that process first"


def _whole(token: Any) -> TypeGuard[str]:
    """Whether it is one that `_token` made."""
    return isinstance(token, str) and len(token) >= 20 and token.isascii() and token.replace("-", "_").isidentifier()


def _token() -> str:
    """128 bits that nobody guesses; begins with a letter, as an identifier does."""
    return "t" + secrets.token_urlsafe(16)
