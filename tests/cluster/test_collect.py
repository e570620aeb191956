"""Utility samples by actors: the same numbers however they are made, and never made twice."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from rambo_ray.cluster.collect import Job, Labeled, collect
from rambo_ray.cluster.session import Session
from rambo_ray.pipeline import plan
from rambo_ray.pipeline.plan import Plan
from rambo_ray.progress import Progress
from rambo_ray.utility_samples.measuring import Retrainer
from rambo_ray.utility_samples.sampling import Measurement, UtilitySample
from rambo_ray.utility_samples.store import SampleStore

from ..without_ray import measured
from .problems import arrays, command_of, digits, smoke


def quiet(total: int, weight: float | None) -> Progress:
    return Progress("samples", total, total_weight=weight, stream=io.StringIO())


def samples_of(todo: Plan) -> list[UtilitySample]:
    return [*todo.offline, *todo.nested_sets, *todo.held_out, *todo.interpolation]


def collect_into(folder: Path, session: Session, todo: Plan, samples: list[UtilitySample]) -> tuple[list, int]:
    problem, _ = digits()
    store = SampleStore(folder, "accuracy")
    known = len(store.measurements)
    job = Job(samples, todo.measuring, todo.fingerprint, "accuracy", data=Labeled.put(*arrays(problem)))
    (measured,), _ = collect(session, [job], store, quiet)
    return measured, len(store.measurements) - known


def numbers(samples: list[UtilitySample]) -> list[tuple]:
    """Everything but the seconds, which no two runs share."""
    return [
        (s.sample_id, s.pair_id, s.iteration, str(s.utility), str(replace(s.measurement, seconds=0.0)))
        for s in samples
        if isinstance(s.measurement, Measurement)
    ]


@pytest.fixture(scope="module")
def todo() -> Plan:
    problem, _ = digits()
    return plan.make(smoke(), problem)


@pytest.fixture(scope="module")
def expected(todo: Plan) -> list[tuple]:
    """What one `Retrainer` in this process measures, one subset after the other."""
    problem, _ = digits()
    retrainer = Retrainer(*arrays(problem), todo.measuring, "cpu")
    return numbers([measured(retrainer, sample, "accuracy") for sample in samples_of(todo)])


@pytest.mark.parametrize("num_workers", [1, 2])
def test_actors_measure_what_one_process_measures(
    session: Session, todo: Plan, expected: list[tuple], tmp_path: Path, num_workers: int
) -> None:
    narrowed = replace(session, num_workers=num_workers)
    measured, trained = collect_into(tmp_path / "s", narrowed, todo, samples_of(todo))
    assert numbers(measured) == expected
    assert trained == len({s.sample_id for s in samples_of(todo) if s.kind == "retrained"})


def test_a_killed_actor_changes_nothing(session: Session, todo: Plan, expected: list[tuple], tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_one() -> None:
        deadline = time.monotonic() + 60
        while not killed and time.monotonic() < deadline:
            for process in psutil.Process().children(recursive=True):
                if any("_RetrainActor.work" in part for part in command_of(process)):
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(process.pid)
                    return
            time.sleep(0.01)

    killer = threading.Thread(target=kill_one)
    killer.start()
    measured, _ = collect_into(tmp_path / "s", session, todo, samples_of(todo))
    killer.join()
    assert killed
    assert numbers(measured) == expected


@pytest.mark.slow
def test_only_what_is_missing_is_trained(session: Session, todo: Plan, expected: list[tuple], tmp_path: Path) -> None:
    folder = tmp_path / "s"
    first = todo.offline[:4]
    _, trained = collect_into(folder, session, todo, first)
    assert trained == 4
    files = {path: path.read_bytes() for path in folder.glob("part-*.parquet")}
    measured, trained = collect_into(folder, session, todo, samples_of(todo))
    assert trained == len({s.sample_id for s in samples_of(todo) if s.kind == "retrained"}) - 4
    assert numbers(measured) == expected
    assert all(path.read_bytes() == content for path, content in files.items())  # append-only
    again, trained = collect_into(folder, session, todo, samples_of(todo))
    assert trained == 0
    assert numbers(again) == expected


def test_an_interpolated_sample_does_not_stand_for_a_retrained_one(
    session: Session, todo: Plan, tmp_path: Path
) -> None:
    """Two trials of a sweep on one S_0: what the first interpolates is what the second trains on."""
    problem, _ = digits()
    data = Labeled.put(*arrays(problem))
    drawn = todo.offline[:2]
    interpolated = [replace(s, kind="interpolated", iteration=0) for s in drawn]
    jobs = [Job(samples, todo.measuring, todo.fingerprint, "accuracy", data=data) for samples in (interpolated, drawn)]
    for folder, order in (("a", jobs), ("b", jobs[::-1])):
        store = SampleStore(tmp_path / folder, "accuracy")
        found, usage = collect(session, order, store, quiet)
        retrained, distances = (found[1], found[0]) if folder == "a" else (found[0], found[1])
        assert usage.retrained == 2 and store.missing(drawn) == []
        assert all(np.isfinite(s.utility) for s in retrained) and all(np.isnan(s.utility) for s in distances)
        for one, other in zip(retrained, distances, strict=True):
            assert isinstance(one.measurement, Measurement) and isinstance(other.measurement, Measurement)
            assert one.measurement.otdd == np.float32(other.measurement.otdd) and one.measurement.epochs
        assert numbers(SampleStore(tmp_path / folder, "accuracy").measured(drawn)) == numbers(retrained)


def test_the_data_in_the_object_store_are_not_written_through(session: Session, todo: Plan, tmp_path: Path) -> None:
    problem, _ = digits()
    before = problem.fingerprint
    collect_into(tmp_path / "s", session, todo, todo.offline[:4])
    fresh, _ = digits.__wrapped__()
    assert fresh.fingerprint == before
    assert np.array_equal(fresh.labeled.pixels, problem.labeled.pixels)


@pytest.mark.slow
def test_stacks_in_actors(session: Session, todo: Plan, expected: list[tuple], tmp_path: Path) -> None:
    """Several models at once, as on a GPU: the same trainings, and the same bits after an interruption."""
    stacked = replace(session, config=session.config.model_copy(update={"models_at_once": 3}))
    measured, trained = collect_into(tmp_path / "s", stacked, todo, samples_of(todo))
    assert trained == len({s.sample_id for s in samples_of(todo) if s.kind == "retrained"})
    assert [row[:3] for row in numbers(measured)] == [row[:3] for row in expected]
    alone, _ = collect_into(tmp_path / "alone", session, todo, samples_of(todo))
    for a, b in zip(alone, measured, strict=True):
        assert isinstance(a.measurement, Measurement) and isinstance(b.measurement, Measurement)
        assert a.measurement.epochs == b.measurement.epochs
        assert b.measurement.otdd == pytest.approx(a.measurement.otdd)
    differences = [abs(a.utility - b.utility) for a, b in zip(alone, measured, strict=True) if a.kind == "retrained"]
    assert np.mean(differences) < 0.01

    folder = tmp_path / "interrupted"
    _, some = collect_into(folder, stacked, todo, samples_of(todo))
    part = min(folder.glob("part-*.parquet"))
    part.unlink()
    again, retrained = collect_into(folder, stacked, todo, samples_of(todo))
    assert 0 < retrained <= some
    assert numbers(again) == numbers(measured)
