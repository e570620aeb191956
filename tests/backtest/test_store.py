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


@pytest.mark.parametrize("damage", ["nonsense", "emptied", "torn", "flipped"])
def test_a_damaged_file_is_set_aside_and_its_round_is_missing(tmp_path: Path, damage: str) -> None:
    store = PlayStore(tmp_path)
    for number in (0, 1):
        store.add("x", number, JUDGES, plays("before", "badge"))
    path = next(iter(sorted(tmp_path.iterdir())))
    content = path.read_bytes()
    at = content.index(np.float32(2.5).tobytes())
    path.write_bytes(
        {"nonsense": b"nonsense", "emptied": b"", "torn": content[:-30],
         "flipped": content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]}[damage]
    )  # fmt: skip
    again = PlayStore(tmp_path)
    (line,) = again.said
    assert line.startswith(f"{path} is damaged") and f"set aside as {path.name}.damaged, and its rounds are" in line
    assert "\n" not in line and not path.exists()
    assert sorted(len(again.missing("x", number, ["before", "badge"])) for number in (0, 1)) == [0, 2]
    assert PlayStore(tmp_path).said == []


def test_a_file_that_may_not_be_read_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PlayStore(tmp_path).add("x", 0, JUDGES, plays("before"))

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(RunError, match="Permission denied; make it readable"):
        PlayStore(tmp_path)
