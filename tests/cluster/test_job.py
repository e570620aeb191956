"""The main job through its own entry: what it writes, how it resumes, what it never reads."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from rambo_ray.classifier import kernels
from rambo_ray.cli import main as program
from rambo_ray.cli.run import execute
from rambo_ray.cluster.session import Session
from rambo_ray.pipeline import plan
from rambo_ray.progress import Stages
from rambo_ray.rambo import run

from .problems import SMOKE, digits, smoke

ROOT = Path(__file__).parents[2]
main = partial(program.job, "run")


def executed(folder: Path, *overrides: str) -> bytes:
    execute(smoke(f"output.dir={folder}", *overrides))
    return (folder / "selection.parquet").read_bytes()


def test_the_files_of_a_run_keep_their_contract(finished_run: Path) -> None:
    problem, _ = digits()
    picked = pq.read_table(finished_run / "selection.parquet").to_pydict()
    types = {field.name: str(field.type) for field in pq.read_schema(finished_run / "selection.parquet")}
    assert types == {
        "id": "string",
        "pool_index": "int64",
        "order": "int32",
        "step": "int32",
        "margin": "float",
        "utility": "float",
    }
    assert picked["order"] == list(range(22)) and len(set(picked["id"])) == 22
    assert picked["step"] == [j for j in range(4) for _ in range(5)] + [4, 4]
    assert [problem.pool.ids[i] for i in picked["pool_index"]] == picked["id"]

    rows = pq.read_table(finished_run / "utility_samples").to_pylist()
    kinds = [row["kind"] for row in rows]
    assert kinds.count("retrained") == 2 * 6 + 3 + 4 and kinds.count("interpolated") == 2 * 2 * 4
    offline = [row for row in rows if row["iteration"] == -1 and row["pair_id"] >= 0]
    assert sorted(row["pair_id"] for row in offline) == sorted([*range(6)] * 2)
    for row in rows:
        assert row["size"] == len(row["indices"]) == len(set(row["indices"]))
        assert np.isfinite(row["utility"]) and row["otdd"] > 0

    metrics = json.loads((finished_run / "metrics.json").read_text())
    assert set(metrics["accuracy_after"]) == {"validation", "test"}
    assert metrics["kernels"] == ("compiled" if kernels.library() else "torch")
    assert json.loads((finished_run / "manifest.json").read_text())["data"]["fingerprint"] == problem.fingerprint
    page = (finished_run / "report.html").read_text()
    assert picked["id"][0] in page
    assert (finished_run / "utility_model.safetensors").is_file() and (finished_run / "utility_model.json").is_file()


@pytest.mark.parametrize(
    "workers", ["cluster.num_workers=1", pytest.param("cluster.fit_workers=2", marks=pytest.mark.slow)]
)
def test_other_workers_give_the_same_selection(finished_run: Path, tmp_path: Path, workers: str) -> None:
    """One that retrains instead of two, and a fit by two workers of a trainer instead of one in this process."""
    assert executed(tmp_path / "run", workers) == (finished_run / "selection.parquet").read_bytes()


@pytest.mark.slow
def test_a_second_run_retrains_nothing_and_a_larger_P_only_what_is_new(copied_run: Path) -> None:
    before = (copied_run / "selection.parquet").read_bytes()
    assert executed(copied_run) == before
    assert json.loads((copied_run / "metrics.json").read_text())["collect"]["retrained"] == 0
    executed(copied_run, "utility_samples.num_pairs=7")
    assert json.loads((copied_run / "metrics.json").read_text())["collect"]["retrained"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["other ones", "none"])
def test_pool_labels_are_never_read_by_the_selection(
    session: Session, finished_run: Path, tmp_path: Path, labels: str
) -> None:
    problem, revealed = digits()
    poisoned = replace(revealed, pool_labels=(revealed.pool_labels * 7 + 3) % 10) if labels == "other ones" else None
    outcome = run(plan.make(smoke(), problem), problem, poisoned, session, tmp_path, Stages(stream=io.StringIO()))
    picked = pq.read_table(finished_run / "selection.parquet").to_pydict()
    assert outcome.selection.pool_index.tolist() == picked["pool_index"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["acquisition.bugdet=5"], r"acquisition\.bugdet: unknown key; did you mean 'acquisition\.budget'\?"),
        (["acquisition.budget=100000"], r"acquisition\.budget=100000: B must not exceed the pool's 300 images"),
        (["pretraining.k_1=40"], r"pretraining\.k_1=40: must be below k=40"),
        (["data.name=digit"], r"data\.name=.?digit.?: .*digits"),
        (["utility_model.features=imagenet", "utility_model.imagenet_weights=/none"], "features=classifier"),
        (["utility_samples.num_pairs=1"], "the bilevel fit needs shorter and longer ones"),
        (["--confg", "x"], "--confg"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    code = main(["--config", str(ROOT / SMOKE), "--output", str(folder), "method=paper", *arguments])
    error = capsys.readouterr().err
    assert code == 2
    assert error.count("\n") == 1 and re.search(line, error), error
    assert not folder.exists()


def test_another_runs_directory_is_refused_and_untouched(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")}
    assert main(["--config", str(ROOT / SMOKE), "--output", str(finished_run), "method=paper", "seed=1"]) == 2
    assert "holds a run with seed=0, this one has 1" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")} == before


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--config", str(ROOT / SMOKE), "--output", str(tmp_path / "run"), "--dry-run", "method=paper"]) == 0
    shown = capsys.readouterr().out
    for part in ("utility samples", "base classifier", "u_hat", "margins of the pool", "total", "nothing was run"):
        assert part in shown, part
    assert not list(tmp_path.iterdir())
