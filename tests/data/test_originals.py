"""The pool's own files by id: bytes untouched, benchmarks as PNG that decodes to the same pixels."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rambo_ray.config.schema import DataConfig
from rambo_ray.data import datasets, originals, parquet
from rambo_ray.data.forms import opening
from rambo_ray.errors import UserError


def encoded(value: int, kind: str = "PNG", side: int = 12) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((side, side + value, 3), value, np.uint8)).save(file, kind)
    return file.getvalue()


def own(pool: Path) -> DataConfig:
    return DataConfig.model_validate({"name": "own", "labeled": "l", "validation": "v", "pool": str(pool)})


def test_a_folder_s_files_come_as_they_are(tmp_path: Path) -> None:
    contents = {"x/1.png": encoded(1), "x/2.jpg": encoded(2, "JPEG"), "y/1.png": encoded(3)}
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    asked = ["y/1.png", "x/2.jpg"]
    found = list(originals.stored(own(tmp_path), 0, asked))
    assert [s.id for s in found] == asked and [s.content for s in found] == [contents[name] for name in asked]
    assert [s.name for s in found] == ["1.png", "2.jpg"] and found[1].media_type == "image/jpeg"
    assert found[0].path == tmp_path / "y/1.png"
    with pytest.raises(UserError, match="has no image 'z' and 1 more"):
        next(originals.stored(own(tmp_path), 0, ["z", "y/1.png", "z2"]))


@pytest.mark.parametrize("given", ["id", "path", "row"])
def test_parquet_s_bytes_come_by_the_ids_that_a_run_gives(given: str, tmp_path: Path) -> None:
    kinds = ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]
    contents = [encoded(i, kinds[i % 6]) for i in range(12)]
    for shard in (0, 1):
        rows = range(6 * shard, 6 * shard + 6)
        image = [{"bytes": contents[i], "path": f"p{i}" if given == "path" else None} for i in rows]
        columns: dict[str, object] = {"image": image, "label": [0] * 6}
        if given == "id":
            columns["id"] = [1000 + i for i in rows]
        pq.write_table(pa.table(columns), tmp_path / f"{shard}.parquet")
    files = parquet.find(tmp_path)
    ids = parquet.names(files)
    assert ids == opening.source("pool", own(tmp_path)).ids()
    asked = [ids[i] for i in (7, 2, 11, 0)]
    found = list(originals.stored(own(tmp_path), 0, asked))
    assert [s.content for s in found] == [contents[i] for i in (7, 2, 11, 0)]
    assert [s.name[s.name.rindex(".") :] for s in found] == [".jpg", ".webp", ".tif", ".png"]
    with pytest.raises(UserError, match="has no image 'nobody', which was asked for"):
        list(originals.stored(own(tmp_path), 0, ["nobody"]))


def test_a_benchmark_s_images_are_png_of_its_pixels() -> None:
    data = DataConfig.model_validate({"num_labeled": 50, "num_validation": 50})
    problem, _ = datasets.load(data, 3)
    asked = [problem.pool.ids[i] for i in (5, 1)]
    for got, position in zip(originals.stored(data, 3, asked), (5, 1), strict=True):
        assert got.name.endswith(".png") and "/" not in got.name
        pixels = np.asarray(Image.open(io.BytesIO(got.content)))
        np.testing.assert_array_equal(pixels, problem.pool.pixels[position, ..., 0])


def test_a_pool_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        next(originals.stored(own(tmp_path / "gone"), 0, ["a"]))
