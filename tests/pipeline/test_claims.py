"""What an earlier run has left where another goes on: no selection beside a configuration it was not made by."""

from __future__ import annotations

import errno
import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rambo_ray import locks
from rambo_ray.annotation import tenancy
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data.images import Images, LabeledImages
from rambo_ray.data.problem import Problem
from rambo_ray.errors import UserError
from rambo_ray.files import WriteError, temporary_name
from rambo_ray.pipeline import claims, outputs
from rambo_ray.pipeline.outputs import Output

from ..data.written_images import pictures
from .test_outputs import claim, contents, selection

MADE = ["data.json", "manifest.json", "metrics.json", "report.html", "selection.csv", "selection.parquet",
        "utility_model.json", "utility_model.safetensors"]  # fmt: skip
KEPT = ["fit/fit-1/state.pt", "utility_samples/part-1.parquet"]


def problem(pool: int = 5, labels: int = 0) -> Problem:
    labeled, validation = (
        LabeledImages(pictures(4, seed), tuple(f"{seed}-{i}" for i in range(4)), np.array([0, 1, 0, 1]))
        for seed in (1 + labels, 2)
    )
    return Problem(labeled, validation, Images(pictures(pool), tuple("abcdefg"[:pool])), ("c", "d"), (0.5,), (0.5,))


def finished(folder: Path, config: Config, of: Problem | None = None) -> dict[str, bytes]:
    """A finished run's directory; returns its files."""
    with Output.claim(folder, config) as output:
        output.write_json("manifest.json", outputs.manifest(config, of or problem(), "float32"))
        output.write_selection(selection(3), [f"image {i}" for i in range(20)])
        for name in MADE:
            if not (folder / name).is_file():
                output.write_text(name, f"{name} of B={config.acquisition.budget}")
        for name in KEPT:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("computed once")
    return files_of(folder)


def files_of(folder: Path) -> dict[str, bytes]:
    return {name: content for name, (content, _) in contents(folder).items()}


def budget(count: int) -> Config:
    return loading.load(None, [f"acquisition.budget={count}"])


class TestAnotherChoice:
    def test_what_no_longer_belongs_is_moved_away_and_what_does_stays(self, tmp_path: Path) -> None:
        before = finished(tmp_path, budget(400))
        with Output.claim(tmp_path, budget(500)) as output:
            (line,) = output.said
            assert line.endswith(str(tmp_path / "earlier" / "1"))
        after = files_of(tmp_path)
        moved = {f"earlier/1/{name}" for name in (*MADE, "config.yaml")}
        assert set(after) == {"config.yaml", *KEPT, *moved}
        assert all(after[f"earlier/1/{name}"] == before[name] for name in (*MADE, "config.yaml"))
        assert loading.load(tmp_path / "config.yaml").acquisition.budget == 500
        finished(tmp_path, budget(500))
        claim(tmp_path, budget(600))
        assert files_of(tmp_path)["earlier/2/report.html"] == b"report.html of B=500"

    @pytest.mark.parametrize(
        "override", [None, "cluster.num_workers=3", "output.report_images=7", "data.root=elsewhere"]
    )
    def test_what_changes_no_choice_keeps_it(self, tmp_path: Path, override: str | None) -> None:
        before = finished(tmp_path, Config())
        with Output.claim(tmp_path, loading.load(None, [override] if override else []), problem=problem()) as output:
            assert output.said == ()
        after = files_of(tmp_path)
        assert {name: after[name] for name in MADE} == {name: before[name] for name in MADE}
        assert not (tmp_path / "earlier").exists()

    def test_an_unfinished_run_leaves_nothing_to_move(self, tmp_path: Path) -> None:
        claim(tmp_path, budget(400))
        claim(tmp_path, budget(500))
        assert list(contents(tmp_path)) == ["config.yaml"]

    def test_killed_anywhere_no_selection_is_beside_another_configuration(self, tmp_path: Path) -> None:
        """Every change on the disk in turn is the last one that happens; the same command goes on afterwards."""
        whole = tmp_path / "whole"
        before = finished(whole, budget(400))
        for last in range(40):
            folder = tmp_path / f"killed after {last}"
            shutil.copytree(whole, folder)
            if not killed_after(last, lambda folder=folder: claim(folder, budget(500))):
                break
            if (folder / "selection.parquet").exists():
                assert loading.load(folder / "config.yaml") == budget(400)
                assert (folder / "selection.parquet").read_bytes() == before["selection.parquet"]
            claim(folder, budget(500))
            after = files_of(folder)
            assert {name for name in after if "/" not in name} == {"config.yaml"}, last
            moved = {name: after[f"earlier/1/{name}"] for name in (*MADE, "config.yaml")}
            assert moved == {name: before[name] for name in moved}, last
            assert not (folder / "earlier" / "2").exists()
        assert last > 10

    def test_people_who_look_at_it_keep_it(self, tmp_path: Path) -> None:
        before = finished(tmp_path, budget(400))
        with tenancy.taken(tmp_path) as served:
            served.serve_at("http://127.0.0.1:8765/x/", 8765)
            with pytest.raises(UserError, match="is served already, at http://127.0.0.1:8765/x/ .process"):
                claim(tmp_path, budget(500))
            claim(tmp_path, budget(400))  # the same choice may be made again
        after = files_of(tmp_path)
        assert {name: after[name] for name in before} == before

    def test_a_sweep_s_results_go_with_its_space(self, tmp_path: Path) -> None:
        claim(tmp_path, Config(), "keys: 1")
        for name in ("sweep.csv", "best.yaml", "heat.png"):
            (tmp_path / name).write_text(name)
        claim(tmp_path, Config(), "keys: 1")
        assert (tmp_path / "best.yaml").exists()
        claim(tmp_path, Config(), "keys: 2")
        names = {f"earlier/1/{name}" for name in ("sweep.csv", "best.yaml", "heat.png", "config.yaml", "space.yaml")}
        assert set(contents(tmp_path)) == {"config.yaml", "space.yaml"} | names
        assert (tmp_path / "earlier/1/space.yaml").read_text() == "keys: 1"

    def test_a_backtest_s_results_go_with_its_configuration(self, tmp_path: Path) -> None:
        for config, places in ((Config(), []), (Config(), []), (budget(3), ["earlier/1/b.md", "earlier/1/b.yaml"])):
            with Output.other(tmp_path, "b.yaml", loading.dump(config), "backtest", ["b.md"]) as output:
                output.write_text("b.md", "verdict")
            assert sorted(contents(tmp_path)) == ["b.md", "b.yaml", *places]


def killed_after(count: int, job: Callable[[], Any]) -> bool:
    """Whether `job` was ended, as by a kill, before its change on the disk of this number."""
    left = [count]

    class Killed(BaseException):
        pass

    def ends(change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*arguments: Any, **keywords: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return change(*arguments, **keywords)

        return changed

    with pytest.MonkeyPatch.context() as patch:
        for where, name in (
            (os, "replace"),
            (os, "pwrite"),
            (Path, "mkdir"),
            (Path, "write_bytes"),
            (shutil, "copyfile"),
        ):
            patch.setattr(where, name, ends(getattr(where, name)))
        try:
            job()
        except Killed:
            return True
    return False


class TestAnotherPool:
    def test_its_selection_is_moved_and_the_samples_serve_again(self, tmp_path: Path) -> None:
        before = finished(tmp_path, Config())
        claim(tmp_path, Config(), problem=problem(pool=7))
        after = files_of(tmp_path)
        assert after["earlier/1/selection.parquet"] == before["selection.parquet"]
        assert set(KEPT) <= set(after) and "selection.parquet" not in after

    def test_not_where_people_have_answered(self, tmp_path: Path) -> None:
        finished(tmp_path, Config())
        (tmp_path / "labels.jsonl").write_text("{}\n")
        before = contents(tmp_path)
        with pytest.raises(UserError, match="labels.jsonl answers its choice of images, and the pool may lead to"):
            claim(tmp_path, Config(), problem=problem(pool=7))
        assert contents(tmp_path) == before
        claim(tmp_path, Config(), problem=problem())

    def test_other_labelled_images_are_another_run(self, tmp_path: Path) -> None:
        finished(tmp_path, Config())
        before = contents(tmp_path)
        with pytest.raises(UserError, match="holds a finished run on other images, labelled or for validation; give"):
            claim(tmp_path, Config(), problem=problem(labels=5))
        assert contents(tmp_path) == before

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"data": 7}'])
    def test_a_damaged_manifest_says_nothing(self, tmp_path: Path, text: str) -> None:
        finished(tmp_path, Config())
        (tmp_path / "manifest.json").write_text(text)
        claim(tmp_path, Config(), problem=problem())
        assert (tmp_path / "selection.parquet").is_file()

    def test_copies_in_a_pool_are_of_it(self, tmp_path: Path) -> None:
        """The fingerprint is the given pool's, with its copies: thinned as it is for a run, it is the same pool."""
        from rambo_ray.data.copies import Copies

        given = problem()
        thinned = replace(problem(pool=4), copies=Copies.__new__(Copies))
        object.__setattr__(thinned.copies, "fingerprint", given.pool_fingerprint)
        finished(tmp_path, Config(), given)
        claim(tmp_path, Config(), problem=thinned)
        assert not (tmp_path / "earlier").exists()


NETWORK = """
from torch import nn

def make(image_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(image_shape[1] * image_shape[2], num_classes{more}))
"""


def test_code_of_ones_own_that_was_edited_makes_another_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    folder, config = tmp_path / "run", loading.load(None, ["classifier.name=claimed_net:make"])

    def edited(text: str) -> None:
        (tmp_path / "claimed_net.py").write_text(NETWORK.format(more=text))
        importlib.invalidate_caches()
        sys.modules.pop("claimed_net", None)

    edited("")
    finished(folder, config)
    claim(folder, config, problem=problem())
    assert (folder / "selection.parquet").is_file()
    edited(", bias=False")
    (folder / "labels.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="labels.jsonl answers .* the code of classifier.name=claimed_net:make may"):
        claim(folder, config, problem=problem())
    (folder / "labels.jsonl").unlink()
    claim(folder, config, problem=problem())
    assert not (folder / "selection.parquet").exists() and (folder / "earlier/1/selection.parquet").is_file()
    sys.modules.pop("claimed_net", None)


class TestOneAtATime:
    def test_the_second_is_refused_and_nothing_is_touched(self, tmp_path: Path) -> None:
        with Output.claim(tmp_path, budget(400)):
            before = contents(tmp_path)
            for attempt in (lambda: claim(tmp_path, budget(500)), lambda: claims.refuse_early(tmp_path)):
                with pytest.raises(
                    UserError, match=f"^--output {tmp_path}: process {os.getpid()}, since .* is at work"
                ):
                    attempt()
            assert contents(tmp_path) == before
        claims.refuse_early(tmp_path)
        claim(tmp_path, budget(500))

    def test_killed_at_its_very_beginning_the_directory_is_still_free(self, tmp_path: Path) -> None:
        (tmp_path / locks.RUN).write_text("")
        temporary_name(tmp_path / "config.yaml").write_text("half")
        claim(tmp_path, Config())
        assert [name for name in contents(tmp_path) if not name.startswith(".")] == ["config.yaml"]

    def test_leftovers_of_a_killed_run_are_removed(self, tmp_path: Path) -> None:
        claim(tmp_path, Config())
        (tmp_path / "utility_samples").mkdir()
        left = tmp_path / "utility_samples" / f".part-1.parquet.{locks.files.machine()}-{2**22 + 1}-0123abcd.tmp"
        left.write_text("half")
        claim(tmp_path, Config())
        assert list(contents(tmp_path)) == ["config.yaml"]


class TestDoors:
    def test_a_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = finished(tmp_path, Config())

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(UserError, match="run.lock: No space left on device .* make room there, then run the same"):
            claim(tmp_path, budget(500))
        monkeypatch.undo()
        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(WriteError, match="config.yaml: No space left on device"):
            claim(tmp_path, Config())
        monkeypatch.undo()
        assert files_of(tmp_path) == before

    def test_a_directory_that_is_read_only_is_refused_before_anything_is_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        with pytest.raises(UserError, match=f"^--output {tmp_path}/a/b: Permission denied; give a directory you can"):
            claims.refuse_early(tmp_path / "a" / "b")


class TestRefusedAfterAll:
    """By a cluster that cannot hold what was asked for, or whose nodes compute otherwise."""

    def refused(self, folder: Path, config: Config, made: str | None = None) -> None:
        with pytest.raises(UserError, match="no such cluster"), Output.claim(folder, config) as output:
            output.write_json("data.json", {})
            if made is not None:
                output.write_text(made, "computed")
            raise UserError("no such cluster")

    def test_the_corrected_command_finds_the_directory_as_it_was(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "run", loading.load(None, ["cluster.reproducible=machine"]))
        assert files_of(tmp_path / "run") == {}
        with Output.claim(tmp_path / "run", loading.load(None, ["cluster.reproducible=any_x86"])):
            pass

    def test_what_was_made_keeps_its_configuration(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "run", budget(5), "selection.parquet")
        assert set(files_of(tmp_path / "run")) == {"config.yaml", "data.json", "selection.parquet"}

    def test_an_earlier_run_s_directory_stays_its_own(self, tmp_path: Path) -> None:
        finished(tmp_path, budget(5))
        before = files_of(tmp_path)
        self.refused(tmp_path, budget(5))
        assert files_of(tmp_path) == before | {"data.json": b"{}\n"}


def test_the_manifest_of_a_streamed_pool_names_its_files(tmp_path: Path) -> None:
    class Streamed:
        fingerprint = "these files"

    streamed = replace(problem(), streamed=Streamed())  # type: ignore[arg-type]
    finished(tmp_path, Config(), streamed)
    assert json.loads((tmp_path / "manifest.json").read_text())["data"]["pool_files"] == "these files"
    claim(tmp_path, Config(), problem=streamed)
    assert (tmp_path / "selection.parquet").is_file()
    Streamed.fingerprint = "others"
    claim(tmp_path, Config(), problem=streamed)
    assert not (tmp_path / "selection.parquet").exists()


class TestOnlyClaimed:
    """A run that ended before anything was computed does not stand in the way of the corrected one."""

    def test_any_key_may_be_corrected(self, tmp_path: Path) -> None:
        wrong = loading.load(None, ["classifier.name=resnet18", "seed=1", "data.num_labeled=30"])
        claim(tmp_path, wrong).write_text("data.json", "{}")
        (tmp_path / "run.log").write_text("what was wrong")
        claim(tmp_path, Config())
        assert (tmp_path / "config.yaml").read_text() == loading.dump(Config())
        assert not (tmp_path / claims.EARLIER).exists()

    @pytest.mark.parametrize("name", ["utility_samples/part-1.parquet", "fit/state.pt", "manifest.json", "notes.txt"])
    def test_what_was_computed_stays(self, name: str, tmp_path: Path) -> None:
        claim(tmp_path, loading.load(None, ["seed=1"]))
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("computed")
        with pytest.raises(UserError, match="holds a run with seed=1, this one has 0"):
            claim(tmp_path, Config())

    def test_a_configuration_that_somebody_has_written_is_theirs(self, tmp_path: Path) -> None:
        (tmp_path / "config.yaml").write_text("method: mock_rounds\nseed: 1  # mine\n")
        with pytest.raises(UserError, match="holds a run with seed=1, this one has 0"):
            claim(tmp_path, Config())
        assert (tmp_path / "config.yaml").read_text() == "method: mock_rounds\nseed: 1  # mine\n"
