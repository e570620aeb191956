"""A disk that is full, or read-only, at each write: one line, nothing half-written, and the same call goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from rambo_ray import run_log
from rambo_ray.acquisition.greedy import Selection
from rambo_ray.backtest.playing import Play
from rambo_ray.backtest.store import PlayStore
from rambo_ray.benchmark.runs import BenchmarkRun, RunStore
from rambo_ray.cli import main
from rambo_ray.config.schema import Config
from rambo_ray.data.pool.parts import Parts, features_schema
from rambo_ray.embeddings.cache import FeatureCache
from rambo_ray.errors import RunError, UserError
from rambo_ray.files import WriteError
from rambo_ray.pipeline.outputs import Output
from rambo_ray.sweep import kept
from rambo_ray.sweep.trial import Score
from rambo_ray.utility_model import checkpoints, network
from rambo_ray.utility_samples.sampling import Measurement, offline_pairs
from rambo_ray.utility_samples.store import SampleStore

from .small_disk import mounted

MANY = 2000


def config(folder: Path) -> None:
    with Output.claim(folder / "run", Config()):
        pass


def selection(folder: Path) -> None:
    order = np.arange(MANY)
    chosen = Selection(order, order, order / MANY, order / MANY, (np.zeros(2),))
    Output(folder).write_selection(chosen, [f"an image of a long name, number {i}.png" for i in range(MANY)])


def samples(folder: Path) -> None:
    measured = Measurement(*(6 * [0.5]), 1.0, 3, 60, 0.5)
    pairs = offline_pairs(MANY // 2, 200, 10, "uniform", 0, "who")
    store = SampleStore(folder / "utility_samples", "accuracy")
    store.run = "today"
    store.append([s.measured(measured, "accuracy") for s in pairs])


def streamed(folder: Path) -> None:
    count, width = 64, 128
    features = np.random.default_rng(0).random((count, width), dtype=np.float32)
    columns = {
        "file": ["f"] * count,
        "row": list(range(count)),
        "id": list(map(str, range(count))),
        "digest": [bytes([i] * 16) for i in range(count)],
        "mark": list(range(count)),
        "error": [None] * count,
        "unlike": [False] * count,
        "features": list(features),
    }
    Parts(folder / "pool", features_schema(width)).write(pa.table(columns, schema=features_schema(width)))


def plays(folder: Path) -> None:
    made = [Play("badge", np.random.default_rng(0).random(MANY), np.ones(3), 0.5)]
    PlayStore(folder / "rounds").add("x", 0, np.arange(MANY), made)


def run_of_a_benchmark(folder: Path) -> None:
    RunStore(folder).add(BenchmarkRun("a" * 32, "digits " * 1000, "rambo", 20, 1, *(10 * [0.5]), epochs=12))


def features(folder: Path) -> None:
    FeatureCache(folder / "cache", ["x"], 256).add([bytes([i] * 16) for i in range(32)], np.ones((32, 256), np.float32))


WRITES: dict[str, Callable[[Path], object]] = {
    "config.yaml": config,
    "report.html": lambda folder: Output(folder).write_text("report.html", "a long page " * 1000),
    "metrics.json": lambda folder: Output(folder).write_json("metrics.json", {"numbers": list(range(MANY))}),
    "selection.parquet": selection,
    "utility_model.safetensors": lambda folder: network.write(folder, bytes(9000), {"architecture": {}}),
    "part-": samples,
    "state.pt": lambda folder: checkpoints.write({"weights": torch.zeros(3000)}, folder / "fit" / "one" / "state.pt"),
    "pool": streamed,
    "plays-": plays,
    "cells.jsonl": run_of_a_benchmark,
    "trials": lambda folder: kept.write(Score(*(6 * [0.5]), epochs=1), folder / "trials" / "x.json"),
    "cache": features,
}


@pytest.mark.parametrize("left", [0, 4096])
def test_each_write_on_a_full_disk(tmp_path: Path, left: int) -> None:
    """left: bytes that are free when it begins: with a page it fails in the middle of most of them."""
    with mounted(tmp_path / "disk", 4096) as disk:
        expected = tmp_path / "elsewhere"
        for name, write in WRITES.items():
            folder = disk.folder / name.strip("-")
            folder.mkdir()
            with disk.filled(left):
                try:
                    write(folder)
                except (RunError, UserError) as error:
                    line = str(error)
                    assert isinstance(error, WriteError) or name in ("config.yaml", "cache"), name
                    assert "No space left on device" in line and len(line.splitlines()) == 1, line
                    assert str(folder) in line and ("MB are free)" in line or name == "cache"), line
                else:
                    assert left, name  # small enough for what is left
                whole = {path.name for path in folder.rglob("*") if path.is_file()} - {"cells.jsonl"}
                assert not [each for each in whole if each.startswith(".") or each.endswith(".tmp")], name
            (expected / name).mkdir(parents=True)
            write(expected / name)
            write(folder)  # the same call goes on
            assert contents(folder) == contents(expected / name), name
        assert RunStore(disk.folder / "cells.jsonl").runs.keys() == {"a" * 32}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file's, but for the log, which tells of the fault."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if path.name != run_log.NAME}


def test_a_read_only_directory_is_refused_at_the_door(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and one line, before data are read or Ray starts; a new one below it, or one that goes on."""
    with mounted(tmp_path / "disk", 256) as disk:
        config(disk.folder)
        disk.read_only()
        before = contents(disk.folder)
        for folder in (disk.folder / "new" / "run", disk.folder / "run"):
            for command in ("run", "collect"):
                assert main.main([command, "--config", "digits_smoke", "--output", str(folder)]) == 2
                said = capsys.readouterr()
                assert said.err == (
                    f"rambo {command}: error: --output {folder}: Read-only file system; give a directory you can "
                    "write to\n"
                )
                assert said.out == ""
        assert contents(disk.folder) == before
        disk.read_only(False)
        config(disk.folder)
