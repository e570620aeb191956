"""Played rounds on disk: a small Parquet file for each piece of work, so that a backtest goes on where it stopped.

A play (one method in one round) is known by the hash of everything its numbers depend on: another configuration, or
another pool, finds nothing that is not its own; more rounds or more methods find what there is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rambo_ray.backtest.gains import Round
from rambo_ray.backtest.playing import Material, Play
from rambo_ray.backtest.verdict import BEFORE
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.errors import RunError
from rambo_ray.files import make_folder, put_aside, replacing
from rambo_ray.pipeline import rules

# Raise it when the same round would be played otherwise, beside the training's own RULE.
RULE = 1

SCHEMA = pa.schema(
    [
        pa.field("play_id", pa.string(), nullable=False),
        pa.field("round", pa.int32(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("accuracy", pa.float32(), nullable=False),
        pa.field("judges", pa.list_(pa.int32()), nullable=False),
        pa.field("right", pa.list_(pa.float32()), nullable=False),
        pa.field("classes", pa.list_(pa.float32()), nullable=False),
        pa.field("seconds", pa.float32(), nullable=False),
    ]
)


def identity(config: Config, material: Material, mix: np.ndarray, playing: Sequence[float]) -> str:
    """Everything that the plays of a backtest depend on but the round's number and the method.

    playing: the numbers by which rounds are played.
    """
    kept = {key: value for key, value in loading.relevant(config).items() if key != "acquisition.strategy"}
    content = [
        RULE,
        kept,
        material.problem.fingerprint,
        material.training.identity(),
        material.num_pool,
        [round(float(share), 6) for share in mix],
        list(playing),
        *rules.newer((rules.FIT, rules.ACQUISITION, rules.ROUNDS)),
    ]
    if material.same is not None and (material.same != np.arange(len(material.same))).any():
        content.append(material.same.tolist())
    return json.dumps(content, sort_keys=True)


class PlayStore:
    """The plays of a folder; None: they are kept in memory only. said: which files were damaged, in lines."""

    def __init__(self, folder: Path | None, digests: Mapping[str, str] | None = None) -> None:
        """Read what is there; digests: of the code of methods that are the user's, by name.

        A file that is damaged, or holds no plays, is set aside: its rounds are played again.
        """
        self.folder, self._digests = folder, digests or {}
        self.said: list[str] = []
        self._rows: dict[str, Mapping[str, object]] = {}
        for path in sorted(folder.glob("plays-*.parquet")) if folder is not None else ():
            try:
                content = path.read_bytes()
            except OSError as error:
                raise RunError(f"{path}: {error.strerror}; make it readable and run again") from error
            try:
                table = pq.read_table(pa.BufferReader(content), schema=SCHEMA, page_checksum_verification=True)
                self._rows.update({row["play_id"]: row for row in table.to_pylist()})
            except (pa.ArrowException, OSError, KeyError, ValueError) as error:
                reason = " ".join(str(error).split())[:120] or "it is empty"
                self.said.append(
                    f"{path} is damaged or not a file of played rounds ({reason}); {put_aside(path)}, and its rounds "
                    "are played again"
                )

    def missing(self, identity: str, number: int, methods: Sequence[str]) -> list[str]:
        """Those of `methods` that were not played in round `number`, in order; f on S_0 alone always is with them."""
        return [method for method in methods if self._id(identity, number, method) not in self._rows]

    def add(self, identity: str, number: int, judges: np.ndarray, plays: Sequence[Play]) -> None:
        """Keep what was played in one round; it is on the disk when this returns."""
        rows = [
            {
                "play_id": self._id(identity, number, play.method),
                "round": number,
                "method": play.method,
                "accuracy": float(play.right.mean()),
                "judges": judges.tolist(),
                "right": play.right.tolist(),
                "classes": play.classes.tolist(),
                "seconds": play.seconds,
            }
            for play in plays
        ]
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        if self.folder is not None:
            make_folder(self.folder)
            name = hashlib.sha256("".join(str(row["play_id"]) for row in rows).encode()).hexdigest()[:16]
            with replacing(self.folder / f"plays-{name}.parquet") as temporary:
                pq.write_table(table, temporary, write_page_checksum=True)
        # As they read back from the file, so that a backtest and its continuation say the same.
        self._rows.update({row["play_id"]: row for row in table.to_pylist()})

    def round(self, identity: str, number: int, methods: Sequence[str]) -> Round:
        """A played round with the rows of `methods` and of f on S_0 alone. Raises KeyError where one is missing."""
        names = (BEFORE, *(m for m in methods if m != BEFORE))
        rows = [self._rows[self._id(identity, number, method)] for method in names]
        return Round(
            number,
            np.array(rows[0]["judges"], dtype=np.int64),
            names,
            np.array([row["right"] for row in rows], dtype=np.float64),
            np.array([row["classes"] for row in rows], dtype=np.float64),
            np.array([row["seconds"] for row in rows], dtype=np.float64),
        )

    def _id(self, identity: str, number: int, method: str) -> str:
        return play_id(identity, number, f"{method}{self._digests.get(method, '')}")


def play_id(identity: str, number: int, method: str) -> str:
    """Content hash of a play, 32 hexadecimal digits."""
    return hashlib.sha256(json.dumps([identity, number, method]).encode()).hexdigest()[:32]
