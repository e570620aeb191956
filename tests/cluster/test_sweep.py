"""Sweeps on a real Ray: trials are the plain functions, nothing is computed twice, failures are told."""

from __future__ import annotations

import io
import json
import re
import shutil
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
import yaml
from ray.tune.schedulers import ASHAScheduler

from rambo_ray.cli import main as program
from rambo_ray.cluster import concurrency, prepare, sweep
from rambo_ray.cluster.session import Session
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data.problem import Revealed
from rambo_ray.errors import UserError
from rambo_ray.pipeline import plan
from rambo_ray.pipeline import prepared as prepared_problem
from rambo_ray.pipeline.prepared import PreparedProblem, Request, prepared_key
from rambo_ray.progress import Stages
from rambo_ray.sweep import search_space, trial
from rambo_ray.sweep.search_space import Space
from rambo_ray.utility_model.fitting import FitInput, FitResult, fit
from rambo_ray.utility_samples.store import SampleStore

from .problems import SMOKE, digits, smoke

ROOT = Path(__file__).parents[2]
main = partial(program.job, "sweep")
SIMULATION = {"folds": 1, "visible": 0.6, "budget": 0.5}


def written(folder: Path, **content: object) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump({"simulation": SIMULATION, **content}, sort_keys=False))
    return str(path)


def swept(output: Path, space: str, *more: str) -> int:
    return main(["--config", str(ROOT / SMOKE), "--space", space, "--output", str(output), "method=paper", *more])


@pytest.fixture(scope="module")
def finished(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep, `run`, that began with the samples of a run, `samples`."""
    folder = tmp_path_factory.mktemp("sweep")
    samples = shutil.copytree(finished_run / "utility_samples", folder / "samples")
    keys = {"utility_model.lambda_ot": {"grid": [0.0, 1.0]}, "acquisition.batch_size": {"grid": [5, 11]}}
    assert swept(folder / "run", written(folder, keys=keys, seeds=2), f"--samples={samples}") == 0
    return folder / "run"


@pytest.mark.slow
def test_every_point_and_seed_is_there_and_best_yaml_runs(finished: Path) -> None:
    rows = pq.read_table(finished / "sweep.parquet").to_pylist()
    assert [(r["utility_model.lambda_ot"], r["acquisition.batch_size"], r["seed"]) for r in rows] == [
        (value, b, seed) for value in (0.0, 1.0) for b in (5, 11) for seed in (0, 1)
    ]
    assert {r["status"] for r in rows} == {"finished"} and {r["oracle"] for r in rows} == {False}
    for r in rows:
        assert r["objective"] == pytest.approx(r["simulated_accuracy"] + 0.1 * r["ranking_accuracy"])
        assert r["oracle_accuracy"] is None or np.isnan(r["oracle_accuracy"])
    means = [np.mean([r["objective"] for r in rows if r["point"] == p]) for p in range(4)]
    winner = next(r for r in rows if r["point"] == int(np.argmax(means)))
    best = loading.load(finished / "best.yaml")
    assert best.utility_model.lambda_ot == winner["utility_model.lambda_ot"]
    assert best.acquisition.batch_size == winner["acquisition.batch_size"]
    assert loading.differences(best, smoke()) in ([], ["utility_model.lambda_ot"], ["acquisition.batch_size"],
                                                   ["utility_model.lambda_ot", "acquisition.batch_size"])  # fmt: skip
    assert (finished / "report.html").is_file() and (finished / "heat_map.png").is_file()
    assert list(finished.glob("tune/*/*/events.out.tfevents*"))


@pytest.mark.slow
def test_the_same_command_computes_nothing_and_a_wider_one_what_is_new(finished: Path, tmp_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for folder in ("trials", "fits") for p in finished.glob(f"{folder}/**/*.*")}
    folder = finished.parent / "samples"
    samples = sorted(p.name for p in folder.iterdir())
    table = pq.read_table(finished / "sweep.parquet").drop_columns(["seconds"])
    keys = {"utility_model.lambda_ot": {"grid": [0.0, 1.0]}, "acquisition.batch_size": {"grid": [5, 11]}}
    assert swept(finished, written(tmp_path, keys=keys, seeds=2), f"--samples={folder}") == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    again = pq.read_table(finished / "sweep.parquet").drop_columns(["seconds"])
    assert again.equals(table) or str(again.to_pylist()) == str(table.to_pylist())
    keys["acquisition.batch_size"]["grid"].append(7)
    assert swept(finished, written(tmp_path, keys=keys, seeds=1), f"--samples={folder}") == 0
    assert len(list(finished.glob("trials/*.json"))) == 8 + 2
    assert sorted(p.name for p in folder.iterdir()) == samples


def prepared_of(session: Session, folder: Path, answers: Revealed | None) -> PreparedProblem:
    problem, _ = digits()
    store = SampleStore(folder / "utility_samples", "accuracy")
    request = Request(plan.make(smoke(), problem), problem, answers)
    return prepare.make(session, [request], store, Stages(stream=io.StringIO()))[0]


@pytest.mark.slow
def test_problems_that_share_a_store_have_utilities_of_their_own(session: Session, tmp_path: Path) -> None:
    problem, _ = digits()
    store = SampleStore(tmp_path / "utility_samples", "accuracy")
    both = [smoke(f"utility_samples.utility={name}") for name in ("accuracy", "neg_val_loss")]
    requests = [Request(plan.make(config, problem), problem, None) for config in both]
    (alone,) = prepare.make(session, requests[1:], store, Stages(stream=io.StringIO()))
    trained = len(store.measurements)
    accuracy, loss = prepare.make(session, requests, store, Stages(stream=io.StringIO()))
    assert (accuracy.task.offline.utility >= 0).all() and (loss.task.offline.utility < 0).all()
    assert np.array_equal(alone.task.offline.utility, loss.task.offline.utility)
    assert len(store.measurements) == trained, "what is trained does not depend on what is read off it"


def test_a_trial_selects_what_the_main_job_selects(session: Session, copied_run: Path) -> None:
    _, revealed = digits()
    prepared = prepared_of(session, copied_run, revealed)
    fitted = fit(prepared.fit_input(smoke()))
    selection = prepared_problem.acquire(smoke(), prepared, fitted.model())
    outcome = json.loads((copied_run / "metrics.json").read_text())
    assert selection.pool_index.tolist() == pq.read_table(copied_run / "selection.parquet")["pool_index"].to_pylist()
    score = trial.evaluate(smoke(), prepared, [], lambda task, epoch: fit(task), oracle=True)
    assert score.oracle_accuracy == pytest.approx(outcome["accuracy_after"]["validation"], abs=1e-6)
    assert score.oracle_test_accuracy == pytest.approx(outcome["accuracy_after"]["test"], abs=1e-6)
    assert score.ranking_accuracy == pytest.approx(outcome["ranking"]["held_out_pairwise_accuracy"], abs=1e-6)


def test_labels_of_the_pool_stay_out_without_oracle(session: Session, copied_run: Path) -> None:
    prepared = prepared_of(session, copied_run, None)
    assert prepared.answers is None and len(prepared.pool) == 0
    with pytest.raises(ValueError, match="no labels to answer with"):
        prepared_problem.acquire_and_retrain(smoke(), prepared, fit(prepared.fit_input(smoke())).model(), "cpu")


@pytest.mark.slow
def test_oracle_is_marked_everywhere(session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = written(tmp_path, keys={"utility_model.lambda_ot": {"grid": [0.0]}}, seeds=1, objective={"simulated": 0})
    assert swept(tmp_path / "run", space, "--oracle") == 0
    (row,) = pq.read_table(tmp_path / "run" / "sweep.parquet").to_pylist()
    assert row["oracle"] and row["objective"] == row["oracle_accuracy"] > 0 and row["oracle_test_accuracy"] > 0
    assert capsys.readouterr().out.count("ORACLE") >= 2
    for name in ("report.html", "best.yaml"):
        assert "ORACLE" in (tmp_path / "run" / name).read_text()


def rankings_by_epoch(config: Config, prepared: PreparedProblem) -> list[float]:
    """What a trial's scheduler is shown of it, from the plain function."""
    seen: list[float] = []

    def fitted(task: FitInput, epoch: trial.Epoch) -> FitResult:
        return fit(task, report=lambda metrics, state: epoch(metrics))

    trial.evaluate(config, prepared, [], fitted, oracle=False, report=lambda metrics: seen.append(metrics["ranking"]))
    return seen


@pytest.mark.slow
def test_optuna_with_asha_and_a_failing_trial(
    session: Session,
    copied_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One trial after the other: the second of these rates ranks D_val worse than the first, the third diverges."""
    key, steady, worse, deadly = "utility_model.inner_learning_rate", 1e-12, 1e-3, 1e30
    prepared = prepared_of(session, copied_run, None)
    rankings = {rate: rankings_by_epoch(smoke(f"{key}={rate}"), prepared) for rate in (steady, worse)}
    looks = [2, 4, 8]  # epochs after which ASHA compares
    first = next(epoch for epoch in looks if rankings[worse][epoch - 1] < rankings[steady][epoch - 1])
    # Optuna's first suggestions are the given points; the fourth is its own.
    monkeypatch.setattr(search_space, "points", lambda space, base: [{key: rate} for rate in (steady, worse, deadly)])
    space = written(
        tmp_path,
        keys={key: {"choice": [steady, worse, deadly]}},
        seeds=1,
        search={"method": "optuna", "samples": 4},
        scheduler={"name": "asha", "grace": looks[0], "reduction": 2},
        objective={"simulated": 0, "ranking": 1},
        max_concurrent=1,
    )
    code = swept(tmp_path / "sweep", space, "cluster.max_tries=1", f"--samples={copied_run / 'utility_samples'}")
    shown = capsys.readouterr().out
    rows = pq.read_table(tmp_path / "sweep" / "sweep.parquet").to_pylist()
    by_rate = {row[key]: row for row in rows}
    expected = {steady: "finished", worse: "stopped", deadly: "failed"}
    assert {rate: row["status"] for rate, row in by_rate.items()} == expected
    assert by_rate[worse]["epochs"] == first and by_rate[steady]["epochs"] == len(rankings[steady])
    assert [rate for rate, row in by_rate.items() if "inner_learning_rate" in row["error"]] == [deadly]
    assert len(list((tmp_path / "sweep").glob("tune/*/*/result.json"))) == 4
    assert f"inner_learning_rate = {steady:g} has the largest mean objective" in shown
    assert "0, 1 stopped" in shown and "0, 1 failed" in shown
    assert code == 0 and loading.load(tmp_path / "sweep" / "best.yaml").utility_model.inner_learning_rate == steady


def test_one_trial_too_many_is_never_started(session: Session) -> None:
    def space(**more: object) -> Space:
        return Space.model_validate({"keys": {"utility_model.lambda_ot": {"grid": [0.0]}}, **more})

    assert concurrency.most(session, space()) == 2
    assert concurrency.most(session, space(max_concurrent=1)) == 1
    assert concurrency.most(session, space(num_workers=1)) == 1  # one CPU itself, one for its worker
    with pytest.raises(UserError, match="num_workers=2: a trial needs 3 CPUs"):
        concurrency.most(session, space(num_workers=2))


@pytest.mark.slow
def test_a_trainer_in_a_trial_gives_the_numbers_of_a_fit_inside_it(finished: Path, tmp_path: Path) -> None:
    keys = {"utility_model.lambda_ot": {"grid": [1.0]}, "acquisition.batch_size": {"grid": [5]}}
    objective = {"simulated": 0, "ranking": 1}
    space = written(tmp_path, keys=keys, seeds=1, objective=objective, num_workers=1)
    assert swept(tmp_path / "run", space, f"--samples={finished.parent / 'samples'}") == 0
    (kept,) = (tmp_path / "run" / "trials").glob("*.json")
    (expected,) = [
        r for r in pq.read_table(finished / "sweep.parquet").to_pylist()
        if (r["utility_model.lambda_ot"], r["acquisition.batch_size"], r["seed"]) == (1.0, 5, 0)
    ]  # fmt: skip
    found = json.loads(kept.read_text())
    assert found["ranking_accuracy"] == expected["ranking_accuracy"] and found["epochs"] == expected["epochs"]


@pytest.mark.slow
def test_a_trial_that_is_stopped_gives_its_trainer_s_cpus_back(
    session: Session, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the job goes on, and without the dashboard that Ray's own cleaner needs."""
    looks_at = {"time_attr": "epoch", "metric": "ranking", "mode": "max"}
    early = ASHAScheduler(**looks_at, grace_period=1, max_t=3)  # which counts as a stop
    monkeypatch.setattr(sweep, "make_scheduler", lambda space: early)
    keys = {"utility_model.lambda_ot": {"grid": [1.0]}}
    objective = {"simulated": 0, "ranking": 1}
    space = written(tmp_path, keys=keys, seeds=1, objective=objective, num_workers=1)
    samples = finished.parent / "samples"
    assert swept(tmp_path / "run", space, f"--samples={samples}", "utility_model.outer_epochs=60") == 1
    (row,) = pq.read_table(tmp_path / "run" / "sweep.parquet").to_pylist()
    assert row["status"] == "stopped" and 3 <= row["epochs"] < 60
    deadline = time.monotonic() + 60
    while ray.available_resources().get("CPU", 0) < session.total_cpus and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ray.available_resources()["CPU"] == session.total_cpus
    assert {group["state"] for group in ray.util.placement_group_table().values()} == {"REMOVED"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--output", "{}/run"], "--space"),
        (["--space", "{}/none.yaml", "--output", "{}/run"], "--space .*No such file"),
        (["--space", "{}/space.yaml", "--output", "{}/run", "acquisition.budgt=3"], "did you mean"),
        (["--space", "{}/space.yaml", "--output", "{}/run", "data.num_labeled=12"], "k_1"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, keys={"utility_model.lambda_ot": {"grid": [0.0]}})
    code = main(["--config", str(ROOT / SMOKE), "method=paper", *(a.format(tmp_path) for a in arguments)])
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and re.search(line, error), error
    assert not (tmp_path / "run").exists()


def test_seeds_of_a_point_are_told_apart() -> None:
    base = smoke()
    one, other = (search_space.configure(base, {}, seed) for seed in (0, 1))
    assert prepared_key(one) != prepared_key(other) != prepared_key(other, 0)
    wider = search_space.configure(base, {"acquisition.margin_pool": 50}, 0)
    assert prepared_key(wider) == prepared_key(one)


@dataclass(frozen=True)
class Asked:
    """What a scheduler reads of a trial."""

    trial_id: str


@pytest.mark.parametrize(
    ("name", "ended"),
    [
        ("none", {}),
        ("asha", {1: 4, 2: 4, 3: 4, 4: 4}),  # of the best third so far, only the first
        ("median", {3: 4, 4: 4}),  # below the median of at least three
    ],
)
def test_schedulers_look_at_the_ranking_after_outer_epochs(name: str, ended: dict[int, int]) -> None:
    """Five trials, each worse than the one before, told as Tune tells them: who is ended, and after which epoch."""
    space = Space.model_validate({"keys": {"a": {"grid": [1]}}, "scheduler": {"name": name, "grace": 4}})
    scheduler, controller = sweep.make_scheduler(space), SimpleNamespace(get_live_trials=list)
    found = {}
    for number in range(5):
        asked = Asked(str(number))
        scheduler.on_trial_add(controller, asked)
        for epoch in range(1, 9):
            report = {"epoch": epoch, "ranking": 0.9 - number / 10}
            if scheduler.on_trial_result(controller, asked, report) == scheduler.STOP:
                found[number] = epoch
                break
        else:
            scheduler.on_trial_complete(controller, asked, report)
    assert found == ended


@pytest.mark.parametrize(
    ("dimension", "distribution"),
    [
        ({"choice": [1, "a"]}, {"choices": (1, "a")}),
        ({"uniform": [0, 1], "step": 0.25}, {"low": 0.0, "high": 1.0, "step": 0.25, "log": False}),
        ({"loguniform": [0.1, 10]}, {"low": 0.1, "high": 10.0, "step": None, "log": True}),
        ({"randint": [10, 95], "step": 10}, {"low": 10, "high": 90, "step": 10, "log": False}),
    ],
)
def test_optuna_searches_what_the_space_says(dimension: dict, distribution: dict) -> None:
    assert sweep.optuna_distribution(search_space.Dimension.model_validate(dimension))._asdict() == distribution
