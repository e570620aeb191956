"""What has no room says so, with what it asks for and what is free, and goes on as soon as there is some."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import ray

from rambo_ray.cluster import concurrency, nodes, waiting, workers
from rambo_ray.cluster.session import Session, connect
from rambo_ray.cluster.waiting import Waiting
from rambo_ray.cluster.workers import Usage, run_tasks, work_through
from rambo_ray.config.schema import ClusterConfig
from rambo_ray.errors import UserError
from rambo_ray.sweep.search_space import Space

from .test_workers import Squarer


class Holder:
    """Another job's actor, which holds all CPUs."""

    def there(self) -> bool:
        return True


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FIRST_S", 0.5)
    monkeypatch.setattr(waiting, "GRACE_S", 0.2)
    monkeypatch.setattr(workers, "LOOK_S", 0.1)


@pytest.fixture
def full(session: Session, impatient: None) -> Iterator[Callable[[], None]]:
    """All CPUs of the cluster are held by others, until what is given is called."""
    holder = ray.remote(Holder).options(num_cpus=session.total_cpus).remote()
    ray.get(holder.there.remote(), timeout=180)

    def let_go() -> None:
        ray.kill(holder)

    yield let_go
    let_go()
    deadline = time.monotonic() + 20
    while ray.available_resources().get("CPU", 0) < session.total_cpus and time.monotonic() < deadline:
        time.sleep(0.1)


def later(call: Callable[[], None], when: Callable[[], bool]) -> threading.Thread:
    """Calls `call` once `when` holds."""

    def wait() -> None:
        deadline = time.monotonic() + 30
        while not when() and time.monotonic() < deadline:
            time.sleep(0.05)
        call()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_actors_without_room_wait_and_say_so(
    session: Session, full: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    later(full, lambda: len(caplog.messages) > 0)
    remote = ray.remote(Squarer).options(num_cpus=1)
    options: dict[str, Any] = {"max_tries": 2, "name": str, "usage": Usage(), "asked": {"num_cpus": 1, "num_gpus": 0.0}}
    assert dict(work_through([1, 2], lambda: remote.remote(), 1, **options)) == {0: 1, 1: 4}
    free = f"free are 0 of {session.total_cpus:g} CPUs"
    said = rf"this stage's actors: nothing has begun for .* s; each needs 1 CPU of one node, {free}"
    assert re.search(said, caplog.messages[0])


def test_tasks_without_room_wait_and_say_so(
    session: Session, full: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    later(full, lambda: len(caplog.messages) > 0)
    task = ray.remote(_doubled).options(num_cpus=1)
    done = dict(run_tasks(deque([3, 4]), task.remote, 1, {"num_cpus": 1}))
    assert {piece: ray.get(ref) for piece, ref in done.items()} == {3: 6, 4: 8}
    assert "this stage's tasks: nothing has begun" in caplog.messages[0]


def test_long_work_with_room_says_nothing(session: Session, impatient: None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    task = ray.remote(_slow).options(num_cpus=1)
    assert len(dict(run_tasks(deque([1]), task.remote, 1, {"num_cpus": 1}))) == 1
    assert caplog.messages == []


def test_a_run_on_a_full_cluster_says_so_at_once(
    session: Session, full: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    said: list[str] = []
    with connect(ClusterConfig(num_workers=1), said.append):
        pass
    (line,) = said
    free = f"free are 0 of {session.total_cpus:g} CPUs"
    assert line.startswith(f"the cluster has no room now: each needs 1 CPU of one node, {free}")
    with connect(ClusterConfig(num_workers=1)):
        pass
    assert line in caplog.messages, "where nobody watches"


def _doubled(value: int) -> int:
    return 2 * value


def _slow(value: int) -> int:
    time.sleep(1.5)
    return value


@pytest.mark.parametrize(
    ("room", "could", "expected"),
    [
        (False, True, [10.0, 30.0, 90.0, 270.0]),
        (True, True, [60.0, 180.0]),  # a process may start so slowly
        (True, False, [10.0, 30.0, 90.0, 270.0]),  # all nodes have gone
    ],
)
def test_silences_grow(room: bool, could: bool, expected: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said = [0.0], []
    monkeypatch.setattr(waiting.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(waiting, "numbers", lambda asked: "numbers")
    monkeypatch.setattr(waiting, "has_room", lambda asked: room)
    monkeypatch.setattr(waiting, "_could", lambda asked: could)
    waits = Waiting("it", {})
    with waiting.heard_by(lambda line: said.append((clock[0], line))):
        for second in range(0, 400):
            clock[0] = float(second)
            waits.look()
    assert [when for when, _ in said] == expected
    assert said[0][1].startswith("it: nothing has begun for") and said[0][1].endswith("; numbers")
    waits.reset()
    waits.look()
    assert len(said) == len(expected)


class TestTrials:
    """Trials hold GPUs, too, and what is free is what counts."""

    def of(
        self, monkeypatch: pytest.MonkeyPatch, session: Session, has: list[dict[str, float]], free: Any = None
    ) -> Session:
        monkeypatch.setattr(nodes, "alive", lambda: [{"Resources": node} for node in has])
        monkeypatch.setattr(nodes, "free", lambda: has if free is None else free)
        totals = {name: sum(node.get(name, 0.0) for node in has) for name in ("CPU", "GPU")}
        return replace(session, total_cpus=totals["CPU"], total_gpus=totals["GPU"], gpus=0.25 if totals["GPU"] else 0.0)

    def test_one_gpu_cannot_hold_a_trial_and_its_trainer(
        self, session: Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one = self.of(monkeypatch, session, [{"CPU": 16.0, "GPU": 1.0}])
        with pytest.raises(UserError) as error:
            concurrency.most(one, space(num_workers=1))
        assert str(error.value) == (
            "--space num_workers=1: a trial needs 2 CPUs and 1.25 GPUs, itself and its workers, but the cluster has 16 "
            "and 1; lower num_workers, or set it to 0 to fit inside the trial"
        )
        assert concurrency.most(one, space()) == one.num_workers

    @pytest.mark.parametrize(
        ("has", "workers", "expected"),
        [
            ([{"CPU": 16.0, "GPU": 4.0}], 1, 3),  # 3.75 of 4 GPUs
            ([{"CPU": 4.0, "GPU": 8.0}], 1, 2),  # 4 of 4 CPUs
            ([{"CPU": 16.0, "GPU": 2.0}, {"CPU": 16.0, "GPU": 2.0}], 3, 1),
            ([{"CPU": 3.0}, {"CPU": 3.0}], 1, 3),
            ([{"CPU": 8.0}], 3, 2),
        ],
    )
    def test_as_many_as_both_hold(
        self,
        has: list[dict[str, float]],
        workers: int,
        expected: int,
        session: Session,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        assert concurrency.most(self.of(monkeypatch, session, has), space(num_workers=workers)) == expected

    def test_a_worker_does_not_span_nodes(self, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        two = replace(self.of(monkeypatch, session, [{"CPU": 3.0}, {"CPU": 3.0}]), cpus=2)
        assert concurrency.most(two, space(num_workers=1)) == 1

    def test_what_others_hold_is_not_counted(
        self, session: Session, impatient: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        some = self.of(monkeypatch, session, [{"CPU": 8.0}], [{"CPU": 5.0}])
        assert concurrency.most(some, space(num_workers=1)) == 4
        assert concurrency.now(some, space(num_workers=1)) == 2

    def test_none_starts_before_one_fits(
        self, session: Session, impatient: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING)
        free = [{"CPU": 1.0}]
        some = self.of(monkeypatch, session, [{"CPU": 8.0}], free)
        later(lambda: free.append({"CPU": 3.0}), lambda: len(caplog.messages) > 0)
        assert concurrency.now(some, space(num_workers=1)) == 2
        assert "the first trial, itself and its workers: nothing has begun" in caplog.messages[0]


def space(**more: object) -> Space:
    return Space.model_validate({"keys": {"utility_model.lambda_ot": {"grid": [0.0]}}, **more})
