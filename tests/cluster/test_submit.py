"""The README's `ray start --head` and `ray job submit`, for real, on ports of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import ray

from .problems import SMOKE

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_a_submitted_job_writes_its_selection_and_strangers_are_refused(tmp_path: Path) -> None:
    """Beside it a job whose results would be deleted with its copy, and clients without the cluster's token."""
    port, dashboard = free_port(), free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "RAY_AUTH_MODE": "token",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    token = [str(BIN / "ray"), "get-auth-token", "--generate"]
    subprocess.run(token, env=environment, check=False, capture_output=True)
    head = subprocess.Popen(
        [str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=2", "--disable-usage-stats",
         f"--port={port}", f"--dashboard-port={dashboard}", "--dashboard-agent-listen-port=0",
         f"--ray-client-server-port={free_port()}", f"--temp-dir=/tmp/ray_{port}"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", dashboard)) == 0:
                    break
            time.sleep(0.5)

        def running(*command: str, **variables: str) -> subprocess.Popen[str]:
            return subprocess.Popen(
                command, cwd=ROOT, env={**environment, **variables}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True,
            )  # fmt: skip

        address = f"http://127.0.0.1:{dashboard}"
        submit = [str(BIN / "ray"), "job", "submit", "--address", address, "--working-dir", ".", "--"]
        job = ["python", "jobs/run.py", "--config", SMOKE, "method=paper", "--output"]
        strange = {"RAY_AUTH_TOKEN": "f" * 64}
        own = f"{ray.util.get_node_ip_address()}:{port}"
        submitted = running(*submit, *job, str(tmp_path / "run"))
        relative = running(*submit, *job, "run")
        uninvited = running(*submit, *job, str(tmp_path / "other"), **strange)
        stranger = running(str(BIN / "python"), "jobs/plan.py", "--config", SMOKE, f"cluster.address={own}", **strange)

        said, errors = submitted.communicate(timeout=400)
        assert submitted.returncode == 0, said[-3000:] + errors[-3000:]
        assert "22 images picked in" in said
        assert pq.read_table(tmp_path / "run" / "selection.parquet").num_rows == 22
        said, errors = relative.communicate(timeout=200)
        assert relative.returncode == 1 and "--output run: lies in the job's copy of its working directory" in said
        said, errors = uninvited.communicate(timeout=200)
        assert uninvited.returncode != 0 and not (tmp_path / "other").exists(), said + errors
        said, errors = stranger.communicate(timeout=200)
        assert stranger.returncode == 2, said + errors
        last = errors.strip().rpartition("\n")[2]
        assert last.startswith(f"plan.py: error: cluster.address={own}: cannot connect") and "RAY_AUTH_TOKEN" in last
    finally:
        children = psutil.Process(head.pid).children(recursive=True)
        os.killpg(head.pid, signal.SIGTERM)
        for process in children:
            if process.is_running():
                process.terminate()
        _, alive = psutil.wait_procs(children, timeout=10)
        for process in alive:
            process.kill()
        head.kill()  # with --block it outlives a SIGTERM
        head.wait(timeout=20)
