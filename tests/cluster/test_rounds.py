"""A round's answers taken in and the next round run, by the commands, on a Ray."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rambo_ray.annotation import request, rounds
from rambo_ray.cli import main
from rambo_ray.cluster.session import Session
from rambo_ray.data.problem import NONE


def truth(folder: Path) -> dict[str, str]:
    """What annotators who know everything say of a benchmark's picked images."""
    asked = request.read(folder)
    problem, revealed = rounds.load(asked.config)
    assert revealed is not None
    places = {name: place for place, name in enumerate(problem.pool.ids)}
    labels = {name: int(revealed.pool_labels[places[name]]) for name in asked.ids}
    return {name: "none of these" if c == NONE else problem.class_names[c] for name, c in labels.items()}


def table(path: Path, said: dict[str, str]) -> str:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("id", "label"), *said.items()])
    return str(path)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_all_answers_give_the_accuracy_that_the_benchmark_foresaw(
    session: Session, copied_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = json.loads((copied_run / "metrics.json").read_text())
    said = truth(copied_run)
    assert (
        main.main(
            ["labels", str(copied_run), table(tmp_path / "some.csv", dict(list(said.items())[::2])), "--no-train"]
        )
        == 0
    )
    shown = capsys.readouterr().out
    assert f"{(len(said) + 1) // 2} of {len(said)} images answered" in shown and "accuracy" not in shown
    assert main.main(["labels", str(copied_run), table(tmp_path / "all.csv", dict(list(said.items())[::-1]))]) == 0
    shown = capsys.readouterr().out
    found = json.loads((copied_run / "answered.json").read_text())
    assert (
        found["accuracy_after"] == metrics["accuracy_after"] and found["accuracy_before"] == metrics["accuracy_before"]
    )
    after = metrics["accuracy_after"]["validation"]
    assert f"-> {after:.3f}" in shown and found["labelled"] == len(said) and found["unanswered"] == 0
    assert pq.read_table(copied_run / "annotations.parquet").to_pylist() == [
        {"id": name, "label": label, "rejected": False, "annotators": [""]} for name, label in said.items()
    ]


def test_a_file_that_is_wrong_changes_nothing(
    copied_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(copied_run)
    said = {**truth(copied_run), "nobody's": "1"}
    first = next(iter(said))
    said[first] = "one"
    assert main.main(["labels", str(copied_run), table(tmp_path / "a.csv", said)]) == 2
    shown = capsys.readouterr()
    assert "1 answer of images that the run did not ask for: 'nobody's'" in shown.out
    assert "1 answer by names of no class of the run: 'one' 1 time" in shown.out
    assert shown.err.startswith("rambo labels: error: ") and shown.err.count("\n") == 1
    assert main.main(["labels", str(copied_run)]) == 2
    assert "no answers yet" in capsys.readouterr().err
    assert contents(copied_run) == before


def test_round_2_goes_on_and_leaves_round_1_as_it_is(
    session: Session, copied_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = truth(copied_run)
    names = list(said)
    answers = {**{name: said[name] for name in names[:-2]}, names[-2]: "none of these"}  # the last is not answered
    assert main.main(["labels", str(copied_run), table(tmp_path / "a.csv", answers), "--no-train"]) == 0
    before = contents(copied_run)
    two = tmp_path / "two"
    options = ["--round", "2", "--after", str(copied_run), "acquisition.budget=20", "acquisition.batch_size=10"]
    assert main.main(["run", "--output", str(two), *options]) == 0
    shown = capsys.readouterr().out
    assert (
        f"{len(names) - 2} images have joined S_0, 1 belong to no class" in shown
        and "0 of " in shown
        and "utility samples were measured in round 1" in shown
    )
    assert contents(copied_run) == before
    manifest = json.loads((two / "manifest.json").read_text())
    assert manifest["round"] == {"number": 2, "after": str(copied_run.resolve())}
    one, sizes = (json.loads((folder / "metrics.json").read_text())["sizes"] for folder in (copied_run, two))
    assert sizes["k"] == one["k"] + len(names) - 2 and sizes["pool"] == one["pool"] - len(names) + 1
    picked = request.read(two).ids
    assert len(picked) == 20 and not set(picked) & set(answers)
    # Neither round 1's directory nor round 2's is taken by another round.
    capsys.readouterr()
    assert main.main(["run", "--output", str(copied_run), *options]) == 2
    assert "holds round 1, and this is round 2 after" in capsys.readouterr().err
    config = request.read(two).config
    assert main.main(["run", "--config", "digits_smoke", "--output", str(two), f"seed={config.seed}"]) == 2
    assert "holds round 2 after" in capsys.readouterr().err
    assert contents(copied_run) == before


def test_answers_keep_a_run_from_being_made_again_otherwise(
    copied_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["labels", str(copied_run), table(tmp_path / "a.csv", truth(copied_run)), "--no-train"]) == 0
    config = str(copied_run / "config.yaml")
    capsys.readouterr()
    assert main.main(["run", "--config", config, "--output", str(copied_run), "acquisition.budget=5"]) == 2
    assert "annotations.parquet answers its choice of images" in capsys.readouterr().err


def test_other_images_in_the_same_place_are_another_run(copied_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Today's files where yesterday's were: the labelled set has grown, and its configuration is the same."""
    manifest = json.loads((copied_run / "manifest.json").read_text())
    manifest["data"]["fingerprint"] = "of others"
    (copied_run / "manifest.json").write_text(json.dumps(manifest))
    before = contents(copied_run)
    assert main.main(["run", "--config", str(copied_run / "config.yaml"), "--output", str(copied_run)]) == 2
    assert "holds a finished run on other images" in capsys.readouterr().err
    assert contents(copied_run) == before
