"""A run's directory through the command: faults at each write, reports that fail, and runs that grow."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rambo_ray.cli import main, run
from rambo_ray.config import loading
from rambo_ray.errors import RunError
from rambo_ray.progress import Stages
from rambo_ray.rambo import Outcome

from .problems import ROOT, SMOKE, digits, smoke


def command(folder: Path, *overrides: str) -> list[str]:
    return ["run", "--config", str(ROOT / SMOKE), "method=paper", "--output", str(folder), *overrides]


@contextmanager
def no_room_for(pattern: str) -> Iterator[None]:
    """The disk is full when a file of such a name is to get it."""
    replaced = os.replace

    def full(source: Path, target: Path) -> None:
        if fnmatch(Path(target).name, pattern):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replaced(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", full)
        yield


class Replayed:
    """Stands in for `rambo.run`: computes once, and hands out the same outcome again."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self.computed = run.run

    def __call__(
        self, plan: Any, problem: Any, revealed: Any, session: Any, folder: Any, stages: Any, keep: Any
    ) -> Any:
        if self.outcome is None:
            self.outcome = self.computed(plan, problem, revealed, session, folder, stages)
        keep(self.outcome.problem, self.outcome.selection, {})
        return self.outcome


FIRST = ("config.yaml", "part-*", "state.pt")  # in the order in which a run writes
THEN = ("manifest.json", "selection.parquet", "selection.csv", "utility_model.safetensors", "utility_model.json",
        "metrics.json", "report.html")  # fmt: skip


@pytest.mark.slow
def test_whatever_cannot_be_written_the_same_command_ends_with_the_same_selection(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, picked = tmp_path / "run", "selection.parquet"
    expected = {name: (finished_run / name).read_bytes() for name in (picked, "selection.csv")}

    def failing(line: str) -> None:
        assert main.main(command(folder)) == 1
        error = capsys.readouterr().err
        assert error.startswith("rambo run: failed: ") and error.count("\n") == 1, error
        assert line in error
        assert not [each for each in folder.rglob(".*") if each.name.endswith(".tmp")]

    def without_room(name: str) -> None:
        with no_room_for(name):
            failing(": No space left on device (")

    for name in FIRST:
        without_room(name)
    assert not (folder / picked).exists() and list(folder.glob("utility_samples/part-*"))
    replayed = Replayed()
    monkeypatch.setattr(run, "run", replayed)
    for number, name in enumerate(THEN):
        without_room(name)
        assert (folder / picked).exists() == (number > 1)
    assert (folder / picked).read_bytes() == expected[picked]

    def cannot(content: Any) -> str:
        raise ValueError("no such font\nat all")

    rendered = run.render
    monkeypatch.setattr(run, "render", cannot)
    made = f". The selection is made: {folder / picked}; see "
    failing(
        "the report could not be made (ValueError: no such font at all); the same command again makes it, and trains "
        f"no utility sample anew{made}"
    )
    monkeypatch.setattr(run, "render", rendered)

    def dies(*arguments: Any) -> Any:
        replayed(*arguments)
        raise RunError("the final classifier: the worker died")

    monkeypatch.setattr(run, "run", dies)
    failing(f"failed: the final classifier: the worker died{made}")
    monkeypatch.setattr(run, "run", replayed)
    assert main.main(command(folder)) == 0
    assert {name: (folder / name).read_bytes() for name in expected} == expected
    assert "<html" in (folder / "report.html").read_text()[:200] and not (folder / "earlier").exists()


@pytest.mark.slow
def test_a_run_that_grows_computes_only_what_is_new_and_says_which_part_came_from_which_run(tmp_path: Path) -> None:
    whole, revealed = digits()
    assert revealed is not None
    few = np.arange(200)
    folder = tmp_path / "run"

    def ran(pool: int, *overrides: str) -> tuple[dict[str, Any], dict[str, Any]]:
        problem = whole if pool == len(whole.pool) else replace(whole, pool=whole.pool.take(few))
        answers = replace(revealed, pool_labels=revealed.pool_labels[:pool])
        config = smoke(f"output.dir={folder}", *overrides)
        run.execute_on(config, problem, answers, Stages(stream=io.StringIO()))
        metrics, manifest = (json.loads((folder / name).read_text()) for name in ("metrics.json", "manifest.json"))
        return metrics["collect"]["retrained"], manifest["made"]

    first, made = ran(200)
    (own,) = made["utility_samples"]
    assert first == own["samples"] > 10 and own["run"] == made["run"] and made["fit"] is None
    retrained, again = ran(200)
    assert retrained == 0 and again["utility_samples"] == [own] and again["fit"] is not None
    retrained, larger = ran(300, "acquisition.budget=24", "pretraining.num_interpolated=5")  # B, n and the pool
    assert retrained == 0 and larger["utility_samples"] == [own] and larger["fit"] is None
    assert (folder / "earlier" / "1" / "selection.parquet").is_file()
    assert loading.load(folder / "earlier" / "1" / "config.yaml").acquisition.budget == 22
    retrained, pairs = ran(
        300, "acquisition.budget=24", "pretraining.num_interpolated=5", "utility_samples.num_pairs=7"
    )
    assert retrained == 2 and [each["samples"] for each in pairs["utility_samples"]] == [first, 2]
    assert sorted(each.name for each in (folder / "earlier").iterdir()) == ["1", "2"]
