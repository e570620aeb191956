"""Runs sections one after the other, each in a process of its own and within its share of the time.

The processes are forked from one that has imported everything and has not touched the GPU: a section starts
at once, an error or a full GPU of one section does not reach the next, and one that overruns is killed.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gpu.record import Record, Section

GRACE = 0.15  # of its share: how far past its time a section may go before it is killed
FEWEST_S = 1.0  # a section with less time than that is not begun


@dataclass(frozen=True)
class Planned:
    """A section to run. seconds: its share when all run in the default time; what is left over goes to later ones."""

    name: str
    seconds: float
    call: Callable[[Section], None]


def run(
    planned: Sequence[Planned], record: Record, *, device: str, smoke: bool, root: str | None, seconds: float
) -> bool:
    """Run all sections within `seconds`; True where none failed."""
    end = time.monotonic() + seconds
    fine = True
    for place, one in enumerate(planned):
        rest = sum(other.seconds for other in planned[place:])
        share = (end - time.monotonic()) * one.seconds / rest
        if share < min(FEWEST_S, one.seconds):
            record.update(one.name, {"status": "skipped", "error": f"no time left: {share:.0f} s"})
            record.log(f"{one.name}: skipped, no time left")
            continue
        status = _run_one(one, record, device, smoke, root, share)
        fine = fine and status == "ok"
    return fine


def _run_one(one: Planned, record: Record, device: str, smoke: bool, root: str | None, share: float) -> str:
    record.log(f"{one.name}: begins, {share:.0f} s")
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)  # so that its own workers end with it
        code = 1
        try:
            one.call(Section(one.name, record, device, smoke, began + share, root))
            code = 0
        except BaseException:  # whatever it is, the next section should run
            told = traceback.format_exc()
            record.update(one.name, {"error": told[-6000:]})
            record.log(f"{one.name}: failed\n{told}")
        finally:
            os._exit(code)
    status, limit = "cut off", began + share * (1 + GRACE) + 2.0
    while time.monotonic() < limit:
        ended, code = os.waitpid(child, os.WNOHANG)
        if ended:
            status = "ok" if code == 0 else "failed"
            break
        time.sleep(0.02)
    _end(child)
    record.update(one.name, {"status": status, "seconds": time.monotonic() - began, "share_s": share})
    record.log(f"{one.name}: {status} after {time.monotonic() - began:.1f} s")
    return status


def _end(child: int) -> None:
    """Kill what is left of a section's process group."""
    for end in (lambda: os.killpg(child, signal.SIGKILL), lambda: os.waitpid(child, 0)):
        try:
            end()
        except (ProcessLookupError, ChildProcessError, PermissionError):
            continue
