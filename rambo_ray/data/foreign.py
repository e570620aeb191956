"""Datasets of torch and of Hugging Face: items that come one by one, or as columns, with or without classes.

Neither library is imported here: what is a dataset of theirs is known by what it can do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rambo_ray.data import arrays
from rambo_ray.data.decoding import BATCH
from rambo_ray.data.held import Content
from rambo_ray.data.labels import Labels
from rambo_ray.data.vectors import as_vectors
from rambo_ray.errors import UserError

Read = tuple[Content, Labels | None, tuple[str, ...] | None]
"""Items, classes where they were asked for, and ids where there are any."""

_VECTORS = ("embeddings", "embedding")


def is_hugging_face(x: object) -> bool:
    """Whether `x` is a `datasets.Dataset`, or one of its relatives, which are refused later."""
    return hasattr(x, "features") and hasattr(x, "column_names") or type(x).__name__ in ("DatasetDict",)


def is_torch(x: object) -> bool:
    """Whether `x` gives items by number, as a dataset of torch's does."""
    plain = isinstance(x, list | tuple | dict | str | bytes | np.ndarray) or arrays.as_array(x) is not None
    return not plain and hasattr(x, "__getitem__") or hasattr(x, "dataset") and hasattr(x, "batch_size")


def of_torch(x: Any, labeled: bool, class_names: Sequence[str] | None, what: str) -> Read:
    """Every item of a torch dataset: (image, label) where `labeled`; of a pool the image alone counts.

    An image is what `arrays.content` takes of one. Class names are those that it, or what it is a subset of, has as
    `classes`. Raises UserError for loaders, for datasets without a length, and for items of another kind.
    """
    if hasattr(x, "batch_size") and hasattr(x, "dataset"):
        raise UserError(f"{what}: a {type(x).__name__}, which shuffles and gives batches; give its dataset")
    if not hasattr(x, "__len__"):
        raise UserError(f"{what}: a {type(x).__name__} without a length; give one whose items have numbers, or a list")
    images, found = [], []
    for number in range(len(x)):
        item = x[number]
        if isinstance(item, dict):
            raise UserError(f"{what}: its items are dictionaries ({', '.join(item)}); give (image, label) of each")
        pair = isinstance(item, tuple | list)
        if labeled and (not pair or len(item) < 2):
            raise UserError(f"{what}: item {number} is no (image, label); labelled items must be")
        images.append(item[0] if pair else item)
        if labeled:
            found.append(_label(item[1]))
    content = arrays.content(images, what)
    return content, (arrays.labels(found, class_names or _names(x), what) if labeled else None), None


def of_hugging_face(x: Any, labeled: bool, class_names: Sequence[str] | None, what: str) -> Read:
    """The columns of a Hugging Face dataset: images or embeddings, `label` where `labeled`, `id` where there is one.

    Images stay encoded as the dataset holds them, so that they are read as from its Parquet files. Raises UserError
    for a dictionary of splits, a stream, and where a column is missing or could be two.
    """
    if not hasattr(x, "features") or isinstance(x, dict):
        raise UserError(f"{what}: a dictionary of splits ({', '.join(map(str, x))}); give one, as in x['train']")
    if not hasattr(x, "__len__"):
        raise UserError(f"{what}: a stream; give a dataset that is loaded (streaming=False)")
    features = x.features
    of_images = [name for name, kind in features.items() if type(kind).__name__ == "Image"]
    of_vectors = [name for name in _VECTORS if name in features]
    columns = of_images or of_vectors
    if len(columns) != 1:
        found = f"columns {', '.join(columns)}" if columns else f"none among its columns ({', '.join(features)})"
        raise UserError(
            f"{what}: must have one column of images, or one of embeddings called 'embedding', and has {found}; "
            "keep one with select_columns or rename it"
        )
    content = _encoded(x, columns[0], what) if of_images else _vectors(x, columns[0], what)
    ids = None
    if "id" in features:
        ids = tuple(str(value) for value in _column(x, "id"))
    return content, (_classes(x, class_names, what) if labeled else None), ids


def _encoded(x: Any, column: str, what: str) -> Content:
    found: list[bytes] = []
    arrow = x.with_format("arrow")
    for first in range(0, len(x), BATCH):
        for value in arrow[first : first + BATCH].column(column).to_pylist():
            held = value.get("bytes") if isinstance(value, dict) else None
            if held is None and isinstance(value, dict) and value.get("path"):
                with open(value["path"], "rb") as file:
                    held = file.read()
            if held is None:
                raise UserError(f"{what}: row {len(found)} holds no image; fill or remove it")
            found.append(held)
    return found


def _vectors(x: Any, column: str, what: str) -> Content:
    rows = _column(x, column)
    lengths = {len(row) if row is not None else -1 for row in rows}
    if len(lengths) != 1 or -1 in lengths:
        raise UserError(f"{what}: column '{column}' has rows of {sorted(lengths)} numbers; must be all of one length")
    return as_vectors(np.asarray(rows), what)


def _classes(x: Any, class_names: Sequence[str] | None, what: str) -> Labels:
    features = x.features
    declared = [name for name, kind in features.items() if type(kind).__name__ == "ClassLabel"]
    name = "label" if "label" in features or len(declared) != 1 else declared[0]
    if name not in features:
        raise UserError(f"{what}: no column 'label' among {', '.join(features)}; rename the one that holds classes")
    values = _column(x, name)
    if None in values:
        raise UserError(f"{what}: row {values.index(None)} has no label; label or remove it")
    return arrays.labels(values, class_names or getattr(features[name], "names", None), what)


def _column(x: Any, name: str) -> list[Any]:
    return list(x.with_format("arrow").select_columns([name])[:].column(name).to_pylist())


def _label(value: Any) -> Any:
    """A label as a number or name: a tensor of one number is that number."""
    return value.item() if hasattr(value, "item") else value


def _names(x: Any) -> Sequence[str] | None:
    """The class names that a dataset, or what it is a subset of, has."""
    while x is not None:
        names = getattr(x, "classes", None)
        if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
            return list(names)
        x = getattr(x, "dataset", None)
    return None
