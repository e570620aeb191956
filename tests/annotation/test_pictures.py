"""Images that are ready before they are asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rambo_ray.annotation.pictures import Pictures
from rambo_ray.errors import UserError


@dataclass
class Made:
    """An image as the pool gives it."""

    content: bytes
    path: Path | None = None


def test_each_is_found_by_its_position_whatever_the_order_of_reading(tmp_path: Path) -> None:
    own = tmp_path / "own.png"
    own.write_bytes(b"in a file of its own")
    read = iter([Made(b"two"), Made(b""), Made(b"not this", own), Made(b"three" * 10_000)])
    pictures = Pictures(read, [2, 0, 1, 3])
    assert [pictures.get(i) for i in (3, 2, 1, 0, 3)] == [
        b"three" * 10_000, b"two", b"in a file of its own", b"", b"three" * 10_000,
    ]  # fmt: skip
    own.unlink()
    with pytest.raises(UserError, match=r"own.png: No such file"):
        pictures.get(1)
    pictures.close()


def test_the_first_is_there_at_once_and_a_later_one_is_waited_for() -> None:
    go = threading.Event()

    def slow() -> Iterator[Made]:
        yield Made(b"first")
        go.wait()
        yield Made(b"second")

    pictures = Pictures(slow(), [0, 1])
    assert pictures.get(0) == b"first"
    found: list[bytes] = []
    waiting = threading.Thread(target=lambda: found.append(pictures.get(1)))
    waiting.start()
    waiting.join(0.1)
    assert found == []
    go.set()
    waiting.join(10)
    assert found == [b"second"]
    pictures.close()


def test_what_fails_is_said_at_the_door_for_the_first_and_to_who_asks_for_a_later_one() -> None:
    def broken(after: int) -> Iterator[Made]:
        for _ in range(after):
            yield Made(b"x")
        raise UserError("photos: gone")

    with pytest.raises(UserError, match="photos: gone"):
        Pictures(broken(0), [0])
    pictures = Pictures(broken(1), [0, 1])
    assert pictures.get(0) == b"x"
    with pytest.raises(UserError, match="photos: gone"):
        pictures.get(1)
    pictures.close()


def test_an_end_lets_go_who_waits() -> None:
    go = threading.Event()

    def slow() -> Iterator[Made]:
        yield Made(b"first")
        go.wait(10)
        yield Made(b"second")

    pictures = Pictures(slow(), [0, 1])
    raised: list[str] = []

    def ask() -> None:
        try:
            pictures.get(1)
        except UserError as error:
            raised.append(str(error))

    waiting = threading.Thread(target=ask)
    waiting.start()
    threading.Timer(0.3, go.set).start()  # the disk is slow; nobody waits for it
    pictures.close()
    waiting.join(10)
    assert raised == ["the server ends"]
