"""The fit under Ray Train: the bits of the plain function, with two workers and with a killed one."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from rambo_ray.cluster.fit import SHORT, fit_on_cluster, is_here
from rambo_ray.cluster.session import Session
from rambo_ray.config.schema import ClusterConfig, UtilityModelConfig
from rambo_ray.utility_model import checkpoints
from rambo_ray.utility_model.fitting import FitInput, FitResult, fit
from rambo_ray.utility_model.objective import Pairs
from rambo_ray.utility_samples.sampling import offline_pairs

from .problems import command_of


def some_pairs(count: int, k: int, seed: int, known: bool = True) -> Pairs:
    rng = np.random.default_rng(seed)
    samples = offline_pairs(count, k, 4, "uniform", seed, "")
    utility = rng.random((count, 2)) if known else np.full((count, 2), np.nan)
    return Pairs(
        tuple(s.indices for s in samples[::2]), tuple(s.indices for s in samples[1::2]), utility, rng.random((count, 2))
    )


@pytest.fixture(scope="module")
def task() -> FitInput:
    k = 24
    images = np.random.default_rng(0).normal(size=(k, 1, 8, 8)).astype(np.float32)
    return FitInput(
        images=images,
        offline=some_pairs(13, k, 1),
        nested_sets=(tuple(range(12)), tuple(range(18)), tuple(range(24))),
        nested_utilities=(0.5, 0.6, 0.7),
        interpolation=(some_pairs(3, 12, 2, known=False), some_pairs(3, 18, 3, known=False)),
        config=UtilityModelConfig(outer_epochs=4, inner_steps=4, hypergradient_steps=3, dropout=0.2),
        seed=3,
    )


@pytest.fixture(scope="module")
def expected(task: FitInput) -> FitResult:
    return fit(task)


def assert_same(found: FitResult, expected: FitResult) -> None:
    assert found.lambdas == expected.lambdas
    assert found.history == expected.history
    for name, weight in expected.weights.items():
        assert np.array_equal(found.weights[name], weight), name
    for a, b in zip(found.interpolated, expected.interpolated, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("changes", "pairs", "expected"),
    [
        ({}, SHORT // 80, True),
        ({}, SHORT // 80 + 1, False),  # too much to lose, and fifteen seconds are little of it
        ({"nodes": 2}, 10, False),
        ({"gpus": 0.25}, 10, False),
        ({"config": ClusterConfig(fit_workers=1)}, 10, False),  # asked for
    ],
)
def test_where_a_fit_is_made(changes: dict[str, Any], pairs: int, expected: bool) -> None:
    one_machine = Session(ClusterConfig(), total_cpus=2, total_gpus=1, cpus=1, gpus=0, num_workers=2, nodes=1)
    assert is_here(replace(one_machine, **changes), pairs, 80) == expected


@pytest.mark.slow
def test_two_workers_give_the_bits_of_one_process_and_show_every_epoch(
    session: Session, task: FitInput, expected: FitResult, tmp_path: Path
) -> None:
    two = replace(session, config=session.config.model_copy(update={"fit_workers": 2}))
    shown: list[Mapping[str, float]] = []
    assert_same(fit_on_cluster(two, task, tmp_path, shown.append), expected)
    assert [dict(m) for m in shown] == [dict(m) for m in expected.history]


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_the_same_command_continues(
    session: Session, task: FitInput, expected: FitResult, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill_after_first_checkpoint() -> None:
        deadline = time.monotonic() + 120
        while not killed and time.monotonic() < deadline:
            if list(tmp_path.glob("fit-*/iteration_*")):
                for process in psutil.Process().children(recursive=True):
                    if any("RayTrainWorker" in part for part in command_of(process)):
                        os.kill(process.pid, signal.SIGKILL)
                        killed.append(process.pid)
            time.sleep(0.005)

    killer = threading.Thread(target=kill_after_first_checkpoint)
    killer.start()
    found = fit_on_cluster(session, task, tmp_path, lambda metrics: None)
    killer.join()
    assert killed
    assert_same(found, expected)
    # The same command again finds the finished fit and computes nothing.
    shown: list[Mapping[str, float]] = []
    assert_same(fit_on_cluster(session, task, tmp_path, shown.append), expected)
    assert [dict(m) for m in shown] == [expected.history[-1]]
    # A last checkpoint that was cut off is no finished fit: Ray Train's own record decides.
    (last,) = tmp_path.glob("fit-*/iteration_02_epoch_003/state.pt")
    last.write_bytes(last.read_bytes()[:1000])
    assert checkpoints.finished(task, last.parents[1]) is None
