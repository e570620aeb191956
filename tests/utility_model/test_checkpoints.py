"""Checkpoints of a fit: whatever becomes of their files, the fit is the same, and what was damaged is said."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rambo_ray.cluster.fit import fit_here
from rambo_ray.utility_model import checkpoints, fitting
from rambo_ray.utility_model.checkpoints import LIST, STATE, Damaged
from rambo_ray.utility_model.fitting import FitInput, FitResult

from .small_fits import pretraining_task


@pytest.fixture(scope="module")
def task() -> FitInput:
    return pretraining_task(outer_epochs=2, inner_steps=2, hypergradient_steps=2)


@pytest.fixture(scope="module")
def kept(task: FitInput, tmp_path_factory: pytest.TempPathFactory) -> tuple[FitResult, Path]:
    """A finished fit and its folder."""
    torch.set_num_threads(1)  # as in the tests themselves: a fit's bits are those of its threads
    storage = tmp_path_factory.mktemp("fit")
    return fit_here(task, storage, lambda metrics: None), storage / checkpoints.name(task)  # type: ignore[return-value]


def assert_same(found: FitResult, expected: FitResult) -> None:
    assert found.lambdas == expected.lambdas and found.history == expected.history
    assert all(np.array_equal(found.weights[name], weight) for name, weight in expected.weights.items())


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


def another_s(path: Path) -> None:
    path.write_bytes(b"PK" + bytes(1000))


@pytest.mark.parametrize("damage", [torn, emptied, flipped, another_s])
def test_a_damaged_checkpoint_is_set_aside_said_and_made_again(
    task: FitInput, kept: tuple[FitResult, Path], tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    expected, folder = kept
    copied = Path(shutil.copytree(folder, tmp_path / folder.name))
    damage(checkpoints.last(task, copied))
    said: list[str] = []
    assert_same(fit_here(task, tmp_path, lambda metrics: None, say=said.append), expected)  # type: ignore[arg-type]
    (line,) = said
    assert line.startswith(f"a checkpoint of the fit of u_hat is damaged ({checkpoints.last(task, copied)}: ")
    assert line.endswith(f"the files are {tmp_path / folder.name}.damaged") and len(line.splitlines()) == 1
    assert (
        checkpoints.read(checkpoints.last(task, copied)).keys()
        == checkpoints.read(checkpoints.last(task, folder)).keys()
    )
    said.clear()
    assert_same(fit_here(task, tmp_path, lambda metrics: None, say=said.append), expected)  # type: ignore[arg-type]
    assert said == []


def test_a_flipped_bit_anywhere_is_found_or_changes_nothing(
    task: FitInput, kept: tuple[FitResult, Path], tmp_path: Path
) -> None:
    expected, folder = kept
    original = checkpoints.last(task, folder).read_bytes()
    path = tmp_path / STATE
    generator, found = np.random.default_rng(0), 0
    for place, bit in zip(generator.integers(0, len(original), 150), generator.integers(0, 8, 150), strict=True):
        content = bytearray(original)
        content[place] ^= 1 << int(bit)
        path.write_bytes(content)
        try:
            state = checkpoints.read(path)
        except Damaged:
            found += 1
            continue
        assert_same(fitting.fit(task, resume_from=state), expected)
    assert found > 50


def listing(folder: Path, *names: str, **changed: object) -> None:
    content = {
        "checkpoint_results": [{"checkpoint_dir_name": name, "metrics": {}} for name in names],
        "checkpoint_report_indices": list(range(len(names))),
        "current_report_index": len(names),
        "latest_checkpoint_result": {"checkpoint_dir_name": names[-1], "metrics": {}} if names else None,
    }
    (folder / LIST).write_text(json.dumps(content | changed))


class TestRayTrainsList:
    def test_a_sound_one_is_gone_on_from(self, task: FitInput, kept: tuple[FitResult, Path], tmp_path: Path) -> None:
        folder = Path(shutil.copytree(kept[1], tmp_path / "fit"))
        listing(folder, checkpoints.last(task, folder).parent.name)
        checkpoints.check(task, folder)
        listing(folder)
        checkpoints.check(task, folder)

    def test_what_it_does_not_name_was_being_written(
        self, task: FitInput, kept: tuple[FitResult, Path], tmp_path: Path
    ) -> None:
        folder = Path(shutil.copytree(kept[1], tmp_path / "fit"))
        last = checkpoints.last(task, folder)
        shutil.copytree(last.parent, folder / checkpoints.of_epoch(-1, 0))
        listing(folder, checkpoints.of_epoch(-1, 0))
        torn(last)
        said: list[str] = []
        checkpoints.mend(task, folder, said.append)
        assert said == [] and folder.is_dir() and checkpoints.finished(task, folder) is None

    @pytest.mark.parametrize(
        "damage",
        [
            lambda folder: emptied(folder / LIST),
            lambda folder: torn(folder / LIST),
            lambda folder: (folder / LIST).write_text("[]"),
            lambda folder: (folder / LIST).write_bytes(b"\xff\xfe"),
            lambda folder: listing(folder, "../../elsewhere"),
            lambda folder: listing(folder, "iteration_09_epoch_000"),
            lambda folder: listing(folder, *each_of(folder), checkpoint_report_indices=[]),
            lambda folder: listing(folder, *each_of(folder), latest_checkpoint_result={"checkpoint_dir_name": "x"}),
            lambda folder: (listing(folder, *each_of(folder)), shutil.rmtree(folder / each_of(folder)[0])),
            lambda folder: (listing(folder, *each_of(folder)), (folder / each_of(folder)[0] / STATE).unlink()),
            lambda folder: (listing(folder, *each_of(folder)), flipped(folder / each_of(folder)[0] / STATE)),
        ],
    )
    def test_a_damaged_one_or_one_of_damaged_checkpoints(
        self, task: FitInput, kept: tuple[FitResult, Path], tmp_path: Path, damage: Callable[[Path], object]
    ) -> None:
        folder = Path(shutil.copytree(kept[1], tmp_path / "fit"))
        listing(folder, *each_of(folder))
        damage(folder)
        said: list[str] = []
        checkpoints.mend(task, folder, said.append)
        assert len(said) == 1 and len(said[0].splitlines()) == 1
        assert not folder.exists() and (tmp_path / "fit.damaged").is_dir()


def each_of(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if each.is_dir())


def test_by_itself_it_is_logged(
    task: FitInput, kept: tuple[FitResult, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copied = Path(shutil.copytree(kept[1], tmp_path / kept[1].name))
    emptied(checkpoints.last(task, copied))
    with caplog.at_level(logging.WARNING):
        fit_here(task, tmp_path, lambda metrics: None)
    assert "a checkpoint of the fit of u_hat is damaged" in caplog.text


def test_a_fit_is_known_as_it_always_was_until_its_rule_changes(
    task: FitInput, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = checkpoints.identity(task)
    assert before == "48cdaa5458a159fa863de86daabb0214341fa8143a1878ed7eded1752e5283d5"
    monkeypatch.setattr(fitting, "RULE", 2)
    assert checkpoints.identity(task) != before
