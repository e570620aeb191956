"""The two image sets of the golden values, in the row order those are written for."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def golden():
    path = Path(__file__).parent / "data" / "otdd_golden.json"
    return json.loads(path.read_text())


@pytest.fixture(scope="session")
def digits():
    """Features [1797, 64] in [0, 1] and labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.data / 16, data.target


@pytest.fixture(scope="session")
def fashion():
    """Pixels [60000, 784] as bytes, and labels, for the rows the golden file names (others are 0).

    An image's `path` ends in its row in the official file, which is what the golden indices mean.
    """
    root = os.environ.get("RAMBO_DATA")
    files = sorted(Path(root, "fashion_mnist").glob("train-*.parquet")) if root else []
    if not files:
        pytest.skip("RAMBO_DATA is not set to a folder with fashion_mnist/train-*.parquet")
    import pyarrow.parquet as pq
    from PIL import Image

    features, labels = np.zeros((60000, 784), np.uint8), np.zeros(60000, np.int64)
    wanted = _rows_of(json.loads((Path(__file__).parent / "data" / "otdd_golden.json").read_text())["fashion"])
    for file in files:
        table = pq.read_table(file, columns=["image", "label"])
        for image, label in zip(table["image"].to_pylist(), table["label"].to_pylist(), strict=True):
            row = int(Path(image["path"]).stem)
            if row in wanted:
                features[row] = np.asarray(Image.open(io.BytesIO(image["bytes"]))).ravel()
                labels[row] = label
    return features, labels


def _rows_of(group):
    rows = set(group["validation"])
    for subset in group["subsets"]:
        rows.update(subset["subset"])
    for case in group["edge_cases"]:
        rows.update(case["A"])
    return rows
