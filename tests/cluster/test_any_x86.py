"""`cluster.reproducible=any_x86` through the real command: the golden selection, for any number of workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rambo_ray import numerics
from rambo_ray.cluster.session import Session, connect
from rambo_ray.errors import UserError

from ..any_x86 import ROOT, environment, golden_selections
from .problems import smoke


@pytest.mark.slow
def test_the_command_meets_the_golden_selection(tmp_path: Path) -> None:
    """By two workers, and two more of a trainer; by one process without Ray it is met in test_numerics.py."""
    golden = golden_selections()
    command = [
        sys.executable,
        "jobs/run.py",
        "--config",
        "digits_smoke",
        "--output",
        str(tmp_path / "run"),
        "method=paper",
    ]
    more = ["cluster.reproducible=any_x86", "cluster.address=local", "cluster.num_workers=2", "cluster.fit_workers=2"]
    done = subprocess.run(
        [*command, *more],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    picked = pq.read_table(tmp_path / "run" / "selection.parquet").to_pydict()
    found = {"pool_index": picked["pool_index"], "utility": [value.hex() for value in picked["utility"]]}
    assert found == golden["digits_smoke"]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["precision"], metrics["kernels"]) == ("float32", "torch")
    # What was measured in this arithmetic is not mixed with what is measured in the machine's own.
    other = subprocess.run(
        [*command, "cluster.address=local"], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=100
    )
    assert other.returncode == 2 and "cluster.reproducible=any_x86, this one has machine" in other.stderr


@pytest.mark.skipif(numerics.unsupported() is not None, reason="needs an x86 CPU with AVX2")
def test_a_ray_whose_workers_compute_otherwise_is_refused(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in numerics.ANY_X86.items():
        monkeypatch.setitem(os.environ, name, value)
    wanted = smoke("cluster.reproducible=any_x86").cluster
    with pytest.raises(UserError, match="a Ray whose workers compute otherwise"), connect(wanted):
        pass
