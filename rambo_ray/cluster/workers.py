"""Work spread over Ray with a bounded number of pieces in flight: by actors, and by tasks.

`work_through` has a pool of actors work through a list. Each holds at most two pieces, so it never idles
and nothing piles up. An actor that dies is replaced; the piece it was at is tried again, and given up
after `max_tries`, since a piece that kills its worker every time must not go on for ever. An exception
raised by the work itself is deterministic and ends the stage at once. A replacement gets work only once
it answers, so one that the shrunken cluster has no room for does not hold anything up.

`run_tasks` is the same for tasks, which Ray itself retries and places.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from rambo_ray.cluster.session import cause_of
from rambo_ray.errors import RunError

IN_FLIGHT = 2  # pieces for each worker: it never idles, and nothing piles up

Piece = TypeVar("Piece")


@dataclass
class _Worker:
    handle: Any
    ready: Any
    answered: bool = False
    pieces: deque[int] = field(default_factory=deque)


@dataclass
class Usage:
    """How well the actors were used: seconds of work they report, and seconds they were there for.

    replaced: actors that died; retrained: subsets that were trained on now, not found in a store.
    """

    busy_s: float = 0.0
    alive_s: float = 0.0
    replaced: int = 0
    retrained: int = 0

    @property
    def busy_fraction(self) -> float:
        """Share of the actors' wall time that was work; NaN before any."""
        return self.busy_s / self.alive_s if self.alive_s else float("nan")


def work_through(
    pieces: Sequence[Any],
    start: Callable[[], Any],
    count: int,
    *,
    max_tries: int,
    name: Callable[[Any], str],
    usage: Usage,
    on_retry: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Any]]:
    """Run `actor.work.remote(piece)` for every piece; yields (position, result) as they finish.

    start() makes an actor with methods `ready` and `work`; work returns (result, seconds). Raises
    RunError for a piece whose work raised, that killed `max_tries` workers, or when no actor starts.
    """
    waiting = deque(range(len(pieces)))
    tries = [0] * len(pieces)
    suspects: set[int] = set()  # in flight when a worker died with several: they go on alone
    workers: list[_Worker] = []
    running: dict[Any, tuple[_Worker, int]] = {}
    failed_starts = 0
    began: float | None = None

    def add_worker() -> None:
        handle = start()
        workers.append(_Worker(handle, handle.ready.remote()))

    def replace_worker(worker: _Worker) -> None:
        workers.remove(worker)
        ray.kill(worker.handle)  # it may only be out of reach, and must not compute beside its successor
        for ref in [ref for ref, (owner, _) in running.items() if owner is worker]:
            del running[ref]
        waiting.extendleft(reversed(worker.pieces))
        usage.replaced += 1
        add_worker()

    try:
        for _ in range(min(count, len(pieces))):
            add_worker()
        while waiting or running:
            for worker in workers:
                while worker.answered and waiting and len(worker.pieces) < IN_FLIGHT:
                    if worker.pieces and not suspects.isdisjoint([waiting[0], *worker.pieces]):
                        break
                    piece = waiting.popleft()
                    worker.pieces.append(piece)
                    running[worker.handle.work.remote(pieces[piece])] = (worker, piece)
            starting = {worker.ready: worker for worker in workers if not worker.answered}
            done, _ = ray.wait([*running, *starting], num_returns=1, timeout=60.0)
            for ref in done:
                if ref in starting:
                    worker = starting[ref]
                    try:
                        ray.get(ref)
                    except RayError as error:
                        failed_starts += 1
                        if failed_starts >= max_tries or isinstance(error, RayTaskError):
                            raise RunError(f"a worker could not start ({cause_of(error)})") from error
                        replace_worker(worker)
                        continue
                    worker.answered, failed_starts = True, 0
                    began = began or time.monotonic()
                    continue
                if ref not in running:
                    continue  # its worker was replaced a moment ago
                worker, piece = running[ref]
                try:
                    result, seconds = ray.get(ref)
                except RayActorError as error:
                    on_retry()
                    # With several in flight nobody knows which it was at: a result can be lost on its way.
                    if len(worker.pieces) > 1:
                        suspects.update(worker.pieces)
                    else:
                        tries[piece] += 1
                        if tries[piece] >= max_tries:
                            raise RunError(
                                f"{name(pieces[piece])}: its worker died {max_tries} times ({cause_of(error)}); free "
                                "memory or raise cluster.max_tries, then run the same command again"
                            ) from error
                    replace_worker(worker)
                    continue
                except RayError as error:
                    raise RunError(f"{name(pieces[piece])}: {cause_of(error)}") from error
                del running[ref]
                worker.pieces.remove(piece)
                usage.busy_s += seconds
                yield piece, result
        if began is not None:
            usage.alive_s += (time.monotonic() - began) * len(workers)
    finally:
        for worker in workers:
            ray.kill(worker.handle)


def run_tasks(queue: deque[Piece], start: Callable[[Piece], Any], count: int) -> Iterator[tuple[Piece, Any]]:
    """`start` the pieces of `queue` from its left, two in flight for each of `count` workers.

    Yields each piece with the reference that `start` made for it, as tasks end, whether well or not.
    The caller may add to the queue meanwhile.
    """
    running: dict[Any, Piece] = {}
    while queue or running:
        while queue and len(running) < count * IN_FLIGHT:
            piece = queue.popleft()
            running[start(piece)] = piece
        (ref,), _ = ray.wait(list(running), num_returns=1)
        yield running.pop(ref), ref
