"""annotations.parquet in a run's folder: the one answer per image that later rounds go by.

    id          string, as in selection.parquet
    label       string, null where the image belongs to none of the classes
    rejected    bool
    annotators  list of string, who said so or otherwise; "" where unknown

One row per answered image, in the order picked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rambo_ray.annotation.entries import listed
from rambo_ray.annotation.request import Request
from rambo_ray.annotation.settled import Settled
from rambo_ray.errors import UserError
from rambo_ray.files import replacing

ANNOTATIONS = "annotations.parquet"

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("rejected", pa.bool_(), nullable=False),
        pa.field("annotators", pa.list_(pa.string()), nullable=False),
    ]
)


def read(request: Request) -> tuple[Settled, ...]:
    """The answers to a request so far, in the order picked; () where there is no file.

    Raises UserError for a file that is not of this request.
    """
    path = request.folder / ANNOTATIONS
    if not path.is_file():
        return ()
    try:
        rows = pq.read_table(path, columns=SCHEMA.names).to_pylist()
        found = {row["id"]: Settled(row["id"], row["label"], tuple(row["annotators"] or ())) for row in rows}
        consistent = all((row["label"] is None) == row["rejected"] for row in rows)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a file of rambo labels ({' '.join(str(error).split())[:120]})") from error
    strangers = [name for name in found if name not in set(request.ids)]
    classes = {a.label for a in found.values() if a.label is not None} - set(request.class_names)
    if strangers or classes or len(found) != len(rows) or not consistent:
        what = listed(strangers or sorted(classes), 3) or "rows that contradict each other"
        raise UserError(f"{path}: does not belong to this run ({what}); write it anew with rambo labels --replace")
    return tuple(found[name] for name in request.ids if name in found)


def joined(
    request: Request, earlier: Sequence[Settled], answers: Sequence[Settled], *, replace: bool = False
) -> tuple[Settled, ...]:
    """The answers of `earlier` files and of this one, in the order picked.

    Raises UserError where they contradict each other, unless `replace`: then this file's count.
    """
    known = {a.id: a for a in earlier}
    changed = [a.id for a in answers if a.id in known and known[a.id].label != a.label]
    if changed and not replace:
        raise UserError(
            f"{request.folder / ANNOTATIONS}: says otherwise of {len(changed)} of the images ({listed(changed, 5)}); "
            "correct the answers, or give --replace to take the new ones"
        )
    known.update({a.id: a for a in answers})
    return tuple(known[name] for name in request.ids if name in known)


def write(request: Request, answers: Sequence[Settled]) -> Path:
    """Write annotations.parquet of a run, whole or not at all."""
    path = request.folder / ANNOTATIONS
    columns = [[a.id for a in answers], [a.label for a in answers], [a.rejected for a in answers]]
    with replacing(path) as temporary:
        pq.write_table(pa.table([*columns, [list(a.annotators) for a in answers]], schema=SCHEMA), temporary)
    return path
