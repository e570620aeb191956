"""What waits for room on the cluster says so: what it asks for, and what is free."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import ray

from rambo_ray.progress import duration

FIRST_S = 10.0  # of silence where there was no room to begin with
START_S = 60.0  # where there was: processes may start as slowly as that
RARER = 3.0  # each silence is so many times as long as the one before
GRACE_S = 2.0  # until what an actor held that was just ended is free again

log = logging.getLogger(__name__)
_heard_by: list[Callable[[str], None]] = [log.warning]


@contextmanager
def heard_by(listener: Callable[[str], None] | None) -> Iterator[None]:
    """In the body `listener` is told what is said here; None: whoever is told already."""
    _heard_by.append(listener or _heard_by[-1])
    try:
        yield
    finally:
        _heard_by.pop()


def say(line: str) -> None:
    """Tell whoever watches the run; where nobody does, it is a warning in the log."""
    _heard_by[-1](line)


class Waiting:
    """Says that nothing begins, after some seconds of it and then more and more rarely.

    What has been started holds its room while its process starts, so what is free then does not say whether it waits.
    """

    def __init__(
        self,
        what: str,
        asked: Mapping[str, float],
        crowded: bool | None = None,
    ) -> None:
        """what: waits; asked: of Ray, as the options of a task or actor. To be made before these are started.

        crowded: whether there is no room now; default: what Ray says.
        """
        self.what, self.asked = what, asked
        self.crowded = not has_room(asked) if crowded is None else crowded
        self.reset()

    def reset(self) -> None:
        """Something has begun."""
        self.since = time.monotonic()
        self.silence = 0.0

    def look(self) -> None:
        """Nothing has begun; says so if it is time to."""
        waited = time.monotonic() - self.since
        if waited < FIRST_S or waited < self.silence:
            return
        if self.crowded or not _could(self.asked) or waited >= START_S:
            self.silence = waited * RARER
            say(f"{self.what}: nothing has begun for {duration(waited)}; {numbers(self.asked)}")


def has_room(options: Mapping[str, float]) -> bool:
    """Whether a task or actor with these options could start now or in a moment, if what is free is on one node."""
    until = time.monotonic() + GRACE_S
    while True:
        free = ray.available_resources()
        if all(free.get(name, 0.0) >= amount for name, amount in resources(options).items()):
            return True
        if time.monotonic() >= until:
            return False
        time.sleep(0.1)


def until_room(what: str, options: Mapping[str, float], places: Callable[[], int], wanted: int, enough: int) -> int:
    """Wait until `places()`, of this size and free, are `wanted`, or, after a moment, `enough` of them; their number.

    what: waits, and says so.
    """
    waits = Waiting(what, options, crowded=True)
    while (found := places()) < wanted:
        if found >= enough and time.monotonic() - waits.since >= GRACE_S:
            break
        waits.look()
        time.sleep(0.2)
    return found


def _could(options: Mapping[str, float]) -> bool:
    """Whether the cluster has so much at all."""
    has = ray.cluster_resources()
    return all(has.get(name, 0.0) >= amount for name, amount in resources(options).items())


def resources(options: Mapping[str, float]) -> dict[str, float]:
    """What a task or actor with these options takes, as Ray calls it, without what it takes none of."""
    return {name: options[key] for key, name in (("num_cpus", "CPU"), ("num_gpus", "GPU")) if options.get(key)}


def numbers(options: Mapping[str, float]) -> str:
    """What is asked for, and what of it the cluster has and has free, in words."""
    has, free, asked = ray.cluster_resources(), ray.available_resources(), resources(options)
    wanted = " and ".join(f"{amount:g} {name}{'s' if amount != 1 else ''}" for name, amount in asked.items())
    left = ", ".join(f"{free.get(name, 0):g} of {has.get(name, 0):g} {name}s" for name in asked)
    return f"each needs {wanted} of one node, free are {left}"
