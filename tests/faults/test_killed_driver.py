"""The command killed at random moments, and the same command again: the selection of an undisturbed run, to the byte.

CI kills a few; `RAMBO_FAULTS=20 pytest -s tests/faults/test_killed_driver.py` kills twenty for each method, and for
the paper's with Ray Train, and says when, how and in which stage.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

ROOT = Path(__file__).parents[2]
COUNT = os.environ.get("RAMBO_FAULTS")
FEW = {"paper": 3, "mock_rounds": 1, "trainer": 0}
SEED = 17

# The digits' smoke run, smaller still; without held-out subsets u_hat is followed however it ranks.
SMALL = ("cluster.num_workers=2", "utility_model.outer_epochs=2", "utility_samples.num_held_out=0")
METHODS = {
    "paper": ("method=paper", "utility_samples.num_pairs=4"),
    "mock_rounds": ("method=mock_rounds", "classifier.max_epochs=5"),
    "trainer": ("method=paper", "utility_samples.num_pairs=4", "cluster.fit_workers=1"),
}
SOON_S = 5.0
"""An interrupted command has ended, and nothing of a killed one is left."""
SLACK_S = 3.0  # for a machine that does something else, too


def started(method: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "jobs/run.py", "--config", "jobs/configs/digits_smoke.yaml", "--output", str(folder)]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        [*command, *SMALL, *METHODS[method]], cwd=ROOT, env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finished(process: subprocess.Popen[str], folder: Path) -> bytes:
    """The selection of a command that is left alone from here on."""
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    return (folder / "selection.parquet").read_bytes()


def disturb(process: subprocess.Popen[str], how: str) -> bool:
    """End the command; fails where it does not end as it should, or leaves something behind.

    False: it had said already that it was done, and was only leaving Ray.
    machine: all its processes are killed; driver: the one that works, as the largest; interrupt: by Ctrl-C.
    """
    began, own = time.monotonic(), psutil.Process(process.pid)
    children = own.children(recursive=True)
    if how == "machine":
        for each in (own, *children):
            with suppress(psutil.NoSuchProcess):
                each.kill()
    elif how == "driver":
        own.children()[0].kill()
    else:
        process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    _, left = psutil.wait_procs(children, timeout=SOON_S)
    assert not left, f"{how}: {left}"
    code = {"machine": -signal.SIGKILL, "driver": 128 + signal.SIGKILL, "interrupt": 128 + signal.SIGINT}[how]
    done = process.returncode == 0 and how != "machine"
    assert done or process.returncode == code, (how, process.returncode, said)
    assert time.monotonic() - began < SOON_S + SLACK_S, how
    last = said.strip().rpartition("\n")[2]
    assert how == "machine" or done or "the same command continues" in last, said
    assert "Traceback" not in said, said
    return not done


def stage(folder: Path) -> str:
    """In which a run was."""
    log = folder / "run.log"
    begun = re.findall(r"info +(.+) begins$", log.read_text(), re.M) if log.exists() else []
    return begun[-1] if begun else "before the stages"


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_command_killed_at_any_moment_goes_on_to_the_same_selection(method: str, tmp_path: Path) -> None:
    kills = FEW[method] if COUNT is None else int(COUNT)
    if not kills:
        pytest.skip("takes too long for CI; set RAMBO_FAULTS to a number of kills")
    undisturbed = tmp_path / "undisturbed"
    began = time.monotonic()
    expected = finished(started(method, undisturbed), undisturbed)
    lasts = time.monotonic() - began
    generator = np.random.default_rng([SEED, list(METHODS).index(method)])
    number, disturbed, folder = 0, 0, tmp_path / "run-0"
    while disturbed < kills:
        how = ("driver", "interrupt", "machine")[disturbed % 3]
        moment = float(generator.uniform(1.0, lasts))
        process = started(method, folder)
        try:
            process.wait(timeout=moment)
            done = True
        except subprocess.TimeoutExpired:
            done = not disturb(process, how)
        if not done:
            disturbed += 1
            print(f"{method}: {how} after {moment:.1f} of {lasts:.1f} s, in {folder.name}, {stage(folder)}")
            continue
        # What earlier ones had finished made it too short: begin another.
        assert process.returncode == 0 and (folder / "selection.parquet").read_bytes() == expected
        number += 1
        folder = tmp_path / f"run-{number}"
    kept = list(folder.glob("utility_samples/part-*.parquet"))
    assert finished(started(method, folder), folder) == expected
    retrained = [
        json.loads((each / "metrics.json").read_text())["collect"]["retrained"] for each in (folder, undisturbed)
    ]
    assert retrained[0] < retrained[1] or not kept  # what was measured is not measured again
