"""What is left to measure: nothing twice, nothing too little, and the same numbers as all at once.

A worker is a function here: a training's scores follow from its id and repeat, an OTDD from set and settings.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from rambo_ray.utility_samples import mock_rounds, parts
from rambo_ray.utility_samples.measuring import Judged, MeasurementSettings
from rambo_ray.utility_samples.mock_rounds import MockPool
from rambo_ray.utility_samples.pending import Pending, Piece, Wanted
from rambo_ray.utility_samples.sampling import (
    Measurement,
    Training,
    UtilitySample,
    interpolation_pairs,
    nested_samples,
    offline_pairs,
)
from rambo_ray.utility_samples.store import SampleStore

from .test_measuring_rounds import settings_of

K = 20
DATA = "fingerprint of the data"


def measuring(**changes: Any) -> MeasurementSettings:
    one = MeasurementSettings(settings_of("mnist_net"), 3, 1, "gaussian", "converged", 0.1)
    return dataclasses.replace(one, **changes)


def job(how: MeasurementSettings, pairs: int = 4, data: str = DATA, of_rounds: bool = False) -> Wanted:
    """A run's sets: pairs, nested sets and what is interpolated, or mock rounds."""
    if of_rounds:
        pool = MockPool.of(12, np.arange(40) % 3, 9, seed=0)
        rounds = mock_rounds.pairs(pairs, (5, 12), pool, None, 3, how.round_identity(data), 0)
        return Wanted(rounds, how, data, "accuracy", pool)
    drawn = (3, how.identity(data))
    nested = nested_samples([8, 14, K], *drawn)
    samples = [*offline_pairs(pairs, K, 4, "uniform", *drawn), *nested]
    return Wanted([*samples, *interpolation_pairs(nested, 3, pairs, 4, *drawn)], how, data, "accuracy")


def number(*content: object) -> float:
    """In [0, 1), and hardly ever a float32."""
    return int.from_bytes(hashlib.sha256(repr(content).encode()).digest()[:6], "big") / 2**48


def train(wanted: Wanted, sample: UtilitySample, repeat: int) -> Training:
    own = wanted.training_id(sample)
    accuracy, soft, loss = (number(own, repeat, name) for name in ("accuracy", "soft", "loss"))
    return Training(accuracy, soft, loss, repeat + 1, 100 * (repeat + 1), number(own, repeat, "seconds"))


def work(wanted: Wanted, piece: Piece) -> list[Judged]:
    how, found = wanted.measuring, []
    for sample in piece.samples:
        own = [] if piece.first is None else range(piece.first, how.repeats)
        settings = (how.otdd_method, how.otdd_solver, how.otdd_entreg)
        otdd = number(sample.indices, settings) if wanted.has_otdd(sample) else float("nan")
        found.append((tuple(train(wanted, sample, repeat) for repeat in own), otdd))
    return found


def measure(folder: Path, *jobs: Wanted, at_once: int = 1) -> tuple[Pending, list[dict[str, Measurement]], int]:
    """Do what is left; what it took, the measurements of each job's sets, and how many trainings there were."""
    store = SampleStore(folder, "accuracy")
    pending, trainings = Pending.of(jobs, store, at_once, in_step=False), 0
    for piece in pending.pieces:
        pending.finish(piece, work(jobs[piece.job], piece))
        if piece.first is not None:
            trainings += len(piece.samples) * (piece.repeats - piece.first)
    store.append(*pending.fetch())
    found = [
        {s.sample_id: store.measurements[s.sample_id] for s in one.samples if s.kind == "retrained"} for one in jobs
    ]
    return pending, found, trainings


def content(found: dict[str, Measurement]) -> list[str]:
    return [repr(m) for m in found.values()]


def earlier(folder: Path) -> None:
    """The store as a version before wrote it."""
    for path in sorted(folder.glob("part-*.parquet")):
        table = pq.read_table(path).drop_columns([field.name for field in parts.ORIGIN])
        path.unlink()
        pq.write_table(table, folder / f"part-{path.name[5:21]}.parquet")


@pytest.mark.parametrize("of_rounds", [False, True])
@pytest.mark.parametrize("at_once", [1, 4])
def test_once_and_then_nothing(tmp_path: Path, of_rounds: bool, at_once: int) -> None:
    wanted = job(measuring(repeats=2), of_rounds=of_rounds)
    sets = len({s.sample_id for s in wanted.samples if s.kind == "retrained"})
    pending, found, trainings = measure(tmp_path, wanted, at_once=at_once)
    assert trainings == 2 * sets == 2 * pending.trained
    for sample in wanted.samples:
        if sample.kind == "retrained":
            expected = np.mean([train(wanted, sample, r).accuracy for r in range(2)])
            assert found[0][sample.sample_id].accuracy == np.float32(expected)
        else:
            assert pending.distances[sample.sample_id] == number(sample.indices, ("gaussian", "converged", 0.1))
    again, same, trainings = measure(tmp_path, wanted, at_once=at_once)
    assert trainings == 0 and content(same[0]) == content(found[0])
    assert all(s.kind == "interpolated" for piece in again.pieces for s in piece.samples)


@pytest.mark.parametrize("of_rounds", [False, True])
@pytest.mark.parametrize("before_origins", [False, True])
@pytest.mark.parametrize("change", [{"otdd_solver": "emd"}, {"otdd_method": "exact", "otdd_entreg": 0.3},
                                    {"otdd_backend": "microsoft"}])  # fmt: skip
def test_another_otdd_trains_nothing(
    tmp_path: Path, of_rounds: bool, before_origins: bool, change: dict[str, Any]
) -> None:
    first, second = (job(measuring(round_otdd=True, **c), of_rounds=of_rounds) for c in ({}, change))
    measure(tmp_path / "grown", first)
    if before_origins:
        earlier(tmp_path / "grown")
    _, grown, trainings = measure(tmp_path / "grown", second)
    _, fresh, _ = measure(tmp_path / "fresh", second)
    assert trainings == 0 and content(grown[0]) == content(fresh[0])
    # And back: the first one's rows are still there.
    pending, _, trainings = measure(tmp_path / "grown", first)
    assert trainings == 0 and all(s.kind == "interpolated" for p in pending.pieces for s in p.samples)


@pytest.mark.parametrize("before_origins", [False, True])
def test_an_otdd_of_mock_rounds_that_was_not_wanted_before(tmp_path: Path, before_origins: bool) -> None:
    without, with_it = (job(measuring(round_otdd=wanted), of_rounds=True) for wanted in (False, True))
    measure(tmp_path / "grown", without)
    if before_origins:
        earlier(tmp_path / "grown")
    pending, grown, trainings = measure(tmp_path / "grown", with_it)
    assert trainings == 0 and len(pending.pieces) == len({s.sample_id for s in with_it.samples})
    assert content(grown[0]) == content(measure(tmp_path / "fresh", with_it)[1][0])
    # The other way round there is nothing to do at all, and the rows are written all the same.
    measure(tmp_path / "other", with_it)
    pending, found, _ = measure(tmp_path / "other", without)
    assert pending.pieces == [] and all(np.isnan(m.otdd) for m in found[0].values())


@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize(("before", "after", "further"), [(1, 3, 2), (2, 3, 1), (3, 1, 0), (3, 2, 0)])
def test_repeats_are_trained_one_by_one(tmp_path: Path, before: int, after: int, further: int, at_once: int) -> None:
    first, second = (job(measuring(repeats=repeats)) for repeats in (before, after))
    measure(tmp_path / "grown", first, at_once=at_once)
    _, grown, trainings = measure(tmp_path / "grown", second, at_once=at_once)
    _, fresh, _ = measure(tmp_path / "fresh", second, at_once=at_once)
    assert trainings == further * len(fresh[0]) and content(grown[0]) == content(fresh[0])
    # What was there is not forgotten by a run with fewer.
    _, _, trainings = measure(tmp_path / "grown", first, at_once=at_once)
    assert trainings == 0


@pytest.mark.parametrize("at_once", [1, 4])
def test_jobs_of_one_collection_share_their_trainings(tmp_path: Path, at_once: int) -> None:
    """As a sweep over solvers and repeats has them: the most repeats are trained, once."""
    changes: list[dict[str, Any]] = [{}, {"otdd_solver": "emd", "repeats": 3}, {"repeats": 2}, {"otdd_entreg": 0.7}]
    jobs = [job(measuring(**change)) for change in changes]
    pending, found, trainings = measure(tmp_path / "all", *jobs, at_once=at_once)
    assert trainings == 3 * len(found[0]) and pending.trained == len(found[0])
    for number, one in enumerate(jobs):
        assert content(found[number]) == content(measure(tmp_path / str(number), one, at_once=at_once)[1][0])


def test_rounds_with_and_without_an_otdd_share_theirs(tmp_path: Path) -> None:
    jobs = [job(measuring(round_otdd=wanted), of_rounds=True) for wanted in (True, False)]
    for name, order in (("a", jobs), ("b", jobs[::-1])):
        _, found, trainings = measure(tmp_path / name, *order)
        assert trainings == len(found[0])
        assert [np.isnan(next(iter(one.values())).otdd) for one in found] == [not j.measuring.round_otdd for j in order]


def test_repeats_of_earlier_versions_are_trained_again(tmp_path: Path) -> None:
    """Their files hold float32 means alone, from which the mean of more repeats cannot be had to the last bit."""
    first, second = (job(measuring(repeats=repeats)) for repeats in (1, 2))
    measure(tmp_path / "grown", first)
    earlier(tmp_path / "grown")
    _, grown, trainings = measure(tmp_path / "grown", second)
    assert trainings == 2 * len(grown[0])
    assert content(grown[0]) == content(measure(tmp_path / "fresh", second)[1][0])


def test_more_pairs_add_theirs_alone(tmp_path: Path) -> None:
    few, more = (job(measuring(), pairs=pairs) for pairs in (4, 7))
    measure(tmp_path / "grown", few)
    _, grown, trainings = measure(tmp_path / "grown", more)
    assert trainings == 6 and content(grown[0]) == content(measure(tmp_path / "fresh", more)[1][0])


@pytest.mark.parametrize(("change", "data"), [({"seed": 4}, DATA), ({}, "other data"),
                                              ({"training": settings_of("linear")}, DATA)])  # fmt: skip
def test_other_trainings_are_other_trainings(tmp_path: Path, change: dict[str, Any], data: str) -> None:
    measure(tmp_path, job(measuring()))
    _, found, trainings = measure(tmp_path, job(measuring(**change), data=data))
    assert trainings == len(found[0])


def test_an_interpolated_set_never_stands_for_a_retrained_one(tmp_path: Path) -> None:
    """Of two jobs on one S_0 the first interpolates what the second trains on; in either order."""
    wanted = job(measuring())
    drawn = [s for s in wanted.samples if s.kind == "retrained"]
    other = dataclasses.replace(
        wanted, samples=[dataclasses.replace(s, kind="interpolated", pair_id=90 + i) for i, s in enumerate(drawn)]
    )
    only = dataclasses.replace(wanted, samples=drawn)
    for name, jobs in (("a", (other, only)), ("b", (only, other)), ("c", (only,))):
        pending, found, trainings = measure(tmp_path / name, *jobs)
        assert trainings == len({s.sample_id for s in drawn})
        assert all(np.isfinite(m.accuracy) for m in found[jobs.index(only)].values())
        if name != "c":
            assert set(pending.distances) == {s.sample_id for s in drawn}


def test_a_set_in_several_pairs_and_jobs_is_trained_once_and_has_a_row_each(tmp_path: Path) -> None:
    wanted = job(measuring())
    drawn = [s for s in wanted.samples if s.kind == "retrained"][:2]
    jobs = [
        dataclasses.replace(wanted, samples=[dataclasses.replace(s, pair_id=10 * n + i) for s in drawn for i in (0, 1)])
        for n in (1, 2)
    ]
    _, _, trainings = measure(tmp_path, *jobs)
    assert trainings == 2
    held = [row for path in tmp_path.iterdir() for row in pq.read_table(path).to_pylist()]
    assert sorted(row["pair_id"] for row in held) == [10, 10, 11, 11, 20, 20, 21, 21]
    assert {(row["data"], row["seed"], row["rule"]) for row in held} == {(DATA, 3, measuring().rule)}
    assert all(len(row["trainings"]) == 1 and row["training_id"] for row in held)


def test_a_stack_trains_whole_and_what_was_known_stays(tmp_path: Path) -> None:
    wanted = job(measuring(), pairs=8)
    some = dataclasses.replace(wanted, samples=wanted.samples[:5])
    measure(tmp_path / "grown", some)
    pending, grown, _ = measure(tmp_path / "grown", wanted, at_once=6)
    stacks = [p for p in pending.pieces if p.first is not None]
    assert all(len(p.samples) <= 6 for p in stacks) and len(stacks) < 6
    assert pending.trained == len(grown[0]) - len({s.sample_id for s in some.samples})
    assert content(grown[0]) == content(measure(tmp_path / "fresh", wanted)[1][0])


def test_a_piece_that_was_given_up_is_tried_set_by_set() -> None:
    wanted = job(measuring(), pairs=8)
    pending = Pending.of([wanted], SampleStore("nowhere", "accuracy"), 6, in_step=False)
    stack = next(p for p in pending.pieces if len(p.samples) > 1)
    pending.finish(dataclasses.replace(stack, samples=stack.samples[:1]), work(wanted, stack)[:1])
    alone = pending.alone(stack)
    assert [p.samples for p in alone] == [(s,) for s in stack.samples[1:]] and all(p.first == 0 for p in alone)


def test_ids_of_rounds_say_who_judges() -> None:
    wanted = job(measuring(), of_rounds=True)
    sample = wanted.samples[0]
    ids = {wanted.training_id(dataclasses.replace(sample, fold=fold)) for fold in (-1, 0, 1)}
    assert len(ids) == 3
    assert wanted.training_id(sample) == dataclasses.replace(wanted, measuring=measuring(repeats=9)).training_id(sample)


def test_rounds_are_those_of_a_run() -> None:
    """The id that a plan gives a round is among those that other settings find it by."""
    wanted, other = (job(measuring(otdd_solver=s), of_rounds=True) for s in ("converged", "sinkhorn"))
    for one, same in zip(wanted.samples, other.samples, strict=True):
        assert one.sample_id in other.earlier_ids(same) and one.indices == same.indices
