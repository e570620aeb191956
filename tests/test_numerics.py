"""One arithmetic on every x86 CPU: what it needs, what it refuses, and the selection that every machine must meet."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from rambo_ray import numerics
from rambo_ray.config import loading
from rambo_ray.errors import UserError

from .any_x86 import ROOT, environment, golden_selections


def without_ray(name: str, **more: str) -> dict[str, list]:
    command = [sys.executable, "tests/without_ray.py", f"jobs/configs/{name}.yaml", "cluster.reproducible=any_x86"]
    command.append("method=paper")
    done = subprocess.run(
        command, cwd=ROOT, env=environment(**numerics.ANY_X86, **more), capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_golden_selection_of_a_small_problem() -> None:
    golden = golden_selections()
    assert without_ray("digits_smoke") == golden["digits_smoke"]


@pytest.mark.slow
def test_the_golden_selection_of_the_digits_with_other_threads_and_no_compiler() -> None:
    golden = golden_selections()
    # What else a machine may bring along: a compiler or none, threads that nobody asked for.
    assert without_ray("digits", CC="false", OMP_NUM_THREADS="2") == golden["digits"]


class TestSettle:
    def test_machine_asks_for_nothing(self) -> None:
        numerics.settle("machine", restart=True)
        assert numerics.variables("machine") == {}

    @pytest.mark.skipif(numerics.unsupported() is not None, reason="needs an x86 CPU with AVX2")
    def test_a_process_that_computes_otherwise_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in numerics.ANY_X86.items():
            monkeypatch.setenv(name, value)
        numerics.settle("any_x86", restart=False)
        monkeypatch.setenv("MKL_CBWR", "AVX2")
        with pytest.raises(UserError, match="must be set before Python starts") as caught:
            numerics.settle("any_x86", restart=False)
        assert "MKL_CBWR='COMPATIBLE'" in str(caught.value) and "\n" not in str(caught.value)

    @pytest.mark.skipif(numerics.unsupported() is not None, reason="needs an x86 CPU with AVX2")
    def test_a_command_starts_itself_again(self) -> None:
        code = (
            "import os, sys; from rambo_ray import numerics; numerics.settle('any_x86', restart=True); "
            "print(numerics.pinned(), sys.argv[1:], os.environ['RAMBO_TEST'])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, "a b", "--c"],
            env=environment(RAMBO_TEST="kept"),
            capture_output=True,
            text=True,
        )
        assert done.stdout == "True ['a b', '--c'] kept\n", done.stderr


class TestUnsupported:
    @pytest.mark.parametrize("machine", ["aarch64", "arm64"])
    def test_other_machines(self, machine: str, tmp_path: Path) -> None:
        assert numerics.unsupported(machine, tmp_path / "none") == f"this is a {machine} machine, not x86"

    @pytest.mark.parametrize(
        ("flags", "reason"),
        [
            ("fpu sse2 avx", "this CPU has no AVX2 and FMA"),
            ("fpu avx2", "this CPU has no FMA"),
            ("fma fpu avx2 avx512f", None),
        ],
    )
    def test_what_a_cpu_says_of_itself(self, flags: str, reason: str | None, tmp_path: Path) -> None:
        (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: {flags}\n\nprocessor : 1\nflags : none\n")
        assert numerics.unsupported("x86_64", tmp_path / "cpuinfo") == reason

    def test_a_system_that_does_not_say_is_believed(self, tmp_path: Path) -> None:
        (tmp_path / "cpuinfo").write_text("processor : 0\n")
        assert numerics.unsupported("AMD64", tmp_path / "cpuinfo") is None
        assert numerics.unsupported("x86_64", tmp_path / "none") is None


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("classifier.precision=bfloat16", "classifier.precision=bfloat16: CPUs differ"),
        ("cluster.gpus_per_worker=0.5", "cluster.gpus_per_worker=0.5: no GPU adds up as a CPU does"),
    ],
)
def test_what_no_two_cpus_agree_on_is_refused(override: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        loading.load(None, ["cluster.reproducible=any_x86", override])
    assert str(caught.value).startswith(line)


@pytest.mark.skipif(platform.machine().lower() in ("x86_64", "amd64"), reason="for machines that are not x86")
def test_on_another_machine_it_is_refused() -> None:
    with pytest.raises(UserError, match="not x86"):
        numerics.settle("any_x86", restart=True)
