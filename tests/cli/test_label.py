"""`rambo label` from its arguments to its lines: what is refused, and what is said."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rambo_ray.annotation import serving
from rambo_ray.annotation.desk import Standing
from rambo_ray.annotation.server import Service
from rambo_ray.cli.label import Events, Silent, Teller
from rambo_ray.cli.main import main

from ..annotation.runs import finished

ROOT = Path(__file__).parents[2]


def asking(folder: Path, ids: Sequence[str], pool: Path) -> Path:
    """A finished run that asks for these images of a pool."""
    own = [f"data.{part}={pool}" for part in ("labeled", "validation", "pool")]
    return finished(folder, ids, ("cat", "dog"), ["data.name=own", *own])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run that asks for two images."""
    (tmp_path / "pool").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / "pool" / name)
    return asking(tmp_path / "run", ["a.png", "b.png"], tmp_path / "pool")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The line in which a command refuses; nothing else is said and the exit code is 2."""
    assert main(["label", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    return said.err


def test_what_is_no_finished_run_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, run: Path) -> None:
    assert "no such folder" in refused(capsys, str(tmp_path / "nowhere"))
    assert "config.yaml" in refused(capsys, str(tmp_path))
    (run / "selection.parquet").unlink()
    assert "not finished" in refused(capsys, str(run))
    assert not (run / "labels.jsonl").exists()


def test_options(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    assert "0 to 65535" in refused(capsys, str(run), "--port", "65536")
    for name in ("", " ", "m" * 61, "m\tia"):
        assert "--annotator" in refused(capsys, str(run), "--annotator", name)
    assert "--share" in refused(capsys, str(run), "--share", "some")
    assert "--host 203.0.113.7" in refused(capsys, str(run), "--no-browser", "--port", "0", "--host", "203.0.113.7")


def test_a_port_in_use(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert f"--port {port}: " in refused(capsys, str(run), "--no-browser", "--port", port)


def test_images_that_are_gone(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    (run.parent / "pool" / "a.png").unlink()
    assert "'a.png'" in refused(capsys, str(run), "--no-browser")
    assert not (run / "labels.jsonl").exists()


def test_embeddings_have_nothing_to_show(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pool = tmp_path / "pool.npz"
    np.savez(pool, embeddings=np.ones((2, 3), np.float32), id=np.array(["a", "b"]))
    run = asking(tmp_path / "run", ["a", "b"], pool)
    assert "embeddings" in refused(capsys, str(run), "--no-browser")
    assert not (run / "labels.jsonl").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"id": "c.png", "label": "cat"}', "'c.png'"),
        ('{"id": "a.png", "label": "owl"}', "'owl'"),
        ("nonsense", "line 1"),
    ],
)
def test_answers_to_something_else(capsys: pytest.CaptureFixture[str], run: Path, line: str, words: str) -> None:
    (run / "labels.jsonl").write_text(f"{line}\n")
    said = refused(capsys, str(run), "--no-browser")
    assert "labels.jsonl" in said and words in said
    assert (run / "labels.jsonl").read_text() == f"{line}\n"


def test_it_serves_refuses_a_second_and_ends_by_a_signal(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    torn = '{"id": "a.png", "la'
    (run / "labels.jsonl").write_text('{"id": "b.png", "label": "dog", "annotator": "ben"}\n' + torn)
    command = [sys.executable, str(ROOT / "jobs" / "label.py"), str(run), "--no-browser"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        watch = threading.Timer(120, process.kill)
        watch.start()
        try:
            assert process.stdout is not None
            before = [next(process.stdout) for _ in range(3)]
            address = before[2].split()[1]
            assert "2 images to label, 1 of them answered" in before[0] and torn in before[1]
            assert urllib.request.urlopen(address).status == 200
            assert address in refused(capsys, str(run), "--no-browser")
            process.send_signal(signal.SIGTERM)
            rest = process.stdout.read()
            assert process.wait() == 0
        finally:
            watch.cancel()
            process.kill()
    assert "1 of 2 images answered (ben 1)" in rest
    assert f"rambo label {run}" in rest and f"rambo labels {run}" in rest
    assert torn not in (run / "labels.jsonl").read_text()


def test_progress_is_said_now_and_then_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    teller = Teller("runs/mine", "mine", "split", "127.0.0.1", browser=False, path=Path("runs/mine/labels.jsonl"))
    for done in range(1, 6):
        teller.said("mia", Standing(5, done, done, 0, 0, 840.0, 21.0, {"mia": done}))
    assert capsys.readouterr().out.splitlines() == [
        "1 of 5 answered, mia 840 an hour, 21 s left",
        "5 of 5 answered, mia 840 an hour",
    ]


def test_quiet_says_the_address_and_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("runs/mine/labels.jsonl")
    teller = Silent("runs/mine", "mine", "split", "127.0.0.1", browser=False, path=path)
    standing = Standing(5, 2, 2, 0, 0, 840.0, 21.0, {"mia": 2})
    teller.opened("http://127.0.0.1:1/x/", "http://127.0.0.1:1/once", standing, "torn", 3)
    teller.said("mia", standing)
    teller.ended(standing)
    assert capsys.readouterr().out == f"http://127.0.0.1:1/x/\n{path}\n"


def test_events_are_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("runs/mine/labels.jsonl")
    teller = Events("runs/mine", "mine", "split", "127.0.0.1", browser=False, path=path)
    standing = Standing(5, 2, 2, 0, 0, 720.0, 15.0, {"mia": 2})
    teller.opened("http://127.0.0.1:1/x/", "http://127.0.0.1:1/once", standing, None, None)
    teller.said("mia", standing)
    teller.ended(standing)
    first, *counts, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["event"], first["text"]) == ("message", "open http://127.0.0.1:1/x/")
    for one in counts:
        assert (one["event"], one["stage"], one["done"], one["total"], one["share"]) == ("progress", "label", 2, 5, 0.4)
        assert one["rate"] == 0.2 and one["seconds_left"] == 15.0
    assert len(counts) == 2 and last["event"] == "summary" and last["path"] == str(path)
    assert last["figures"] == {"done": 2, "total": 5, "annotators": {"mia": 2}}


def test_ids_that_say_a_class_are_not_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the whole command: what the page gets, and what is said of it."""
    (tmp_path / "pool" / "cat").mkdir(parents=True)
    for name in ("cat/a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / "pool" / name)
    run = asking(tmp_path / "run", ["cat/a.png", "b.png"], tmp_path / "pool")

    async def ended(service: Service, *rest: Any) -> None:
        rest[-1]("http://127.0.0.1:1/x/", "http://127.0.0.1:1/once")
        given.append(service._named([0, 1]))

    monkeypatch.setattr(serving, "_until_ended", ended)
    given: list[Any] = []
    for options in ((), ("--ids", "show"), ("--ids", "hide", "--quiet")):
        assert main(["label", str(run), "--no-browser", *options]) == 0
    out = capsys.readouterr().out
    assert out.count("(1 of the ids say a class, so none stands under its image; --ids show shows them)") == 1
    assert [[one["caption"] for one in each] for each in given] == [
        ["image 1", "image 2"],
        ["cat/a.png", "b.png"],
        ["image 1", "image 2"],
    ]
    assert all([one["id"] for one in each] == ["cat/a.png", "b.png"] for each in given)
