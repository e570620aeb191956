"""One owner for one folder, on one machine and over several."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rambo_ray import files, locks
from rambo_ray.cli import main
from rambo_ray.data import datasets
from rambo_ray.errors import RunError, UserError

HOLDS = """
import sys, time
from pathlib import Path
from rambo_ray import locks
with locks.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def another_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


COMMANDS = [
    ["run", "--config", "digits_smoke"],
    ["collect", "--config", "digits_smoke"],
    ["sweep", "--config", "digits", "--space", "digits_batch_margin"],
    ["backtest", "--config", "digits_smoke"],
    ["benchmark", "--experiment", "digits_smoke"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_second_command_in_a_directory_is_refused_before_it_reads_anything(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.Reader, "load", lambda *_: pytest.fail("it reads"))
    with locks.held(tmp_path / locks.RUN):
        before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
        assert main.main([*command, "--output", str(tmp_path)]) == 2
        said = capsys.readouterr()
        assert said.err.startswith(f"rambo {command[0]}: error: --output {tmp_path}: process {os.getpid()}, since 20")
        assert said.err.count("\n") == 1
        assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


def left_by(path: Path, age_s: float = 0.0, **content: Any) -> None:
    """A lock file of an owner on another machine, last written so long ago."""
    known = {"machine": "0123abcd", "host": "node-7", "pid": 4711, "since": "2026-11-27T10:00:00+00:00", "lock": "x"}
    path.write_text(json.dumps(known | content) + "\n")
    os.utime(path, (time.time() - age_s,) * 2)


def test_a_second_is_refused_at_once_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    with another_process(path) as first:
        before = path.read_bytes()
        began = time.monotonic()
        for attempt in (lambda: locks.held(path).__enter__(), lambda: locks.refuse_held(path)):
            with pytest.raises(UserError) as error:
                attempt()
            line = str(error.value)
            assert line.startswith(f"--output {tmp_path}: process {first.pid}, since 20") and "\n" not in line
            assert line.endswith(" is at work there; wait for it or end it, or give another directory")
        assert time.monotonic() - began < 5 and path.read_bytes() == before
        first.send_signal(signal.SIGKILL)
        first.wait()
        locks.refuse_held(path)
        with locks.held(path) as mine:
            assert mine.earlier["pid"] == first.pid
    assert not path.exists()


def test_in_one_process_too_and_free_when_the_block_ends_by_an_error(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    with pytest.raises(ZeroDivisionError), locks.held(path):
        with pytest.raises(UserError, match=f"process {os.getpid()}, since"), locks.held(path):
            raise AssertionError("two hold it")
        raise ZeroDivisionError
    with locks.held(path) as again:
        assert again.earlier == {}


def test_many_at_once_have_it_one_after_the_other(tmp_path: Path) -> None:
    path, inside, most, got = tmp_path / "run.lock", [0], [0], [0]
    one = threading.Lock()

    def come() -> None:
        for _ in range(10):
            try:
                with locks.held(path):
                    with one:
                        inside[0] += 1
                        most[0] = max(most[0], inside[0])
                        got[0] += 1
                    with one:
                        inside[0] -= 1
            except UserError:
                pass

    threads = [threading.Thread(target=come) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1 and got[0] > 0 and not path.exists()


class TestOtherMachines:
    """The kernel's lock says nothing of them: the file's age does."""

    def test_one_that_lives_is_believed(self, tmp_path: Path) -> None:
        path = tmp_path / "run.lock"
        left_by(path, age_s=20)
        with pytest.raises(UserError) as error, locks.held(path):
            pass
        assert "process 4711 on node-7, since 2026-11-27T10:00:00+00:00 is at work there; wait" in str(error.value)
        assert "its last sign of life is 20 s old; if that machine is gone, the directory is free in 40 s" in str(
            error.value
        )
        with pytest.raises(UserError, match="on node-7"):
            locks.refuse_held(path)
        assert [each.name for each in tmp_path.iterdir()] == ["run.lock"]

    def test_one_that_has_shown_no_life_for_long_holds_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(locks, "_SETTLES_S", 0.01)
        path = tmp_path / "run.lock"
        left_by(path, age_s=locks.LEASE_S + 1)
        locks.refuse_held(path)
        with locks.held(path) as mine:
            assert mine.earlier["host"] == "node-7" and mine.is_mine()

    def test_of_two_that_come_at_once_the_last_to_write_has_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "run.lock"
        left_by(path, age_s=locks.LEASE_S + 1)
        monkeypatch.setattr(time, "sleep", lambda seconds: left_by(path, pid=4712))
        with pytest.raises(UserError, match="process 4712 on node-7"), locks.held(path):
            pass
        assert json.loads(path.read_text())["pid"] == 4712  # it is the other's, and stays

    def test_an_owner_shows_life_and_learns_that_it_has_lost_the_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(locks, "BEAT_S", 0.02)
        path = tmp_path / "run.lock"
        with locks.held(path) as mine:
            os.utime(path, (0, 0))
            deadline = time.monotonic() + 10
            while path.stat().st_mtime == 0 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert time.time() - path.stat().st_mtime < 5
            mine.check()
            mine.end()
            while not mine.is_lost():  # a last sign of life may come after it
                left_by(path)
                time.sleep(0.05)
            with pytest.raises(RunError, match="stood still for so long that process 4711 on node-7, since"):
                mine.check()
        assert json.loads(path.read_text())["host"] == "node-7"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_systems_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def none(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    monkeypatch.setattr(locks, "_SETTLES_S", 0.01)
    path = tmp_path / "run.lock"
    with locks.held(path), pytest.raises(UserError, match=f"process {os.getpid()}"), locks.held(path):
        pass
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    left_by(path, machine=files.machine(), pid=int(gone.stdout))
    with locks.held(path):  # of this machine, and dead: at once
        pass
    left_by(path, age_s=locks.LEASE_S + 1, machine=files.machine(), pid=os.getpid())
    with locks.held(path):  # its number is another's by now
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00" * 40, '{"machine": 7}', '{"pid": "x"}'])
def test_a_damaged_file_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setattr(locks, "_SETTLES_S", 0.01)
    path = tmp_path / "run.lock"
    path.write_text(content)
    os.utime(path, (0, 0))
    with locks.held(path) as mine:
        assert mine.is_mine()


def test_where_none_can_be_had(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file or directory; give a folder you can write to"):
        locks.held(tmp_path / "none" / "run.lock").__enter__()
    locks.refuse_held(tmp_path / "none" / "run.lock")
