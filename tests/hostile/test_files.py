"""Hostile images, tables, lists, arrays and names, given to the command: each is refused in one line."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ..data.written_images import pictures, png, write_file, write_parquet
from .world import Hostile, called, check, copied, good, names, png_saying, replaced

POOL = pictures(20, seed=99)


def picture(name: str, words: str, content: bytes, place: str = "pool/3.png") -> Hostile:
    return Hostile(name, (place.rpartition("/")[2], words), lambda folder: replaced(folder / place, content))


def saved(image: Image.Image, name: str, **keywords: Any) -> Callable[[Path], None]:
    return lambda folder: image.save(folder / "pool" / name, **keywords)


def frames(folder: Path) -> None:
    first, *others = (Image.new("RGB", (6, 6), (i, 0, 0)) for i in range(3))
    first.save(folder / "pool/3.gif", save_all=True, append_images=others)


IMAGES = [
    picture("a truncated image", "not a readable image", png(POOL[0])[:50]),
    picture("an empty image", "not a readable image", b""),
    picture("a text called png", "unknown format", b"hello"),
    picture("a program called png", "unknown format", b"\x7fELF" + bytes(99)),
    picture("postscript called png", "unknown format", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 6\nshowpage"),
    picture("100000 x 100000 pixels", "more pixels than the 178,956,970", png_saying(100_000, 100_000)),
    picture("no pixels", "unknown format", png_saying(0, 0)),
    picture("a first image that is a bomb", "more pixels than", png_saying(30_000, 30_000), "labeled/cat/0.png"),
    Hostile("one pixel", "1x1 pixels", lambda f: write_file(f / "pool/x.png", pictures(1, side=1)[0])),
    Hostile("CMYK among grey", "set data.channels=1", saved(Image.new("CMYK", (6, 6)), "3.jpg")),
    Hostile("an animation among grey", "3.gif", frames),
    Hostile("32 bits", "no known range", saved(Image.fromarray(np.full((6, 6), 0.5, np.float32)), "3.tif")),
    Hostile("a pipe called png", "is a named pipe", lambda f: os.mkfifo(f / "pool/x.png")),
    Hostile("a link to a device", "is a device", lambda f: (f / "pool/x.png").symlink_to("/dev/zero")),
    Hostile("a link to nowhere", "No such file", lambda f: (f / "pool/x.png").symlink_to("nowhere")),
    Hostile("a link to itself", "symbolic links", lambda f: (f / "pool/x.png").symlink_to("x.png")),
]


def file(name: str, words: Any, write: Callable[[Path], object], end: str, *more: str, part: str = "pool") -> Hostile:
    return Hostile(name, words, lambda folder: write(folder / f"x{end}"), (f"data.{part}=x{end}", *more))


def table(name: str, words: Any, *arguments: str, part: str = "pool", **columns: Any) -> Hostile:
    return file(name, words, lambda f: write_parquet(f, POOL, **columns), ".parquet", *arguments, part=part)


def wrong_text(values: list[bytes]) -> pa.Array:
    """Strings for Arrow that are no UTF-8."""
    held = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(values), held.buffers())


def flipped(path: Path) -> None:
    write_parquet(path, POOL)
    content = bytearray(path.read_bytes())
    content[40:400] = bytes(360)
    path.write_bytes(content)


def with_metadata(path: Path) -> None:
    held = pa.table({"image": [png(x) for x in POOL], "label": list("ab") * 10})
    pq.write_table(held.replace_schema_metadata({"huggingface": "[" * 100_000}), path)


def lost_offsets(path: Path) -> None:
    """An Arrow file whose strings begin beyond its end."""
    held = pa.table({"image": pa.array([png(x) for x in POOL[:2]]), "id": ["ab", "cdefghi"]})
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, held.schema) as writer:
        writer.write_table(held)
    content, right = path.read_bytes(), np.array([0, 2, 9], np.int32).tobytes()
    assert content.count(right) == 1
    path.write_bytes(content.replace(right, np.array([0, 2**30, 2**31 - 1], np.int32).tobytes()))


def one_huge(path: Path) -> None:
    write_parquet(path, POOL, id=["x" * 5_000_000, *map(str, range(19))])


NO_UTF8 = wrong_text([b"a\xff%d" % i for i in range(20)])
TABLES = [
    file("a text called parquet", "not a readable Parquet", lambda f: f.write_text("hello"), ".parquet"),
    file("an empty parquet", "file size is 0 bytes", lambda f: f.write_bytes(b""), ".parquet"),
    file("a bent parquet", "not a readable Parquet", flipped, ".parquet"),
    file("other columns", "it has: x", lambda f: pq.write_table(pa.table({"x": [1]}), f), ".parquet"),
    file("no columns", "no column 'image'", lambda f: pq.write_table(pa.table({}), f), ".parquet"),
    file("nested images", "must be images in all sets",
         lambda f: pq.write_table(pa.table({"image": [[[1]]]}), f), ".parquet", "data.column=image"),
    file("images that are null", "row 1: no image bytes", lambda f: write_parquet(f, [png(POOL[0]), None]),
         ".parquet"),
    file("a path to a pipe", "is a named pipe",
         lambda f: (os.mkfifo(f.parent / "p"), write_parquet(f, [None], paths=["p"])), ".parquet"),
    table("ids twice", "holds 'a' twice", id=["a"] * 20),
    table("nested ids", "must be strings or integers", id=[["a"]] * 20),
    file("an id of five million letters", "at most 4,096 characters", one_huge, ".parquet"),
    table("ids that are not UTF-8", "text that is not UTF-8", id=NO_UTF8),
    table("ids that are not UTF-8 streamed", "text that is not UTF-8", "data.stream=always", id=NO_UTF8),
    table("ids with line breaks", ("20 of 20 ids", r"a\n0", "control character"), id=[f"a\n{i}" for i in range(20)]),
    table("ids with line breaks streamed", r"a\n0", "data.stream=always", id=[f"a\n{i}" for i in range(20)]),
    table("labels that are NaN", "label' is double", part="labeled", labels=[float("nan")] * 20),
    table("negative labels", "label -1 is negative", part="labeled", labels=[-1, 0] * 10),
    table("no label", "label is null", part="labeled", labels=[None, "cat"] * 10),
    table("one class", "of one class", part="labeled", labels=["cat"] * 20),
    table("an empty class", "is an empty name", part="labeled", labels=["cat", " "] * 10),
    table("an unknown class", "class 'cow' is not among", part="validation", labels=["cat", "cow"] * 10),
    table("nested labels", "must be integers or strings", part="labeled", labels=[[1], [2]] * 10),
    table("labels that are true", "label' is bool", part="labeled", labels=[True, False] * 10),
    table("a class that clears the screen", r"\x1b[2J", part="labeled", labels=["cat", "\x1b[2J"] * 10),
    table("classes that are not UTF-8", "not UTF-8", part="labeled", labels=NO_UTF8),
    file("metadata without end", "class 'cat' is not among", with_metadata, ".parquet", part="labeled"),
    file("a text called arrow", "not a readable Arrow", lambda f: f.write_text("hello " * 9), ".arrow"),
    file("strings beyond the end", "not a readable Arrow", lost_offsets, ".arrow"),
]  # fmt: skip


def listed(name: str, words: Any, text: str | bytes) -> Hostile:
    content = text if isinstance(text, bytes) else text.encode()
    return file(name, words, lambda f: f.write_bytes(content), ".csv")


LISTS = [
    listed("an empty list", "is empty", ""),
    listed("a null in a list", r"\x00", "path\npool/0.png\0\npool/1.png\n"),
    listed("ragged rows", "row 0: 1 values", "path,id\npool/0.png\n"),
    listed("a list in Latin-1", "not UTF-8", "path\npool/\u00e9.png\n".encode("latin-1")),
    listed("a field of 200 000 letters", "larger than field limit", f"path\n{'a' * 200_000}\n"),
    listed("a path of 5 000 letters", "at most 4,096", f"path\n{'a' * 5_000}\n"),
    listed("no home", "there is no user nobody_at_all", "path\n~nobody_at_all/x.png\n"),
    listed("another's file", "not a readable image", "path\n../../../../../../../../etc/passwd\n"),
    listed("ids alike after blanks", "holds 'a' twice", "path,id\npool/0.png,a\npool/1.png, a\n"),
    Hostile("a list that is a pipe", "is a named pipe", lambda f: os.mkfifo(f / "x.csv"), ("data.pool=x.csv",)),
    Hostile("a list without end", "is a device", lambda f: (f / "x.csv").symlink_to("/dev/zero"), ("data.pool=x.csv",)),
]


def header(shape: tuple[int, ...]) -> bytes:
    held = io.BytesIO()
    np.lib.format.write_array_header_1_0(held, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return held.getvalue()


def bomb(path: Path) -> None:
    """Two gigabytes, as a header says, in a few thousand bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w") as member:
        member.write(header((2_000_000, 1_000)) + bytes(1_000_000))


def arrays(name: str, words: Any, **held: Any) -> Hostile:
    return file(name, words, lambda f: np.savez(f, **held), ".npz")


ARRAYS = [
    arrays("objects", "never unpickled", images=np.array([{}, 1], dtype=object)),
    file("an npy of objects", "never unpickled", lambda f: np.save(f, np.array([{}]), allow_pickle=True), ".npy"),
    file("a pickle", "not a readable NumPy", lambda f: f.write_bytes(b"\x80\x04}\x94\x8c\x01aK\x01s."), ".npy"),
    file("an npz that grows", "bytes follow", bomb, ".npz"),
    file("an npy that grows", "bytes follow", lambda f: f.write_bytes(header((10**12, 28))), ".npy"),
    file("code for a header", "not a readable NumPy",
         lambda f: f.write_bytes(b"\x93NUMPY\x01\x00\x76\x00" + b"__import__('os')".ljust(0x75) + b"\n"), ".npy"),
    arrays("ids that are bytes", "not UTF-8", images=POOL, id=np.array([b"\xff%d" % i for i in range(20)])),
    arrays("half letters", r"\ud800", images=POOL, id=np.array([f"\ud800{i}" for i in range(20)])),
    arrays("fields", "embeddings", embeddings=np.zeros(20, dtype=[("a", "f4")])),
]  # fmt: skip


def renamed(old: bytes, new: bytes) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        os.rename(os.fsencode(folder) + b"/" + old, os.fsencode(folder) + b"/" + new)

    return spoil


def both_classes(folder: Path) -> None:
    for part in (b"labeled", b"validation"):
        renamed(part + b"/cat", part + b"/c\xff")(folder)


NAMES = [
    Hostile("a name that is not UTF-8", (r"1 of 40 ids", r"'3\xff.png'", "must be UTF-8"),
            renamed(b"pool/3.png", b"pool/3\xff.png")),
    Hostile("a pattern's name that is not UTF-8", r"'3\xff.png'", renamed(b"pool/3.png", b"pool/3\xff.png"),
            ("data.pool=pool/*.png",)),
    Hostile("a name with a line break", r"'3\n.png'", renamed(b"pool/3.png", b"pool/3\n.png")),
    Hostile("a name that colours", r"'3\x1b[31m.png'", renamed(b"pool/3.png", b"pool/3\x1b[31m.png")),
    Hostile("classes that are no UTF-8", r"c\xff/", both_classes),
    Hostile("a labelled name", r"cat/0\xff.png", renamed(b"labeled/cat/0.png", b"labeled/cat/0\xff.png")),
]  # fmt: skip

PLACES = [
    Hostile("no path", "empty", arguments=("data.pool=''",)),
    Hostile("a path too long", "File name too long", arguments=("data.pool=" + "a" * 5_000,)),
    Hostile("a link in a circle", "symbolic links", lambda f: (f / "x").symlink_to("x"), ("data.pool=x",)),
    Hostile("a link away", "a link to what is not there", lambda f: (f / "x").symlink_to("y"), ("data.pool=x",)),
    Hostile("nobody's home", "there is no user", arguments=("data.pool=~nobody_at_all/x",)),
    Hostile("a table that is a pipe", "named pipe", lambda f: os.mkfifo(f / "x.parquet"), ("data.pool=x.parquet",)),
    Hostile("a folder called table", "holds neither", lambda f: (f / "x.csv").mkdir(), ("data.pool=x.csv",)),
    Hostile("no output", "empty; give a directory", arguments=("--output", "")),
    Hostile("an output that is a file", "give a directory", arguments=("--output", "pool/0.png")),
    Hostile("an output of the data's", "not empty and not a run's", arguments=("--output", "pool")),
    Hostile("an output too long", "File name too long", arguments=("--output", "o" * 5_000)),
    Hostile("an output of the system's", "give a directory", arguments=("--output", "/proc/x")),
    Hostile("stars", "only be an entire path component", arguments=("data.pool='pool/a**b'",)),
    Hostile("a device", "is no folder and does not end in", arguments=("data.pool=/dev/zero",)),
    Hostile("a state that leads away", "does not name its files",
            lambda f: ((f / "x").mkdir(), (f / "x/a.arrow").write_bytes(b"ARROW1"),
                       (f / "x/state.json").write_text(json.dumps({"_data_files": [{"filename": "../y.arrow"}]}))),
            ("data.pool=x",)),
]  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return good(tmp_path_factory.mktemp("good"))


@pytest.mark.parametrize("hostile", [*IMAGES, *TABLES, *LISTS, *ARRAYS, *NAMES, *PLACES], ids=str)
def test_it_is_refused_in_one_line(
    hostile: Hostile, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(source, tmp_path)
    monkeypatch.chdir(folder)
    hostile.spoil(folder)
    before = names(folder)
    said = called(hostile.line, monkeypatch)
    check(hostile, folder, said, before)
