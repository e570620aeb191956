"""A benchmark on a pool as it really is, through its job: every rival and ceiling, half of the pool junk."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from rambo_ray.benchmark.rivals import RIVALS
from rambo_ray.cli import main as program
from rambo_ray.cluster.session import Session

main = partial(program.job, "benchmark")
KEYS = {
    "classifier.precision": "float32",
    "classifier.max_epochs": 3,
    "acquisition.batch_size": 10,
    "data.scenario": "off_target",
    "data.pool_limit": 150,
}


def experiment(*methods: str) -> dict[str, Any]:
    panel = {"config": "digits_smoke.yaml", "name": "junk", "set": KEYS}
    return {"title": "t", "panels": [panel], "methods": list(methods), "budgets": [20], "seeds": 1}


def benchmarked(folder: Path, content: dict[str, Any], *more: str) -> dict[str, dict[str, Any]]:
    """The finished runs by method."""
    file = folder / "few.yaml"
    file.write_text(yaml.safe_dump(content))
    assert main(["--experiment", str(file), "--output", str(folder / "out"), *more]) == 0
    lines = (folder / "out" / "cells.jsonl").read_text().splitlines()
    return {run["method"]: run for run in map(json.loads, lines)}


def test_every_rival_and_ceiling_finishes(session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["random", "margin_m_random", "uncertainty_herding", *RIVALS]
    runs = benchmarked(tmp_path, experiment(*names))
    assert set(runs) == set(names)
    assert len({run["before"] for run in runs.values()}) == 1
    page = (tmp_path / "out" / "few" / "report.html").read_text()
    assert "oracle_strategies" in page
    assert "1 panels x 9 methods x 1 budgets x 1 seeds = 9 runs, 0 of them finished" in capsys.readouterr().out
