"""Sections of the GPU's measurements: what they leave on the disk, whatever becomes of them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from gpu.record import Record, Section, plain
from gpu.running import Planned, run


def _found(folder: Path) -> dict:
    return json.loads((folder / "gpu.json").read_text())["sections"]


def _run(folder: Path, seconds: float, *planned: Planned) -> bool:
    return run(list(planned), Record(folder), device="cpu", smoke=True, root=None, seconds=seconds)


def test_what_a_section_measures_is_on_the_disk_as_it_goes(tmp_path: Path) -> None:
    def works(section: Section) -> None:
        section.put("answer", np.float32(0.5))
        assert _found(tmp_path)["works"]["answer"] == 0.5
        section.add("rows", {"n": 1, "seconds": float("nan")})
        assert section.fits(0.0, "nothing") and not section.fits(1e6, "a week of work")

    assert _run(tmp_path, 30.0, Planned("works", 1.0, works))
    found = _found(tmp_path)["works"]
    assert found["status"] == "ok" and found["rows"] == [{"n": 1, "seconds": "nan"}]
    assert len(found["skipped"]) == 1 and found["skipped"][0].startswith("a week of work")
    assert "works: answer = 0.5" in (tmp_path / "gpu.log").read_text()


def test_a_section_that_raises_does_not_stop_the_next(tmp_path: Path) -> None:
    def raises(section: Section) -> None:
        section.put("before", 1)
        raise ValueError("no such kernel")

    fine = _run(tmp_path, 30.0, Planned("raises", 1.0, raises), Planned("next", 1.0, lambda section: None))
    found = _found(tmp_path)
    assert not fine
    assert found["raises"]["status"] == "failed" and found["raises"]["before"] == 1
    assert "ValueError: no such kernel" in found["raises"]["error"]
    assert found["next"]["status"] == "ok"


@pytest.mark.slow
def test_a_section_that_overruns_is_cut_off_with_what_it_had(tmp_path: Path) -> None:
    def overruns(section: Section) -> None:
        section.put("before", 1)
        time.sleep(600)

    fine = _run(tmp_path, 4.0, Planned("overruns", 1.0, overruns), Planned("next", 1.0, lambda section: None))
    found = _found(tmp_path)
    assert not fine
    assert found["overruns"]["status"] == "cut off" and found["overruns"]["before"] == 1
    assert found["next"]["status"] in ("ok", "skipped")


def test_without_time_sections_are_named_as_skipped(tmp_path: Path) -> None:
    assert _run(tmp_path, -1.0, Planned("late", 1.0, lambda section: None))
    assert _found(tmp_path)["late"]["status"] == "skipped"


def test_plain_knows_numpy() -> None:
    kept = {"1": [0, 1], "b": [True, "inf", None]}
    assert plain({1: np.arange(2), "b": (np.bool_(True), float("inf"), None)}) == kept
