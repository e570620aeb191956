"""What comes back from annotators, and folders that are said to be runs: hostile ones are refused in one line."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rambo_ray.annotation import exported
from rambo_ray.annotation.names import copy_stem

from ..annotation.runs import finished
from ..data.written_images import pictures, write_file
from .world import OWN, Hostile, called, check, names

IDS = ("a.png", "b/../c.png", "<b>&\"'.png", "-rf.png", "=1+1.png", "e\u0301.png", "\u00e9.png", " x .png")


def zipped(content: bytes, name: str) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return held.getvalue()


def lying(size: int) -> bytes:
    """An archive that says that its one file has so many bytes."""
    content = bytearray(zipped(b"{}", "a.json"))
    place = content.index(b"PK\x01\x02") + 24
    content[place : place + 4] = size.to_bytes(4, "little")
    return bytes(content)


LAUGHS = "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
XML = f'<!DOCTYPE x [<!ENTITY a "ha">{LAUGHS}]><annotations><image name="&i;"/></annotations>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotations><image name="&a;"/></annotations>'


def back(name: str, words: Any, file: str, content: bytes | str | Callable[[Path], object]) -> Hostile:
    def spoil(folder: Path) -> None:
        if callable(content):
            content(folder / file)
        else:
            (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())

    return Hostile(name, words, spoil, (file, "--no-train"), ("labels", "run"))


CASES = [
    back("JSON without end", "nested too deeply", "x.json", "[" * 200_000),
    back("JSON that is none", "not JSON", "x.json", b"\xff\xfe"),
    back("laughs in XML", "not XML", "x.xml", XML),
    back("another's file in XML", "not XML", "x.xml", OUTSIDE),
    back("an archive that is none", "not a readable zip file", "x.zip", b"PK\x03\x04 no"),
    back("an archive of terabytes", "x.zip", "x.zip", lying(2**32 - 2)),
    back("an archive of laughs", "not XML", "x.zip", zipped(XML.encode(), "a.xml")),
    back("a pipe", "is a named pipe", "x.json", os.mkfifo),
    back("a log that is a pipe", "is a named pipe", "x.jsonl", os.mkfifo),
    back("a device", "is a device", "x.csv", lambda path: path.symlink_to("/dev/zero")),
    back("a log of brackets", "line 1", "x.jsonl", "[" * 200_000 + "\n"),
    back("a table in Latin-1", "UTF-8", "x.csv", "id,label\n\xe9,cat\n".encode("latin-1")),
    back("nobody's class", "no class", "x.csv", "id,label\na.png,<script>\n"),
    back("a path that leads away", "did not ask for", "x.csv", "id,label\n../../etc/passwd,cat\n"),
    Hostile("a run whose configuration calls", "could not determine a constructor",
            lambda f: (f / "run/config.yaml").write_text("seed: !!python/name:os.system"), ("--no-train",),
            ("labels", "run")),
    Hostile("a run whose manifest has no end", "not a run's",
            lambda f: (f / "run/manifest.json").write_text("[" * 200_000), ("--no-train",), ("labels", "run")),
    Hostile("a run whose selection is text", "is no run's selection",
            lambda f: (f / "run/selection.parquet").write_text("x"), ("--no-train",), ("labels", "run")),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for i, image in enumerate(pictures(4, seed=3)):
        write_file(tmp_path / f"pool/{'abcd'[i]}.png", image)
    finished(tmp_path / "run", ("a.png", "b.png"), overrides=OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("hostile", CASES, ids=str)
def test_it_is_refused_in_one_line(hostile: Hostile, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile.spoil(folder)
    before = names(folder)
    check(hostile, folder, called(hostile.line, monkeypatch), before)


def test_a_selection_that_is_not_utf_8(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = pa.array([b"a\xff", b"b"], pa.binary())
    table = pq.read_table(folder / "run/selection.parquet")
    text = pa.Array.from_buffers(pa.string(), 2, held.buffers())
    pq.write_table(table.set_column(table.schema.get_field_index("id"), "id", text), folder / "run/selection.parquet")
    said = called(("labels", "run", "--no-train"), monkeypatch)
    assert said.code == 2 and "is no run's selection" in said.err and said.err.count("\n") == 1


def test_copies_stay_in_their_folder_whatever_the_ids() -> None:
    stems = [copy_stem(0, name) for name in (*IDS, "/etc/passwd", "..", "a" * 5000, "a/" * 900)]
    assert len(set(stems)) == len(stems)
    for stem in stems:
        assert "/" not in stem and not stem.startswith((".", "-")) and len(stem) < 70 and stem.isascii()


@pytest.mark.parametrize("tool", ["csv", "label-studio", "cvat", "coco"])
def test_an_export_writes_nowhere_else(tool: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of a table may be anything; the copies of their images have names of their own."""
    from ..data.written_images import write_parquet

    write_parquet(folder / "pool.parquet", pictures(len(IDS), seed=8), id=list(IDS))
    finished(folder / "other", IDS, overrides=(*OWN[:-1], "data.pool=pool.parquet"))
    before = names(folder)
    said = called(("export", "other", "--to", tool, "--output", "made"), monkeypatch)
    assert said.code == 0, said.err
    assert all(f"{folder}/made" in name for name in names(folder) - before)
    assert exported.COPIES  # where the images are, below what was asked for
    if tool == "csv":
        assert "=1+1.png" in (folder / "made/tasks.csv").read_text() if (folder / "made/tasks.csv").exists() else True


def test_names_go_through_a_selection_byte_for_byte(folder: Path) -> None:
    """Parquet, CSV, JSON: what is not refused is not changed."""
    import csv

    from rambo_ray.data import names as kept
    from rambo_ray.files import write_table

    kept.check(IDS, "pool")
    write_table(pa.table({"id": list(IDS)}), folder / "selection.parquet")
    assert pq.read_table(folder / "selection.parquet")["id"].to_pylist() == list(IDS)
    with (folder / "selection.csv").open(encoding="utf-8", newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == list(IDS)
    assert json.loads(json.dumps(IDS, ensure_ascii=False)) == list(IDS)
