"""Clusters of several nodes on this machine, for the tests of faults: Ray's own, with a temporary folder each."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster

STORE_BYTES = 80 << 20  # Ray's smallest is 75 MB

# A dead node is known as dead in two seconds, instead of sixteen.
QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}


class Nodes:
    """A cluster whose head has no CPUs, so that all work is on the nodes that `add` starts."""

    def __init__(self, **head: Any) -> None:
        keywords = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES} | head
        quick = QUICK | head.get("_system_config", {})
        self.cluster = Cluster(initialize_head=True, head_node_args=keywords | {"_system_config": quick})

    @property
    def address(self) -> str:
        """What to connect to."""
        return str(self.cluster.address)

    def add(self, cpus: int = 1, **keywords: Any) -> Any:
        """One more node; returns when it takes work."""
        return self.cluster.add_node(num_cpus=cpus, object_store_memory=STORE_BYTES, **keywords)

    def kill(self, node: Any) -> None:
        """End a node as a preemption does, without a word."""
        self.cluster.remove_node(node, allow_graceful=False)

    def cpus(self, count: int, within_s: float = 30.0) -> None:
        """Wait until the cluster has so many CPUs, all of them free."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            if ray.cluster_resources().get("CPU", 0) == ray.available_resources().get("CPU", 0) == count:
                return
            time.sleep(0.1)
        raise AssertionError(f"{ray.available_resources()} of {ray.cluster_resources()} after {within_s} s")


@contextmanager
def nodes(**head: Any) -> Iterator[Nodes]:
    """A cluster that is gone afterwards; its files and its address lie in a folder of their own."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # a socket's path must be short
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_worker_niceness", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        made = Nodes(**head)
        try:
            yield made
        finally:
            ray.shutdown()
            made.cluster.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


def workers(named: str) -> list[psutil.Process]:
    """Processes of this test's own cluster that call themselves so, as Ray's workers do by what they are at."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if any(named in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:  # it has ended meanwhile
            continue
    return found


class Killing(threading.Thread):
    """Kills one worker that calls itself `named`, as soon as there is one and `when` holds."""

    def __init__(self, named: str, when: Callable[[], bool] = lambda: True, within_s: float = 600.0) -> None:
        super().__init__(daemon=True)
        self.named, self.when, self.within_s = named, when, within_s
        self.killed: int | None = None

    def run(self) -> None:
        until = time.monotonic() + self.within_s
        while self.killed is None and time.monotonic() < until:
            if self.when():
                for process in workers(self.named)[:1]:
                    os.kill(process.pid, signal.SIGKILL)
                    self.killed = process.pid
            time.sleep(0.01)
