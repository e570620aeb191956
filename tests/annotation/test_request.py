"""Reading a run's request: order, classes, and folders that hold none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rambo_ray.annotation import request
from rambo_ray.errors import UserError

from .runs import finished


def test_it_is_in_the_order_picked(tmp_path: Path) -> None:
    ids = [f"a/{i}.png" for i in range(30)]
    found = request.read(finished(tmp_path / "run", ids, overrides=["seed=7", "acquisition.budget=60"]))
    assert found.ids == tuple(ids) and found.positions == tuple(range(100, 130))
    assert found.class_names == ("cat", "dog", "Owl")
    assert found.seed == 7 and found.config.acquisition.budget == 60 and found.data.name == "digits"


def emptied(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def content(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def twice(folder: Path) -> None:
    table = pq.read_table(folder / "selection.parquet")
    pq.write_table(pa.concat_tables([table, table]), folder / "selection.parquet")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (emptied("config.yaml"), "holds no config.yaml"),
        (emptied("selection.parquet"), "not finished"),
        (emptied("manifest.json"), "manifest.json: missing"),
        (content("space.yaml", "a: 1"), "holds a sweep"),
        (content("config.yaml", "acquisition: {budgets: 3}"), "not of this version"),
        (content("manifest.json", "{"), "not a run's"),
        (content("manifest.json", "[]"), "not a run's"),
        (content("manifest.json", json.dumps({"data": {"classes": ["a"], "fingerprint": "f", "pool_fingerprint": ""}})),
         "names no classes"),
        (content("selection.parquet", "PAR"), "no run's selection"),
        (lambda f: pq.write_table(pa.table({"id": ["a"]}), f / "selection.parquet"), "no run's selection"),
        (twice, "not 4 different ones"),
    ],
)  # fmt: skip
def test_what_is_no_finished_run_is_said_in_a_line(spoil: Callable[[Path], None], said: str, tmp_path: Path) -> None:
    folder = finished(tmp_path / "run", ["a", "b"])
    spoil(folder)
    with pytest.raises(UserError, match=said) as error:
        request.read(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        request.read(tmp_path / "none")
