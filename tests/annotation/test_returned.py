"""Files that come back from CVAT, COCO tools, tables and folders, and files that are none of them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from rambo_ray.annotation import answers, returned
from rambo_ray.annotation.answers import Answer
from rambo_ray.errors import UserError

# As CVAT documents its format 1.1: an image's tags, and shapes that are none of ours.
XML = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>4</id><name>round 1</name><size>4</size><mode>annotation</mode><labels>
    <label><name>cat</name><type>tag</type><attributes></attributes></label></labels></task></meta>
  <image id="0" name="pool/a.png" width="28" height="28"><tag label="cat" source="manual"></tag></image>
  <image id="1" name="pool/b.png" width="28" height="28"></image>
  <image id="2" name="pool/c &amp; d.png" width="28" height="28">
    <box label="x" xtl="1" ytl="1" xbr="2" ybr="2"></box>
    <tag label="cat" source="manual"></tag><tag label="dog" source="manual"></tag></image>
  <image id="3" name="pool/e.png" width="28" height="28">
    <tag label="cat" source="manual"></tag><tag label="cat" source="auto"></tag></image>
</annotations>
"""
COCO = {
    "images": [
        {"id": 9, "file_name": "x/a.png", "width": 4, "height": 4},
        {"id": 2, "file_name": "x/b.png", "width": 4, "height": 4},
        {"id": 5, "file_name": "made.png", "width": 4, "height": 4, "rambo_id": "c"},
    ],
    "categories": [{"id": 3, "name": "cat"}, {"id": 1, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 3, "bbox": [0, 0, 1, 1]},
        {"id": 2, "image_id": 9, "category_id": 3, "bbox": [1, 1, 1, 1]},
        {"id": 3, "image_id": 5, "category_id": 1},
        {"id": 4, "image_id": 5, "category_id": 3},
    ],
}


def read(path: Path, wanted: str | None = None, field: str | None = None) -> list[tuple[object, ...]]:
    return [(e.names, e.labels) for e in returned.read(path, wanted, field)[0]]


def test_cvat_s_tags(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(XML)
    expected = [
        (("pool/a.png",), ("cat",)),
        (("pool/b.png",), ()),
        (("pool/c & d.png",), ("cat", "dog")),
        (("pool/e.png",), ("cat",)),
    ]
    assert read(tmp_path / "a.xml") == expected
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:  # as it is downloaded, with the images
        archive.writestr("annotations.xml", XML)
        archive.writestr("images/pool/a.png", b"")
        archive.writestr("__MACOSX/._annotations.xml", b"")
    assert read(tmp_path / "task.zip", "cvat") == expected


def test_cvat_s_imagenet_archives_and_class_folders(tmp_path: Path) -> None:
    names = ["cat/cat_a.png", "dog/p/b.JPG", "cat/.hidden.png", "cat/note.txt", "c.png"]
    expected = [(("c.png",), ()), (("cat_a.png", "a.png"), ("cat",)), (("p/b.JPG",), ("dog",))]
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:
        archive.writestr("cat/", b"")
        for name in names:
            archive.writestr(name, b"")
            (tmp_path / "f" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "f" / name).write_bytes(b"")
    assert read(tmp_path / "task.zip", "cvat") == read(tmp_path / "f", "folder") == expected


def test_coco_s_categories_by_image(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(COCO))
    entries = returned.read(tmp_path / "a.json", "coco")[0]
    assert [(e.names, e.labels, e.is_id) for e in entries] == [
        (("x/a.png",), ("cat",), False),
        (("x/b.png",), (), False),
        (("c",), ("dog", "cat"), True),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_tables(delimiter: str, encoding: str, tmp_path: Path) -> None:
    rows = [
        ["id", "label", "annotator", "rejected"],
        ["a", "cat", "mia", ""],
        ["ü/b", "", "mia", "true"],
        ["c", "", "", "no"],
    ]
    text = "\r\n".join(delimiter.join(row) for row in rows) + "\r\n\r\n"
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    entries = returned.read(tmp_path / "a.csv")[0]
    assert [(e.names[0], e.labels, e.rejected, e.annotator, e.is_id) for e in entries] == [
        ("a", ("cat",), False, "mia", True),
        ("ü/b", (), True, "mia", True),
        ("c", (), False, "", True),
    ]


def test_a_table_may_call_image_and_class_otherwise(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("filename,species\nx/a.png,cat\n")
    entries = returned.read(tmp_path / "a.csv", field="species")[0]
    assert [(e.names, e.labels, e.is_id) for e in entries] == [(("x/a.png",), ("cat",), False)]


def test_our_own_log_counts_what_stands_and_says_what_was_cut_off(tmp_path: Path) -> None:
    said = [
        Answer("a", "cat", "mia"),
        Answer("b", None, "mia", rejected=True),
        Answer("a", "dog", "mia"),
        Answer("c", "cat", "mia"),
        Answer("c", None, "mia", undo=True),
        Answer("d", None, "mia", skipped=True),
    ]
    (tmp_path / "labels.jsonl").write_text("".join(answers.to_line(a) for a in said) + '{"id": "e", "lab')
    entries, remark = returned.read(tmp_path / "labels.jsonl")
    assert [(e.names[0], e.labels, e.rejected) for e in entries] == [
        ("a", ("dog",), False),
        ("b", (), True),
        ("d", (), False),
    ]
    assert "cut off" in remark and '{"id": "e"' in remark


def coco(**changes: object) -> str:
    return json.dumps({**COCO, **changes})


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", "{", "not JSON"),
        ("a.json", "[]", "neither Label Studio's"),
        ("a.json", coco(images=[]), "image 9, which is not there"),
        ("a.json", coco(categories=[]), "category 3, which is not there"),
        ("a.json", coco(images=[{"id": 9}], annotations=[]), "no COCO document"),
        ("a.json", coco(images=[3], annotations=[]), "no COCO document"),
        ("a.xml", "<a", "not XML"),
        ("a.xml", "<html/>", "no 'CVAT for images' export"),
        ("a.xml", "<annotations><track/></annotations>", "no 'CVAT for images' export"),
        ("a.xml", "<annotations><image id='3'/></annotations>", "image 3 has no name"),
        ("a.csv", "", "no column of images"),
        ("a.csv", "x,label\na,cat\n", "no column of images, such as 'rambo_id'; it has: x, label"),
        ("a.csv", "id,klass\na,cat\n", "no column of classes, such as 'label'"),
        ("a.csv", "id,label\na,cat,dog\n", "row 2: has 3 columns"),
        ("a.csv", "id,label\n,cat\n", "row 2: names no image"),
        ("a.csv", "id,label,label\na,cat,dog\n", "names a column twice"),
        ("a.csv", "id,label,rejected\na,cat,maybe\n", "rejected is 'maybe'"),
        ("a.csv", 'id,label\n"a,cat\n', "not CSV"),
        ("a.csv", 'id,label\na,"{""x"": 3}"\n', "is no class"),
        ("a.csv", b"id,label\n\xff,cat\n", "not UTF-8"),
        ("a.zip", "PK", "not a readable zip"),
        ("a.pdf", "", "ends in none of"),
        ("a.jsonl", "3\n", "line 1: is no answer"),
    ],
)
def test_a_bad_file_is_said_in_a_line(name: str, content: str | bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        returned.read(tmp_path / name)
    assert said in str(error.value) and name in str(error.value) and "\n" not in str(error.value)


def test_places_that_hold_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        returned.read(tmp_path / "none.json")
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(UserError, match="no class folders"):
        returned.read(tmp_path)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", b"")
    with pytest.raises(UserError, match="neither annotations nor class folders"):
        returned.read(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.xml", XML)
        archive.writestr("b.xml", XML)
    with pytest.raises(UserError, match="holds 2 files of annotations"):
        returned.read(tmp_path / "two.zip")


@pytest.mark.parametrize("wanted", [f for f in returned.FORMATS if f != "cvat"])
def test_a_format_that_the_file_is_not_is_refused(wanted: str, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(XML)
    with pytest.raises(UserError, match=f"--format {wanted}: .*a.xml is cvat"):
        returned.read(tmp_path / "a.xml", wanted)
