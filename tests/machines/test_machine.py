"""A machine as arithmetic sees it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rambo_ray import numerics
from rambo_ray.errors import RunError
from rambo_ray.machines import machine
from rambo_ray.machines.begin import Begin

X86 = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
stepping\t: 8
microcode\t: 0xffffffff
flags\t\t: fpu vme sse2 smep avx512f amx_tile ibrs

processor\t: 1
vendor_id\t: Other
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd sve bf16 cpuid\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n"


def kind(text: str, folder: Path) -> dict[str, str]:
    (folder / "cpuinfo").write_text(text)
    return dict(machine.cpu_kind(machine.cpu_info(folder / "cpuinfo")))


def test_a_cpu_is_known_by_what_arithmetic_depends_on(tmp_path: Path) -> None:
    found = kind(X86, tmp_path)
    assert (found["vendor_id"], found["cpu family"], found["model"]) == ("GenuineIntel", "6", "143")
    assert found["instructions"] == "amx_tile avx512f sse2"
    for same in (("8481C", "8490H"), ("stepping\t: 8", "stepping\t: 9"), ("ibrs", "ibpb"), ("0xffffffff", "0x1")):
        assert kind(X86.replace(*same), tmp_path) == found
    for other in (("143", "106"), ("amx_tile", ""), ("GenuineIntel", "AuthenticAMD")):
        assert kind(X86.replace(*other, 1), tmp_path) != found
    assert kind(ARM, tmp_path)["instructions"] == "asimd bf16 sve"
    assert machine.cpu_info(tmp_path / "none") == {}


def test_what_libraries_are_told_belongs_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in numerics.ANY_X86:
        monkeypatch.delenv(name, raising=False)
    plain = kind(X86, tmp_path)
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    assert kind(X86, tmp_path) == plain | {"MKL_CBWR": "COMPATIBLE"}


def test_sources_are_known_by_their_names_and_content(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.py").write_text("1")
    first = machine.source_digest.__wrapped__(tmp_path)
    (tmp_path / "a" / "notes.txt").write_text("aside")
    assert machine.source_digest.__wrapped__(tmp_path) == first
    (tmp_path / "a" / "one.py").write_text("2")
    second = machine.source_digest.__wrapped__(tmp_path)
    (tmp_path / "a" / "one.py").rename(tmp_path / "a" / "two.py")
    assert len({first, second, machine.source_digest.__wrapped__(tmp_path)}) == 3


def test_files_that_change_during_a_run_do_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before, installed = machine.arithmetic.__wrapped__("machine"), dict(machine.software())
    monkeypatch.setattr(machine, "software", lambda: tuple((installed | {"rambo_ray": "edited"}).items()))
    assert machine.arithmetic.__wrapped__("machine") == before
    monkeypatch.setattr(machine, "software", lambda: tuple((installed | {"torch": "another"}).items()))
    assert machine.arithmetic.__wrapped__("machine") != before


def test_this_machine_agrees_with_itself() -> None:
    here = machine.this()
    assert here.arithmetic("machine") == machine.arithmetic("machine") != machine.arithmetic("any_x86")
    assert dict(here.software)["torch"] == torch.__version__ and here.processor


def test_a_task_begins_only_where_the_others_compute_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    Begin(1)()
    right = machine.arithmetic("machine")
    Begin(1, "machine", right)()
    assert torch.get_num_threads() == 1
    with pytest.raises(RunError, match=r"joined the cluster and computes otherwise.*its CPU or its software"):
        Begin(1, "machine", "another")()
    Begin(1, "machine", right, machine.kernels_digest())()
    with pytest.raises(RunError, match="its C compiler is another, or missing"):
        Begin(1, "machine", right, "another")()
