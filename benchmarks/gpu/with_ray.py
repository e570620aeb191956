"""The same whole run through the package's command, on Ray, where `import ray` works."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

from gpu.record import Section

HERE = Path(__file__).resolve().parents[2]
FOR_ALL_S = 80.0  # seconds with which the configuration's own number of samples is tried


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
    if section.left < FOR_ALL_S:
        command.append("utility_samples.num_pairs=40")
        section.put("num_pairs", 40)
    # The package need not be installed here; Ray's workers get the variable from the command.
    paths = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    log = section.record.folder / "ray_run.log"
    with log.open("w") as file:
        running = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=HERE,
                                   env=os.environ | {"PYTHONPATH": paths})  # fmt: skip
        try:
            code: int | None = running.wait(timeout=max(section.left, 1.0))
        except subprocess.TimeoutExpired:
            code = None
            running.kill()
    section.put("output", log.read_text(errors="replace")[-3000:])
    if code:
        raise RuntimeError(f"jobs/run.py ended with {code}")
    if code is None:
        section.skip("the rest of the run: no time left")
        return
    section.put("metrics", json.loads((output / "metrics.json").read_text()))
