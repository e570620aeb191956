"""The head of a cluster is lost: Ray without an external store forgets all, so the same command goes on in another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ..cluster.problems import ROOT, SMOKE, rounds
from ..without_ray import select
from .clusters import Nodes, nodes

# What a driver waits for a head that does not answer; Ray's own is a minute.
GIVEN_UP_S = 3
CHANGED = ("utility_samples.num_pairs=60", "utility_samples.num_held_out=0")


def started(address: str, folder: Path) -> subprocess.Popen[bytes]:
    """`rambo run` on a cluster, as a process of its own; what it says lies beside its folder."""
    command = [sys.executable, "jobs/run.py", "--config", SMOKE, "--output", str(folder), *CHANGED]
    with said_by(folder).open("wb") as said:
        return subprocess.Popen([*command, f"cluster.address={address}"], cwd=ROOT, stdout=said, stderr=said)


def said_by(folder: Path) -> Path:
    """Where the command on this folder says what it says."""
    return folder.with_suffix(".said")


def cut_short(cluster: Nodes, folder: Path) -> tuple[int, str]:
    """Exit code and output of a run whose head is killed as soon as samples are on the disk."""
    running = started(cluster.address, folder)
    deadline = time.monotonic() + 120
    while not list(folder.glob("utility_samples/part-*.parquet")) and running.poll() is None:
        assert time.monotonic() < deadline, f"no sample was stored: {said_by(folder).read_text()}"
        time.sleep(0.02)
    (head,) = cluster.cluster.head_node.all_processes["gcs_server"]
    os.kill(head.process.pid, signal.SIGKILL)
    return running.wait(timeout=120), said_by(folder).read_text()


@pytest.mark.slow
def test_the_same_command_in_another_cluster_picks_the_same(tmp_path: Path) -> None:
    # The first listens on the loopback alone, where Ray would look for a cluster on this machine's other address.
    quick = {"gcs_rpc_server_reconnect_timeout_s": GIVEN_UP_S}
    with nodes(num_cpus=2, node_ip_address="127.0.0.1", _system_config=quick) as first:
        code, said = cut_short(first, tmp_path / "run")
        last = said.strip().splitlines()[-1]
        assert code == 1 and "failed: " in last and "the same command continues" in last, said
        assert not (tmp_path / "run" / "selection.parquet").exists()
    kept = {path: path.read_bytes() for path in (tmp_path / "run" / "utility_samples").glob("part-*.parquet")}
    with nodes(num_cpus=2) as second:
        running = started(second.address, tmp_path / "run")
        assert running.wait(timeout=180) == 0, said_by(tmp_path / "run").read_text()
    assert kept and all(path.read_bytes() == content for path, content in kept.items()), "nothing is trained again"
    picked = pq.read_table(tmp_path / "run" / "selection.parquet").to_pydict()
    expected = select(rounds(*CHANGED))
    assert picked["pool_index"] == expected.pool_index.tolist()
    assert np.array_equal(picked["utility"], expected.utility), "of one process without Ray"
