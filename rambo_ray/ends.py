"""How a command's process ends: the signals it heeds, and what it tells the process that watches over it.

That other one is `rambo_ray.cli.guard`. It outlives this process, whatever ends it, and so has the last word; this
side of it is here because the log and the cluster have something to tell it, too.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from contextlib import suppress
from typing import Any, NoReturn

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What ends a run that may go on later: Ctrl-C, a preempted machine, a terminal that is closed."""

_GUARD = "RAMBO_GUARD"  # in the environment of the process watched over: "PID:FD" of its guard and of the pipe to it
_heeding = False


class Stopped(KeyboardInterrupt):
    """One of SIGNALS came; `number` says which."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def stopped(number: int) -> str:
    """What is said of a command that a signal ended."""
    how = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    return f"{how}; the same command continues where this one stopped"


def heed() -> None:
    """Have the first of SIGNALS raise `Stopped` in the main thread; called by a command in a process of its own.

    Those that the process was started to ignore (`nohup`) it goes on to ignore.
    """
    global _heeding
    _heeding = True
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def heed_again() -> None:
    """The same once more, after a library has put its own handlers there; nothing where `heed` was not called."""
    if _heeding and threading.current_thread() is threading.main_thread():
        heed()


def interrupting() -> signal.Signals:
    """The signal by which a thread can interrupt the main one: SIGINT, or another that a command heeds without it."""
    return next((number for number in SIGNALS if callable(signal.getsignal(number))), signal.SIGINT)


def _stop(number: int, _: Any) -> NoReturn:
    # Once is enough: a second one would interrupt what the first one has to end. The guard sees to a process that does
    # not end by itself; where there is none, the second signal is the system's.
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN if guarded() else signal.SIG_DFL)
    raise Stopped(number)


def watched_by(pid: int, pipe: int) -> None:
    """From here on the process `pid` watches over this one, and reads `pipe`; also after this one has exec'd."""
    os.set_inheritable(pipe, True)
    os.environ[_GUARD] = f"{pid}:{pipe}"


def guarded() -> bool:
    """Whether another process watches over this one."""
    return _pipe() is not None


def tell(**facts: Any) -> None:
    """Tell the guard, if there is one: `log`, the path of the log; `code` and `line`, how the command ends."""
    pipe = _pipe()
    if pipe is not None:
        with suppress(OSError):  # it may be gone; then nobody listens
            os.write(pipe, json.dumps(facts).encode() + b"\n")


def _pipe() -> int | None:
    pid, _, pipe = os.environ.get(_GUARD, "").partition(":")
    # The variable is inherited by all that this process starts; the guard watches over its own child alone.
    return int(pipe) if pid == str(os.getppid()) else None
