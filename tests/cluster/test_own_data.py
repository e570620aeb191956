"""A whole run on data of one's own that are no pictures: embeddings, from files to files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from rambo_ray.cli.run import execute
from rambo_ray.cluster.session import Session
from rambo_ray.config import loading
from rambo_ray.errors import UserError


def write(folder: Path) -> list[str]:
    """Three classes and some of none, told apart by three numbers of eight; returns what a run is given."""
    generator = np.random.default_rng(5)
    for part, count in (("labeled", 60), ("pool", 90)):
        labels = generator.integers(0, 4, count)
        numbers = generator.normal(size=(count, 8))
        numbers[np.arange(count), labels] += 5
        numbers *= 10.0 ** np.arange(8)
        names = np.array(["cat", "dog", "owl", "none"])[labels]
        ids = np.array([f"{part}-{i}" for i in range(count)])
        np.savez(folder / f"{part}.npz", embeddings=numbers, label=names, id=ids)
    return [
        "data.name=own", f"data.labeled={folder / 'labeled.npz'}", f"data.pool={folder / 'pool.npz'}",
        "data.validation_share=0.5", "data.none_label=none", "acquisition.budget=9", "acquisition.batch_size=3",
        "utility_samples.num_pairs=12", "utility_samples.num_held_out=4",
    ]  # fmt: skip


@pytest.mark.slow
def test_embeddings_from_files_to_a_selection(session: Session, tmp_path: Path) -> None:
    given = write(tmp_path)
    folder = tmp_path / "run"
    metrics = execute(loading.load(None, [*given, f"output.dir={folder}"]))
    assert metrics["accuracy_before"]["validation"] > 0.8
    picked = pq.read_table(folder / "selection.parquet").column("id").to_pylist()
    assert len(set(picked)) == 9 and all(name.startswith("pool-") for name in picked)
    read = json.loads((folder / "data.json").read_text())
    assert [one["set"] for one in read["sets"]] == ["labeled", "validation", "pool"]
    assert read["sets"][2]["what"] == "embeddings of 8 numbers" and read["sets"][0]["classes"]["none"] > 0
    config = loading.load(folder / "config.yaml")
    assert config.classifier.name == "linear"
    page = (folder / "report.html").read_text()
    assert all(name in page for name in picked) and "embeddings of 8 numbers" in page
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["data"]["vector_shape"] == [8]

    # From the resolved configuration the same run begins, and the same again picks the same.
    before = (folder / "selection.parquet").read_bytes()
    execute(loading.load(folder / "config.yaml", [f"output.dir={folder}"]))
    assert (folder / "selection.parquet").read_bytes() == before


def test_a_network_of_images_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    given = [*write(tmp_path), f"output.dir={tmp_path / 'run'}", "classifier.name=mnist_net"]
    with pytest.raises(UserError, match="classifier.name=mnist_net: sees images, but the data are embeddings"):
        execute(loading.load(None, given))
    assert not (tmp_path / "run").exists()
