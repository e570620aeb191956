"""Runs by mock rounds through the job's own entry: the same bits always, every family of u_hat and of candidates."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray

from rambo_ray.acquisition import controls
from rambo_ray.acquisition.candidates import FILTER
from rambo_ray.cli.run import execute
from rambo_ray.cluster import evidence
from rambo_ray.cluster.session import Session
from rambo_ray.config.schema import Config
from rambo_ray.data.problem import NONE, Inputs, LabeledArrays
from rambo_ray.pipeline import plan
from rambo_ray.progress import Stages
from rambo_ray.rambo import run

from ..without_ray import select
from .problems import digits, rounds

# With nothing held out u_hat is followed, whatever it is worth: six pairs of rounds make no good one.
FOLLOWED = ("utility_samples.num_held_out=0", "classifier.max_epochs=5")
NETWORK = "utility_model.architecture=network"


def slow(*values: object) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


def followed(*overrides: str) -> Config:
    return rounds(*FOLLOWED, *overrides)


def executed(folder: Path, *overrides: str) -> bytes:
    execute(followed(f"output.dir={folder}", *overrides))
    return (folder / "selection.parquet").read_bytes()


def metrics_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return found


def picked(folder: Path) -> list[int]:
    found: list[int] = pq.read_table(folder / "selection.parquet")["pool_index"].to_pylist()
    return found


@pytest.fixture(scope="module")
def finished(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rounds") / "run"
    executed(folder)
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_the_files_of_a_run(finished: Path) -> None:
    rows = pq.read_table(finished / "utility_samples").to_pylist()
    assert len(rows) == 12 and {row["kind"] for row in rows} == {"retrained"}
    assert {row["fold"] for row in rows} == {0, 1} and all(row["indices"][:40] == [*range(40)] for row in rows)
    assert all(0 < row["utility"] < 1 and row["utility"] == row["soft_accuracy"] for row in rows)
    assert all(row["otdd"] is None or np.isnan(row["otdd"]) for row in rows)  # a regression has no use for it
    metrics = metrics_of(finished)
    assert metrics["u_hat_followed"] and sum(metrics["candidates_won"].values()) == 5
    selection = pq.read_table(finished / "selection.parquet").to_pydict()
    assert len(set(selection["pool_index"])) == 22 and np.isfinite(selection["utility"]).all()
    model = json.loads((finished / "utility_model.json").read_text())
    assert model["architecture"]["name"] == "quadratic" and len(model["inputs"]) == 10 + 4
    page = (finished / "report.html").read_text()
    assert page.count("<circle ") == 22 and f"rambo label {finished}" in page and "Close to each other" in page


def test_other_workers_give_the_same_selection(finished: Path, tmp_path: Path) -> None:
    assert executed(tmp_path / "run", "cluster.num_workers=1") == (finished / "selection.parquet").read_bytes()
    weights = [(folder / "utility_model.safetensors").read_bytes() for folder in (finished, tmp_path / "run")]
    assert weights[0] == weights[1]


def test_a_second_run_retrains_nothing_and_a_larger_P_only_what_is_new(copied: Path) -> None:
    before = (copied / "selection.parquet").read_bytes()
    assert executed(copied) == before
    assert metrics_of(copied)["collect"]["retrained"] == 0
    executed(copied, "utility_samples.num_pairs=7")
    assert metrics_of(copied)["collect"]["retrained"] == 2


def test_the_selection_is_that_of_the_stages_one_by_one(finished: Path) -> None:
    found = select(followed())
    assert found.pool_index.tolist() == picked(finished)
    utility = pq.read_table(finished / "selection.parquet")["utility"].to_numpy()
    assert np.array_equal(found.utility, utility)


@pytest.mark.parametrize("labels", ["other ones", pytest.param("none", marks=pytest.mark.slow)])
def test_pool_labels_are_never_read_by_the_selection(
    session: Session, finished: Path, tmp_path: Path, labels: str
) -> None:
    problem, revealed = digits()
    poisoned = replace(revealed, pool_labels=(revealed.pool_labels * 7 + 3) % 10) if labels == "other ones" else None
    outcome = run(plan.make(followed(), problem), problem, poisoned, session, tmp_path, Stages(stream=io.StringIO()))
    assert outcome.selection.pool_index.tolist() == picked(finished)


def test_a_u_hat_at_chance_is_not_followed(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of four held-out rounds no two are comparable: there is nothing that says that u_hat knows anything."""
    executed(copied, "utility_samples.num_held_out=4")
    metrics = metrics_of(copied)
    assert metrics["u_hat_followed"] is False and metrics["collect"]["retrained"] == 4
    assert metrics["candidates_won"] == {FILTER: 5}
    table = pq.read_table(copied / "selection.parquet").to_pydict()
    assert np.isnan(table["utility"]).all()
    margins = np.full(300, 1.0, dtype=np.float32)
    margins[table["pool_index"]] = table["margin"]
    assert "margin filter" in capsys.readouterr().out
    # The same batches as the control's: all of its picks are among the smallest margins.
    ask = followed().acquisition
    assert len(controls.follow_filter(margins, ask, 0).pool_index) == len(set(table["pool_index"])) == 22


@pytest.mark.parametrize(
    ("overrides", "kinds"),
    [
        slow([NETWORK], {"tilted", FILTER}),
        slow([NETWORK, "utility_model.fit_on=pairs", "acquisition.candidates=partition"], {"partition"}),
        slow([NETWORK, "utility_model.features=pixels", "acquisition.candidates=mixed"], None),
        slow([NETWORK, "utility_model.features=classifier", "utility_samples.source=both"], {"tilted", FILTER}),
        (["acquisition.candidates=strategies"], None),
        (["acquisition.candidates=mixed"], None),
        (["data.scenario=off_target"], {"tilted", FILTER}),
        slow([NETWORK, "data.scenario=off_target", "utility_model.features=pixels"], {"tilted", FILTER}),
    ],
    ids=lambda value: "+".join(o.partition("=")[2] for o in value) if isinstance(value, list) else None,
)
def test_every_family(overrides: list[str], kinds: set[str] | None, finished: Path, tmp_path: Path) -> None:
    """Each as the stages one by one have it; what is measured already of the rounds is not measured again."""
    folder = tmp_path / "run"
    if not any("scenario" in override for override in overrides):
        shutil.copytree(finished / "utility_samples", folder / "utility_samples")
        shutil.copy(finished / "config.yaml", folder)
        if "utility_samples.source=both" in overrides:  # another run's directory
            shutil.rmtree(folder)
    executed(folder, *overrides)
    won = set(metrics_of(folder)["candidates_won"])
    assert kinds is None or {name.partition(" at ")[0] for name in won} <= kinds
    expected = select(followed(*overrides))
    assert picked(folder) == expected.pool_index.tolist() and sum(metrics_of(folder)["candidates_won"].values()) == 5


def test_second_opinions_have_not_seen_what_they_are_asked_of(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each image of S_val, and each that was rejected, is left out of exactly one train set, and asked of that."""
    config = followed("data.scenario=off_target", "utility_samples.evidence_folds=3")
    problem, _ = digits()
    problem = replace(problem, rejected=problem.pool.take(np.arange(290, 299)))
    todo = plan.make(config.model_copy(update={"data": followed().data}), problem)
    assert todo.mock_pool is not None
    # Images that say who they are: their number, in every pixel.
    seen = Inputs(*(np.repeat(np.arange(start, start + n, dtype=np.uint8), 64).reshape(n, 8, 8, 1)
                    for start, n in ((0, 40), (40, 100), (140, 9), (0, 1))), None)  # fmt: skip
    sets: list[LabeledArrays] = []

    def kept(session: Session, train_set: ray.ObjectRef, settings: Any, seed: int, on: Any) -> ray.ObjectRef:
        assert settings.num_classes == 10 + 1 and on == {}
        sets.append(ray.get(train_set))
        return train_set

    monkeypatch.setattr(evidence.tasks, "train_classifier", kept)
    training = evidence.start(session, todo, seen, LabeledArrays(seen.labeled, problem.labeled.labels))
    labels = np.where(todo.mock_pool.labels == NONE, 10, todo.mock_pool.labels)
    for number, train_set in enumerate(sets):
        names = train_set.inputs[:, 0, 0, 0].astype(int)
        assert names[:40].tolist() == [*range(40)] and len(set(names)) == len(names)
        shown = names[40:] - 40
        assert set(shown) == {i for i in range(109) if training.part[i] != number}
        assert train_set.labels[40:].tolist() == labels[shown].tolist(), "what was rejected is a class of its own"
    assert len(sets) == 3 and np.bincount(training.part).tolist() == [37, 36, 36]
