"""The other commands by mock rounds: collected rounds a run goes on from, sweeps, benchmarks, forecasts."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from rambo_ray.benchmark import methods
from rambo_ray.benchmark.experiment import Method
from rambo_ray.cli import main as program
from rambo_ray.cluster import prepare
from rambo_ray.cluster.session import Session
from rambo_ray.config.schema import Config
from rambo_ray.pipeline import plan
from rambo_ray.pipeline import prepared as prepared_problem
from rambo_ray.pipeline.judging import AnyFit, AnyInput
from rambo_ray.pipeline.prepared import PreparedProblem, Request
from rambo_ray.progress import Stages
from rambo_ray.utility_model import quadratic
from rambo_ray.utility_model.fitting import fit
from rambo_ray.utility_model.quadratic import QuadraticInput
from rambo_ray.utility_samples.store import SampleStore

from .problems import ROOT, SMOKE, digits, rounds

CONFIG = str(ROOT / SMOKE)
QUICK = ("classifier.max_epochs=3", "utility_samples.num_held_out=0")
NETWORK = "utility_model.architecture=network"
collect, run, sweep, benchmark = (partial(program.job, name) for name in ("collect", "run", "sweep", "benchmark"))


def fitted(task: AnyInput) -> AnyFit:
    return quadratic.fit(task) if isinstance(task, QuadraticInput) else fit(task)


@pytest.mark.slow
def test_a_run_goes_on_from_what_was_collected(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So the rounds that are collected are those that a run draws, by the evidence."""
    folder = tmp_path / "run"
    assert collect(["--config", CONFIG, "--output", str(folder), *QUICK, "utility_samples.num_pairs=5"]) == 0
    shown = capsys.readouterr().out
    assert " 10 of them trained now" in shown and "5 of mock rounds" in shown
    assert collect(["--config", CONFIG, "--output", str(folder), *QUICK]) == 0
    assert " 2 of them trained now" in capsys.readouterr().out
    assert run(["--config", CONFIG, "--output", str(folder), *QUICK]) == 0
    assert json.loads((folder / "metrics.json").read_text())["collect"]["retrained"] == 0


@pytest.mark.parametrize("overrides", [[], [NETWORK], [NETWORK, "utility_model.features=pixels"]])
def test_a_dry_run_says_what_it_would_cost(
    session: Session,
    overrides: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["--config", CONFIG, "--output", str(tmp_path / "run"), "--dry-run", *QUICK, *overrides]) == 0
    shown = capsys.readouterr().out
    for part in ("evidence", "utility samples", "base classifier", "margins of the pool", "total", "nothing was run"):
        assert part in shown, part
    assert ("u_hat" in shown) == bool(overrides) and not list(tmp_path.iterdir())


def prepared_of(session: Session, folder: Path, config: Config) -> PreparedProblem:
    problem, revealed = digits()
    store = SampleStore(folder / "utility_samples", "soft_accuracy")
    request = Request(plan.make(config, problem), problem, revealed, outputs=True)
    return prepare.make(session, [request], store, Stages(stream=io.StringIO()))[0]


@pytest.mark.parametrize("overrides", [[], pytest.param([NETWORK], marks=pytest.mark.slow)])
def test_what_is_prepared_selects_what_the_main_job_selects(
    session: Session, overrides: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    assert run(["--config", CONFIG, "--output", str(folder), *QUICK, *overrides]) == 0
    config = rounds(*QUICK, *overrides)
    prepared = prepared_of(session, folder, config)
    found = prepared_problem.acquire(config, prepared, fitted(prepared.fit_input(config)).model())
    assert found.pool_index.tolist() == pq.read_table(folder / "selection.parquet")["pool_index"].to_pylist()
    assert prepared.mock_pool is not None and len(prepared.images) == 100
    if not overrides:  # and the model that was written is the one that picked
        again = prepared_problem.acquire(config, prepared, quadratic.load(folder))
        assert again.pool_index.tolist() == found.pool_index.tolist()


def test_benchmarked_methods_pick_what_they_say(session: Session, tmp_path: Path) -> None:
    """One that knows nothing follows the filter; a shuffled one is followed, since that is what it is for."""
    config = rounds("classifier.max_epochs=3", "utility_samples.num_held_out=16")
    prepared = prepared_of(session, tmp_path, config)

    def picked(kind: str, of: PreparedProblem) -> tuple[list[int], bool]:
        positions, ranking, _ = methods.pick(of, Method(kind, kind, {}), config, fitted, "cpu")
        return positions.tolist(), ranking.beats_chance

    filtered, _ = picked("margin_m_random", prepared)
    # Its own scores for utilities: it knows everything; of utilities that are all the same: nothing.
    model = quadratic.fit(prepared.fit_input(config)).model()  # type: ignore[arg-type]
    scored = prepared_problem.judging.held_out(
        prepared.held_out, model, prepared.images, prepared.mock_pool, True
    ).scores

    def worth(utilities: np.ndarray) -> PreparedProblem:
        held_out = zip(prepared.held_out, utilities.tolist(), strict=True)
        return replace(prepared, held_out=tuple(replace(sample, utility=u) for sample, u in held_out))

    knowing, ignorant = worth(scored), worth(np.full(16, 0.5))
    assert picked("rambo", ignorant) == (filtered, False)
    chosen, beats = picked("rambo", knowing)
    assert beats and chosen == prepared_problem.acquire(config, prepared, model).pool_index.tolist() != filtered
    shuffled, _ = picked("rambo_shuffled", ignorant)
    assert shuffled not in (filtered, chosen)


@pytest.mark.slow
def test_a_benchmark_of_both_methods(session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = {"classifier.precision": "float32", "classifier.max_epochs": 2, "acquisition.batch_size": 10}
    content = {
        "title": "Both",
        "panels": [{"config": "digits_smoke.yaml", "set": keys}],
        "methods": ["random", "margin_m_random", "rambo", "rambo_paper", "rambo_shuffled"],
        "budgets": [20],
        "seeds": 1,
    }
    (tmp_path / "both.yaml").write_text(yaml.safe_dump(content))
    arguments = ["--experiment", str(tmp_path / "both.yaml"), "--output", str(tmp_path / "out")]
    assert benchmark(arguments) == 0
    lines = (tmp_path / "out" / "cells.jsonl").read_text().splitlines()
    found: dict[str, dict[str, Any]] = {entry["method"]: entry for entry in map(json.loads, lines)}
    assert set(found) == set(content["methods"]) and len({entry["cell_id"] for entry in found.values()}) == 5
    assert len({entry["before"] for entry in found.values()}) == 1
    # Its û has nothing to show on four held-out rounds, so it follows the filter.
    assert found["rambo"]["accuracy"] == found["margin_m_random"]["accuracy"]
    capsys.readouterr()
    assert benchmark([*arguments, "--report"]) == 0
    assert "5 runs, 5 of them finished" in capsys.readouterr().out


@pytest.mark.slow
def test_a_sweep_of_the_acquisition(session: Session, tmp_path: Path) -> None:
    """Strategies propose batches in one of its points, which asks for f's outputs on the folds' pools."""
    space = {
        "keys": {"acquisition.candidates": {"grid": ["tilted", "mixed"]}, "acquisition.caution": {"grid": [0.0, 4.0]}},
        "seeds": 1,
        "simulation": {"folds": 1, "visible": 0.6, "budget": 0.5},
    }
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space))
    arguments = ["--config", CONFIG, "--space", str(tmp_path / "space.yaml"), "--output", str(tmp_path / "sweep")]
    assert sweep([*arguments, "classifier.max_epochs=3", "utility_samples.num_held_out=12"]) == 0
    rows = pq.read_table(tmp_path / "sweep" / "sweep.parquet").to_pylist()
    assert len(rows) == 4 and {row["status"] for row in rows} == {"finished"}
    assert all(0 < row["simulated_accuracy"] < 1 and np.isfinite(row["ranking_accuracy"]) for row in rows)
    assert len({row["ranking_accuracy"] for row in rows}) == 1, "no point of it changes u_hat"
    best = (tmp_path / "sweep" / "best.yaml").read_text()
    assert "method: mock_rounds" in best


@pytest.mark.slow
def test_points_that_measure_the_otdd_do_not_share_with_those_that_do_not(session: Session, tmp_path: Path) -> None:
    space = {
        "keys": {"utility_model.lambda_ot": {"grid": [0.0, 1.0]}},
        "seeds": 1,
        "objective": {"simulated": 0, "ranking": 1},
    }
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space))
    arguments = ["--config", CONFIG, "--space", str(tmp_path / "space.yaml"), "--output", str(tmp_path / "sweep")]
    assert sweep([*arguments, NETWORK, "classifier.max_epochs=2", "utility_samples.num_held_out=12"]) == 0
    rows = pq.read_table(tmp_path / "sweep" / "sweep.parquet").to_pylist()
    assert {row["status"] for row in rows} == {"finished"}
    assert all(np.isfinite(row["ranking_accuracy"]) for row in rows)


def test_sweeping_what_is_not_read_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(["--config", "digits_smoke", "--space", "lambda_ot", "--output", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "utility_model.lambda_ot: is not read where" in error and "method=paper" in error
    assert not (tmp_path / "run").exists()
