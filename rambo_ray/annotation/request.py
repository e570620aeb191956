"""The request of a finished run: which images its annotators are asked about, in which order, and the classes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rambo_ray import files
from rambo_ray.config import loading
from rambo_ray.config.schema import Config, DataConfig
from rambo_ray.errors import UserError

SELECTION = "selection.parquet"


@dataclass(frozen=True)
class Request:
    """What a run in `folder` asks of its annotators.

    ids [B]: of the picked images, in the order picked, as the pool's owner calls them; positions [B]: theirs in the
    pool; class_names [K]: what an answer can be; config: what was run; fingerprint, pool_fingerprint: of the data it
    saw.
    """

    folder: Path
    config: Config
    ids: tuple[str, ...]
    positions: tuple[int, ...]
    class_names: tuple[str, ...]
    fingerprint: str
    pool_fingerprint: str

    @property
    def data(self) -> DataConfig:
        """Where the images are."""
        return self.config.data

    @property
    def seed(self) -> int:
        """The run's seed, from which a benchmark's split follows."""
        return self.config.seed


def read(folder: str | os.PathLike[str]) -> Request:
    """The request in a run's folder.

    Raises UserError, in one line, where there is no finished run.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise UserError(f"{folder}: no such folder; give the --output folder of a finished rambo run")
    if not (path / "config.yaml").is_file():
        raise UserError(f"{folder}: holds no config.yaml, so it is no run's; give the --output folder of a rambo run")
    if (path / "space.yaml").is_file():
        raise UserError(f"{folder}: holds a sweep, not a run; give the --output folder of a rambo run")
    if not (path / SELECTION).is_file():
        raise UserError(
            f"{folder}: the run is not finished, it has no {SELECTION}; finish it: rambo run --output {folder}"
        )
    try:
        config = loading.read_stored(path / "config.yaml")
    except UserError as error:
        raise UserError(f"{folder}: its config.yaml is not of this version ({error})") from error
    content = _manifest(path / "manifest.json")
    ids, positions = _selection(path / SELECTION)
    return Request(
        folder=path,
        config=config,
        ids=ids,
        positions=positions,
        class_names=tuple(content["classes"]),
        fingerprint=content["fingerprint"],
        pool_fingerprint=content["pool_fingerprint"],
    )


def _manifest(path: Path) -> dict[str, Any]:
    """What a run's manifest says of its data."""
    try:
        content = files.from_json(path.read_text(encoding="utf-8"))["data"]
        classes = content["classes"]
        said = [*classes, content["fingerprint"], content["pool_fingerprint"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = "missing" if isinstance(error, FileNotFoundError) else "not a run's"
        raise UserError(f"{path}: {reason}; the same rambo run again writes it") from error
    if len(classes) < 2 or not all(isinstance(name, str) for name in said):
        raise UserError(f"{path}: names no classes; the same rambo run again writes it")
    return dict(content)


def _selection(path: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Ids and positions in the order picked."""
    try:
        table = pq.read_table(path, columns=["id", "pool_index", "order"]).sort_by("order")
        ids, positions = (tuple(table[name].to_pylist()) for name in ("id", "pool_index"))
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise UserError(
            f"{path}: is no run's selection ({' '.join(str(error).split())[:120]}); the same rambo run again writes it"
        ) from error
    if not ids or len(set(ids)) != len(ids) or None in ids or None in positions:
        raise UserError(f"{path}: its ids are not {len(ids)} different ones; the same rambo run again writes it")
    return ids, positions


def last_utility(asked: Request) -> float | None:
    """u_hat's score of all that was picked, as the last step gives it; None where it gave none."""
    table = pq.read_table(asked.folder / SELECTION, columns=["order", "utility"]).sort_by("order")
    value = table["utility"][-1].as_py()
    return None if value is None or value != value else float(value)
