"""Every form a set may lie around in: the same images, labels and ids come out of all of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rambo_ray.config.schema import DataConfig
from rambo_ray.data import datasets
from rambo_ray.data.images import Images
from rambo_ray.data.problem import Problem
from rambo_ray.data.vectors import Vectors

from .written_images import pictures, png, write_file, write_parquet

COUNTS = {"labeled": 6, "validation": 4, "pool": 9}
IMAGES = {part: pictures(count, seed=count) for part, count in COUNTS.items()}
NUMBERS = {
    part: np.random.default_rng(count).normal(size=(count, 5)).astype(np.float32) for part, count in COUNTS.items()
}
NAMES = ("cat", "dog")

Form = Callable[[Path, str], tuple[str, tuple[str, ...]]]
"""Writes a set below a folder; returns what to give, and the ids of its items."""


def label(row: int) -> str:
    return NAMES[row % 2]


def struct(part: str, paths: bool = False) -> pa.Array:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    if paths:
        return pa.array([{"bytes": None, "path": f"files/{i}.png"} for i in range(COUNTS[part])], kind)
    return pa.array([{"bytes": png(image), "path": None} for image in IMAGES[part]], kind)


def row_ids(part: str) -> tuple[str, ...]:
    prefix = "" if part == "pool" else f"{part}/"
    return tuple(f"{prefix}{row}" for row in range(COUNTS[part]))


def labels(part: str) -> dict[str, list[str]]:
    return {"label": [label(i) for i in range(COUNTS[part])]}


def in_order(part: str, root: Path, name: Callable[[int], str]) -> tuple[str, ...]:
    """Write each image to a file below root; the files' names."""
    for i, image in enumerate(IMAGES[part]):
        write_file(root / name(i), image)
    return tuple(name(i) for i in range(COUNTS[part]))


# -- images --------------------------------------------------------------------------------------


def class_folders(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
    return str(root), in_order(part, root, lambda i: f"{label(i)}/{i}.png")


def below_one_folder(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
    return str(root), in_order(part, root, lambda i: f"train/{label(i)}/{i}.png")


def pattern(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
    (root / "monday").mkdir(parents=True)
    (root / "monday/other.txt").write_text("not asked for")
    pq.write_table(pa.table({"x": [1]}), root / "monday/stray.parquet")
    return f"{root}/**/*.png", in_order(part, root, lambda i: f"monday/{label(i)}/{i}.png")


def parquet_file(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
    return str(write_parquet(root / "a.parquet", IMAGES[part], labels(part)["label"])), row_ids(part)


def nested_parquet(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
    half = COUNTS[part] // 2
    (root / "data").mkdir(parents=True)
    (root / "README.md").write_text("# data")
    for name, rows in (("train-00000-of-00002", slice(0, half)), ("train-00001-of-00002", slice(half, None))):
        write_parquet(root / f"data/{name}.parquet", IMAGES[part][rows], labels(part)["label"][rows])
    return str(root), row_ids(part)


def parquet_pattern(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
    nested_parquet(root, part)
    write_parquet(root / "data/test-0.parquet", pictures(2), ["cat", "dog"])
    return f"{root}/data/train-*.parquet", row_ids(part)


def parquet_of_paths(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
    in_order(part, root / "files", lambda i: f"{i}.png")
    pq.write_table(pa.table({"image": struct(part, paths=True), **labels(part)}), root / "a.parquet")
    return str(root / "a.parquet"), tuple(f"files/{i}.png" for i in range(COUNTS[part]))


def ids_that_count_rows(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
    numbers = list(range(COUNTS[part]))
    write_parquet(root / "a.parquet", IMAGES[part], labels(part)["label"], id=numbers)
    return str(root / "a.parquet"), tuple(map(str, numbers))


def arrow_stream(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
    root.mkdir(parents=True)
    table = pa.table({"image": struct(part), **labels(part)})
    with pa.OSFile(str(root / "a.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return str(root / "a.arrow"), row_ids(part)


def feather(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
    root.mkdir(parents=True)
    pyarrow.feather.write_feather(pa.table({"image": struct(part), **labels(part)}), str(root / "a.feather"))
    return str(root / "a.feather"), row_ids(part)


def saved_dataset(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
    hub = pytest.importorskip("datasets")
    features = hub.Features({"image": hub.Image(), "label": hub.ClassLabel(names=list(NAMES))})
    rows = {
        "image": [{"bytes": png(x), "path": None} for x in IMAGES[part]],
        "label": [i % 2 for i in range(COUNTS[part])],
    }
    hub.Dataset.from_dict(rows, features=features).save_to_disk(str(root), num_shards=2)
    return str(root), row_ids(part)


def listed(separator: str, name: str) -> Form:
    def write(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
        paths = in_order(part, root, lambda i: f"files/{i}.png")
        with (root / name).open("w", newline="", encoding="utf-8-sig" if separator == ";" else "utf-8") as file:
            writer = csv.writer(file, delimiter=separator)
            writer.writerow(["label", "path", "note"])
            writer.writerows([label(i), path, 'a "quoted", note'] for i, path in enumerate(paths))
        return str(root / name), paths

    return write


def listed_with_ids(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
    paths = in_order(part, root, lambda i: f"{i}.png")
    rows = [f"{part} {i},{root / path},{label(i)}" for i, path in enumerate(paths)]
    (root / "list.csv").write_text("\n".join(["id,path,label", *rows]))
    return str(root / "list.csv"), tuple(f"{part} {i}" for i in range(COUNTS[part]))


def npz(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
    root.mkdir(parents=True)
    np.savez(root / "a.npz", images=IMAGES[part][..., 0], label=np.array(labels(part)["label"]))
    return str(root / "a.npz"), row_ids(part)


def npz_with_ids(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
    root.mkdir(parents=True)
    ids = [f"{part}-{i}" for i in range(COUNTS[part])]
    np.savez_compressed(
        root / "a.npz", images=IMAGES[part], label=np.array(labels(part)["label"], "S"), id=np.array(ids)
    )
    return str(root / "a.npz"), tuple(ids)


def npz_in_a_folder(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
    npz(root, part)
    return str(root), row_ids(part)


OF_IMAGES: dict[str, Form] = {
    "class folders": class_folders,
    "train/CLASS": below_one_folder,
    "pattern": pattern,
    "file://": lambda root, part: (f"file://{class_folders(root, part)[0]}", class_folders(root, part)[1]),
    "Parquet": parquet_file,
    "nested Parquet": nested_parquet,
    "pattern of Parquet": parquet_pattern,
    "Parquet of paths": parquet_of_paths,
    "ids that count rows": ids_that_count_rows,
    "Arrow stream": arrow_stream,
    "Feather": feather,
    "saved dataset": saved_dataset,
    "CSV": listed(",", "a.csv"),
    "TSV": listed("\t", "a.tsv"),
    "semicolons and a mark": listed(";", "a.csv"),
    "CSV with ids": listed_with_ids,
    "npz": npz,
    "npz with ids": npz_with_ids,
    "npz in a folder": npz_in_a_folder,
}


# -- embeddings ----------------------------------------------------------------------------------


def vector_column(name: str, kind: pa.DataType) -> Form:
    def write(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
        root.mkdir(parents=True)
        ids = [f"{part}:{i}" for i in range(COUNTS[part])]
        table = {name: pa.array(NUMBERS[part].tolist(), kind), **labels(part), "id": ids}
        pq.write_table(pa.table(table), root / "a.parquet")
        return str(root / "a.parquet"), tuple(ids)

    return write


def vectors_npz(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
    root.mkdir(parents=True)
    codes = np.array([i % 2 for i in range(COUNTS[part])])
    np.savez(root / "a.npz", embeddings=NUMBERS[part].astype(np.float64), label=np.array(NAMES)[codes])
    return str(root / "a.npz"), row_ids(part)


def vectors_npy(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
    if part != "pool":  # which alone needs no labels
        return vectors_npz(root, part)
    root.mkdir(parents=True)
    np.save(root / "a.npy", NUMBERS[part])
    return str(root / "a.npy"), row_ids(part)


OF_EMBEDDINGS: dict[str, Form] = {
    "list of doubles": vector_column("embedding", pa.list_(pa.float64())),
    "large list of floats": vector_column("embeddings", pa.large_list(pa.float32())),
    "fixed size list": vector_column("embedding", pa.list_(pa.float32(), 5)),
    "npz": vectors_npz,
    "npy": vectors_npy,
}


def built(root: Path, forms: dict[str, Form], **keys: Any) -> tuple[Problem, dict[str, tuple[str, ...]]]:
    made = {part: form(root / part, part) for part, form in forms.items()}
    config = DataConfig(name="own", **{part: path for part, (path, _) in made.items()}, **keys)
    return datasets.load(config, 0)[0], {part: ids for part, (_, ids) in made.items()}


def same(problem: Problem, ids: dict[str, tuple[str, ...]], expected: dict[str, np.ndarray]) -> None:
    """Whether everything is where it belongs, whatever the order of a set."""
    assert problem.class_names == NAMES
    for part, items in (("labeled", problem.labeled), ("validation", problem.validation), ("pool", problem.pool)):
        assert sorted(items.ids) == sorted(ids[part]), part
        for row, name in enumerate(ids[part]):
            place = items.ids.index(name)
            assert np.array_equal(items.array[place], expected[part][row]), (part, name)
            if part != "pool":
                assert problem.class_names[items.labels[place]] == label(row), (part, name)  # type: ignore[attr-defined]


class TestForms:
    @pytest.mark.parametrize("form", OF_IMAGES)
    def test_images(self, tmp_path: Path, form: str) -> None:
        problem, ids = built(tmp_path, dict.fromkeys(COUNTS, OF_IMAGES[form]))
        assert isinstance(problem.pool, Images)
        same(problem, ids, IMAGES)

    @pytest.mark.parametrize("form", OF_EMBEDDINGS)
    def test_embeddings(self, tmp_path: Path, form: str) -> None:
        problem, ids = built(tmp_path, dict.fromkeys(COUNTS, OF_EMBEDDINGS[form]))
        assert isinstance(problem.pool, Vectors)
        same(problem, ids, NUMBERS)

    def test_forms_mix(self, tmp_path: Path) -> None:
        forms = {"labeled": OF_IMAGES["npz"], "validation": OF_IMAGES["CSV"], "pool": OF_IMAGES["saved dataset"]}
        same(*built(tmp_path, forms), IMAGES)

    def test_flat_pool_of_many_formats(self, tmp_path: Path) -> None:
        for i, image in enumerate(IMAGES["pool"]):
            write_file(tmp_path / "pool" / f"{i}{('.png', '.bmp', '.tif', '.PNG')[i % 4]}", image)
        forms = {part: OF_IMAGES["class folders"] for part in ("labeled", "validation")}
        problem, _ = built(tmp_path, {**forms, "pool": lambda root, part: (str(root), ())})
        assert np.array_equal(problem.pool.array, IMAGES["pool"])

    def test_another_column(self, tmp_path: Path) -> None:
        both = dict.fromkeys(COUNTS, vector_column("clip", pa.list_(pa.float32())))
        same(*built(tmp_path, both, column="clip"), NUMBERS)

    def test_numbers_as_labels_are_counted_in_their_order(self, tmp_path: Path) -> None:
        def numbered(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
            paths = in_order(part, root, lambda i: f"{i}.png")
            rows = [f"{path},{(10, 9)[i % 2]}" for i, path in enumerate(paths)]
            (root / "a.csv").write_text("\n".join(["path,label", *rows]))
            return str(root / "a.csv"), paths

        problem, _ = built(tmp_path, dict.fromkeys(COUNTS, numbered))
        assert problem.class_names == ("9", "10")
        assert problem.labeled.labels.tolist() == [1, 0] * 3

    @pytest.mark.parametrize("end", [".heic", ".avif", ".jp2"])
    def test_images_by_optional_readers(self, tmp_path: Path, end: str) -> None:
        if end == ".heic":
            pytest.importorskip("pillow_heif").register_heif_opener()
        forms = {part: OF_IMAGES["class folders"] for part in ("labeled", "validation")}
        (tmp_path / "pool").mkdir()
        flat = np.full((64, 64, 3), (200, 30, 90), np.uint8)
        try:
            Image.fromarray(flat).save(tmp_path / f"pool/1{end}")
        except (OSError, KeyError):
            pytest.skip(f"this Pillow writes no {end}")
        problem, _ = built(tmp_path, {**forms, "pool": lambda root, part: (str(root), ())}, image_size=6, channels=3)
        assert np.abs(problem.pool.array.astype(int) - flat[:6, :6]).max() < 6

    def test_a_saved_dataset_dict_names_its_splits(self, tmp_path: Path) -> None:
        (tmp_path / "pool").mkdir()
        (tmp_path / "pool/dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
        saved_dataset(tmp_path / "pool/train", "pool")
        forms = {part: OF_IMAGES["class folders"] for part in ("labeled", "validation")}
        problem, _ = built(tmp_path, {**forms, "pool": lambda root, part: (str(root / "train"), ())})
        assert np.array_equal(problem.pool.array, IMAGES["pool"])
        with pytest.raises(ValueError, match=r"DatasetDict with the splits train, test; name one: data.pool=.*/SPLIT"):
            built(tmp_path / "again", {**forms, "pool": lambda root, part: (str(tmp_path / "pool"), ())})
