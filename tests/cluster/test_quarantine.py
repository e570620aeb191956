"""Sets that kill every worker that tries them: named, counted, left out; the run goes on, and the next tries again."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rambo_ray.cli.run import execute
from rambo_ray.cluster import collect
from rambo_ray.cluster.session import Session
from rambo_ray.errors import RunError
from rambo_ray.utility_samples.measuring import Judged, Subset
from rambo_ray.utility_samples.store import SampleStore

from .problems import rounds, smoke

ONE_TRY = ("cluster.max_tries=1", "output.report_images=4")


def deadly(monkeypatch: pytest.MonkeyPatch, sets: Sequence[tuple[int, ...]]) -> None:
    """From now on these sets kill whoever trains on them, all sets where none is named."""
    kill = frozenset(sets)

    class Deadly(collect._RetrainActor):  # of this function, so that it is sent with what it kills
        def _measure(self, job: int, subsets: Sequence[Subset], first: int | None) -> list[Judged]:
            if first is not None and (not kill or kill & {indices for indices, _ in subsets}):
                os._exit(1)
            return super()._measure(job, subsets, first)

    monkeypatch.setattr(collect, "_RetrainActor", Deadly)


def quarantined(folder: Path) -> list[tuple[int, int, int]]:
    found = json.loads((folder / "metrics.json").read_text())["collect"]["quarantined"]
    assert all(one["why"].startswith("its worker died 1 times") for one in found)
    return sorted((one["pair_id"], one["iteration"], one["size"]) for one in found)


@pytest.mark.slow
def test_the_paper_s_run_goes_on_without_them(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = [r for p in (finished_run / "utility_samples").glob("part-*") for r in pq.read_table(p).to_pylist()]
    chosen = [next(r for r in table if r["pair_id"] == 3), next(r for r in table if r["iteration"] == 1)]
    places = sorted((r["pair_id"], r["iteration"], r["size"]) for r in chosen)
    capsys.readouterr()
    with monkeypatch.context() as patch:
        deadly(patch, [tuple(r["indices"]) for r in chosen])
        selections = []
        for _ in range(2):  # the second tries them again, in vain
            execute(smoke(*ONE_TRY, f"output.dir={tmp_path / 'run'}"))
            said = capsys.readouterr().out
            assert "2 sets killed their workers 1 times and are left out (quarantined):" in said
            assert "pair 3, " in said and "S_1, " in said and "5 of 6 pairs; the same command tries them again" in said
            assert quarantined(tmp_path / "run") == places
            selections.append((tmp_path / "run" / "selection.parquet").read_bytes())
    assert selections[0] == selections[1]
    assert len(SampleStore(tmp_path / "run" / "utility_samples", "accuracy").measurements) == len(
        {r["sample_id"] for r in table} - {r["sample_id"] for r in chosen}
    )
    # Whatever killed them is gone: they are measured, and the run is what it would have been.
    metrics = execute(smoke(*ONE_TRY, f"output.dir={tmp_path / 'run'}"))
    assert metrics["collect"]["retrained"] == 2 and quarantined(tmp_path / "run") == []
    assert (tmp_path / "run" / "selection.parquet").read_bytes() == (finished_run / "selection.parquet").read_bytes()


@pytest.mark.slow
def test_where_all_sets_kill_the_run_ends_soon_and_says_so(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly(monkeypatch, [])
    with pytest.raises(RunError, match="the first 4 sets that were tried, large and small, each killed 1 workers"):
        execute(rounds("cluster.max_tries=1", f"output.dir={tmp_path / 'run'}"))


@pytest.mark.slow
def test_a_run_by_mock_rounds_goes_on_without_one(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(rounds(f"output.dir={tmp_path / 'whole'}"))
    table = [r for p in (tmp_path / "whole" / "utility_samples").glob("part-*") for r in pq.read_table(p).to_pylist()]
    chosen = next(r for r in table if r["pair_id"] == 2)
    deadly(monkeypatch, [tuple(chosen["indices"])])
    selections = []
    for workers in (1, 2):  # the same set is left out, and no other that waited beside it
        folder = tmp_path / f"{workers} workers"
        metrics = execute(rounds("cluster.max_tries=1", f"cluster.num_workers={workers}", f"output.dir={folder}"))
        assert quarantined(folder) == [(2, -1, chosen["size"])]
        assert "1 set killed its worker 1 times and is left out (quarantined):" in capsys.readouterr().out
        assert metrics["ranking"]["held_out_subsets"] > 0
        assert pq.read_table(folder / "selection.parquet").num_rows == metrics["sizes"]["budget"]
        selections.append((folder / "selection.parquet").read_bytes())
    assert selections[0] == selections[1]
