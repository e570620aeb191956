"""Folders as a finished run leaves them, without a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rambo_ray.config import loading


def finished(
    folder: Path, ids: Sequence[str], classes: Sequence[str] = ("cat", "dog", "Owl"), overrides: Sequence[str] = ()
) -> Path:
    """A run's folder that asks for these ids, in this order."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(loading.dump(loading.load(None, overrides)))
    data = {
        "name": "own",
        "fingerprint": "f",
        "pool_fingerprint": "p",
        "classes": list(classes),
        "image_shape": [8] * 3,
    }
    (folder / "manifest.json").write_text(json.dumps({"seed": 0, "data": data}))
    count = len(ids)
    shuffled = np.random.default_rng(0).permutation(count)  # rows may stand in any order; `order` says which is first
    columns = {
        "id": pa.array([ids[i] for i in shuffled], pa.string()),
        "pool_index": pa.array(shuffled + 100, pa.int64()),
        "order": pa.array(shuffled, pa.int32()),
        "step": pa.array(np.zeros(count), pa.int32()),
        "margin": pa.array(np.zeros(count), pa.float32()),
        "utility": pa.array(np.zeros(count), pa.float32()),
    }
    pq.write_table(pa.table(columns), folder / "selection.parquet")
    return folder
