"""What was bought in one round is known in the next: conservation of images, by ids, over any number of rounds."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.annotation import record, request, rounds
from rambo_ray.annotation.request import Request
from rambo_ray.annotation.settled import Settled
from rambo_ray.cli import next_round
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data import datasets
from rambo_ray.data.images import Images, LabeledImages
from rambo_ray.data.problem import NONE, Problem, Revealed, statistics
from rambo_ray.data.vectors import LabeledVectors, Vectors
from rambo_ray.errors import UserError

from ..data.written_images import pictures
from .runs import finished

CLASSES = ("cat", "dog", "Owl")


def problem(pool: int = 6, *, of_vectors: bool = False, usual: bool = False) -> Problem:
    """Two labelled, two validation images, and a pool some of whose ids are those of labelled images, too."""
    ids = tuple(["a", "pool/a", *(f"p{i}" for i in range(pool))][:pool])
    labels = np.array([0, 1])
    if of_vectors:
        numbers = np.random.default_rng(0).normal(size=(pool + 4, 3)).astype(np.float32)
        parts = [np.ascontiguousarray(part) for part in (numbers[:2], numbers[2:4], numbers[4:])]
        return Problem(
            LabeledVectors(parts[0], ("a", "b"), labels),
            LabeledVectors(parts[1], ("c", "d"), labels),
            Vectors(parts[2], ids),
            CLASSES, (), (),
        )  # fmt: skip
    pixels = pictures(pool + 4)
    mean, std = ((0.1307,), (0.3081,)) if usual else statistics(pixels[:2])
    return Problem(
        LabeledImages(pixels[:2], ("a", "b"), labels),
        LabeledImages(pixels[2:4], ("c", "d"), labels),
        Images(pixels[4:], ids),
        CLASSES, mean, std,
    )  # fmt: skip


said = st.sampled_from([*CLASSES, None, ""])  # "": no answer


@given(st.lists(said, min_size=6, max_size=6), st.lists(said, min_size=6, max_size=6), st.booleans(), st.booleans())
def test_every_image_is_somewhere_once(
    first: list[str | None], second: list[str | None], of_vectors: bool, usual: bool
) -> None:
    start = problem(of_vectors=of_vectors, usual=usual)
    hidden = Revealed(np.arange(6) % 3, None)
    if "" not in first:
        first[3] = ""
    now, revealed = start, hidden
    content = dict(zip(start.pool.ids, start.pool.array, strict=True))
    known = dict(zip(start.pool.ids, hidden.pool_labels, strict=True))
    bought: list[tuple[str, str]] = []
    refused: list[str] = []
    for round_answers in (first, second):
        given_answers = [
            Settled(name, label, ("x",))
            for name, label in zip(start.pool.ids, round_answers, strict=True)
            if label != "" and name in now.pool.ids
        ][::-1]
        if len(given_answers) == len(now.pool):
            with pytest.raises(UserError, match="nothing left to pick"):
                rounds.advanced(now, revealed, given_answers)
            return
        now, left = rounds.advanced(now, revealed, given_answers)
        assert left is not None
        revealed = left
        bought += [(a.id, a.label) for a in given_answers if a.label is not None]
        refused += [a.id for a in given_answers if a.label is None]
        assert now.pool.ids == tuple(n for n in start.pool.ids if n not in {*dict(bought), *refused})
        assert [known[n] for n in now.pool.ids] == revealed.pool_labels.tolist()
        np.testing.assert_array_equal(now.pool.array, [content[n] for n in now.pool.ids])
        assert now.labeled.ids[:2] == ("a", "b") and len(set(now.labeled.ids)) == 2 + len(bought)
        np.testing.assert_array_equal(now.labeled.array, [*start.labeled.array, *(content[n] for n, _ in bought)])
        assert [CLASSES[c] for c in now.labeled.labels[2:]] == [label for _, label in bought]
        assert (now.rejected is None) == (not refused)
        if now.rejected is not None:
            np.testing.assert_array_equal(now.rejected.array, [content[n] for n in refused])
        np.testing.assert_array_equal(now.validation.array, start.validation.array)
        if of_vectors or usual:
            assert (now.mean, now.std) == (start.mean, start.std)
        else:
            assert (now.mean, now.std) == statistics(now.labeled.array)


def test_exact_copies_of_what_is_known_are_not_asked_for_again() -> None:
    start = problem()
    twice = np.ascontiguousarray(start.pool.array[[0, 1, 0, 2, 1, 3]])
    copied = replace(start, pool=Images(twice, start.pool.ids))
    answers = [Settled(copied.pool.ids[0], "cat", ()), Settled(copied.pool.ids[4], None, ())]
    now, revealed = rounds.advanced(copied, Revealed(np.arange(6) % 3, None), answers)
    assert now.pool.ids == (copied.pool.ids[3], copied.pool.ids[5]) and len(now.labeled) == 3
    assert revealed is not None and revealed.pool_labels.tolist() == [0, 2]
    assert now.rejected is not None and len(now.rejected) == 1


def of_digits(folder: Path, *more: str, asked: int = 5) -> tuple[Request, Problem]:
    """The folder of a finished run on the digits, and what it was on."""
    keys = ["data.num_labeled=60", "data.num_validation=40", "seed=3", *more]
    config = loading.load(None, keys)
    found, _ = rounds.load(config)
    finished(folder, found.pool.ids[10 : 10 + asked], found.class_names, keys)
    text = (folder / "manifest.json").read_text()
    text = text.replace('"f"', f'"{found.fingerprint}"').replace('"p"', f'"{found.pool_fingerprint}"')
    (folder / "manifest.json").write_text(text)
    return request.read(folder), found


def command(*arguments: str, **options: Any) -> Config:
    defaults = {"round": None, "after": None, "answers": None, "config": None, "restart": False}
    return next_round.configuration(argparse.Namespace(**{**defaults, **options}, overrides=list(arguments)))


def test_a_second_round_has_the_first_one_s_configuration_and_data(tmp_path: Path) -> None:
    asked, before = of_digits(tmp_path / "one", "acquisition.budget=77", "output.dir=somewhere")
    record.write(asked, [Settled(asked.ids[0], "4", ("mia",)), Settled(asked.ids[1], None, ("mia",))])
    config = command("seed=9", after=str(tmp_path / "one"), round=2)
    assert (config.round.number, config.round.answers) == (2, "annotations")
    assert (config.seed, config.acquisition.budget, config.output.dir) == (9, 77, None)
    assert config.data.split_seed == 3  # another seed draws other rounds, not another split
    now, revealed = rounds.load(config)
    assert len(now.labeled) == 61 and now.labeled.ids[-1] == asked.ids[0] and now.labeled.labels[-1] == 4
    assert now.rejected is not None and now.rejected.ids == (asked.ids[1],)
    assert len(now.pool) == len(before.pool) - 2 and asked.ids[2] in now.pool.ids
    assert revealed is not None and revealed.test is not None
    truth = dict(zip(before.pool.ids, datasets.load(asked.data, asked.seed)[1].pool_labels, strict=True))  # type: ignore[union-attr]
    assert [truth[name] for name in now.pool.ids] == revealed.pool_labels.tolist()


def test_rounds_go_on_from_rounds_and_benchmarks_answer_themselves(tmp_path: Path) -> None:
    asked, first = of_digits(tmp_path / "one")
    _, hidden = datasets.load(asked.data, asked.seed)
    assert hidden is not None
    keys = ["round.number=2", f"round.after={tmp_path / 'one'}", "round.answers=revealed", "data.split_seed=3"]
    again, second = of_digits(tmp_path / "two", *keys, asked=4)
    assert len(second.labeled) == 65 and not set(asked.ids) & set(second.pool.ids)
    places = [first.pool.ids.index(name) for name in asked.ids]
    assert second.labeled.labels[-5:].tolist() == hidden.pool_labels[places].tolist()
    record.write(again, [Settled(again.ids[0], "1", ())])
    config = command(after=str(tmp_path / "two"))
    third, _ = rounds.load(config)
    assert config.round.number == 3 and len(third.labeled) == 66 and len(third.pool) == len(first.pool) - 6
    assert [[a.id for a in over.answers] for over in rounds.chain(request.read(tmp_path / "two"))] == [list(asked.ids)]


def test_the_image_that_belongs_to_none_is_refused_by_a_benchmark_s_labels_too(tmp_path: Path) -> None:
    asked, before = of_digits(tmp_path / "one", "data.scenario=off_target", "data.num_labeled=30", asked=20)
    config = command(after=str(tmp_path / "one"), answers="revealed")
    now, revealed = rounds.load(config)
    _, hidden = datasets.load(asked.data, asked.seed)
    assert hidden is not None and revealed is not None and before.rejected is not None and now.rejected is not None
    refused = int((hidden.pool_labels[10:30] == NONE).sum())
    assert 0 < refused < 20
    assert len(now.rejected) == len(before.rejected) + refused and len(now.labeled) == 30 + 20 - refused


@pytest.mark.parametrize(
    ("options", "overrides", "line"),
    [
        ({"round": 3}, [], "round.number=3: .* is round 1; set round.number=2"),
        ({}, ["data.num_labeled=61"], "data.num_labeled=61: .* has 60, and a later round has the same data"),
        ({}, ["data.split_seed=4"], "data.split_seed=4: .* has 3"),
        ({"config": "digits"}, [], None),
        ({}, ["data.root=elsewhere"], None),
    ],
)
def test_what_a_later_round_may_say(
    options: dict[str, Any], overrides: list[str], line: str | None, tmp_path: Path
) -> None:
    of_digits(tmp_path / "one")
    if line is None:
        assert command(*overrides, after=str(tmp_path / "one"), **options).data.num_labeled == 60
        return
    with pytest.raises(UserError, match=line):
        command(*overrides, after=str(tmp_path / "one"), **options)


@pytest.mark.parametrize(
    ("options", "line"), [({"round": 2}, "--round 2: .*--after DIR"), ({"answers": "revealed"}, "--answers revealed: ")]
)
def test_a_later_round_needs_the_one_before(options: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        command(**options)
    assert command(round=1).round.number == 1


def test_answers_and_data_must_be_there_and_unchanged(tmp_path: Path) -> None:
    asked, _ = of_digits(tmp_path / "one")
    config = command(after=str(tmp_path / "one"))
    with pytest.raises(UserError, match=r"holds no annotations\.parquet.*rambo labels"):
        rounds.load(config)
    record.write(asked, [Settled(asked.ids[0], "4", ())])
    manifest = tmp_path / "one" / "manifest.json"
    text = manifest.read_text()
    for old, new, what in (
        (asked.fingerprint, "0", "labelled or validation set"),
        (asked.pool_fingerprint, "0", "pool"),
    ):
        manifest.write_text(text.replace(old, new))
        with pytest.raises(UserError, match=f"the {what} has changed"):
            rounds.load(config)


def test_a_round_of_its_own_is_known_by_its_number_and_directory() -> None:
    for keys, line in (
        (["round.number=2"], "set round.after"),
        (["round.after=x"], "set round.number=2"),
        (["round.number=0"], "round.number=0"),
    ):
        with pytest.raises(UserError, match=line):
            loading.load(None, keys)
    assert not [key for key in loading.relevant(Config()) if key.startswith("round.")]  # earlier ids stay
    later = loading.load(None, ["round.number=2", "round.after=x"])
    assert loading.relevant(later)["round.after"] == "x"
