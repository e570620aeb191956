"""The golden selections of `cluster.reproducible=any_x86`, and the environment to compute them in."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy
import pytest
import scipy
import torch

from rambo_ray import numerics

ROOT = Path(__file__).parents[1]


def golden_selections() -> dict[str, dict[str, list]]:
    """The golden selections; skips the test where this machine or its libraries are not those they hold for."""
    reason = numerics.unsupported()
    if reason is not None:
        pytest.skip(reason)
    golden = json.loads((ROOT / "tests" / "golden" / "any_x86.json").read_text())
    found = {"torch": torch.__version__.split("+")[0], "numpy": numpy.__version__, "scipy": scipy.__version__}
    if found != golden["versions"]:
        pytest.skip(f"the golden selection is of {golden['versions']}, here are {found}: see constraints.txt")
    return golden


def environment(**more: str) -> dict[str, str]:
    """This process's, without what `any_x86` sets."""
    kept = {name: value for name, value in os.environ.items() if name not in numerics.ANY_X86}
    return {**kept, "PYTHONPATH": str(ROOT), **more}
