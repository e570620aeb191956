"""The two errors, and the answer to an unknown name."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.errors import RunError, UserError, nearest

KEYS = ["acquisition.budget", "acquisition.batch_size", "seed"]


def test_the_two_errors_are_told_apart() -> None:
    assert issubclass(UserError, ValueError) and issubclass(RunError, RuntimeError)
    assert not issubclass(UserError, RunError) and not issubclass(RunError, UserError)


@pytest.mark.parametrize(
    ("typed", "meant"), [("acquisition.buget", "acquisition.budget"), ("sed", "seed"), ("acquisition.b", None)]
)
def test_a_near_miss_names_the_one_that_was_meant(typed: str, meant: str | None) -> None:
    answer = nearest(typed, KEYS)
    if meant is None:
        assert answer.startswith(("did you mean", "allowed: "))
    else:
        assert answer == f"did you mean '{meant}'?"


def test_a_far_miss_lists_what_is_allowed_in_order() -> None:
    assert nearest("zzzzz", KEYS) == "allowed: acquisition.batch_size, acquisition.budget, seed"


@given(st.text(max_size=30))
def test_whatever_is_typed_the_answer_holds_known_names_only(typed: str) -> None:
    answer = nearest(typed, iter(KEYS))
    named = answer.removeprefix("did you mean '").removesuffix("'?").removeprefix("allowed: ").split(", ")
    assert named and set(named) <= set(KEYS)


def test_a_reader_that_leaves_ends_a_job_without_a_traceback() -> None:
    """As `jobs/benchmark.py --list | head -1`."""
    code = """
import sys
from rambo_ray.cli.entry import exit_code
def job():
    for _ in range(100_000):
        print("a line")
    return 0
sys.exit(exit_code("job.py", job))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
