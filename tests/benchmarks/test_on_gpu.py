"""The whole of benchmarks/on_gpu.sh at tiny sizes on a CPU, its tables, and the file of images it takes along."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import gpu_table
import numpy as np
import on_gpu
import pack_images
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def _on_gpu(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    command = ["bash", str(BENCHMARKS / "on_gpu.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1200)


@pytest.mark.slow
def test_every_section_runs_on_a_cpu_and_has_a_table(tmp_path: Path) -> None:
    done = _on_gpu(str(tmp_path), "--smoke", "--seconds", "1000")
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((tmp_path / "gpu.json").read_text())
    sections = content["sections"]
    assert list(sections) == [name for name in on_gpu.names() if name != "ray"]
    assert {found["status"] for found in sections.values()} == {"ok"}
    assert all(row["within"] for row in sections["equality"]["one_step"] + sections["equality"]["prediction"])
    assert sections["equality"]["repeats"]["stack_same_bits"] and sections["otdd"]["cross_problems"]["within"]
    tables = gpu_table.rendered(content)
    assert all(f"## {gpu_table.HEADINGS[name]}" in tables for name in sections)


def test_help_says_what_is_measured() -> None:
    told = _on_gpu("--help")
    assert told.returncode == 0 and "--wheels DIR" in told.stdout


def test_a_folder_without_wheels_is_refused(tmp_path: Path) -> None:
    told = _on_gpu(str(tmp_path), "--wheels", str(tmp_path))
    assert told.returncode == 2 and "no wheel there" in told.stderr


def test_tables_say_what_failed_and_what_was_left_out() -> None:
    failed = {"status": "failed", "error": "Traceback\nValueError: no", "seconds": 1.0, "rows": [{"n": 1, "ok": True}]}
    left = {"status": "ok", "seconds": 2.0, "skipped": ["a large one: 9 s expected"], "peak": {"float32": 1234.5}}
    content: dict[str, Any] = {"device": "cuda", "smoke": False, "sections": {"pool": failed, "steps": left}}
    tables = gpu_table.rendered(content)
    assert "ended as *failed*: `ValueError: no`" in tables
    assert "| 1 | yes |" in tables and "| peak.float32 | 1234 |" in tables
    assert "Left out: a large one" in tables
    assert "## The pass" not in gpu_table.rendered(content, ["steps"])


def test_packed_images_are_the_first_rows_of_each_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from images import first_rows

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 8, 8), dtype=np.uint8)
    _write(tmp_path / "data" / "mnist" / "train-0.parquet", pixels, tmp_path)
    monkeypatch.setattr(pack_images, "ROWS", {"mnist": {"train": 2}})
    size = pack_images.pack(tmp_path / "data", tmp_path / "images.zip")
    assert size == (tmp_path / "images.zip").stat().st_size
    with zipfile.ZipFile(tmp_path / "images.zip") as packed:
        packed.extractall(tmp_path / "unpacked")
    found, labels = first_rows(str(tmp_path / "unpacked"), "mnist", 2)
    assert np.array_equal(found[..., 0], pixels[:2]) and labels.tolist() == [0, 1]
    monkeypatch.setattr(pack_images, "LIMIT", 10)
    with pytest.raises(ValueError, match="more than 10"):
        pack_images.pack(tmp_path / "data", tmp_path / "images.zip")
    with pytest.raises(FileNotFoundError, match="no mnist/train"):
        pack_images.pack(tmp_path, tmp_path / "images.zip")


def _write(file: Path, pixels: np.ndarray, folder: Path) -> None:
    encoded = []
    for number, image in enumerate(pixels):
        path = folder / f"{number}.png"
        Image.fromarray(image).save(path)
        encoded.append({"bytes": path.read_bytes(), "path": None})
    file.parent.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.table({"image": encoded, "label": list(range(len(pixels)))}), file)
