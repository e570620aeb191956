"""Benchmarks through their job: every run, only the missing ones, the same for any number of workers."""

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

from rambo_ray import seeds
from rambo_ray.acquisition import controls
from rambo_ray.acquisition.baselines import STRATEGIES
from rambo_ray.benchmark import experiment, layout, methods
from rambo_ray.benchmark.experiment import Method
from rambo_ray.benchmark.layout import PendingRun, RunGroup
from rambo_ray.benchmark.runs import RunStore
from rambo_ray.cli import main as program
from rambo_ray.cluster import benchmark, prepare
from rambo_ray.cluster.session import Session
from rambo_ray.errors import UserError
from rambo_ray.pipeline import plan
from rambo_ray.pipeline import prepared as prepared_problem
from rambo_ray.pipeline.prepared import Request
from rambo_ray.progress import Stages
from rambo_ray.utility_model.fitting import fit
from rambo_ray.utility_samples.store import SampleStore

from .problems import digits, smoke

JOBS = Path(__file__).parents[2] / "jobs"
main = partial(program.job, "benchmark")
PAPER = {"method": "paper", "classifier.precision": "float32"}
FEW = {
    "title": "Few runs",
    "panels": [{"config": "digits_smoke.yaml", "set": {**PAPER, "classifier.max_epochs": 2}}],
    "methods": ["random", "badge", "typiclust", "margin_m_random", "rambo"],
    "budgets": [5, 20],
    "seeds": 2,
}
SECONDS = ("select_seconds", "fit_seconds", "sample_seconds", "train_seconds")


def benchmarked(folder: Path, *more: str, **keys: Any) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "few.yaml"
    file.write_text(yaml.safe_dump({**FEW, **keys}))
    return main(["--experiment", str(file), "--output", str(folder / "out"), *more])


def numbers(folder: Path) -> dict[str, dict[str, Any]]:
    """The runs of a folder without what the clock says."""
    lines = (folder / "out" / "cells.jsonl").read_text().splitlines()
    runs = [{k: v for k, v in json.loads(line).items() if k not in SECONDS} for line in lines]
    assert len({run["cell_id"] for run in runs}) == len(runs), "a run was computed twice"
    return {run["cell_id"]: run for run in runs}


@pytest.fixture(scope="module")
def finished(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    assert benchmarked(folder) == 0
    return folder


def test_every_run_is_there_with_its_report(finished: Path) -> None:
    runs = numbers(finished).values()
    assert {(c["method"], c["budget"], c["seed"]) for c in runs} == {
        (method, budget, seed) for method in FEW["methods"] for budget in (5, 20) for seed in (0, 1)
    }
    assert all(0 < c["accuracy"] <= 1 and 0 < c["test_accuracy"] <= 1 for c in runs)
    assert all((c["ranking_accuracy"] is not None) == (c["method"] == "rambo") for c in runs)
    # Runs of one seed start from one base classifier.
    assert all(len({c["before"] for c in runs if c["seed"] == seed}) == 1 for seed in (0, 1))
    report = finished / "out" / "few"
    assert {p.suffix for p in report.iterdir()} == {".html", ".md", ".csv", ".parquet", ".png"}
    assert pq.read_table(report / "cells.parquet").num_rows == 20


def test_the_same_command_computes_nothing(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "out" / "cells.jsonl").read_bytes()
    monkeypatch.setattr(benchmark, "run", None)
    assert benchmarked(finished) == 0
    assert "= 20 runs, 20 of them finished" in capsys.readouterr().out
    assert (finished / "out" / "cells.jsonl").read_bytes() == before


@pytest.mark.slow
def test_an_interrupted_one_computes_what_is_missing_and_one_worker_the_same(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # What a kill leaves: some runs, among them one of two that share a selection, and half a line.
    lines = (finished / "out" / "cells.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "cells.jsonl").write_bytes(b"".join(lines[1::3]) + lines[0][:50])
    assert benchmarked(tmp_path, "cluster.num_workers=1") == 0
    assert f"{len(lines[1::3])} of them finished" in capsys.readouterr().out
    assert numbers(tmp_path) == numbers(finished)


def test_only_some_seeds_and_budgets_and_then_the_rest(finished: Path, tmp_path: Path) -> None:
    methods = ["random", "margin_m_random"]
    assert benchmarked(tmp_path, "--seeds", "1", "--budgets", "5", methods=methods) == 0
    assert len(numbers(tmp_path)) == 2
    assert not (tmp_path / "out" / "work" / "utility_samples").exists(), "nobody needed utility samples"
    assert benchmarked(tmp_path, methods=methods) == 0
    whole = numbers(finished)
    assert len(numbers(tmp_path)) == 8 and all(whole[name] == run for name, run in numbers(tmp_path).items())


def test_a_report_without_computing(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmarked(finished, "--report", seeds=3) == 0
    assert "20 runs finished" in capsys.readouterr().out
    assert "20 runs are finished, 10 are not" in (finished / "out" / "few" / "report.html").read_text()


@pytest.mark.slow
def test_a_run_is_what_its_parts_make_of_it(finished: Path, session: Session, tmp_path: Path) -> None:
    """Selections and trainings again, one by one, in this process."""
    data = FEW["panels"][0]["set"]  # type: ignore[index]
    config = smoke("acquisition.budget=20", *(f"{key}={value}" for key, value in data.items()))
    problem, revealed = digits()
    request = Request(plan.make(config, problem), problem, revealed, outputs=True)
    store = SampleStore(tmp_path / "samples", "accuracy")
    (prepared,) = prepare.make(session, [request], store, Stages(stream=io.StringIO()))
    assert prepared.strategy_inputs is not None and np.array_equal(
        np.argsort(prepared.margins, kind="stable")[:1], prepared.margins.argmin(keepdims=True)
    )
    generator = seeds.generator(0, "baseline", seeds.index_of("badge"))
    picks = {
        "badge": STRATEGIES["badge"](prepared.strategy_inputs, 20, generator),
        "margin_m_random": controls.margin_m_random(prepared.margins, config.acquisition, 0),
        "rambo": prepared_problem.acquire(config, prepared, fit(prepared.fit_input(config)).model()).pool_index,
    }
    runs = {(c["method"], c["budget"]): c for c in numbers(finished).values() if c["seed"] == 0}
    for method, positions in picks.items():
        found, ranking, _ = methods.pick(prepared, Method(method, method, {}), config, fit, "cpu")
        assert found.tolist() == positions.tolist()
        assert np.isfinite(ranking.pairwise_accuracy) == (method == "rambo")
        for budget in (5, 20):
            trained = prepared_problem.retrain(
                prepared, positions[:budget], seeds.integer(0, "final_classifier"), "cpu"
            )
            assert runs[method, budget]["accuracy"] == round(trained.accuracy["validation"], 6), method
            assert runs[method, budget]["test_accuracy"] == round(trained.accuracy["test"], 6), method


@pytest.mark.slow
def test_a_run_that_fails_stops_nothing(session: Session, tmp_path: Path) -> None:
    config = smoke("acquisition.budget=5", "acquisition.batch_size=5", "classifier.max_epochs=2")
    problem, revealed = digits()
    request = Request(plan.make(config, problem).without_samples(), problem, revealed, outputs=True)
    runs = tuple(
        PendingRun(name * 32, "digits", Method(name, kind, {}), 5, config)
        for name, kind in (("a", "random"), ("b", "no such kind"), ("c", "margin"))
    )
    store, samples = RunStore(tmp_path), SampleStore(tmp_path / "samples", "accuracy")
    shown = io.StringIO()
    failures = benchmark.run(
        session, [RunGroup("digits, seed 0", runs, lambda: request)], store, samples, tmp_path, Stages(stream=shown)
    )
    assert set(store.runs) == {"a" * 32, "c" * 32}
    (failure,) = failures
    assert failure.where == "digits, seed 0, b, B=5" and "AssertionError" in failure.error
    assert "runs: 3/3" in shown.getvalue() and f"failed: {failure.where}: {failure.error}\n" in shown.getvalue()


def test_waves_keep_the_cluster_busy_and_memory_flat() -> None:
    run = PendingRun("x", "digits", Method("random", "random", {}), 5, smoke())
    groups = [RunGroup(str(i), (run,) * 10, lambda: None) for i in range(6)]  # type: ignore[arg-type, return-value]
    assert [len(wave) for wave in benchmark.waves_of(groups, 1)] == [1] * 6
    assert [len(wave) for wave in benchmark.waves_of(groups, 3)] == [3, 3]
    assert [len(wave) for wave in benchmark.waves_of(groups, 100)] == [6]


def test_panels_that_differ_in_u_hat_share_what_is_prepared(tmp_path: Path) -> None:
    smooth = {"utility_model.lambda_ot": 0.0}
    panels = [
        {"config": "digits_smoke.yaml", "name": name, "set": {**PAPER, **values}}
        for name, values in (("with", {}), ("without", smooth))
    ]
    file = tmp_path / "few.yaml"
    file.write_text(yaml.safe_dump({**FEW, "panels": panels, "seeds": 1}))
    laid_out = layout.lay_out(experiment.load(file, JOBS / "configs"), RunStore(tmp_path))
    (group,) = laid_out.groups
    # Two budgets of five methods, and rambo twice.
    assert len(laid_out.ids) == 20 and len(group.runs) == 12
    assert len({run.config.utility_model.lambda_ot for run in group.runs if run.method.fits}) == 2


def test_panels_of_two_arithmetics_are_refused(tmp_path: Path) -> None:
    panels = [
        {"config": "digits_smoke.yaml", "name": name, "set": {**PAPER, **values}}
        for name, values in (("here", {}), ("anywhere", {"cluster.reproducible": "any_x86"}))
    ]
    file = tmp_path / "few.yaml"
    file.write_text(yaml.safe_dump({**FEW, "panels": panels, "seeds": 1}))
    with pytest.raises(UserError, match="panels: anywhere: cluster.reproducible=any_x86: one command computes in one"):
        layout.lay_out(experiment.load(file, JOBS / "configs"), RunStore(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--output", "x"], "--experiment: is needed"),
        (["--experiment", "digits"], "--output: is needed"),
        (["--experiment", "digit", "--output", "x"], "--experiment digit: no such experiment; did you mean 'digits'?"),
        (["--experiment", "digits", "--output", "x", "--seeds", "0"], "--seeds 0: must be 1 to 5"),
        (["--experiment", "digits", "--output", "x", "--budgets", "4o"], "argument --budgets: invalid"),
        (["--experiment", "digits", "--output", "x", "classifier.precision=auto"], "precision=auto: depends"),
        (["--experiment", "digits", "--output", "x", "data.num_labeled=5"], "k_1=40: must be below k=5"),
        (["--experiment", "digits", "--output", "x", "utility_samples.min_size=100"], "must be below k=100"),
    ],
)
def test_bad_input_ends_in_a_line(
    arguments: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("benchmark.py: error: ") and line in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_runs_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    assert main(["--experiment", "digits", "--output", str(tmp_path)]) == 2
    assert "holds a run or a sweep, not a benchmark" in capsys.readouterr().err


def test_the_experiments_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == sorted(p.stem for p in (JOBS / "experiments").glob("*.yaml"))
    assert replace(Method("a", "rambo", {}), kind="badge").fits is False
