"""`rambo sweep` before it has a cluster: on embeddings it takes the head that a run would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rambo_ray.cli import sweep
from rambo_ray.cli.main import main
from rambo_ray.config import loading
from rambo_ray.errors import RunError

SPACE = """
keys: {acquisition.caution: {grid: [0.0, 1.0]}}
objective: {simulated: 0.0, ranking: 1.0}
"""


def test_embeddings_get_the_linear_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(0)
    for part, count in (("labeled", 60), ("validation", 60), ("pool", 120)):
        vectors = generator.normal(size=(count, 6)).astype(np.float32)
        np.savez(tmp_path / f"{part}.npz", embeddings=vectors, label=np.arange(count) % 3)
    (tmp_path / "space.yaml").write_text(SPACE)

    def no_cluster(*_: object) -> None:
        raise RunError("no cluster here")

    monkeypatch.setattr(sweep, "connect", no_cluster)
    keys = ["data.name=own", *(f"data.{part}={tmp_path / part}.npz" for part in ("labeled", "validation", "pool"))]
    keys += ["acquisition.budget=20", "acquisition.batch_size=10"]
    out = tmp_path / "sweep"
    assert main(["sweep", "--space", str(tmp_path / "space.yaml"), "--output", str(out), *keys]) == 1
    said = capsys.readouterr()
    assert "no cluster here" in said.err
    assert "classifier.name=linear: the data are embeddings of 6 numbers, and f is a head on them" in said.out
    assert loading.load(out / "config.yaml").classifier.name == "linear"
    # Another one that is asked for stays; one that sees images is refused, before anything is written.
    again = ["sweep", "--space", str(tmp_path / "space.yaml"), "--output", str(tmp_path / "other"), *keys]
    assert main([*again, "classifier.name=mlp"]) == 1
    assert loading.load(tmp_path / "other/config.yaml").classifier.name == "mlp"
    capsys.readouterr()
    again[4] = str(tmp_path / "third")
    assert main([*again, "classifier.name=mnist_net"]) == 2
    assert "sees images, but the data are embeddings" in capsys.readouterr().err and not (tmp_path / "third").exists()
