"""Played rounds on disk: found again by what they depend on, and by nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rambo_ray.backtest.playing import Play
from rambo_ray.backtest.store import PlayStore, play_id
from rambo_ray.errors import RunError


def plays(*methods: str) -> list[Play]:
    generator = np.random.default_rng(0)
    return [Play(name, generator.random(3), np.array([1.0, 2.5]), 0.25) for name in methods]


JUDGES = np.array([4, 7, 9])


def test_what_was_played_is_there_for_the_next_one_who_looks(tmp_path: Path) -> None:
    store = PlayStore(tmp_path / "rounds")
    assert store.missing("x", 0, ["before", "badge"]) == ["before", "badge"]
    made = plays("before", "badge")
    store.add("x", 0, JUDGES, made)
    for again in (store, PlayStore(tmp_path / "rounds")):
        assert again.missing("x", 0, ["before", "badge", "margin"]) == ["margin"]
        found = again.round("x", 0, ["badge"])
        assert found.judges.tolist() == [4, 7, 9] and found.methods == ("before", "badge")
        assert found.of("badge") == pytest.approx(made[1].right, abs=1e-7)
        assert found.classes[1].tolist() == [1.0, 2.5] and found.seconds.tolist() == [0.25, 0.25]
    assert (PlayStore(tmp_path / "rounds").round("x", 0, ["badge"]).right == store.round("x", 0, ["badge"]).right).all()


def test_another_identity_or_round_finds_nothing(tmp_path: Path) -> None:
    store = PlayStore(tmp_path)
    store.add("x", 0, JUDGES, plays("before"))
    assert store.missing("y", 0, ["before"]) == ["before"] and store.missing("x", 1, ["before"]) == ["before"]
    assert len({play_id("x", 0, "a"), play_id("x", 1, "a"), play_id("y", 0, "a"), play_id("x", 0, "b")}) == 4


def test_methods_are_added_to_a_round(tmp_path: Path) -> None:
    store = PlayStore(tmp_path)
    store.add("x", 0, JUDGES, plays("before", "badge"))
    store.add("x", 0, JUDGES, plays("before", "margin"))
    assert PlayStore(tmp_path).round("x", 0, ["margin", "badge"]).methods == ("before", "margin", "badge")


def test_a_users_strategy_is_known_by_its_code(tmp_path: Path) -> None:
    PlayStore(tmp_path, {"mine": "abc"}).add("x", 0, JUDGES, plays("before", "mine"))
    assert PlayStore(tmp_path, {"mine": "abc"}).missing("x", 0, ["before", "mine"]) == []
    assert PlayStore(tmp_path, {"mine": "abd"}).missing("x", 0, ["before", "mine"]) == ["mine"]


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = PlayStore(None)
    store.add("x", 0, JUDGES, plays("before"))
    assert store.missing("x", 0, ["before"]) == [] and not list(tmp_path.iterdir())


def test_a_file_that_is_none_of_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "plays-0.parquet").write_bytes(b"nonsense")
    with pytest.raises(RunError, match="plays-0.parquet: not a file of played rounds.*delete it"):
        PlayStore(tmp_path)
