"""A small real problem for the cluster's tests: digits."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import psutil

from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data import datasets
from rambo_ray.data.problem import LabeledArrays, Problem, Revealed

ROOT = Path(__file__).parents[2]
SMOKE = "jobs/configs/digits_smoke.yaml"


def smoke(*overrides: str) -> Config:
    """jobs/configs/digits_smoke.yaml by the paper's method, with overrides."""
    return loading.load(ROOT / SMOKE, ["method=paper", *overrides])


def rounds(*overrides: str) -> Config:
    """The same by mock rounds."""
    return loading.load(ROOT / SMOKE, overrides)


@cache
def digits() -> tuple[Problem, Revealed]:
    problem, revealed = datasets.load(smoke().data, 0)
    assert revealed is not None
    return problem, revealed


def arrays(problem: Problem) -> tuple[LabeledArrays, LabeledArrays]:
    """S_0 and S_val as the cluster's stages take them."""
    return (
        LabeledArrays(problem.labeled.pixels, problem.labeled.labels),
        LabeledArrays(problem.validation.pixels, problem.validation.labels),
    )


def command_of(process: psutil.Process) -> list[str]:
    """What a process of this test's own Ray calls itself; nothing where it has ended meanwhile."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []
