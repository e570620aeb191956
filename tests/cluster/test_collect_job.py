"""`jobs/collect.py`: the samples of a run, from which that run goes on."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from rambo_ray.cli import main as program
from rambo_ray.cluster.session import Session

from .problems import SMOKE

CONFIG = str(Path(__file__).parents[2] / SMOKE)
PAPER = "method=paper"
collect, run = partial(program.job, "collect"), partial(program.job, "run")


@pytest.mark.slow
def test_a_run_goes_on_from_what_was_collected(
    session: Session, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, samples = tmp_path / "run", tmp_path / "run" / "utility_samples"
    assert collect(["--config", CONFIG, PAPER, "--output", str(folder), "utility_samples.num_pairs=3"]) == 0
    assert " 13 of them trained now" in capsys.readouterr().out
    # More pairs: the earlier ones are kept. The same again: nothing is left to train.
    assert collect(["--config", CONFIG, PAPER, "--output", str(folder)]) == 0
    assert " 6 of them trained now" in capsys.readouterr().out
    kept = {p.name: p.read_bytes() for p in samples.iterdir()}
    assert collect(["--config", CONFIG, PAPER, "--output", str(folder)]) == 0
    assert " 0 of them trained now" in capsys.readouterr().out
    assert run(["--config", CONFIG, PAPER, "--output", str(folder)]) == 0
    assert json.loads((folder / "metrics.json").read_text())["collect"]["retrained"] == 0
    after = {p.name: p.read_bytes() for p in samples.iterdir()}
    assert kept.items() <= after.items()
    assert (folder / "selection.parquet").read_bytes() == (finished_run / "selection.parquet").read_bytes()


def test_bad_input_ends_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert collect(["--config", CONFIG]) == 2
    assert collect(["--config", CONFIG, PAPER, "--output", str(tmp_path / "x"), "utility_samples.num_pair=3"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[0].startswith("collect.py: error: ") and "did you mean" in lines[1]
    assert not (tmp_path / "x").exists()
