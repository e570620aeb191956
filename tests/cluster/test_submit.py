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

from .problems import SMOKE

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_a_submitted_job_writes_its_selection(tmp_path: Path) -> None:
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
        submitted = subprocess.run(
            [str(BIN / "ray"), "job", "submit", "--address", f"http://127.0.0.1:{dashboard}", "--working-dir", ".",
             "--", "python", "jobs/run.py", "--config", SMOKE, "method=paper", "--output", str(tmp_path / "run")],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400,
        )  # fmt: skip
        assert submitted.returncode == 0, submitted.stdout[-3000:] + submitted.stderr[-3000:]
        assert "22 images picked in" in submitted.stdout
        assert pq.read_table(tmp_path / "run" / "selection.parquet").num_rows == 22
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
