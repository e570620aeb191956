"""A finished trial's numbers on disk: found again as they were, or tried anew."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest

from rambo_ray.sweep import kept
from rambo_ray.sweep.trial import Score

SCORE = Score(0.51, 0.02, 0.7, 0.4, math.nan, math.nan, 12)


def test_what_was_kept_is_found(tmp_path: Path) -> None:
    path = tmp_path / "trials" / "x.json"
    assert kept.read(path) is None
    kept.write(SCORE, path)
    assert repr(kept.read(path)) == repr(SCORE) and [each.name for each in path.parent.iterdir()] == ["x.json"]


def test_an_earlier_version_s_has_no_checksum(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(asdict(SCORE)))
    assert repr(kept.read(path)) == repr(SCORE)


@pytest.mark.parametrize("damage", ["", "{", "[]", "7", '{"epochs": 1}', "\x00" * 30])
def test_a_damaged_one_is_none(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(damage)
    assert kept.read(path) is None


def test_another_digit_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    kept.write(SCORE, path)
    path.write_text(path.read_text().replace("0.51", "0.57"))
    assert kept.read(path) is None
