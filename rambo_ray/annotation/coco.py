"""COCO's JSON: images and categories to annotate, and the annotations that come back.

A class is a category that an image has an annotation of, with or without a box; several boxes of one category say it
once. Numbers of images and categories are the file's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rambo_ray.annotation.entries import ID_KEY, NONE_OF_THESE, Entry, annotator
from rambo_ray.errors import UserError


def document(ids: Sequence[str], files: Sequence[tuple[str, int, int]], class_names: Sequence[str]) -> str:
    """The JSON to import: an image for each id, whose path or address, width and height stand beside it."""
    images = [
        {"id": number, "file_name": path, "width": width, "height": height, ID_KEY: name}
        for number, (name, (path, width, height)) in enumerate(zip(ids, files, strict=True), start=1)
    ]
    categories = [
        {"id": number, "name": name, "supercategory": ""}
        for number, name in enumerate((*class_names, NONE_OF_THESE), start=1)
    ]
    made = {
        "info": {"description": "images to annotate"},
        "licenses": [],
        "images": images,
        "categories": categories,
        "annotations": [],
    }
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def is_coco(content: Any) -> bool:
    """Whether parsed JSON is such a document."""
    return isinstance(content, dict) and all(
        isinstance(content.get(key), list) for key in ("images", "categories", "annotations")
    )


def read(content: Mapping[str, Any], source: str) -> list[Entry]:
    """The entries of a document: each image with the categories of its annotations.

    Raises UserError for one whose parts do not fit together.
    """
    try:
        names = {row["id"]: str(row["name"]) for row in content["categories"]}
        known = {row["id"]: row for row in content["images"]}
        given: dict[Any, dict[str, list[str]]] = {key: {} for key in known}
        for row in content["annotations"]:
            who = annotator(row.get("annotator"))
            if row["image_id"] not in known:
                raise UserError(
                    f"{source}: annotation {row.get('id')} is of image {row['image_id']}, which is not there"
                )
            if row["category_id"] not in names:
                raise UserError(
                    f"{source}: annotation {row.get('id')} has category {row['category_id']}, which is not there"
                )
            given[row["image_id"]].setdefault(who, []).append(names[row["category_id"]])
        found = []
        for key, row in known.items():
            is_id = row.get(ID_KEY) not in (None, "")
            name = str(row[ID_KEY] if is_id else row["file_name"])
            where = f"{source} image {key}"
            for who, labels in given[key].items():
                found.append(Entry((name,), tuple(dict.fromkeys(labels)), where, annotator=who, is_id=is_id))
            if not given[key]:
                found.append(Entry((name,), (), where, is_id=is_id))
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{source}: no COCO document ({type(error).__name__}: {error}); export it anew") from error
    return found
