"""Label Studio: tasks to import, the labelling configuration beside them, and its JSON and JSON-MIN exports.

A task's data carry the owner's id under `rambo_id`. Its `id` is Label Studio's own number, in JSON-MIN and CSV even
where the data had an `id`, so that is never looked at. Its CSV export is read by `tables`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from rambo_ray.annotation.entries import ID_KEY, NONE_OF_THESE, Entry, annotator, choices
from rambo_ray.errors import UserError

LABEL_KEY = "label"
_IMAGE_KEYS = ("image", "img", "image_url", "url", "path", "file")
_KEYS = "123456789qwertyuiopasdfghjklzxcvbnm"


def tasks(ids: Sequence[str], addresses: Sequence[str]) -> str:
    """The JSON to import: a task for each id, whose image is at the address beside it."""
    made = [
        {"data": {"image": address, ID_KEY: name, "order": order}}
        for order, (name, address) in enumerate(zip(ids, addresses, strict=True))
    ]
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def local(path: Path) -> str:
    """The address of a file on Label Studio's machine, whose LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT must be /."""
    return "/data/local-files/?d=" + quote(path.expanduser().absolute().as_posix().lstrip("/"))


def labelling_config(class_names: Sequence[str]) -> str:
    """The XML of the labelling interface: the image, and one choice among the classes and "none of these"."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name="image", value="$image", zoom="true")
    asked = ElementTree.SubElement(
        view, "Choices", name=LABEL_KEY, toName="image", choice="single", required="true", showInline="true"
    )
    for number, name in enumerate(class_names):
        keys = {"hotkey": _KEYS[number]} if number < len(_KEYS) else {}
        ElementTree.SubElement(asked, "Choice", {"value": name, **keys})
    ElementTree.SubElement(asked, "Choice", {"value": NONE_OF_THESE, "hotkey": "0"})
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def is_json(content: Any) -> bool:
    """Whether parsed JSON is a full export: tasks with their data."""
    return _all_have(content, "data")


def is_json_min(content: Any) -> bool:
    """Whether parsed JSON is a JSON-MIN export: flat rows."""
    return _all_have(content, "annotation_id")


def read_json(content: Sequence[Mapping[str, Any]], source: str, field: str | None) -> list[Entry]:
    """The entries of a full export; a task that nobody finished is an entry that says nothing.

    Only annotations that were not skipped count, never predictions or drafts. field: the `name` of the Choices in the
    labelling configuration; default: `label`, or the only one there is. Raises UserError for what is no such export.
    """
    asked = _field({r.get("from_name") for t in content for a in _finished(t) for r in _choices(a)}, field, source)
    found = []
    for task in content:
        where, data = f"{source} task {task.get('id', '?')}", task["data"]
        if not isinstance(data, dict):
            raise UserError(f"{where}: its data are no mapping; export the project anew as JSON")
        name, is_id = _name(data, where)
        finished = _finished(task)
        for annotation in finished:
            labels = [r.get("value") for r in _choices(annotation) if r.get("from_name") == asked]
            who = annotator(annotation.get("completed_by"))
            found.append(Entry((name,), _chosen(labels, where), where, annotator=who, is_id=is_id))
        if not finished:
            found.append(Entry((name,), (), where, is_id=is_id))
    return found


def read_json_min(content: Sequence[Mapping[str, Any]], source: str, field: str | None) -> list[Entry]:
    """The entries of a JSON-MIN export; arguments and errors as of `read_json`."""
    own = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", ID_KEY, "order", *_IMAGE_KEYS}
    asked = _field({LABEL_KEY} & set().union(*content) or set().union(*content) - own, field, source)
    found = []
    for number, row in enumerate(content):
        where = f"{source} row {number}"
        name, is_id = _name(row, where)
        labels = _chosen([row.get(asked)], where)
        found.append(Entry((name,), labels, where, annotator=annotator(row.get("annotator")), is_id=is_id))
    return found


def _all_have(content: Any, key: str) -> bool:
    return isinstance(content, list) and bool(content) and all(isinstance(row, dict) and key in row for row in content)


def _finished(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The annotations of a task, without those that were skipped."""
    annotations = task.get("annotations", task.get("completions")) or []
    kept = [a for a in annotations if isinstance(a, dict)]
    return [a for a in kept if not (a.get("was_cancelled") or a.get("skipped"))]


def _choices(annotation: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for result in annotation.get("result") or []:
        if isinstance(result, dict) and result.get("type") == "choices":
            yield result


def _chosen(values: Sequence[Any], where: str) -> tuple[str, ...]:
    try:
        return choices(list(values))
    except ValueError as error:
        raise UserError(f"{where}: {error}; export choices, not regions") from error


def _field(names: set[Any], wanted: str | None, source: str) -> str:
    """Which of several questions of the project was about the class."""
    known = sorted(str(name) for name in names if name is not None)
    if wanted is not None:
        if known and wanted not in known:
            raise UserError(f"{source}: has no choices named '{wanted}'; --field is one of: {', '.join(known)}")
        return wanted
    if LABEL_KEY in known or not known:
        return LABEL_KEY
    if len(known) > 1:
        raise UserError(f"{source}: asks several questions ({', '.join(known)}); say which is the class: --field NAME")
    return known[0]


def _name(data: Mapping[str, Any], where: str) -> tuple[str, bool]:
    """What a task calls its image, and whether that is the owner's id."""
    if data.get(ID_KEY) not in (None, ""):
        return str(data[ID_KEY]), True
    for key in _IMAGE_KEYS:
        if isinstance(data.get(key), str) and data[key]:
            return data[key], False
    raise UserError(f"{where}: has neither {ID_KEY} nor an image; export the tasks that rambo export made")
