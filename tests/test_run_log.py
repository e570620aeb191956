"""The log of a run: where it lies, what is in it, how large it gets, and that its own troubles end no run."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest

from rambo_ray import run_log
from rambo_ray.cli import entry
from rambo_ray.cli.entry import exit_code
from rambo_ray.errors import RunError, UserError
from rambo_ray.progress import Display, Progress, Stages
from rambo_ray.run_log import LOG


def text(folder: Path) -> str:
    return (folder / run_log.NAME).read_text()


def test_it_has_what_was_said_before_it_had_a_place(tmp_path: Path) -> None:
    stages = Stages(display=Display())
    with run_log.begun("rambo run", ["seed=1", "data.root=a b"]):
        stages.say("two\nlines")
        assert run_log.path() is None
        run_log.keep(tmp_path)
        stages.begin("utility samples")
        work = stages.progress(3)
        work.advance(3)
        work.close()
        stages.end()
        stages.fail("one of them failed")
        stages.finish("22 images picked", None, {})
        assert run_log.path() == tmp_path / run_log.NAME
    assert run_log.path() is None
    lines = text(tmp_path).splitlines()
    assert [line[24:] for line in lines if line.startswith("20")] == [
        " info    " + "-" * 80,
        " info    two",
        " info    utility samples begins",
        *[line[24:] for line in lines if "utility samples: 3/3 in" in line],
        *[line[24:] for line in lines if line[33:].startswith("utility samples: 0.")],
        " error   one of them failed",
        " info    22 images picked",
    ]
    assert lines[1] == "    rambo run seed=1 'data.root=a b'" and "    lines" in lines
    assert ", torch " in lines[2] and "process" in lines[3]


def test_the_same_command_again_appends(tmp_path: Path) -> None:
    for seed in (1, 2):
        with run_log.begun("rambo run", [f"seed={seed}"]):
            run_log.keep(tmp_path)
    said = text(tmp_path)
    assert said.index("rambo run seed=1") < said.index("rambo run seed=2")


def test_a_command_that_ends_at_the_door_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = [list(logging.getLogger(name).handlers) for name in ("rambo_ray", "", "ray")]
    with run_log.begun("rambo run", []):
        LOG.warning("said")
    assert not list(tmp_path.iterdir())
    assert [list(logging.getLogger(name).handlers) for name in ("rambo_ray", "", "ray")] == before


def test_it_does_not_grow_beyond_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_log, "LARGEST", 2000)
    with run_log.begun("rambo run", []):
        run_log.keep(tmp_path)
        for number in range(200):
            LOG.info("line %d %s", number, "x" * 80)
    assert sorted(path.name for path in tmp_path.iterdir()) == [run_log.NAME, f"{run_log.NAME}.1"]
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir()) and "line 199" in text(tmp_path)


def test_what_other_libraries_warn_of_is_in_it_and_on_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with run_log.begun("rambo run", []), warnings.catch_warnings():
        warnings.simplefilter("always")
        run_log.keep(tmp_path)
        warnings.warn("of Python's", stacklevel=1)
        logging.getLogger("ray").error("of Ray's")
        logging.getLogger("other").warning("of another's")
        logging.getLogger("other").info("unasked for")
    said = text(tmp_path)
    assert "UserWarning: of Python's" in said and "ray: of Ray's" in said and "other: of another's" in said
    assert "unasked for" not in said


def test_a_full_disk_ends_the_log_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with run_log.begun("rambo run", []):
        run_log.keep(tmp_path)
        assert run_log._file is not None
        monkeypatch.setattr(run_log._file, "format", full)
        LOG.info("one")
        LOG.info("two")
        assert run_log.path() is None
    said = capsys.readouterr().err
    assert said == f"{tmp_path / run_log.NAME}: No space left on device; the log ends here\n"


def chained() -> int:
    try:
        raise ZeroDivisionError("of the worker")
    except ZeroDivisionError as error:
        raise RunError("the fit failed") from error


def mistaken() -> int:
    return {}["no such key"]


def wrong() -> int:
    raise UserError("k=0: must be 1 or more")


@pytest.mark.parametrize(
    ("job", "code", "line", "logged"),
    [
        (chained, 1, "failed: the fit failed; see {log}", "ZeroDivisionError: of the worker"),
        (mistaken, 1, "failed: KeyError: 'no such key'; what is finished is kept; see {log}", "in mistaken"),
        (wrong, 2, "error: k=0: must be 1 or more", "in wrong"),
    ],
)
def test_an_errors_whole_chain_is_in_it_and_its_path_in_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], job, code: int, line: str, logged: str
) -> None:  # type: ignore[no-untyped-def]
    with run_log.begun("rambo run", []):
        run_log.keep(tmp_path)
        assert exit_code("rambo run", job) == code
    said = capsys.readouterr()
    assert said.err == f"rambo run: {line.format(log=tmp_path / run_log.NAME)}\n" and not said.out
    assert logged in text(tmp_path) and "Traceback" in text(tmp_path)


def test_with_debug_the_traceback_is_shown_too_and_without_a_log_it_says_how(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert exit_code("rambo run", chained, debug=True) == 1
    said = capsys.readouterr().err
    assert "ZeroDivisionError: of the worker" in said and said.endswith("\nrambo run: failed: the fit failed\n")
    assert exit_code("rambo run", mistaken) == 1
    assert capsys.readouterr().err.endswith("what is finished is kept; --debug shows where\n")


def test_every_command_has_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    from rambo_ray.cli.commands import COMMANDS

    for name, command in COMMANDS.items():
        assert "--debug" in command.parser(name).format_help(), name
    levels = []
    monkeypatch.setattr(entry, "exit_code", lambda *_, **given: levels.append((LOG.level, given["debug"])) or 0)
    COMMANDS["inspect"].main("rambo inspect", ["--debug"])
    COMMANDS["inspect"].main("rambo inspect", [])
    assert levels == [(logging.DEBUG, True), (logging.INFO, False)]


def test_long_work_is_in_it_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("rambo_ray.progress.time.monotonic", lambda: now[0])
    with run_log.begun("rambo run", []):
        run_log.keep(tmp_path)
        work = Progress("samples", 1000, display=Display())
        for _ in range(1000):
            now[0] += 1.0
            work.advance()
    assert text(tmp_path).count("samples: ") == 16  # of 1000 seconds
