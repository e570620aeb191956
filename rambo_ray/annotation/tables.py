"""CSV: the picked images as a table to fill in, and tables that come back, Label Studio's among them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from rambo_ray import files
from rambo_ray.annotation.entries import ID_KEY, NONE_OF_THESE, Entry, choices
from rambo_ray.errors import UserError, nearest

LABEL_COLUMNS = ("label", "class", "category", "choice")
_PATH_COLUMNS = ("image", "img", "path", "file", "filename", "file_name", "url")
_ANNOTATOR_COLUMNS = ("annotator", "user", "worker")
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no", "")


def to_fill_in(ids: Sequence[str], addresses: Sequence[str]) -> str:
    """A table with the ids, where each image is, its place in the order, and an empty column for its class."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "path", "order", "label"])
    writer.writerows(
        [name, address, order, ""] for order, (name, address) in enumerate(zip(ids, addresses, strict=True))
    )
    return out.getvalue()


def read(content: bytes, source: str, field: str | None) -> list[Entry]:
    """The entries of a table with a header, between commas, semicolons or tabs.

    The image is in `rambo_id`, or `id`, or a column such as `path`; in Label Studio's own CSV `id` is a number of the
    tool's and not looked at. The class is in `label`, or the column `field`; an empty one says nothing. A column
    `rejected` says true for none of the classes, `annotator` who. Raises UserError for anything else.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{source}: not UTF-8 text; save it as UTF-8") from error
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)) if text.strip() else []
    except csv.Error as error:
        raise UserError(f"{source}: not CSV ({error}); save it anew") from error
    header = [name.strip() for name in rows[0]] if rows else []
    if len(set(header)) != len(header):
        raise UserError(f"{source}: its header names a column twice ({first.strip()[:120]}); keep one")
    of_label_studio = "annotation_id" in header
    named = [ID_KEY, *([] if of_label_studio else ["id"]), *_PATH_COLUMNS]
    image = _column(header, named, None, source, "images")
    label = _column(header, LABEL_COLUMNS, field, source, "classes")
    who = next((header.index(name) for name in _ANNOTATOR_COLUMNS if name in header), None)
    rejected = header.index("rejected") if "rejected" in header else None
    found = []
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        where = f"{source} row {number}"
        if len(row) != len(header):
            raise UserError(f"{where}: has {len(row)} columns, the header has {len(header)}; correct the row")
        if not row[image]:
            raise UserError(f"{where}: names no image in column '{header[image]}'; correct or remove the row")
        found.append(
            Entry(
                (row[image],),
                _labels(row[label], where),
                where,
                rejected=rejected is not None and _truth(row[rejected], where),
                annotator=row[who] if who is not None else "",
                is_id=header[image] in (ID_KEY, "id"),
            )
        )
    return found


def _column(header: Sequence[str], names: Sequence[str], wanted: str | None, source: str, what: str) -> int:
    if wanted is not None:
        if wanted not in header:
            raise UserError(f"{source}: no column '{wanted}'; {nearest(wanted, header)}")
        return header.index(wanted)
    for name in names:
        if name in header:
            return header.index(name)
    raise UserError(
        f"{source}: no column of {what}, such as '{names[0]}'; it has: {', '.join(header)[:200] or 'no header'}"
    )


def _labels(cell: str, where: str) -> tuple[str, ...]:
    """A cell's classes: Label Studio writes several as JSON."""
    if cell.startswith(("{", "[")):
        try:
            value = files.from_json(cell)
        except ValueError:  # a class of this name
            return (cell,)
        try:
            return choices(value)
        except ValueError as error:
            raise UserError(f"{where}: {cell[:60]} is no class; write its name") from error
    return (cell,) if cell.strip() else ()


def _truth(cell: str, where: str) -> bool:
    text = cell.strip().lower()
    if text not in _TRUE + _FALSE:
        raise UserError(f"{where}: rejected is '{cell}'; must be true, for {NONE_OF_THESE}, or false")
    return text in _TRUE
