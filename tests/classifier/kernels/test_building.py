"""Compiling the kernels: cached, side by side, and every way in which there are none."""

from __future__ import annotations

import logging
import multiprocessing
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from rambo_ray.classifier import kernels, mnist_steps
from rambo_ray.classifier.networks import MnistNet
from rambo_ray.classifier.training import TrainingSettings, train
from rambo_ray.config.schema import ClassifierConfig

try:
    COMPILER = kernels.compiler()
    kernels.fingerprint(COMPILER)  # $CC may name one that does not work
except kernels.Unavailable:
    pytest.skip("needs a C compiler: cc, gcc, clang or $CC", allow_module_level=True)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, a process that has not looked yet, and a compiler that does not take long."""
    monkeypatch.setattr(kernels, "FLAGS", (*kernels.FLAGS, "-O0"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kernels.library.cache_clear()
    yield tmp_path / "cache" / "rambo_ray"
    kernels.library.cache_clear()


def test_the_second_process_does_not_compile(_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels.load()
    (built,) = _cache.iterdir()
    monkeypatch.setattr(kernels, "build", lambda *_: pytest.fail("compiled again"))
    kernels.load()
    assert [built] == list(_cache.iterdir())


def test_other_sources_flags_or_compilers_are_other_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {kernels.fingerprint(COMPILER)}
    found.add(kernels.fingerprint([*COMPILER, "-DOTHER"]))
    monkeypatch.setattr(kernels, "SOURCES", tmp_path)
    (tmp_path / "a.c").write_text("int a;")
    found.add(kernels.fingerprint(COMPILER))
    (tmp_path / "a.c").write_text("int b;")
    found.add(kernels.fingerprint(COMPILER))
    assert len(found) == 4


def _load(flags: tuple[str, ...]) -> bool:
    kernels.FLAGS = flags
    return kernels.load() is not None


@pytest.mark.slow
def test_processes_may_build_at_the_same_time(_cache: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as processes:
        assert all(processes.map(_load, 3 * [kernels.FLAGS]))
    assert len(list(_cache.iterdir())) == 1, "no half-built file stays"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["in the way", "read-only", "no home", "spoilt"])
def test_without_a_cache_the_kernels_work_all_the_same(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "in the way":
        (tmp_path / "cache").write_text("")
    elif how == "read-only":
        (tmp_path / "cache").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
        if os.access(tmp_path / "cache", os.W_OK):
            pytest.skip("this user may write everywhere")
    elif how == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", _no_home)
    else:
        (tmp_path / "cache" / "rambo_ray").mkdir(parents=True)
        name = f"kernels-{kernels.fingerprint(COMPILER)}.so"
        (tmp_path / "cache" / "rambo_ray" / name).write_text("not a library")
    assert kernels.load() is not None


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [("false", "false: exit code 1"), ("no-such-compiler -O3", "no-such-compiler: .*No such file")],
)
def test_a_broken_compiler_is_said_once_and_training_goes_on(
    compiler: str, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), dtype=np.uint8)
    labels = np.arange(30) % 3
    settings = TrainingSettings.from_config(
        ClassifierConfig(precision="float32", max_epochs=1),
        mean=(0.5,), std=(0.5,), image_shape=(1, 8, 8), num_classes=3,
    )  # fmt: skip
    monkeypatch.setenv("CC", compiler)
    with caplog.at_level(logging.WARNING, kernels.log.name):
        for _ in range(2):
            assert train(pixels, labels, settings, 0).epochs == 1
    assert not mnist_steps.applies(MnistNet((1, 8, 8), 3), "float32", torch.device("cpu"))
    (said,) = caplog.messages
    assert "no compiled kernels" in said
    assert "apt install gcc" in said
    with pytest.raises(kernels.Unavailable, match=reason):
        kernels.load()


def test_no_compiler_is_a_reason_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(kernels.Unavailable, match="no C compiler on PATH"):
        kernels.load()


def test_the_compilers_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.c").write_text("int f( {")
    monkeypatch.setattr(kernels, "SOURCES", tmp_path)
    with pytest.raises(kernels.Unavailable, match="broken.c:1.*error"):
        kernels.load()


def test_a_compiler_whose_libraries_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "cc"
    script.write_text('#!/bin/sh\nwhile [ $# -gt 0 ]; do [ "$1" = -o ] && echo nonsense > "$2"; shift; done\n')
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    with pytest.raises(kernels.Unavailable, match="kernels.so"):
        kernels.load()
