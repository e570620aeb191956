"""The pool of actors: everything done once, whatever dies on the way."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from rambo_ray.cluster.session import Session
from rambo_ray.cluster.workers import Usage, work_through
from rambo_ray.errors import RunError


class Squarer:
    """Squares numbers; dies at those in `deadly`, once each where `folder` remembers it."""

    def __init__(
        self, deadly: tuple[int, ...] = (), folder: str | None = None, unable: bool = False, calls: str | None = None
    ) -> None:
        if unable:
            raise ValueError("no such device")
        self.deadly, self.folder, self.calls = deadly, folder, calls

    def ready(self) -> bool:
        return True

    def work(self, pieces: tuple[int, ...]) -> list[tuple[int, float]]:
        if self.calls is not None:
            (Path(self.calls) / uuid.uuid4().hex).write_text(str(len(pieces)))
        return [self.square(piece) for piece in pieces]

    def square(self, piece: int) -> tuple[int, float]:
        if piece in self.deadly:
            seen = Path(self.folder) / str(piece) if self.folder else None
            if seen is None or not seen.exists():
                if seen is not None:
                    seen.touch()
                os._exit(1)
        if piece < 0:
            raise ValueError(f"{piece} is negative")
        time.sleep(0.01)
        return piece * piece, 0.01


def run(
    pieces: list[int],
    usage: Usage | None = None,
    count: int = 2,
    on_given_up: Callable[[int, str], None] | None = None,
    **actor: Any,
) -> dict[int, int]:
    remote = ray.remote(Squarer).options(num_cpus=1)
    return dict(
        work_through(
            pieces,
            lambda: remote.remote(**actor),
            count,
            max_tries=2,
            name=lambda piece: f"piece {piece}",
            usage=usage or Usage(),
            on_given_up=on_given_up,
        )
    )


@pytest.mark.parametrize("count", [1, 2])
def test_every_piece_is_done_once(session: Session, count: int) -> None:
    usage = Usage()
    assert run(list(range(20)), usage, count) == {i: i * i for i in range(20)}
    assert usage.replaced == 0
    assert usage.busy_s == pytest.approx(0.2)
    assert 0 < usage.busy_fraction <= 1


def test_no_pieces_start_no_actor(session: Session) -> None:
    assert run([]) == {}


def test_a_killed_worker_is_replaced_and_its_pieces_done(session: Session, tmp_path: Path) -> None:
    usage = Usage()
    done = run(list(range(12)), usage, deadly=(3, 7), folder=str(tmp_path))
    assert done == {i: i * i for i in range(12)}
    assert usage.replaced == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["3", "7"]


@pytest.mark.slow
def test_a_piece_that_always_kills_is_given_up_by_name(session: Session) -> None:
    with pytest.raises(RunError, match=r"piece 5: its worker died 2 times.*cluster\.max_tries") as error:
        run(list(range(8)), deadly=(5,))
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_piece_beside_one_that_kills_is_not_blamed(session: Session) -> None:
    # Piece 4 is done when 5 kills the worker that had both; whether its result arrives is chance.
    for _ in range(3):
        with pytest.raises(RunError, match="piece 5"):
            run([4, 5], deadly=(5,), count=1)


@pytest.mark.slow
def test_one_that_is_given_up_does_not_keep_the_others(session: Session) -> None:
    given_up: dict[int, str] = {}
    done = run(list(range(150)), deadly=(40, 41), on_given_up=given_up.__setitem__)
    assert done == {i: i * i for i in range(150) if i not in (40, 41)}
    assert sorted(given_up) == [40, 41] and all(why.startswith("its worker died 2 times") for why in given_up.values())


def test_short_pieces_go_together_and_the_last_ones_alone(session: Session, tmp_path: Path) -> None:
    assert run(list(range(200)), calls=str(tmp_path)) == {i: i * i for i in range(200)}
    sizes = sorted(int(path.read_text()) for path in tmp_path.iterdir())
    assert sum(sizes) == 200 and len(sizes) < 80 and sizes[-1] > 5
    assert sizes[:4] == [1, 1, 1, 1], "workers end together"


def test_an_exception_of_the_work_itself_is_not_tried_again(session: Session) -> None:
    with pytest.raises(RunError, match=r"^piece -1: ValueError: -1 is negative$"):
        run([1, -1, 2])


def test_an_exception_in_a_call_of_many_names_its_piece(session: Session) -> None:
    with pytest.raises(RunError, match=r"^piece -7: ValueError: -7 is negative$"):
        run([*range(100), -7, *range(100, 140)])


def test_an_actor_that_cannot_start_ends_the_stage(session: Session) -> None:
    with pytest.raises(RunError, match="a worker could not start.*no such device"):
        run([1, 2], unable=True)


def test_cpus_are_free_again_afterwards(session: Session) -> None:
    run([1, 2, 3])
    deadline = time.monotonic() + 20
    while ray.available_resources().get("CPU", 0) < session.total_cpus and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ray.available_resources()["CPU"] == session.total_cpus
