"""`jobs/collect.py`: the samples of a run, from which that run goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rambo_ray.cli.collect import main as collect
from rambo_ray.cli.run import main as run
from rambo_ray.cluster.session import Session

from .problems import SMOKE

CONFIG = str(Path(__file__).parents[2] / SMOKE)


@pytest.mark.usefixtures("fits_here")
def test_a_run_goes_on_from_what_was_collected(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "run")
    assert collect(["--config", CONFIG, "--output", folder, "utility_samples.num_pairs=3"]) == 0
    assert "of them trained now" in capsys.readouterr().out
    # More pairs: the earlier ones are kept. The same again: nothing is left to train.
    assert collect(["--config", CONFIG, "--output", folder]) == 0
    shown = capsys.readouterr().out
    kept = {p.name: p.read_bytes() for p in (tmp_path / "run" / "utility_samples").iterdir()}
    assert collect(["--config", CONFIG, "--output", folder]) == 0
    assert " 0 of them trained now" in capsys.readouterr().out and " 0 of them trained now" not in shown
    assert run(["--config", CONFIG, "--output", folder]) == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["collect"]["retrained"] == 0
    after = {p.name: p.read_bytes() for p in (tmp_path / "run" / "utility_samples").iterdir()}
    assert kept.items() <= after.items()


def test_bad_input_ends_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert collect(["--config", CONFIG]) == 2
    assert collect(["--config", CONFIG, "--output", str(tmp_path / "x"), "utility_samples.num_pair=3"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[0].startswith("collect.py: error: ") and "did you mean" in lines[1]
    assert not (tmp_path / "x").exists()
