"""Label Studio in both directions.

label_studio/export.json is an export in its published format of tasks that `rambo export` made; json_min.json and
export.csv are what Label Studio's own converter (label-studio-sdk 2.1.2) makes of it with our labelling configuration.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from rambo_ray.annotation import label_studio, request, returned, settled
from rambo_ray.annotation.request import Request
from rambo_ray.errors import UserError

from .runs import finished

FILES = Path(__file__).parent / "label_studio"
# The tool's own numbers of these tasks are 1 to 7: "3" and "5" are ids of others.
IDS = ["cat/7.png", "3", 'a,b "c".png', "täglich/ü.jpg", "5", "skipped.png", "untouched.png"]
EXPECTED = {"cat/7.png": "cat", "3": "dog", 'a,b "c".png': "Owl", "täglich/ü.jpg": None, "5": "dog"}


@pytest.fixture
def asked(tmp_path: Path) -> Request:
    return request.read(finished(tmp_path / "run", IDS))


@pytest.mark.parametrize("name", ["export.json", "json_min.json", "export.csv"])
def test_its_three_exports_say_the_same(name: str, asked: Request) -> None:
    entries, _ = returned.read(FILES / name)
    outcome = settled.settle(asked, entries)
    assert {a.id: a.label for a in outcome.answers} == EXPECTED
    assert outcome.unanswered == ("skipped.png", "untouched.png") and not outcome.tied
    assert outcome.answers[0].annotators == ("1", "2") and outcome.answers[1].annotators == ("1",)
    assert any("1 image by several annotators, who agree on 1" in line for line in outcome.remarks)


@pytest.mark.parametrize("wanted", ["label-studio", None])
def test_its_csv_may_be_called_either(wanted: str | None) -> None:
    assert len(returned.read(FILES / "export.csv", wanted)[0]) == 7


def test_what_is_imported_comes_back_in_the_export() -> None:
    tasks = json.loads(label_studio.tasks(IDS, [f"/data/local-files/?d=pool/{i}" for i in range(7)]))
    assert [task["data"] for task in tasks] == [
        task["data"] for task in json.loads((FILES / "export.json").read_text())
    ]
    assert [task["data"]["rambo_id"] for task in tasks] == IDS


def test_the_interface_asks_for_one_class_or_none() -> None:
    names = ["a & b", "<x>", 'quote"', "none"]
    view = ElementTree.fromstring(label_studio.labelling_config(names))
    choices = view.find("Choices")
    assert view.tag == "View" and choices is not None and choices.get("choice") == "single"
    assert choices.get("name") == "label" and choices.get("toName") == view.find("Image").get("name")  # type: ignore[union-attr]
    assert [c.get("value") for c in choices] == [*names, "none of these"]
    many = ElementTree.fromstring(label_studio.labelling_config([str(i) for i in range(99)])).find("Choices")
    keys = [choice.get("hotkey") for choice in many if choice.get("hotkey")]  # type: ignore[union-attr]
    assert len(set(keys)) == len(keys) == 36 and keys[-1] == "0"


def exported(**changes: Any) -> list[dict[str, Any]]:
    """The export's first task with another question, annotator or data."""
    content = json.loads((FILES / "export.json").read_text())[1:2]
    content[0].update(copy.deepcopy(changes))
    return content  # type: ignore[no-any-return]


def read(content: Any, folder: Path, field: str | None = None) -> list[tuple[tuple[str, ...], tuple[str, ...], str]]:
    (folder / "x.json").write_text(json.dumps(content))
    return [(e.names, e.labels, e.annotator) for e in returned.read(folder / "x.json", field=field)[0]]


def test_without_our_id_the_image_s_address_counts_and_never_the_task_s_number(tmp_path: Path) -> None:
    entries = read(exported(id=3, data={"image": "/data/local-files/?d=p/cat/7.png", "id": "3"}), tmp_path)
    assert entries == [(("/data/local-files/?d=p/cat/7.png",), ("dog",), "1")]


def test_predictions_drafts_and_skips_are_no_answers(tmp_path: Path) -> None:
    result = exported()[0]["annotations"][0]["result"]
    task = exported(annotations=[], predictions=[{"result": result}], drafts=[{"result": result}])
    assert read(task, tmp_path) == [(("3",), (), "")]
    annotation = exported()[0]["annotations"][0]
    assert read(exported(annotations=[{**annotation, "was_cancelled": True}]), tmp_path) == [(("3",), (), "")]


def test_annotators_may_be_mappings_and_several_choices_are_kept_to_be_refused(tmp_path: Path) -> None:
    annotation = exported()[0]["annotations"][0]
    annotation["completed_by"] = {"id": 4, "email": "mia@x.org"}
    annotation["result"][0]["value"]["choices"] = ["dog", "cat"]
    assert read(exported(annotations=[annotation]), tmp_path) == [(("3",), ("dog", "cat"), "mia@x.org")]


def test_of_several_questions_one_must_be_named(tmp_path: Path) -> None:
    annotation = exported()[0]["annotations"][0]
    first = {**annotation["result"][0], "from_name": "animal"}
    second = {**first, "from_name": "quality", "value": {"choices": ["blurred"]}}
    content = exported(annotations=[{**annotation, "result": [first, second]}])
    with pytest.raises(UserError, match=r"asks several questions \(animal, quality\)"):
        read(content, tmp_path)
    assert read(content, tmp_path, "animal") == [(("3",), ("dog",), "1")]
    with pytest.raises(UserError, match="has no choices named 'animals'"):
        read(content, tmp_path, "animals")
    only = exported(annotations=[{**annotation, "result": [first]}])
    assert read(only, tmp_path) == [(("3",), ("dog",), "1")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([{"id": 1, "data": {"text": "x"}, "annotations": []}], "neither rambo_id nor an image"),
        ([{"id": 1, "data": 3}], "no mapping"),
        ([{"annotation_id": 1, "text": "x"}], "neither rambo_id nor an image"),
        ([{"annotation_id": 1, "image": "x", "label": {"x": 3.5}}], "is no class"),
        ([], "neither Label Studio's"),
        ({"data": 1}, "neither Label Studio's"),
        ([3], "neither Label Studio's"),
    ],
)
def test_what_is_no_export_is_said(content: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as error:
        read(content, tmp_path)
    assert "x.json" in str(error.value) and "\n" not in str(error.value)
