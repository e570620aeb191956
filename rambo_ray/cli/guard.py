"""A process that watches over a command's, so that the last line and the exit code are ours however that one ends.

Ray ends a driver in C++ where its raylet or GCS is lost, and a machine without memory kills the largest process;
neither leaves a word. So a command that uses Ray does its work in a child: this process, which has loaded nothing yet
and stays at some 20 MB, waits for it. It passes signals on and gives the child a few seconds to end by them; ends what
is left of the child's own local Ray where it could not do so itself; and says what the child told it to, or, where it
was not told, what has become of it. Where the system is not Linux the command works in its own process, without this.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rambo_ray import ends
from rambo_ray.displays import JsonLines

PATIENCE_S = 3.0
"""From a signal to the end of a child that does not end by itself: together with the rest below five seconds."""
LINGER_S = 15.0
"""For a child that has said how it ends, and has only to leave Ray."""

_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # of Linux's prctl
_LOOKS_S = 0.5
_PATIENCE_WITH_KILLED_S = 5.0  # a busy machine takes its time to bury them
_LARGE = {"numpy", "torch", "ray"}  # with threads of their own, and memory to hold twice


def possible() -> bool:
    """Whether this process can watch over another one: on Linux, with nothing loaded yet, and unless it is watched."""
    small = threading.active_count() == 1 and _LARGE.isdisjoint(sys.modules)
    return sys.platform == "linux" and small and not ends.guarded()


def say(program: str, line: str | None, code: int, *, log_json: bool) -> int:
    """The last line of a command, for people or as an event; returns the exit code."""
    if line is not None:
        if log_json:
            JsonLines(sys.stdout).error(line, code)
        else:
            print(f"{program}: {line}", file=sys.stderr, flush=True)
    return code


def watched(program: str, work: Callable[[], int], *, log_json: bool) -> int:
    """Do `work` in a child, see to its end, and return the exit code; in the child, return what `work` returns."""
    heeded = {number for number in ends.SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}
    read, write = os.pipe()
    _prctl(_SET_CHILD_SUBREAPER, 1)  # what the child leaves behind becomes ours
    signal.pthread_sigmask(signal.SIG_BLOCK, {*heeded, signal.SIGCHLD})
    own = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _prctl(_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != own:  # it died before it was heard
            os._exit(1)
        os.close(read)
        ends.watched_by(own, write)
        ends.heed()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*heeded, signal.SIGCHLD})
        return work()
    os.close(write)
    os.set_blocking(read, False)
    seen = _Seen(child, read)
    seen.to_its_end(heeded)  # the signals stay blocked: this process has only to say how it went
    line, code = seen.verdict()
    if code != 0 and sys.stdout.isatty():
        sys.stdout.write("\x1b[?25h\r")  # a child that was killed has left its bars without a cursor
        sys.stdout.flush()
    return say(program, line, code, log_json=log_json)


@dataclass
class _Seen:
    """What is known of the child. signal: the first that came; killed: whether it had to be; told: see `ends.tell`."""

    child: int
    pipe: int
    told: dict[str, Any] = field(default_factory=dict)
    signal: int | None = None
    killed: bool = False
    status: int | None = None
    deadline: float | None = None
    unread: bytes = b""

    def to_its_end(self, heeded: set[int]) -> None:
        while self.status is None:
            came = signal.sigtimedwait({*heeded, signal.SIGCHLD}, _LOOKS_S)
            if came is not None and came.si_signo in heeded:
                if self.signal is None:
                    self.signal = came.si_signo
                    self.deadline = time.monotonic() + PATIENCE_S
                    os.kill(self.child, self.signal)
                else:  # nobody asks twice who has time
                    self.deadline = time.monotonic()
            self._read()
            self._reap()
            if "code" in self.told and self.deadline is None:
                self.deadline = time.monotonic() + (PATIENCE_S if self.told.get("lost") else LINGER_S)
            if self.status is None and self.deadline is not None and time.monotonic() >= self.deadline:
                self.killed = True
                os.kill(self.child, signal.SIGKILL)
                self.deadline = None if self.signal is None else float("inf")
        self._read()
        if self.killed or self.signal is not None or self.told.get("code") is None or self.told.get("lost"):
            _end_what_is_left()

    def verdict(self) -> tuple[str | None, int]:
        """The last line and the exit code."""
        code = self.told.get("code")
        if self.signal is not None and code != 0:
            return ends.stopped(self.signal), 128 + self.signal
        if code is not None:
            return self.told.get("line"), int(code)
        assert self.status is not None
        kept = "what is finished is kept, the same command continues" + self._logged()
        if os.WIFSIGNALED(self.status):
            number = os.WTERMSIG(self.status)
            name = signal.Signals(number).name
            if number == signal.SIGKILL:
                return f"failed: the process was killed ({name}), as on a machine without memory; {kept}", 128 + number
            return f"failed: the process crashed ({name}), as where Ray's own processes have died; {kept}", 1
        return (
            f"failed: the process ended without a word (exit code {os.WEXITSTATUS(self.status)}), as Ray ends it where "
            f"its raylet or GCS has died; {kept}"
        ), 1

    def _logged(self) -> str:
        return f"; see {self.told['log']}" if "log" in self.told else ""

    def _read(self) -> None:
        try:
            while part := os.read(self.pipe, 65536):
                self.unread += part
        except BlockingIOError:
            pass
        *lines, self.unread = self.unread.split(b"\n")
        for line in lines:
            self.told.update(json.loads(line))

    def _reap(self) -> None:
        """Bury what has died: the child, and, as it is ours, what others have left behind."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.child:
                self.status = status


def _end_what_is_left() -> None:
    """Kill what the child has left behind, and what that has started: raylet, GCS and workers of a local Ray."""
    until = time.monotonic() + _PATIENCE_WITH_KILLED_S
    while (left := _descendants(os.getpid())) and time.monotonic() < until:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)


def _descendants(ancestor: int) -> set[int]:
    """Processes that `ancestor` has started, and those that they have."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):  # it has ended meanwhile
                parents[int(entry)] = int(Path(f"/proc/{entry}/stat").read_bytes().rpartition(b")")[2].split()[1])
    found, new = set[int](), {ancestor}
    while new := {pid for pid, parent in parents.items() if parent in new}:
        found |= new
    return found


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
