"""On several nodes: the same bits as on one, in every method and classifier, whatever dies on the way.

One cluster for all tests here; each leaves the nodes that the next begins with.
"""

from __future__ import annotations

import io
import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.exceptions import RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rambo_ray.classifier import kernels, prediction, training
from rambo_ray.cluster import collect, prepare, tasks
from rambo_ray.cluster.nodes import agreed
from rambo_ray.cluster.session import Session, connect
from rambo_ray.cluster.workers import work_through
from rambo_ray.config.schema import ClusterConfig, Config
from rambo_ray.errors import UserError
from rambo_ray.machines.begin import Begin
from rambo_ray.pipeline import plan
from rambo_ray.pipeline.outputs import Output
from rambo_ray.pipeline.prepared import PreparedProblem, Request, acquire
from rambo_ray.progress import Stages
from rambo_ray.rambo import run
from rambo_ray.utility_model import fitting, quadratic
from rambo_ray.utility_model.quadratic import QuadraticInput
from rambo_ray.utility_samples.store import SampleStore

from ..cluster.problems import digits, rounds, smoke
from ..without_ray import select
from .clusters import STORE_BYTES, Killing, Nodes, nodes, workers

# Ray's processes compute with one thread; what they are compared with must, too, to agree in the last bit.
torch.set_num_threads(1)

KINDS = ("mnist_net", "linear", "sklearn.linear_model:LogisticRegression")
TINY = ("utility_samples.num_pairs=5", "utility_samples.num_held_out=0", "pretraining.num_interpolated=2",
        "utility_model.outer_epochs=1", "classifier.max_epochs=4")  # fmt: skip


def problems() -> dict[str, Config]:
    """Each method with each kind of classifier: a network, the head that is solved for, an estimator."""
    found = {}
    for method, made in (("paper", smoke), ("mock rounds", rounds)):
        for kind in KINDS:
            head = () if kind == "mnist_net" else ("classifier.components=8",)
            found[f"{method}, {kind}"] = made(*TINY, f"classifier.name={kind}", *head)
    return found


@dataclass(frozen=True)
class Found:
    """What a shape of the cluster may not change: samples' numbers but their seconds, and selection.parquet's bytes."""

    samples: dict[str, str]
    selections: dict[str, bytes]


def found(session: Session, folder: Path, order: int | None = None) -> Found:
    """What all problems come to on a cluster; order: a seed by which the work is shuffled before it is spread."""
    problem, revealed = digits()
    configs = problems()
    requests = [Request(plan.make(config, problem), problem, revealed, outputs=True) for config in configs.values()]
    store = SampleStore(folder / "utility_samples", "accuracy")
    with pytest.MonkeyPatch.context() as patch:
        if order is not None:
            patch.setattr(collect, "work_through", shuffled(order))
        made = prepare.make(session, requests, store, Stages(stream=io.StringIO()))
    named = dict(zip(configs, made, strict=True))
    return Found(
        {key: str(replace(measured, seconds=0.0)) for key, measured in store.measurements.items()},
        {name: selected(configs[name], prepared, folder / name) for name, prepared in named.items()},
    )


def shuffled(seed: int) -> Callable[..., Iterator[tuple[int, Any]]]:
    """`work_through`, given the pieces in another order."""

    def through(pieces: Sequence[Any], *arguments: Any, **keywords: Any) -> Iterator[tuple[int, Any]]:
        order = random.Random(seed).sample(range(len(pieces)), len(pieces))
        for place, result in work_through([pieces[i] for i in order], *arguments, **keywords):
            yield order[place], result

    return through


def selected(config: Config, prepared: PreparedProblem, folder: Path) -> bytes:
    """selection.parquet of a prepared problem."""
    task = prepared.fit_input(config)
    fitted = quadratic.fit(task) if isinstance(task, QuadraticInput) else fitting.fit(task)
    selection = acquire(config, prepared, fitted.model())
    folder.mkdir()
    return Output(folder).write_selection(selection, digits()[0].pool.ids).read_bytes()


class Slow(collect._RetrainActor):
    """Takes its time, so that something can happen meanwhile."""

    def work(self, piece: Any) -> Any:
        time.sleep(0.2)
        return super().work(piece)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with nodes() as made:
        made.add()
        yield made


@pytest.fixture(scope="module")
def session(cluster: Nodes) -> Iterator[Session]:
    with connect(ClusterConfig(address=cluster.address, num_workers=1)) as connected:
        yield connected


@pytest.fixture(scope="module")
def alone(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """By one worker on one node."""
    return found(session, tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def others(cluster: Nodes, session: Session, alone: Found) -> list[Any]:
    """Two nodes more, of a CPU each."""
    return [cluster.add(), cluster.add()]


def on(session: Session, workers: int, **cluster: Any) -> Session:
    """The session with so many actors, and whatever else is asked for."""
    config = session.config.model_copy(update=cluster)
    return replace(session, config=config, num_workers=workers)


@pytest.mark.slow
def test_three_nodes_find_what_one_worker_finds(
    session: Session, alone: Found, others: list[Any], tmp_path: Path
) -> None:
    assert found(on(session, 2), tmp_path, order=1) == alone
    assert len(alone.samples) > 30
    assert len(set(alone.selections.values())) > 3, "otherwise equal selections would show nothing"


@pytest.mark.slow
def test_whoever_dies_and_whoever_comes_changes_nothing(
    cluster: Nodes,
    session: Session,
    alone: Found,
    others: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In mid-sample an actor is killed, then a node is taken away and another joins."""
    monkeypatch.setattr(collect, "_RetrainActor", Slow)
    happened: list[str] = []

    def kill_an_actor() -> None:
        deadline = time.monotonic() + 30
        while not (busy := workers("Slow.work")) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(busy[0].pid, signal.SIGKILL)
        happened.append("killed")

    def preempt() -> None:
        cluster.kill(others.pop())
        cluster.add()
        happened.append("preempted")

    def through(pieces: Sequence[Any], *arguments: Any, **keywords: Any) -> Iterator[tuple[int, Any]]:
        for count, done in enumerate(work_through(pieces, *arguments, **keywords)):
            yield done
            if count in (3, len(pieces) // 3):
                kill_an_actor() if count == 3 else preempt()

    monkeypatch.setattr(collect, "work_through", through)
    assert found(on(session, 4), tmp_path) == alone
    assert happened == ["killed", "preempted"]


@pytest.mark.slow
def test_a_whole_run_whose_trainer_loses_a_worker_picks_what_one_process_picks(
    session: Session, others: list[Any], tmp_path: Path
) -> None:
    """The paper's u_hat is fitted by two workers on two nodes, and one is killed when the first epoch is stored."""
    config = smoke(*TINY, "utility_model.outer_epochs=6")
    problem, revealed = digits()
    killing = Killing("RayTrainWorker", when=lambda: any(tmp_path.glob("fit/*/*/state.pt")))
    killing.start()
    wide = on(session, 3, fit_workers=2)
    outcome = run(plan.make(config, problem), problem, revealed, wide, tmp_path, Stages(stream=io.StringIO()))
    killing.join(timeout=5)
    assert killing.killed is not None
    expected = select(config)
    for name in ("pool_index", "step", "utility", "margin"):
        assert np.array_equal(getattr(outcome.selection, name), getattr(expected, name)), name


@pytest.mark.slow
def test_a_full_object_store_spills(session: Session, others: list[Any]) -> None:
    """A pool of half a node's store comes to nodes whose store is nearly full with what others hold."""
    rng = np.random.default_rng(0)
    pool = rng.normal(size=(STORE_BYTES // 2 // 4 // 64, 64)).astype(np.float32)
    labels = np.arange(40, dtype=np.int64) % 4
    settings = replace(
        plan.make(problems()["paper, linear"], digits()[0]).training, image_shape=(64, 1, 1), num_classes=4
    )
    trained = training.train(pool[:40], labels, settings, 0)
    expected = prediction.margins(prediction.predict(trained.model, pool, settings)[0])
    blob = int(0.8 * STORE_BYTES)
    assert blob + pool.nbytes > STORE_BYTES, "one of the two has to leave"
    filling = ray.remote(_blob)
    held = [
        filling.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False), num_cpus=0)
        .remote(blob)
        for node in ray.nodes() if node["Alive"]
    ]  # fmt: skip
    ray.wait(held, num_returns=len(held), timeout=60, fetch_local=False)
    arrays = ray.put(training.to_arrays(trained))
    margins = tasks.pool_margins(on(session, 3), ray.put(pool), len(pool), arrays, settings, lambda count: None)
    assert np.array_equal(margins, expected)
    assert all(ray.get(ref, timeout=60)[-1] == 1 for ref in held), "what others hold is still there"


def _blob(size: int) -> np.ndarray:
    return np.ones(size, dtype=np.uint8)


@pytest.mark.slow
@pytest.mark.skipif(kernels.library() is None, reason="needs a C compiler on the other nodes")
def test_a_node_that_computes_otherwise_is_refused_by_name(cluster: Nodes, session: Session, others: list[Any]) -> None:
    """One whose torch is told to compute as on a CPU without AVX512, and one without a compiler."""
    node = cluster.add(env_vars={"ATEN_CPU_CAPABILITY": "default"})
    odd = rf"2 kinds of CPUs.*; another .* \(torch: DEFAULT, not \w+\) on [^;,]*{node.node_id[:6]}\); set cluster"
    with pytest.raises(UserError, match=odd):
        agreed("machine", 0.0)
    assert agreed("any_x86", 0.0).said is None, "where all are told to compute alike, they do"
    where = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
    with pytest.raises(RayTaskError, match="joined the cluster and computes otherwise than the nodes"):
        ray.get(ray.remote(_began).options(scheduling_strategy=where).remote(session.begin), timeout=60)
    ray.get(ray.remote(_began).remote(session.begin.with_threads(1)), timeout=60)  # elsewhere it goes on
    cluster.kill(node)
    bare = cluster.add(env_vars={"CC": "/there/is/none"})
    found = agreed("machine", 0.0)
    assert found.said is not None and re.search(rf"no C compiler on .*{bare.node_id[:6]}.*trains in torch", found.said)
    assert not found.abilities.kernels and not found.kernels
    settings = plan.make(problems()["paper, mnist_net"], digits()[0]).on("cpu", found.abilities).training
    assert settings.kernels == "off"
    cluster.kill(bare)


def _began(begin: Begin) -> None:
    begin()
