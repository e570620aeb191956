"""CVAT: what an image task is made from, and its exports "CVAT for images" and ImageNet.

CVAT keeps nothing of an image but its name, so the copies that are exported are known by theirs (`names.copy_stem`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePosixPath
from xml.etree import ElementTree

from rambo_ray.annotation.entries import NONE_OF_THESE, Entry
from rambo_ray.errors import UserError


def manifest(files: Sequence[tuple[str, int, int]]) -> str:
    """A dataset manifest of images in this order, by path, width and height: JSON lines after two of their own.

    With the sorting method `predefined` a task shows its images in this order.
    """
    lines = [{"version": "1.1"}, {"type": "images"}]
    for path, width, height in files:
        suffix = PurePosixPath(path).suffix
        lines.append(
            {"name": path[: len(path) - len(suffix)], "extension": suffix, "width": width, "height": height}  # type: ignore[dict-item]
        )
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def labels(class_names: Sequence[str]) -> str:
    """The labels of the task for CVAT's Raw editor: a tag for each class and one for "none of these"."""
    made = [{"name": name, "type": "tag", "attributes": []} for name in (*class_names, NONE_OF_THESE)]
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def read_xml(content: bytes, source: str) -> list[Entry]:
    """The entries of a "CVAT for images" export: an image's tags. Shapes are passed over.

    Raises UserError for anything else.
    """
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise UserError(f"{source}: not XML ({error}); export the task as 'CVAT for images 1.1'") from error
    if root.tag != "annotations" or root.find("track") is not None:
        raise UserError(f"{source}: no 'CVAT for images' export, but <{root.tag}>; choose 'CVAT for images 1.1'")
    found = []
    for image in root.iter("image"):
        name = image.get("name")
        if not name:
            raise UserError(f"{source}: image {image.get('id', '?')} has no name; export the task anew")
        given = tuple(dict.fromkeys(tag.get("label") or "" for tag in image.findall("tag")))
        found.append(Entry((name,), tuple(label for label in given if label), f"{source} image '{name}'"))
    return found


def read_folders(paths: Sequence[str], source: str) -> list[Entry]:
    """The entries of class folders, by the paths of their files: CLASS/any/name.png; a file in no folder says nothing.

    ImageNet exports of CVAT put CLASS_ before an image's name, too.
    """
    found = []
    for path in paths:
        label, slash, rest = path.partition("/")
        if not slash:
            found.append(Entry((path,), (), f"{source}/{path}"))
            continue
        names = (rest, rest[len(label) + 1 :]) if rest.startswith(f"{label}_") else (rest,)
        found.append(Entry(names, (label,), f"{source}/{path}"))
    return found
