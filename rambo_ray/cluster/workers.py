"""Work spread over Ray with a bounded number of pieces in flight: by actors, and by tasks.

`work_through` has a pool of actors work through a list. Each holds at most two calls, so it never idles
and nothing piles up; a call takes as many pieces as a second's work, so that short ones cost the driver little.
An actor that dies is replaced; the pieces it held are tried again, one by one, until it is known which of them kills,
and one that has killed `max_tries` workers is given up, so that the others are done. An exception
raised by the work itself is deterministic and ends the stage at once. A replacement gets work only once
it answers, so one that the shrunken cluster has no room for does not hold anything up.

`run_tasks` is the same for tasks, which Ray itself retries and places.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from types import MappingProxyType
from typing import Any, TypeVar

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from rambo_ray.cluster.session import cause_of
from rambo_ray.cluster.waiting import Waiting
from rambo_ray.errors import RunError
from rambo_ray.pipeline.left_out import Quarantined

IN_FLIGHT = 2  # calls for each worker: it never idles, and nothing piles up
CALL_S = 1.0  # work that one call is made of, where pieces are shorter: what they cost the driver is shared

MOST_NODES_LOST = 10  # nodes that a piece may lose before it is suspected of that, too
LOOK_S = 5.0  # between two looks at what waits for room

Piece = TypeVar("Piece")


@dataclass
class _Worker:
    handle: Any
    ready: Any
    answered: bool = False
    node: Any = None
    calls: dict[Any, tuple[int, ...]] = field(default_factory=dict)

    @property
    def pieces(self) -> list[int]:
        """What it holds, in the order it was given."""
        return [piece for call in self.calls.values() for piece in call]


@dataclass
class Usage:
    """How well the actors were used: seconds of work they report, and seconds they were there for.

    replaced: actors that died; retrained: subsets that were trained on now, not found in a store; quarantined: those
    that killed every worker that tried them; damaged_files: of the store, which were set aside.
    """

    busy_s: float = 0.0
    alive_s: float = 0.0
    replaced: int = 0
    retrained: int = 0
    quarantined: list[Quarantined] = field(default_factory=list)
    damaged_files: int = 0

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
    on_given_up: Callable[[int, str], None] | None = None,
    weights: Sequence[float] | None = None,
    asked: Mapping[str, float] = MappingProxyType({}),
) -> Iterator[tuple[int, Any]]:
    """Run `actor.work.remote(pieces)` until every piece is done; yields (position, result) as they finish.

    start() makes an actor with methods `ready`, which may say on which node it is, and `work`, which takes a tuple of
    pieces and returns a list of (result, seconds). on_given_up is told of a piece that killed `max_tries` workers,
    and why they died. weights: how long pieces take, in units of their own; default: all alike. Raises RunError for a
    piece whose work raised, for one that kills where nobody is told of it, or when no actor starts.
    asked: what an actor asks Ray for; where none of them can start, it is said how much of it is free.
    """
    waiting = deque(range(len(pieces)))
    tries = [0] * len(pieces)
    lost = [0] * len(pieces)
    suspects: set[int] = set()  # in flight when a worker failed with several: they go on alone
    workers: list[_Worker] = []
    running: dict[Any, _Worker] = {}
    starting: dict[Any, _Worker] = {}
    failed_starts = 0
    waiting_for_room = Waiting("this stage's actors", asked)
    began: float | None = None
    weights = [1.0] * len(pieces) if weights is None else weights
    unit_s = 0.0  # what a unit of weight took lately; until it is known pieces go alone

    done: SimpleQueue[tuple[Any, Future[Any]]] = SimpleQueue()

    def watch(ref: Any) -> None:
        # Told of what is done, not asking after all that is not: what a call costs does not grow with the workers.
        ref.future().add_done_callback(lambda answer: done.put((ref, answer)))

    def add_worker() -> None:
        handle = start()
        worker = _Worker(handle, handle.ready.remote())
        workers.append(worker)
        starting[worker.ready] = worker
        watch(worker.ready)

    def replace_worker(worker: _Worker) -> None:
        workers.remove(worker)
        worker.answered = False
        starting.pop(worker.ready, None)
        ray.kill(worker.handle)  # it may only be out of reach, and must not compute beside its successor
        for ref in worker.calls:
            del running[ref]
        waiting.extendleft(reversed(worker.pieces))
        usage.replaced += 1
        add_worker()

    def next_call() -> tuple[int, ...]:
        """The next pieces: a second's work, but no more than leave enough for all others to end together."""
        most = len(waiting) // (2 * IN_FLIGHT * len(workers)) if unit_s else 1
        call = [waiting.popleft()]
        if call[0] not in suspects:
            left = CALL_S - unit_s * weights[call[0]]
            while len(call) < most and waiting[0] not in suspects and unit_s * weights[waiting[0]] <= left:
                left -= unit_s * weights[waiting[0]]
                call.append(waiting.popleft())
        return tuple(call)

    def give(worker: _Worker) -> None:
        while waiting and len(worker.calls) < IN_FLIGHT:
            if worker.calls and not suspects.isdisjoint([waiting[0], *worker.pieces]):
                return
            call = next_call()
            ref = worker.handle.work.remote(tuple(pieces[piece] for piece in call))
            worker.calls[ref] = call
            running[ref] = worker
            watch(ref)

    def died(worker: _Worker, error: RayError) -> None:
        on_retry()
        held = worker.pieces
        # With several in flight nobody knows which it was at: a result can be lost on its way.
        if len(held) > 1:
            suspects.update(held)
        elif worker.node is None or worker.node in _alive_nodes() or lost[held[0]] >= MOST_NODES_LOST:
            (piece,) = held
            tries[piece] += 1
            if tries[piece] >= max_tries:
                # Before anything is done the next is the shortest: what kills large and small alike is not in them.
                if waiting and not unit_s:
                    waiting.appendleft(waiting.pop())
                why = f"its worker died {max_tries} times ({cause_of(error)})"
                if on_given_up is None:
                    raise RunError(
                        f"{name(pieces[piece])}: {why}; free memory or raise cluster.max_tries, then run the same "
                        "command again"
                    ) from error
                on_given_up(piece, why)
                for ref in worker.calls:
                    del running[ref]
                worker.calls.clear()
        else:
            lost[held[0]] += 1  # its machine went away, which says nothing against it
        replace_worker(worker)

    try:
        for _ in range(min(count, len(pieces))):
            add_worker()
        idle = list(workers)
        while waiting or running:
            for worker in idle if not suspects else workers:
                if worker.answered:
                    give(worker)
            idle = []
            if running:
                waiting_for_room.reset()
            else:
                waiting_for_room.look()
            for ref, answer in _answers(done):
                if ref in starting:
                    worker = starting.pop(ref)
                    try:
                        worker.node = _node_of(answer.result())
                    except RayError as error:
                        failed_starts += 1
                        if failed_starts >= max_tries or isinstance(error, RayTaskError):
                            raise RunError(f"a worker could not start ({cause_of(error)})") from error
                        replace_worker(worker)
                        continue
                    worker.answered, failed_starts = True, 0
                    idle.append(worker)
                    began = began or time.monotonic()
                    continue
                if ref not in running:
                    continue  # its worker was replaced a moment ago
                worker = running[ref]
                try:
                    results = answer.result()
                except RayActorError as error:
                    died(worker, error)
                    idle += workers  # what it held goes to whoever is free
                    continue
                except RayError as error:
                    call = worker.calls[ref]
                    if len(call) > 1:  # alone, the piece that raised it says so
                        suspects.update(call)
                        waiting.extendleft(reversed(call))
                        del running[ref], worker.calls[ref]
                        idle += workers
                        continue
                    raise RunError(f"{name(pieces[call[0]])}: {cause_of(error)}") from error
                call = worker.calls.pop(ref)
                del running[ref]
                idle.append(worker)
                for piece, (result, seconds) in zip(call, results, strict=True):
                    usage.busy_s += seconds
                    lately = seconds / max(weights[piece], 1e-9)
                    unit_s = unit_s + (lately - unit_s) / 8 if unit_s else lately
                    suspects.discard(piece)
                    yield piece, result
        if began is not None:
            usage.alive_s += (time.monotonic() - began) * len(workers)
    finally:
        for worker in workers:
            ray.kill(worker.handle)


def _answers(done: SimpleQueue[tuple[Any, Future[Any]]]) -> Iterator[tuple[Any, Future[Any]]]:
    """What is done by now; where nothing is, the next that is, or nothing until it is time to look at what waits."""
    try:
        yield done.get(timeout=LOOK_S)
    except Empty:
        return
    for _ in range(done.qsize()):  # what is done meanwhile waits until those that wait for work have some
        yield done.get_nowait()


def _node_of(answer: Any) -> str | None:
    return answer if isinstance(answer, str) else None


def _alive_nodes() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def run_tasks(
    queue: deque[Piece], start: Callable[[Piece], Any], count: int, asked: Mapping[str, float] = MappingProxyType({})
) -> Iterator[tuple[Piece, Any]]:
    """`start` the pieces of `queue` from its left, two in flight for each of `count` workers.

    Yields each piece with the reference that `start` made for it, as tasks end, whether well or not.
    The caller may add to the queue meanwhile. asked: what a task asks Ray for; where there was no room for one when
    they were started, and none has ended since, it is said how much is free.
    """
    running: dict[Any, Piece] = {}
    waits = Waiting("this stage's tasks", asked)
    waiting_for_room = waits if queue and waits.crowded else None  # else long tasks are no reason to speak
    while queue or running:
        while queue and len(running) < count * IN_FLIGHT:
            piece = queue.popleft()
            running[start(piece)] = piece
        done, _ = ray.wait(list(running), num_returns=1, timeout=LOOK_S if waiting_for_room else None)
        if not done:
            assert waiting_for_room is not None
            waiting_for_room.look()
            continue
        (ref,), waiting_for_room = done, None
        yield running.pop(ref), ref
