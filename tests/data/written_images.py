"""Small image files for the tests: PNG bytes, class folders and Parquet files."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def pictures(count: int, seed: int = 0, side: int = 6, channels: int = 1) -> np.ndarray:
    """Random images uint8 [count, side, side, channels]."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def png(picture: np.ndarray) -> bytes:
    """One image [H, W, C] as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).save(file, "PNG")
    return file.getvalue()


def write_file(path: Path, picture: np.ndarray) -> None:
    """One image as a file in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).save(path)


def write_parquet(
    file: Path,
    images: np.ndarray | Sequence[bytes | None],
    labels: Any = None,
    *,
    names: Sequence[str] | None = None,
    paths: Sequence[str | None] | None = None,
    **columns: Any,
) -> Path:
    """Images (arrays or encoded) and further columns in the Hugging Face layout."""
    encoded = [png(image) for image in images] if isinstance(images, np.ndarray) else list(images)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": b, "path": p} for b, p in zip(encoded, paths or [None] * len(encoded), strict=True)]
    table = pa.table({"image": pa.array(rows, kind)})
    if labels is not None:
        columns["label"] = labels
    for name, values in columns.items():
        table = table.append_column(name, values if isinstance(values, pa.Array) else pa.array(values))
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(names)}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)
    return file
