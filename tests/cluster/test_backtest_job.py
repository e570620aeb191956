"""`rambo backtest`, `rambo plan` and `acquisition.strategy` as a user has them, on digits and on folders of images."""

from __future__ import annotations

import csv
import io
import json
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rambo_ray.classifier import prediction
from rambo_ray.cli.main import job
from rambo_ray.cluster import prepare
from rambo_ray.cluster.session import Session
from rambo_ray.data.problem import LabeledArrays
from rambo_ray.pipeline import plan, preparing
from rambo_ray.pipeline.prepared import Request
from rambo_ray.progress import Stages
from rambo_ray.utility_samples.store import SampleStore

from .problems import ROOT, SMOKE, digits, rounds, smoke

backtest, costed, run = partial(job, "backtest"), partial(job, "plan"), partial(job, "run")
CONFIG = str(ROOT / SMOKE)
QUICK = ["utility_samples.num_pairs=6", "utility_samples.num_held_out=2", "utility_samples.evidence_folds=2",
         "classifier.max_epochs=3"]  # fmt: skip


def test_a_backtest_says_what_to_run_and_goes_on_where_it_stopped(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "backtest"
    asked = ["--config", CONFIG, "--output", str(folder), "--methods", "rambo,badge"]
    assert backtest([*asked, "--folds", "2", *QUICK]) == 0
    shown = capsys.readouterr().out
    assert "rounds: 2/2" in shown and "over random" in shown and "2 rounds, each buying" in shown
    content = json.loads((folder / "backtest.json").read_text())
    assert set(content["methods"]) == {"rambo", "badge"} and content["recommended"] in {"rambo", "badge", "random"}
    assert content["commands"][content["recommended"]] in shown
    assert content["commands"]["random"].endswith("acquisition.strategy=random")
    bought = sum(content["methods"]["badge"]["bought_by_class"].values())
    assert bought == pytest.approx(content["played"]["bought"], abs=0.5)  # rounds may differ by an image
    rows = list(csv.DictReader((folder / "backtest.csv").open()))
    assert {row["method"] for row in rows} == {"rambo", "badge", "random"}
    assert float(rows[0]["gain"]) == pytest.approx(content["methods"][rows[0]["method"]]["gain"]["mean"], abs=1e-6)
    assert (folder / "backtest.png").read_bytes()[:4] == b"\x89PNG" and "# Backtest" in (
        folder / "backtest.md"
    ).read_text()

    # The same again plays nothing; a round more plays one; a method more is played in all of them.
    assert backtest([*asked, "--folds", "2", *QUICK]) == 0
    assert "rounds: 0/0" in capsys.readouterr().out
    assert json.loads((folder / "backtest.json").read_text()) == content
    files = set((folder / "rounds").iterdir())
    assert backtest([*asked[:-1], "rambo,badge,margin", "--folds", "3", *QUICK]) == 0
    assert "rounds: 3/3" in capsys.readouterr().out
    played = [pq.read_table(path).to_pylist() for path in set((folder / "rounds").iterdir()) - files]
    assert sorted(tuple(row["method"] for row in rows) for rows in played) == [
        ("before", "margin"), ("before", "margin"), ("before", "rambo", "badge", "margin", "random")
    ]  # fmt: skip


def test_folders_of_a_users_own_images_are_backtested(session: Session, tmp_path: Path) -> None:
    problem, revealed = digits()
    for part, count in (("labeled", 40), ("validation", 100)):
        items = getattr(problem, part)
        for i in range(count):
            place = tmp_path / part / str(items.labels[i])
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(items.pixels[i, :, :, 0]).save(place / f"{i}.png")
            if part == "validation" and i % 10 == 0:
                Image.fromarray(items.pixels[i, :, :, 0]).save(place / f"{i} again.png")
    (tmp_path / "pool").mkdir()
    for i in range(60):
        Image.fromarray(problem.pool.array[i, :, :, 0]).save(tmp_path / "pool" / f"{i}.png")
    own = ["data.name=own", *(f"data.{part}={tmp_path / part}" for part in ("labeled", "validation", "pool"))]
    own += ["acquisition.budget=10", "acquisition.batch_size=5", "acquisition.margin_pool=30", *QUICK]
    folder = tmp_path / "backtest"
    assert backtest(["--output", str(folder), "--folds", "2", "--methods", "margin", *own]) == 0
    content = json.loads((folder / "backtest.json").read_text())
    assert content["played"]["num_pool"] == 60 and content["played"]["bought"] <= 10
    assert content["played"]["copies"].startswith("10 exact copies of 10 images in S_val")
    assert all(key in content["commands"]["random"] for key in own[:4])

    # What it names can be run: ids of files, as many as asked for.
    assert run(["--output", str(tmp_path / "run"), *own, "acquisition.strategy=margin"]) == 0
    picked = pq.read_table(tmp_path / "run" / "selection.parquet").to_pydict()
    assert len(set(picked["id"])) == 10 and all(name.endswith(".png") for name in picked["id"])
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["strategy"] == "margin" and metrics["accuracy_after"] is None


def test_a_strategy_picks_what_it_picks_in_a_benchmark_and_is_answered(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert run(["--config", CONFIG, "--output", str(folder), *QUICK, "acquisition.strategy=margin"]) == 0
    shown = capsys.readouterr().out
    assert "22 images picked by margin" in shown and "accuracy on test" in shown and "utility samples" not in shown
    table = pq.read_table(folder / "selection.parquet").to_pydict()
    assert table["order"] == list(range(22)) and table["margin"] == sorted(table["margin"])
    assert table["step"] == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5 + [4] * 2
    assert all(value != value for value in table["utility"])  # no u_hat has judged
    page = (folder / "report.html").read_text()
    assert "margin picked 22 of the pool" in page and 'id="map"' in page and 'id="trust"' not in page
    assert str(folder / "report.html") in shown

    # Its labels are taken back like any run's.
    _, revealed = digits()
    answers = tmp_path / "answers.csv"
    rows = (f"{name},{revealed.pool_labels[i]}" for name, i in zip(table["id"], table["pool_index"], strict=True))
    answers.write_text("\n".join(["id,label", *rows]) + "\n")
    assert job("labels", [str(folder), str(answers)]) == 0
    assert "accuracy on S_val" in capsys.readouterr().out


def test_what_is_prepared_in_one_process_is_what_a_cluster_prepares(session: Session, tmp_path: Path) -> None:
    problem, revealed = digits()
    config = rounds(*QUICK)
    todo = plan.make(config, problem)
    store = SampleStore(tmp_path / "utility_samples", "soft_accuracy")
    request = Request(todo, problem, revealed, outputs=True)
    (there,) = prepare.make(session, [request], store, Stages(stream=io.StringIO()))
    here = preparing.prepare(
        todo.on(session.device),
        LabeledArrays.of(problem.labeled),
        {"validation": LabeledArrays.of(problem.validation)},
        problem.pool.array,
        problem.labeled.array[:0],
        revealed.pool_labels,
    )
    assert (here.margins == there.margins).all() and here.before["validation"] == there.before["validation"]
    assert here.evidence is not None and there.evidence is not None
    assert (here.evidence.numbers == there.evidence.numbers).all() and (here.images == there.images).all()
    for mine, theirs in zip(here.held_out, there.held_out, strict=True):
        assert mine.sample_id == theirs.sample_id and mine.utility == pytest.approx(theirs.utility, rel=1e-6)
    assert here.strategy_inputs is not None and there.strategy_inputs is not None
    assert (here.strategy_inputs.embeddings == there.strategy_inputs.embeddings).all()
    assert np.isfinite(prediction.margins(here.strategy_inputs.logits)).all()


@pytest.mark.slow
def test_the_papers_scheme_is_prepared_in_one_process_too(session: Session, tmp_path: Path) -> None:
    problem, revealed = digits()
    todo = plan.make(smoke("classifier.max_epochs=3"), problem)
    store = SampleStore(tmp_path / "utility_samples", "accuracy")
    (there,) = prepare.make(session, [Request(todo, problem, revealed, True)], store, Stages(stream=io.StringIO()))
    here = preparing.prepare(
        todo.on(session.device),
        LabeledArrays.of(problem.labeled),
        {"validation": LabeledArrays.of(problem.validation)},
        problem.pool.array,
        problem.labeled.array[:0],
        revealed.pool_labels,
    )
    assert (here.images == there.images).all() and (here.margins == there.margins).all()
    assert here.task is not None and there.task is not None
    assert here.task.offline.utility == pytest.approx(there.task.offline.utility, rel=1e-6)  # type: ignore[union-attr]


def test_a_plan_says_what_a_backtest_would_cost_and_writes_nothing(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert costed(["--config", CONFIG, "--folds", "3", *QUICK]) == 0
    shown = capsys.readouterr().out
    assert "utility samples" in shown and "rambo backtest --folds 3: 3 rounds x" in shown
    assert costed(["--config", CONFIG, "--folds", "0", *QUICK, "acquisition.strategy=badge"]) == 0
    shown = capsys.readouterr().out
    assert "margins of the pool" in shown and "utility samples" not in shown and "backtest" not in shown
    assert not list(tmp_path.iterdir())
