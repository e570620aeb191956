"""The process that watches over a command's: what it says and returns however that one ends."""

from __future__ import annotations

import _thread
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rambo_ray import ends

ROOT = Path(__file__).parents[2]

# A command whose work is the second argument, in a process of its own, watched over.
COMMAND = """
import os, signal, subprocess, sys, time
from rambo_ray import ends, run_log
from rambo_ray.cli import entry, guard
from rambo_ray.errors import RunError, UserError

guard.PATIENCE_S = 1.0
guard.LINGER_S = 1.0

def job():
    print("begun", os.getpid(), flush=True)
    {work}
    return 0

def work():
    with run_log.begun("rambo run", []):
        return entry.exit_code("rambo run", job, log_json={log_json})

assert guard.possible()
sys.exit(guard.watched("rambo run", work, log_json={log_json}))
"""
WAIT = "time.sleep(60)"
LONG = "lambda: time.sleep(60)"
DEAF = "signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WAIT
GOES_ON = "the same command continues where this one stopped"


def started(work: str, log_json: bool = False) -> subprocess.Popen[str]:
    code = COMMAND.format(work=work, log_json=log_json)
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("work", "code", "line"),
    [
        ("pass", 0, ""),
        ("return 3", 3, ""),
        ("raise UserError('k=0: no')", 2, "error: k=0: no"),
        ("raise RunError('it fell over')", 1, "failed: it fell over"),
        ("os._exit(1)", 1, "failed: the process ended without a word (exit code 1), as Ray ends it where its raylet"),
        ("os._exit(0)", 1, "failed: the process ended without a word (exit code 0)"),
        ("os.abort()", 1, "failed: the process crashed (SIGABRT)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, "failed: the process was killed (SIGKILL), as on a machine"),
        ("os.kill(os.getpid(), signal.SIGTERM); " + WAIT, 143, f"ended by SIGTERM; {GOES_ON}"),
        ("sys.exit(0)", 0, ""),
        # What has said how it ends, and does not: as where Ray cannot be left any more.
        (f"import threading; threading.Thread(target={LONG}).start(); raise RunError('x')", 1, "failed: x"),
        # What libraries print at their end comes before the last line.
        ("import atexit; atexit.register(os.write, 2, b'noise\\n'); raise RunError('y')", 1, "failed: y"),
    ],
)  # fmt: skip
def test_the_last_line_and_the_exit_code(work: str, code: int, line: str) -> None:
    with started(work) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    last = said.strip().rpartition("\n")[2]
    assert last.startswith(f"rambo run: {line}") if line else not last, said


@pytest.mark.parametrize(
    ("work", "signals", "code", "line"),
    [
        (WAIT, [signal.SIGINT], 130, f"interrupted; {GOES_ON}"),
        (WAIT, [signal.SIGTERM], 143, f"ended by SIGTERM; {GOES_ON}"),
        (DEAF, [signal.SIGINT], 130, f"interrupted; {GOES_ON}"),
        (DEAF, [signal.SIGINT, signal.SIGINT], 130, f"interrupted; {GOES_ON}"),
    ],
)
def test_signals_end_it_soon_and_it_says_how_to_go_on(work: str, signals: list[int], code: int, line: str) -> None:
    with started(work) as process:
        assert process.stdout is not None and process.stdout.readline().startswith("begun")
        for number in signals:
            time.sleep(0.3)
            process.send_signal(number)
        asked = time.monotonic()
        _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert said == f"rambo run: {line}\n"
    assert time.monotonic() - asked < 10.0


def test_what_the_child_leaves_behind_is_ended() -> None:
    """As a local Ray, whose raylet has children of its own, after the driver was killed."""
    script = "import subprocess, sys; subprocess.run(['sleep', '60'])"
    work = (
        f"left = subprocess.Popen([sys.executable, '-c', {script!r}], start_new_session=True); time.sleep(0.5); "
        "print(left.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    with started(work) as process:
        assert process.stdout is not None
        process.stdout.readline()
        left = int(process.stdout.readline())
        process.wait(timeout=60)
    assert process.returncode == 137
    with pytest.raises(ProcessLookupError):
        os.kill(left, 0)


def test_where_the_guard_is_killed_the_child_ends_with_it() -> None:
    with started(WAIT) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline().split()[1])
        process.kill()
        process.wait()
        deadline = time.monotonic() + 10
        while Path(f"/proc/{child}/stat").exists() and " Z " not in Path(f"/proc/{child}/stat").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_the_line_is_an_event_where_events_were_asked_for() -> None:
    with started("os._exit(1)", log_json=True) as process:
        said, errors = process.communicate(timeout=60)
    event = json.loads(said.splitlines()[-1])
    assert (event["event"], event["code"], errors) == ("error", 1, "") and "without a word" in event["text"]


def test_a_thread_interrupts_by_a_signal_that_is_heeded() -> None:
    """A shell that starts a command in the background has it ignore Ctrl-C."""
    assert ends.interrupting() == signal.SIGINT
    before = {number: signal.getsignal(number) for number in ends.SIGNALS}
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        assert ends.interrupting() == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            _thread.interrupt_main(ends.interrupting())
            time.sleep(5)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
