"""What is heard of a run's Ray: what workers print, errors with their tracebacks, and who can reach its ports."""

from __future__ import annotations

import errno
import ipaddress
import logging
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import ray
from ray.exceptions import ActorUnavailableError, AuthenticationError

from rambo_ray import run_log
from rambo_ray.cli.entry import exit_code
from rambo_ray.cluster import fit, starting, tasks, watch
from rambo_ray.cluster.session import Session
from rambo_ray.errors import RunError, UserError


def test_it_listens_on_this_machines_loopback_only(session: Session) -> None:
    own = psutil.Process()
    listening = []
    for process in [own, *own.children(recursive=True)]:
        try:
            found = process.net_connections(kind="inet")
        except psutil.Error:  # it has ended meanwhile
            continue
        listening += [(process.name(), c.laddr.ip) for c in found if c.status == psutil.CONN_LISTEN]
    assert len(listening) > 3
    reachable = [(name, ip) for name, ip in listening if not _is_loopback(ip)]
    assert not reachable


def _is_loopback(ip: str) -> bool:
    address = ipaddress.ip_address(ip)
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _fails() -> None:
    print("to standard output")
    print("to standard error", file=sys.stderr, flush=True)
    raise ZeroDivisionError("of the worker")


def test_what_a_worker_said_and_its_traceback_are_in_the_log_and_not_on_the_terminal(
    session: Session, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with run_log.begun("rambo run", []):
        run_log.keep(tmp_path)
        log = tmp_path / run_log.NAME

        def job() -> int:
            return int(tasks.fetch(ray.remote(_fails).options(max_retries=0).remote(), "margins of the pool"))

        assert exit_code("rambo run", job) == 1
        deadline = time.monotonic() + 30
        while "to standard error" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
    said = capfd.readouterr()
    line = f"rambo run: failed: margins of the pool: ZeroDivisionError: of the worker; see {log}\n"
    assert (said.out, said.err) == ("", line)
    text = log.read_text()
    assert "_fails" in text and "in _fails" in text and "RunError: margins of the pool" in text
    assert "to standard output" in text and " warning _fails (" in text


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged."""
    kept: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: kept.append(record.getMessage())  # type: ignore[method-assign]
    run_log.LOG.addHandler(handler)
    level = run_log.LOG.level
    run_log.LOG.setLevel(logging.INFO)
    yield kept
    run_log.LOG.removeHandler(handler)
    run_log.LOG.setLevel(level)


def test_tables_of_the_autoscaler_and_bars_are_not_what_workers_say(lines: list[str]) -> None:
    watch.said({"pid": "autoscaler", "ip": "1.2.3.4", "lines": ["Resources"]})
    watch.said({"pid": 7, "ip": "1.2.3.4", "lines": ["__ray_tqdm_magic_token__{}", " ", "real\n"], "task_name": "f"})
    assert lines == ["f (7, 1.2.3.4): real"]


class Watched:
    """A monitor of the fit: `answers` one after the other, exceptions raised."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Any) -> None:
        left, self.killed = list(answers), 0

        def get(_: Any, timeout: float) -> list[Mapping[str, float]]:
            answer = left.pop(0) if left else []
            if isinstance(answer, BaseException):
                raise answer
            return answer

        def kill(_: Any) -> None:
            self.killed += 1

        self.since = SimpleNamespace(remote=lambda position: position)
        monkeypatch.setattr(fit, "ray", SimpleNamespace(get=get, kill=kill))


LOST = ActorUnavailableError("the monitor is gone", None)


def test_an_error_of_the_fit_is_not_replaced_by_one_of_watching_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = Watched(monkeypatch, LOST, LOST, LOST)
    with pytest.raises(RunError, match="the real one"), fit._watching(monitor, lambda metrics: None):
        time.sleep(1.2)  # the watcher has looked
        raise RunError("the real one")
    assert monitor.killed == 1


def test_a_monitor_that_is_lost_is_the_logs_business(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    with fit._watching(Watched(monkeypatch, LOST), lambda metrics: None):
        pass
    assert lines == ["how the fit went is not known in full:"]


def test_what_showing_it_raises_is_raised_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(metrics: Mapping[str, float]) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError), fit._watching(Watched(monkeypatch, [{"epoch": 1}]), shown):
        pass
    seen: list[Mapping[str, float]] = []
    with fit._watching(Watched(monkeypatch, [{"epoch": 1}, {"epoch": 2}]), seen.append):
        pass
    assert [metrics["epoch"] for metrics in seen] == [1, 2]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space is left in /disk; make some, or set RAY_TMPDIR"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files; allow more of them, as by: ulimit -n"),
        (PermissionError(errno.EACCES, "Permission denied", "/tmp/ray"), "set RAY_TMPDIR to a folder that can be"),
        (Exception("The current node timed out during startup. This\ncould happen"), "the machine is too busy"),
        (RuntimeError(""), "RuntimeError; its own logs are in"),
    ],
)
def test_a_ray_that_does_not_start_is_one_line(error: Exception, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/disk")
    monkeypatch.setattr(starting, "ray", SimpleNamespace(shutdown=lambda: None))
    with pytest.raises(RunError, match="Ray did not start on this machine: ") as raised, starting.local():
        raise error
    said = str(raised.value)
    assert line in said and "\n" not in said and raised.value.__cause__ is error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            AuthenticationError("Token is wrong"),
            "the cluster wants its token; set RAY_AUTH_MODE=token (it is disabled)",
        ),
        (RuntimeError("Version mismatch: The cluster was started with:\n Ray: 2.40"), "install the cluster's versions"),
        (ConnectionError("no such"), "cannot connect (no such); if it wants a token, set RAY_AUTH_MODE=token"),
    ],
)
def test_a_cluster_that_cannot_be_joined_is_one_line(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(UserError, match="cluster.address=auto: ") as raised, starting.connecting("auto"):
        raise error
    assert line in str(raised.value) and "\n" not in str(raised.value)


def test_an_address_where_nobody_listens_is_refused_at_once() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    began = time.monotonic()
    refused = pytest.raises(UserError, match="cannot connect .*; start it with 'ray start --head'")
    with refused, starting.connecting(address):
        raise AssertionError
    assert time.monotonic() - began < 5.0


@pytest.mark.slow
def test_a_local_ray_that_lost_a_process_ends_the_body(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    dead: list[tuple[str, Any]] = [("log_monitor", SimpleNamespace(returncode=1))]
    node = SimpleNamespace(dead_processes=lambda: dead, get_logs_dir_path=lambda: "/tmp/ray/x/logs")
    monkeypatch.setattr(watch, "_LOOKS_S", 0.05)
    monkeypatch.setattr(
        watch, "ray", SimpleNamespace(_private=SimpleNamespace(worker=SimpleNamespace(_global_node=node)))
    )
    with watch.alive():
        time.sleep(0.3)  # what is not needed may die
    ended = pytest.raises(RunError, match=r"Ray's raylet on this machine died \(killed by SIGKILL\); .* continues")
    with ended, watch.alive():
        dead.append(("raylet", SimpleNamespace(returncode=-signal.SIGKILL)))
        time.sleep(30)
    assert "raylet" in lines[0] and "/tmp/ray/x/logs" in lines[0]
