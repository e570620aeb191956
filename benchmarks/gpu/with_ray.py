"""The same whole run through the package's command, on Ray, where `import ray` works."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

from gpu.record import Section

HERE = Path(__file__).resolve().parents[2]


def measure(section: Section) -> None:
    """`jobs/run.py` as a command of its own; its metrics, with seconds per stage."""
    if importlib.util.find_spec("ray") is None:
        section.skip("the run on Ray: ray is not installed")
        return
    smoke = section.smoke or section.root is None
    name = "digits_smoke" if smoke else "fashion_mnist"
    output = section.record.folder / "ray_run"
    command = [sys.executable, str(HERE / "jobs" / "run.py"), "--config", str(HERE / f"jobs/configs/{name}.yaml"),
               "--output", str(output)]  # fmt: skip
    command += [] if smoke else [f"data.root={section.root}", "data.download=false"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=max(section.left, 1.0), cwd=HERE)
    section.put("output", (done.stdout + done.stderr)[-3000:])
    if done.returncode:
        raise RuntimeError(f"jobs/run.py ended with {done.returncode}")
    section.put("metrics", json.loads((output / "metrics.json").read_text()))
