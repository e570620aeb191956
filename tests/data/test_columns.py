"""Columns of classes, ids and files by other names than the usual: the same comes out of every form with columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from rambo_ray.config.schema import DataConfig
from rambo_ray.errors import UserError

from .test_forms import (
    COUNTS,
    IMAGES,
    NUMBERS,
    Form,
    built,
    in_order,
    label,
    labels,
    listed_with_ids,
    npz_with_ids,
    row_ids,
    same,
    struct,
    vector_column,
)
from .written_images import write_parquet

SAID_SO = {"label": "species", "id": "nr"}  # columns by other names


def renamed(form: Form) -> Form:
    """The same with columns or arrays of classes and ids called otherwise, and a `label` that is something else."""

    def write(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
        place, ids = form(root, part)
        path = Path(place)
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                kept = {SAID_SO.get(name, name): arrays[name] for name in arrays.files}
            np.savez(path, **kept, label=np.zeros(COUNTS[part]))
        elif path.suffix == ".csv":
            first, *rows = path.read_text().splitlines()
            head = ",".join(SAID_SO.get(name, name) for name in first.split(","))
            path.write_text("\n".join([f"{head},label", *(f"{row},x" for row in rows)]))
        else:
            table = pq.read_table(path) if path.suffix == ".parquet" else pyarrow.feather.read_table(path)
            table = table.rename_columns([SAID_SO.get(name, name) for name in table.column_names])
            table = table.append_column("label", pa.array([None] * len(table), pa.string()))
            if path.suffix == ".parquet":
                pq.write_table(table, path)
            else:
                pyarrow.feather.write_feather(table, str(path))
        return place, ids

    return write


def parquet_with_ids(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
    ids = [f"{part}-{i}" for i in range(COUNTS[part])]
    return str(write_parquet(root / "a.parquet", IMAGES[part], labels(part)["label"], id=ids)), tuple(ids)


def feather_with_ids(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
    root.mkdir(parents=True)
    ids = [f"{part}-{i}" for i in range(COUNTS[part])]
    table = pa.table({"image": struct(part), **labels(part), "id": ids})
    pyarrow.feather.write_feather(table, str(root / "a.feather"))
    return str(root / "a.feather"), tuple(ids)


class TestColumnsOfOtherNames:
    NAMED = {"label_column": SAID_SO["label"], "id_column": SAID_SO["id"]}

    @pytest.mark.parametrize(
        "form", [parquet_with_ids, feather_with_ids, listed_with_ids, npz_with_ids], ids=lambda form: form.__name__
    )
    def test_are_read_where_they_are_named(self, tmp_path: Path, form: Form) -> None:
        same(*built(tmp_path, dict.fromkeys(COUNTS, renamed(form)), **self.NAMED), IMAGES)

    def test_of_embeddings(self, tmp_path: Path) -> None:
        form = renamed(vector_column("clip", pa.list_(pa.float32())))
        same(*built(tmp_path, dict.fromkeys(COUNTS, form), column="clip", **self.NAMED), NUMBERS)

    def test_a_list_s_files(self, tmp_path: Path) -> None:
        def files(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
            paths = in_order(part, root, lambda i: f"{i}.png")
            (root / "a.csv").write_text("\n".join(["file,label", *(f"{p},{label(i)}" for i, p in enumerate(paths))]))
            return str(root / "a.csv"), paths

        same(*built(tmp_path, dict.fromkeys(COUNTS, files), column="file"), IMAGES)

    @pytest.mark.parametrize("form", [parquet_with_ids, listed_with_ids, npz_with_ids], ids=lambda form: form.__name__)
    @pytest.mark.parametrize(
        ("keys", "words"),
        [
            (
                {"label_column": "speceis"},
                ("data.label_column=speceis: ", "has no such column (it has: ", "'species'?"),
            ),
            ({"id_column": "number"}, ("data.id_column=number: ", "has no such column (it has: ", "nr")),
        ],
    )
    def test_are_refused_where_they_are_not_there(
        self, tmp_path: Path, form: Form, keys: dict[str, str], words: tuple[str, ...]
    ) -> None:
        with pytest.raises(UserError) as caught:
            built(tmp_path, dict.fromkeys(COUNTS, renamed(form)), **{**self.NAMED, **keys})
        assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)

    def test_without_one_it_says_which_key_names_it(self, tmp_path: Path) -> None:
        def unnamed(root: Path, part: str) -> tuple[str, tuple[str, ...]]:
            write_parquet(root / "a.parquet", IMAGES[part], None, species=labels(part)["label"])
            return str(root / "a.parquet"), row_ids(part)

        with pytest.raises(UserError, match=r"no column 'label'.*it has: image, species.*set data.label_column"):
            built(tmp_path, dict.fromkeys(COUNTS, unnamed))

    def test_they_are_keys_of_one_s_own_data_alone(self) -> None:
        with pytest.raises(ValueError, match="data.label_column=x: only read when data.name=own"):
            DataConfig(name="digits", label_column="x")
