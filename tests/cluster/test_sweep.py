"""Sweeps on a real Ray: trials are the plain functions, nothing is computed twice, failures are told."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from rambo_ray.cli.sweep import main
from rambo_ray.cluster import prepare, sweep
from rambo_ray.cluster.session import Session
from rambo_ray.config import loading
from rambo_ray.data.problem import Revealed
from rambo_ray.errors import UserError
from rambo_ray.pipeline import plan
from rambo_ray.pipeline import prepared as prepared_problem
from rambo_ray.pipeline.prepared import PreparedProblem, Request, prepared_key
from rambo_ray.progress import Stages
from rambo_ray.rambo import run
from rambo_ray.sweep import search_space, trial
from rambo_ray.sweep.search_space import Space
from rambo_ray.utility_model.fitting import fit
from rambo_ray.utility_samples.store import SampleStore

from .problems import SMOKE, digits, smoke

ROOT = Path(__file__).parents[2]
SIMULATION = {"folds": 1, "visible": 0.6, "budget": 0.5}


def written(folder: Path, **content: object) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump({"simulation": SIMULATION, **content}, sort_keys=False))
    return str(path)


def swept(output: Path, space: str, *more: str) -> int:
    return main(["--config", str(ROOT / SMOKE), "--space", space, "--output", str(output), *more])


@pytest.fixture(scope="module")
def finished(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    keys = {"utility_model.lambda_ot": {"grid": [0.0, 1.0]}, "acquisition.batch_size": {"grid": [5, 11]}}
    assert swept(folder / "run", written(folder, keys=keys, seeds=2)) == 0
    return folder / "run"


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


def test_the_same_command_computes_nothing_and_a_wider_one_what_is_new(finished: Path, tmp_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for folder in ("trials", "fits") for p in finished.glob(f"{folder}/**/*.*")}
    samples = sorted(p.name for p in (finished / "utility_samples").iterdir())
    table = pq.read_table(finished / "sweep.parquet").drop_columns(["seconds"])
    keys = {"utility_model.lambda_ot": {"grid": [0.0, 1.0]}, "acquisition.batch_size": {"grid": [5, 11]}}
    assert swept(finished, written(tmp_path, keys=keys, seeds=2)) == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    again = pq.read_table(finished / "sweep.parquet").drop_columns(["seconds"])
    assert again.equals(table) or str(again.to_pylist()) == str(table.to_pylist())
    keys["acquisition.batch_size"]["grid"].append(7)
    assert swept(finished, written(tmp_path, keys=keys, seeds=1)) == 0
    assert len(list(finished.glob("trials/*.json"))) == 8 + 2
    assert sorted(p.name for p in (finished / "utility_samples").iterdir()) == samples


def prepared_of(session: Session, folder: Path, answers: Revealed | None) -> PreparedProblem:
    problem, _ = digits()
    store = SampleStore(folder / "utility_samples", "accuracy")
    request = Request(plan.make(smoke(), problem), problem, answers)
    return prepare.make(session, [request], store, Stages(stream=io.StringIO()))[0]


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


@pytest.mark.usefixtures("fits_here")
def test_a_trial_selects_what_the_main_job_selects(session: Session, tmp_path: Path) -> None:
    problem, revealed = digits()
    outcome = run(plan.make(smoke(), problem), problem, revealed, session, tmp_path, Stages(stream=io.StringIO()))
    prepared = prepared_of(session, tmp_path, revealed)
    fitted = fit(prepared.fit_input(smoke()))
    selection = prepared_problem.acquire(smoke(), prepared, fitted.model())
    assert np.array_equal(selection.pool_index, outcome.selection.pool_index)
    score = trial.evaluate(smoke(), prepared, [], lambda task, epoch: fit(task), oracle=True)
    assert outcome.after is not None
    assert score.oracle_accuracy == outcome.after.scores["validation"].accuracy
    assert score.oracle_test_accuracy == outcome.after.scores["test"].accuracy
    assert score.ranking_accuracy == outcome.ranking.pairwise_accuracy


def test_labels_of_the_pool_stay_out_without_oracle(finished: Path, session: Session, tmp_path: Path) -> None:
    prepared = prepared_of(session, tmp_path, None)
    assert prepared.answers is None and len(prepared.pool) == 0
    with pytest.raises(ValueError, match="no labels to answer with"):
        prepared_problem.acquire_and_retrain(smoke(), prepared, fit(prepared.fit_input(smoke())).model(), "cpu")


def test_oracle_is_marked_everywhere(session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = written(tmp_path, keys={"utility_model.lambda_ot": {"grid": [0.0]}}, seeds=1, objective={"simulated": 0})
    assert swept(tmp_path / "run", space, "--oracle") == 0
    (row,) = pq.read_table(tmp_path / "run" / "sweep.parquet").to_pylist()
    assert row["oracle"] and row["objective"] == row["oracle_accuracy"] > 0 and row["oracle_test_accuracy"] > 0
    assert capsys.readouterr().out.count("ORACLE") >= 2
    for name in ("report.html", "best.yaml"):
        assert "ORACLE" in (tmp_path / "run" / name).read_text()


def test_optuna_with_asha_and_a_failing_trial(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A learning rate that makes the fit diverge fails its trials; the others go on, and the table says so.
    space = written(
        tmp_path,
        keys={"utility_model.inner_learning_rate": {"choice": [1e-3, 1e30]}},
        seeds=1,
        search={"method": "optuna", "samples": 4},
        scheduler={"name": "asha", "grace": 2},
        objective={"simulated": 0, "ranking": 1},
    )
    code = swept(tmp_path / "run", space, "cluster.max_tries=1")
    rows = pq.read_table(tmp_path / "run" / "sweep.parquet").to_pylist()
    by_rate = {r["utility_model.inner_learning_rate"]: r for r in rows}
    for rate, row in by_rate.items():
        assert (row["status"] == "failed") == (rate == 1e30)
        assert ("inner_learning_rate" in row["error"]) == (rate == 1e30)
    assert code == (0 if 1e-3 in by_rate else 1)


def test_one_trial_too_many_is_never_started(session: Session) -> None:
    def space(**more: object) -> Space:
        return Space.model_validate({"keys": {"utility_model.lambda_ot": {"grid": [0.0]}}, **more})

    assert sweep.concurrency(session, space()) == 2
    assert sweep.concurrency(session, space(max_concurrent=1)) == 1
    assert sweep.concurrency(session, space(num_workers=1)) == 1  # one CPU itself, one for its worker
    with pytest.raises(UserError, match="num_workers=2: a trial needs 3 CPUs"):
        sweep.concurrency(session, space(num_workers=2))


def test_a_trainer_in_a_trial_gives_the_numbers_of_a_fit_inside_it(finished: Path, tmp_path: Path) -> None:
    keys = {"utility_model.lambda_ot": {"grid": [1.0]}, "acquisition.batch_size": {"grid": [5]}}
    objective = {"simulated": 0, "ranking": 1}
    space = written(tmp_path, keys=keys, seeds=1, objective=objective, num_workers=1)
    assert swept(tmp_path / "run", space, f"--samples={finished / 'utility_samples'}") == 0
    (kept,) = (tmp_path / "run" / "trials").glob("*.json")
    (expected,) = [
        r for r in pq.read_table(finished / "sweep.parquet").to_pylist()
        if (r["utility_model.lambda_ot"], r["acquisition.batch_size"], r["seed"]) == (1.0, 5, 0)
    ]  # fmt: skip
    found = json.loads(kept.read_text())
    assert found["ranking_accuracy"] == expected["ranking_accuracy"] and found["epochs"] == expected["epochs"]


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
    code = main(["--config", str(ROOT / SMOKE), *(a.format(tmp_path) for a in arguments)])
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and re.search(line, error), error
    assert not (tmp_path / "run").exists()


def test_seeds_of_a_point_are_told_apart() -> None:
    base = smoke()
    one, other = (search_space.configure(base, {}, seed) for seed in (0, 1))
    assert prepared_key(one) != prepared_key(other) != prepared_key(other, 0)
    wider = search_space.configure(base, {"acquisition.margin_pool": 50}, 0)
    assert prepared_key(wider) == prepared_key(one)


@pytest.mark.parametrize(("name", "kind"), [("none", "FIFO"), ("asha", "AsyncHyperBand"), ("median", "MedianStopping")])
def test_schedulers_look_at_the_ranking_after_outer_epochs(name: str, kind: str) -> None:
    space = Space.model_validate({"keys": {"a": {"grid": [1]}}, "scheduler": {"name": name, "grace": 4}})
    made = sweep._scheduler(space)
    assert type(made).__name__.startswith(kind)
    if name != "none":
        assert (made._metric, made._time_attr) == ("ranking", "epoch")


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
    assert sweep._domain(search_space.Dimension.model_validate(dimension))._asdict() == distribution
