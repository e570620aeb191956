"""From a request to a tool's files, through a simulated annotator, and back: every answer at its image."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rambo_ray.annotation import exported, request, returned, settled
from rambo_ray.annotation.entries import NONE_OF_THESE
from rambo_ray.annotation.exported import Reach
from rambo_ray.annotation.request import Request
from rambo_ray.errors import UserError

from ..data.written_images import pictures, png
from .runs import finished

CLASSES = ("cat", "dog & co", "Owl")
Answers = Mapping[str, str | None]  # None: none of these

ids = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=10),
    min_size=1,
    max_size=6,
    unique=True,
)


def of_parquet(folder: Path, names: list[str]) -> Request:
    """A finished run that asks for all images of a Parquet pool with these ids, in this order."""
    image = [{"bytes": png(picture), "path": None} for picture in pictures(len(names), channels=3)]
    pq.write_table(pa.table({"image": image[::-1], "id": names[::-1]}), folder / "pool.parquet")
    own = ["data.name=own", "data.labeled=l", "data.validation=v", f"data.pool={folder / 'pool.parquet'}"]
    return request.read(finished(folder / "run", names, CLASSES, own))


def of_folder(folder: Path, names: list[str]) -> Request:
    for name, picture in zip(names, pictures(len(names), channels=3), strict=True):
        path = folder / "pool" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    own = ["data.name=own", "data.labeled=l", "data.validation=v", f"data.pool={folder / 'pool'}"]
    return request.read(finished(folder / "run", names, CLASSES, own))


# -- annotators: they see a tool's files and know images by their pixels --------------------------------------


def said(answer: str | None) -> str:
    return NONE_OF_THESE if answer is None else answer


def in_label_studio(folder: Path, answers: Answers, back: Path) -> Path:
    tasks = json.loads((folder / "tasks.json").read_text())
    known = {c.get("value") for c in ElementTree.parse(folder / "labelling.xml").getroot().iter("Choice")}
    assert known == {*CLASSES, NONE_OF_THESE}
    made: list[dict[str, Any]] = []
    for number, task in enumerate(reversed(tasks)):  # numbers and order of its own
        answer = answers.get(task["data"]["rambo_id"], "")
        result = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [said(answer)]}}
        annotation = {"id": number, "completed_by": 1, "was_cancelled": False, "result": [result]}
        made.append({"id": number, "data": task["data"], "annotations": [annotation] if answer != "" else []})
    (back / "export.json").write_text(json.dumps(made))
    return back / "export.json"


def in_coco(folder: Path, answers: Answers, back: Path) -> Path:
    content = json.loads((folder / "images.json").read_text())
    by_name = {c["name"]: c["id"] for c in content["categories"]}
    for image in content["images"]:
        answer = answers.get(image.pop("rambo_id"), "")  # a tool need not keep it
        if answer != "":
            row = {"id": len(content["annotations"]), "image_id": image["id"], "category_id": by_name[said(answer)]}
            content["annotations"].append(row)
    (back / "x.json").write_text(json.dumps(content))
    return back / "x.json"


def in_cvat(folder: Path, answers: Answers, back: Path) -> Path:
    names = {label["name"] for label in json.loads((folder / "labels.json").read_text())}
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    assert lines[:2] == [{"version": "1.1"}, {"type": "images"}]
    root = ElementTree.Element("annotations")
    # The order of the manifest is the one picked, so a test may go by it; the reader must not.
    for number, (line, answer) in reversed(list(enumerate(zip(lines[2:], answers.values(), strict=True)))):
        image = ElementTree.SubElement(root, "image", id=str(number), name=line["name"] + line["extension"])
        if answer != "":
            assert said(answer) in names
            ElementTree.SubElement(image, "tag", label=said(answer), source="manual")
    (back / "annotations.xml").write_bytes(ElementTree.tostring(root, encoding="utf-8"))
    return back / "annotations.xml"


def in_a_table(folder: Path, answers: Answers, back: Path) -> Path:
    rows = list(csv.DictReader(io.StringIO((folder / "images.csv").read_text(), newline="")))
    out = io.StringIO()
    writer = csv.DictWriter(out, ["id", "path", "order", "label"])
    writer.writeheader()
    for row in reversed(rows):
        answer = answers.get(row["id"], "")
        writer.writerow({**row, "label": "" if answer == "" else said(answer)})
    (back / "x.csv").write_text(out.getvalue(), newline="")
    return back / "x.csv"


def in_folders(folder: Path, answers: Answers, back: Path) -> Path:
    rows = {
        row["id"]: row["file"] for row in csv.DictReader(io.StringIO((folder / "mapping.csv").read_text(), newline=""))
    }
    sorted_there = back / "sorted"
    shutil.copytree(folder, sorted_there)
    for name, answer in answers.items():
        if answer != "":
            shutil.move(sorted_there / rows[name], sorted_there / said(answer) / rows[name])
    return sorted_there


ANNOTATORS: dict[str, Callable[[Path, Answers, Path], Path]] = {
    "label-studio": in_label_studio,
    "coco": in_coco,
    "cvat": in_cvat,
    "csv": in_a_table,
    "folder": in_folders,
}


@pytest.mark.parametrize("form", exported.FORMATS)
@given(names=ids, data=st.data())
@settings(max_examples=25)
def test_every_answer_comes_back_to_its_image(form: str, names: list[str], data: st.DataObject) -> None:
    answer = st.sampled_from([*CLASSES, None, ""])
    answers = {name: data.draw(answer) for name in names}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        asked = of_parquet(folder, names)
        assert asked.ids == tuple(names)
        exported.write(asked, form, folder / "out")
        (folder / "back").mkdir()
        back = ANNOTATORS[form](folder / "out", answers, folder / "back")
        expected = {name: label for name, label in answers.items() if label != ""}
        if form == "folder" and not expected:
            with pytest.raises(UserError, match="no class folders"):
                returned.read(back)
            return
        entries, _ = returned.read(back)
        if not expected:
            with pytest.raises(UserError, match="is answered"):
                settled.settle(asked, entries)
            return
        outcome = settled.settle(asked, entries)
        assert {a.id: a.label for a in outcome.answers} == expected
        assert [a.id for a in outcome.answers] + list(outcome.unanswered) == sorted(
            names, key=lambda name: (name not in expected, names.index(name))
        )


@pytest.mark.parametrize("form", ["label-studio", "coco", "cvat", "csv"])
@pytest.mark.parametrize(
    ("reach", "address"),
    [
        (Reach(prefix="https://x.org/p/"), "https://x.org/p/cat/7%20a.png"),
        (Reach(prefix="/data/local-files/?d=p/"), "/data/local-files/?d=p/cat/7%20a.png"),
        (Reach(images="/elsewhere/pool"), "/elsewhere/pool/cat/7 a.png"),
    ],
)
def test_images_by_address_are_not_copied(form: str, reach: Reach, address: str, tmp_path: Path) -> None:
    asked = of_folder(tmp_path, ["cat/7 a.png", "b.png"])
    files = exported.write(asked, form, tmp_path / "out", reach)
    assert sorted(files) == sorted((tmp_path / "out").iterdir())
    text = (
        files[0].read_text() + (tmp_path / "out" / "images.txt").read_text() if form == "cvat" else files[0].read_text()
    )
    if form == "label-studio" and reach.images:
        address = "/data/local-files/?d=elsewhere/pool/cat/7%20a.png"
    if form == "cvat" and reach.images:  # below CVAT's share
        address = '"name": "cat/7 a", "extension": ".png"'
    assert address in text


def test_copies_have_the_pool_s_own_bytes_and_are_in_the_order_picked(tmp_path: Path) -> None:
    asked = of_folder(tmp_path, ["z/1.png", "a/1.png", "m.png"])
    exported.write(asked, "folder", tmp_path / "out")
    copies = sorted(path for path in (tmp_path / "out").iterdir() if path.suffix == ".png")
    assert [path.read_bytes() for path in copies] == [(tmp_path / "pool" / name).read_bytes() for name in asked.ids]
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {*CLASSES, NONE_OF_THESE}


def test_label_studio_is_told_where_the_copies_are(tmp_path: Path) -> None:
    asked = of_parquet(tmp_path, ["x y", "z"])
    files = exported.write(asked, "label-studio", tmp_path / "my out")
    for task, picture in zip(json.loads(files[0].read_text()), pictures(2, channels=3), strict=True):
        address = task["data"]["image"]
        assert address.startswith("/data/local-files/?d=") and "%20" in address
        path = Path("/" + address.split("?d=")[1].replace("%20", " "))
        np.testing.assert_array_equal(np.asarray(Image.open(path)), picture)


def test_the_manifest_knows_sizes(tmp_path: Path) -> None:
    asked = of_folder(tmp_path, ["a.png"])
    Image.new("RGB", (31, 7)).save(tmp_path / "pool/a.png")
    exported.write(asked, "cvat", tmp_path / "out")
    line = json.loads((tmp_path / "out/manifest.jsonl").read_text().splitlines()[2])
    assert (line["width"], line["height"], line["extension"]) == (31, 7, ".png")
    assert (tmp_path / "out" / (line["name"] + ".png")).is_file()


def test_an_output_may_be_a_file(tmp_path: Path) -> None:
    asked = of_folder(tmp_path, ["a.png"])
    files = exported.write(asked, "label-studio", tmp_path / "t.json", Reach(prefix="s3://b/"))
    assert files == [tmp_path / "t.json", tmp_path / "t.xml"] and all(f.is_file() for f in files)
    assert exported.write(asked, "csv", tmp_path / "t.csv") == [tmp_path / "t.csv"]
    assert str(tmp_path / "pool/a.png") in (tmp_path / "t.csv").read_text()
    with pytest.raises(UserError, match="needs copies of the images"):
        exported.write(asked, "coco", tmp_path / "c.json")
    assert not [p for p in tmp_path.iterdir() if "tmp" in p.name or p.name == "c.json"]


def refused(asked: Request, form: str, output: Path, reach: Reach | None = None) -> str:
    before = sorted(path for path in output.parent.rglob("*"))
    with pytest.raises(UserError) as error:
        exported.write(asked, form, output, reach)
    assert sorted(path for path in output.parent.rglob("*")) == before and "\n" not in str(error.value)
    return str(error.value)


def test_what_cannot_be_leaves_nothing_behind(tmp_path: Path) -> None:
    asked = of_folder(tmp_path, ["a.png", "b.png"])
    assert "must be one of" in refused(asked, "xml", tmp_path / "out")
    assert "one way" in refused(asked, "csv", tmp_path / "out", Reach("x", "/y"))
    assert "leave out" in refused(asked, "folder", tmp_path / "out", Reach("x"))
    (tmp_path / "empty").mkdir()
    assert "holds no a.png; of 2 images 2" in refused(
        asked, "csv", tmp_path / "out", Reach(images=str(tmp_path / "empty"))
    )
    (tmp_path / "empty" / "x").write_text("")
    assert "exists already" in refused(asked, "csv", tmp_path / "empty")
    (tmp_path / "pool/b.png").write_bytes(b"broken")
    assert "b.png: not a readable image" in refused(asked, "cvat", tmp_path / "out")
    (tmp_path / "pool/b.png").unlink()
    assert "has no image 'b.png'" in refused(asked, "folder", tmp_path / "out")
    assert "exists already" in refused(asked, "csv", tmp_path / "pool" / "a.png")


def test_a_class_that_is_no_folder_s_name(tmp_path: Path) -> None:
    of_folder(tmp_path, ["a.png"])
    own = ["data.name=own", "data.labeled=l", "data.validation=v", f"data.pool={tmp_path / 'pool'}"]
    asked = request.read(finished(tmp_path / "run", ["a.png"], ["T-shirt/top", "x"], own))
    assert "'T-shirt/top' cannot be a folder's name" in refused(asked, "folder", tmp_path / "out")


def test_embeddings_are_asked_about_by_their_ids(tmp_path: Path) -> None:
    np.savez(tmp_path / "pool.npz", embeddings=np.eye(3), id=np.array(["x", "y", "z"]))
    own = ["data.name=own", "data.labeled=l", "data.validation=v", f"data.pool={tmp_path / 'pool.npz'}"]
    asked = request.read(finished(tmp_path / "run", ["z", "x"], CLASSES, own))
    exported.write(asked, "csv", tmp_path / "t.csv")
    rows = list(csv.reader(io.StringIO((tmp_path / "t.csv").read_text())))
    assert rows == [["id", "path", "order", "label"], ["z", "", "0", ""], ["x", "", "1", ""]]
    assert "embeddings" in refused(asked, "label-studio", tmp_path / "out")
