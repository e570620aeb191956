"""Hostile inputs given to real processes: what one process cannot show of itself, its memory, streams and arguments."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ..hostile.test_files import bomb, renamed
from ..hostile.test_settings import LAUGHS
from ..hostile.world import Hostile, good, names, png_saying, replaced

ROOT = Path(__file__).parents[2]
ASK = "import sys; from rambo_ray.cli.main import main; sys.exit(main())"
MOST_MB = 1500  # torch and Ray alone take half of it
SECONDS = 400.0  # none takes five, but machines of CI are busy


def configured(name: str, words: str, text: str) -> Hostile:
    return Hostile(name, words, lambda f: (f / "c.yaml").write_text(text), ("--config", "c.yaml"), ("run",))


def leaving(folder: Path) -> None:
    (folder / "leaving.py").write_text("import sys\nsys.exit(2)\n")


CASES = [
    configured("a billion laughs", "more than 10,000 values", "\n".join(LAUGHS)),
    configured("twenty thousand levels", "levels deep", "a: " + "[" * 20_000),
    configured("a call", "could not determine a constructor", "seed: !!python/object/apply:os.system [touch pwned]"),
    Hostile("a pipe", "a pipe or a device", lambda f: os.mkfifo(f / "c.yaml"), ("--config", "c.yaml"), ("run",)),
    Hostile("a device", "a pipe or a device", arguments=("--config", "/dev/zero"), command=("run",)),
    Hostile("an argument that is not UTF-8", r"\xff", arguments=("data.pool=po\udcffol",)),
    Hostile("a name that is not UTF-8", r"'3\xff.png'", renamed(b"pool/3.png", b"pool/3\xff.png")),
    Hostile("a bomb of a picture", "more pixels", lambda f: replaced(f / "pool/3.png", png_saying(90_000, 90_000))),
    Hostile("a bomb of an array", "bytes follow", lambda f: bomb(f / "x.npz"), ("data.pool=x.npz",)),
    Hostile("a pool that is a pipe", "is a named pipe", lambda f: os.mkfifo(f / "x.parquet"), ("data.pool=x.parquet",)),
    Hostile("a script for a network", "importing leaving raised SystemExit", leaving, ("classifier.name=leaving:net",)),
    Hostile("an output that is a device", "/dev/null/out", arguments=("--output", "/dev/null/out")),
]  # fmt: skip


def ended(hostile: Hostile, folder: Path) -> tuple[int, str, float, float]:
    """The exit code of the command in its own process, what it said, seconds of a CPU, and the most MB it held."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}
    began = time.monotonic()
    with tempfile.TemporaryFile() as said:
        arguments: Sequence[bytes | str] = [sys.executable, "-c", ASK, *(os.fsencode(part) for part in hostile.line)]
        process = subprocess.Popen(arguments, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=said)
        try:
            while time.monotonic() - began < SECONDS:
                pid, status, used = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    process.returncode = os.waitstatus_to_exitcode(status)
                    break
                time.sleep(0.02)
            else:
                pytest.fail(f"{hostile.name}: has not ended after {SECONDS} s")
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
        said.seek(0)
        return process.returncode, said.read().decode(), used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


@pytest.mark.slow
def test_each_ends_soon_in_one_line_with_code_2_and_little_memory(tmp_path: Path) -> None:
    folders, before = [], []
    for number, hostile in enumerate(CASES):
        folders.append(good(tmp_path / str(number)))
        hostile.spoil(folders[-1])
        before.append(names(folders[-1]))
    with ThreadPoolExecutor(2) as executor:
        found = list(executor.map(ended, CASES, folders))
    for hostile, folder, held, (code, line, _, megabytes) in zip(CASES, folders, before, found, strict=True):
        assert code == 2 and line.count("\n") == 1, (hostile.name, code, line)
        assert str(hostile.words) in line and "; " in line, (hostile.name, line)
        assert megabytes < MOST_MB, (hostile.name, megabytes)
        assert names(folder) == held, hostile.name
    laughs = found[0]
    assert laughs[2] < 30  # what it takes to load torch and Ray, on a slow machine, and no more


@pytest.mark.slow
def test_a_configuration_from_a_shell_s_pipe_is_read() -> None:
    """As `rambo run --config <(sed ... digits.yaml)`: it is not taken for a pipe that never ends."""
    ask = f"exec {sys.executable} -c '{ASK}' run --config <(echo 'seed: x')"
    said = subprocess.run(["bash", "-c", ask], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert said.returncode == 2 and "seed='x'" in said.stderr


@pytest.mark.parametrize(
    ("arguments", "streams", "code", "words"),
    [
        ("run --keys", ">&-", 0, ""),
        ("run --keys", ">&- 2>&-", 0, ""),
        ("rnu", "2>&-", 2, ""),
        ("r\u4e2dn", "", 2, r"r\u4e2dn: no such command"),
    ],
)
def test_closed_and_old_streams_end_in_no_traceback(arguments: str, streams: str, code: int, words: str) -> None:
    ask = f"exec {sys.executable} -c '{ASK}' {arguments} {streams}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    said = subprocess.run(
        ["bash", "-c", ask], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, env=environment
    )
    assert said.returncode == code, said.stderr
    assert words in said.stderr and "Traceback" not in said.stderr and said.stderr.count("\n") <= 1
