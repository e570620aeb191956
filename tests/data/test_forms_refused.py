"""Data that could be misread is asked back in one line, with all that is wrong at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rambo_ray.config.loading import load
from rambo_ray.config.schema import DataConfig
from rambo_ray.data import own
from rambo_ray.data.forms import classes, kinds
from rambo_ray.errors import UserError

from .refused import refusal
from .written_images import pictures, png, write_file, write_parquet


def config(root: Path, **keys: Any) -> DataConfig:
    parts = {part: keys.pop(part, str(root / part)) for part in ("labeled", "validation", "pool")}
    return DataConfig(name="own", **parts, **keys)


def all_errors(data: DataConfig) -> list[str]:
    errors: list[UserError] = []
    own.read(data, 0, errors.append)
    return [str(error) for error in errors]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """labeled/ and validation/ with class folders cat and dog, pool/ flat."""
    for part, count in (("labeled", 6), ("validation", 4)):
        for i, image in enumerate(pictures(count, seed=count)):
            write_file(tmp_path / part / ("cat", "dog")[i % 2] / f"{i}.png", image)
    for i, image in enumerate(pictures(9, seed=9)):
        write_file(tmp_path / f"pool/{i}.png", image)
    return tmp_path


def stray_parquet(pool: Path) -> None:
    write_parquet(pool / "old.parquet", pictures(2))


def stray_list(pool: Path) -> None:
    (pool / "list.csv").write_text("path,label\n1.png,cat\n")


def stray_array(pool: Path) -> None:
    np.savez(pool / "features.npz", embeddings=np.zeros((2, 2)))


def heic(pool: Path) -> None:
    for i in range(3):
        (pool / f"{i}.cr2").write_bytes(b"raw")


class TestFolders:
    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (stray_parquet, ["9 images, 1 Parquet or Arrow files", "old.parquet", "name a file", "**/*.png"]),
            (stray_list, ["9 images, 1 CSV lists", "list.csv", "name a file"]),
            (stray_array, ["9 images, 1 NumPy files", "features.npz"]),
            (heic, ["3 of its images cannot be read here (3 .cr2)", "convert them", "data.on_error=skip"]),
        ],
    )
    def test_mixed_content(self, root: Path, spoil: Callable[[Path], None], words: list[str]) -> None:
        spoil(root / "pool")
        line = refusal(config(root))
        assert line.startswith(f"data.pool={root / 'pool'}: ") and all(word in line for word in words), line

    def test_other_files_are_counted_and_no_error(self, root: Path) -> None:
        for name in ("notes.txt", "labels.csv", "x/y.json", "README"):
            (root / "pool" / name).parent.mkdir(exist_ok=True)
            (root / "pool" / name).write_text("a,b\n1,2\n")
        problem, reading = own.read(config(root), 0)
        assert problem is not None and len(problem.pool) == 9
        assert dict(reading.sets[2].skipped) == {".txt": 1, ".json": 1, ".csv": 1, "without a suffix": 1}

    def test_unreadable_kinds_are_left_out_when_asked(self, root: Path) -> None:
        heic(root / "pool")
        problem, reading = own.read(config(root, on_error="skip"), 0)
        assert problem is not None and len(problem.pool) == 9
        assert "images that cannot be read here, left out: 3 .cr2" in reading.text()

    def test_what_would_read_them_is_said(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(kinds, "readable", lambda: ("PNG", "JPEG"))  # as without pillow-heif
        for name in ("1.heic", "2.HEIC", "3.avif"):
            (root / "pool" / name).write_bytes(b"x")
        line = refusal(config(root))
        assert "3 of its images cannot be read here (2 .heic, 1 .avif)" in line
        assert "pip install 'rambo-ray[formats]' to read them, or data.on_error=skip" in line

    def test_nothing_but_unreadable_kinds(self, root: Path) -> None:
        (root / "raw").mkdir()
        heic(root / "raw")
        for keys in ({}, {"on_error": "skip"}):
            assert "3 of its images cannot be read here" in refusal(config(root, pool=str(root / "raw"), **keys))

    def test_splits_are_not_read_together(self, root: Path) -> None:
        for split in ("train", "test"):
            write_parquet(root / f"hub/data/{split}-0.parquet", pictures(3))
        line = refusal(config(root, pool=str(root / "hub")))
        assert "holds the splits test, train" in line and f"data.pool={root}/hub/data/train*" in line

    def test_tables_here_and_below(self, root: Path) -> None:
        for name in ("a", "sub/b"):
            write_parquet(root / f"tables/{name}.parquet", pictures(3))
        assert "holds 1 tables and 1 in folders below it" in refusal(config(root, pool=str(root / "tables")))

    def test_patterns(self, root: Path) -> None:
        assert "no file matches" in refusal(config(root, pool=f"{root}/pool/*.jpg"))
        assert "there is no folder" in refusal(config(root, pool=f"{root}/pull/*.jpg"))
        stray_parquet(root / "pool")
        assert "9 images, 1 Parquet" in refusal(config(root, pool=f"{root}/pool/*"))
        assert "is one image; give its folder" in refusal(config(root, pool=f"{root}/pool/1.png"))


class TestClasses:
    @pytest.mark.parametrize(
        ("paths", "expected"),
        [
            (["cat/1", "dog/2"], ["cat", "dog"]),
            (["train/cat/1", "train/dog/2"], ["cat", "dog"]),
            (["a/train/cat/1", "a/train/dog/2"], ["cat", "dog"]),
            (["cat/images/1", "dog/images/2"], ["cat", "dog"]),
            (["cat/1", "cat/more/2", "dog/3"], ["cat", "cat", "dog"]),
            (["all/cat/1", "all/cat/2"], ["cat", "cat"]),
        ],
    )
    def test_the_folder_that_differs(self, paths: list[str], expected: list[str]) -> None:
        assert classes.of_paths(paths, None, "data.labeled=x") == expected

    @pytest.mark.parametrize(
        ("paths", "words"),
        [
            (["monday/cat/1", "tuesday/dog/2"], ["level 1: monday, tuesday; level 2: cat, dog", "data.class_level=2"]),
            (["cat/1", "dog/2", "batch2/cat/3"], ["several depths", "cat, dog", "batch2/cat", "data.class_level=-1"]),
            (["cat/1", "2"], ["2 lies in no class folder"]),
        ],
    )
    def test_what_is_not_clear(self, paths: list[str], words: list[str]) -> None:
        with pytest.raises(UserError) as error:
            classes.of_paths(paths, None, "data.labeled=x")
        assert str(error.value).startswith("data.labeled=x: ") and all(word in str(error.value) for word in words)

    @pytest.mark.parametrize(
        ("level", "expected"), [(1, ["monday", "tuesday"]), (2, ["cat", "dog"]), (-1, ["cat", "dog"])]
    )
    def test_level(self, level: int, expected: list[str]) -> None:
        assert classes.of_paths(["monday/cat/1", "tuesday/dog/2"], level, "x") == expected

    def test_levels_that_are_not_there(self) -> None:
        for level in (3, -3):
            with pytest.raises(UserError, match=f"data.class_level={level}: .* has only 2 folders"):
                classes.of_paths(["monday/cat/1"], level, "x")
        assert classes.of_paths(["cat/1", "more/dog/2"], -1, "x") == ["cat", "dog"]


class TestLists:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("file,label\n1.png,cat", ["no column 'path'", "file, label"]),
            ("path,kind\n1.png,cat", ["no column 'label'", "path, kind"]),
            ("path,label\n", ["no rows"]),
            ("path,label\n,cat", ["row 0: no path"]),
            ("path,label\n1.png,\n2.png,cat", ["row 0: label is empty", "the 1 rows"]),
            ("path,label\n1.png", ["row 0: 1 values", "2 columns"]),
            ("path,path\n1.png,2.png", ["the column 'path' twice"]),
            ("path,label,id\n1.png,cat,a\n2.png,dog,a", ["column 'id' holds 'a' twice"]),
            ('path,label\n"1.png,cat', ["not a readable CSV file"]),
            ("path,label\n1.png,\xe9", ["is not UTF-8 text"]),
        ],
    )
    def test_bad_lists(self, root: Path, text: str, words: list[str]) -> None:
        (root / "labeled/list.csv").write_text(text, encoding="latin-1" if "\xe9" in text else "utf-8")
        for name in ("1.png", "2.png"):
            write_file(root / "labeled" / name, pictures(1, seed=77 + len(name))[0])
        line = refusal(config(root, labeled=str(root / "labeled/list.csv")))
        assert line.startswith(f"data.labeled={root / 'labeled/list.csv'}") and all(word in line for word in words), (
            line
        )

    def test_missing_files_are_all_named(self, root: Path) -> None:
        rows = "\n".join(f"pool/{i}.png" for i in range(8, 13))
        (root / "list.csv").write_text(f"path\n{rows}\n")
        line = refusal(config(root, pool=str(root / "list.csv")))
        assert "4 of 5 images cannot be read" in line and "12.png" in line and "No such file" in line


class TestArrays:
    @pytest.mark.parametrize(
        ("arrays", "words"),
        [
            ({"x": np.zeros((3, 4))}, ["neither an array 'images' nor 'embeddings'", "it has x"]),
            ({"images": np.zeros((3, 6, 6))}, ["images are float64", "must be uint8"]),
            ({"images": np.zeros((3, 3, 6, 6), np.uint8)}, ["transpose them from [N, C, H, W]"]),
            ({"images": np.zeros((0, 6, 6), np.uint8)}, ["no rows"]),
            ({"images": np.zeros((3, 6, 6), np.uint8), "embeddings": np.zeros((3, 2))}, ["data.column=images"]),
            ({"images": np.zeros((3, 6, 6), np.uint8), "id": np.array(["a", "a", "b"])}, ["'id' holds 'a' twice"]),
            ({"images": np.zeros((3, 6, 6), np.uint8), "id": np.arange(2)}, ["array 'id' is [2], must be [3]"]),
            ({"images": np.zeros((3, 6, 6), np.uint8), "id": np.array([{}, 1, 2])}, ["never unpickled"]),
            ({"embeddings": np.zeros((9, 2))}, ["holds images", "holds embeddings", "must be images in all sets"]),
        ],
    )
    def test_bad_arrays(self, root: Path, arrays: dict[str, np.ndarray], words: list[str]) -> None:
        np.savez(root / "a.npz", **arrays)  # type: ignore[arg-type]
        line = refusal(config(root, pool=str(root / "a.npz")))
        assert "a.npz" in line and all(word in line for word in words), line

    def test_labels(self, root: Path) -> None:
        images = pictures(3, seed=50)[..., 0]
        for labels, word in ((np.array([0.0, 1, 2]), "is float64"), (np.array([0, -1, 2]), "row 1: label -1")):
            np.savez(root / "a.npz", images=images, label=labels)
            assert word in refusal(config(root, labeled=str(root / "a.npz")))
        np.savez(root / "a.npz", images=images)
        assert "has no array 'label', which holds the classes (it has: images)" in refusal(
            config(root, labeled=str(root / "a.npz"))
        )

    def test_damaged(self, root: Path) -> None:
        (root / "a.npz").write_bytes(b"PK\x03\x04 no")
        assert "not a readable NumPy file" in refusal(config(root, pool=str(root / "a.npz")))

    @pytest.mark.parametrize(
        ("column", "words"),
        [
            ([[1.0, 2.0], None, [3.0, 4.0]], ["row 1: no embedding"]),
            ([[1.0, 2.0], [3.0], [3.0, 4.0]], ["row 1: 1 numbers, but 2"]),
            ([[1.0, 2.0], [3.0, None], [3.0, 4.0]], ["row 1: a number of embedding is missing"]),
            ([[1.0, 2.0], [3.0, 4.0], [float("nan"), 4.0]], ["row 2: number 0 is nan"]),
            ([["a"], ["b"], ["c"]], ["holds lists of string"]),
        ],
    )
    def test_columns_of_embeddings(self, root: Path, column: list[Any], words: list[str]) -> None:
        for part in ("labeled", "validation"):
            rows = np.random.default_rng(len(part)).normal(size=(4, 2)).tolist()
            pq.write_table(pa.table({"embedding": rows, "label": list("abab")}), root / f"{part}.parquet")
        pq.write_table(pa.table({"embedding": column}), root / "pool.parquet")
        files = {part: str(root / f"{part}.parquet") for part in ("labeled", "validation", "pool")}
        line = refusal(config(root, **files))
        assert line.startswith("data.pool: ") and all(word in line for word in words), line

    def test_both_kinds_of_columns(self, root: Path) -> None:
        image = [{"bytes": png(x), "path": None} for x in pictures(2, seed=30)]
        pq.write_table(pa.table({"image": image, "embedding": [[1.0], [2.0]]}), root / "a.parquet")
        line = refusal(config(root, pool=str(root / "a.parquet")))
        assert "set data.column=image or data.column=embedding" in line
        line = refusal(config(root, pool=str(root / "a.parquet"), column="imagge"))
        assert line.startswith("data.column=imagge") and "did you mean 'image'?" in line


class TestEverythingAtOnce:
    def test_each_set_s_own_fault_is_found(self, root: Path) -> None:
        (root / "labeled/cat/0.png").write_bytes(b"")
        (root / "validation/cat").rename(root / "validation/kat")
        (root / "pool/3.png").write_bytes(b"no image")
        (root / "pool/5.png").unlink()
        write_file(root / "pool/5.png", pictures(1, seed=1, side=7)[0])
        lines = all_errors(config(root))
        assert len(lines) == 4, lines
        for line, words in zip(
            lines,
            ["class 'kat' is not among", "labeled/cat/0.png: not a readable", "3.png: not a readable", "5.png: 7x7"],
            strict=True,
        ):
            assert words in line

    def test_a_missing_set_does_not_hide_another_s_fault(self, root: Path) -> None:
        (root / "pool/3.png").write_bytes(b"no image")
        lines = all_errors(config(root, validation=str(root / "nowhere")))
        assert len(lines) == 2 and "no such file" in lines[0] and "not a readable" in lines[1]

    def test_more_than_ten_broken_ones(self, root: Path) -> None:
        for i in range(20, 35):
            (root / f"pool/{i}.png").write_bytes(b"")
        line = refusal(config(root))
        assert "15 of 24 images cannot be read" in line and "29.png, and 5 more" in line
        assert "data.on_error=skip" in line


def test_keys_that_are_read_for_one_s_own_data_only() -> None:
    for override in ("data.on_error=skip", "data.class_level=1", "data.none_label=x", "data.validation_share=0.2"):
        with pytest.raises(UserError, match="only read when data.name=own"):
            load(None, [override])


def test_validation_or_its_share() -> None:
    given = ["data.name=own", "data.labeled=a", "data.pool=b"]
    assert "data.validation_share=0.3" in str(pytest.raises(UserError, load, None, given).value)
    with pytest.raises(UserError, match="leave one of them out"):
        load(None, [*given, "data.validation=c", "data.validation_share=0.3"])
    assert load(None, [*given, "data.validation_share=0.3", "data.none_label=9"]).data.none_label == "9"
    assert json.dumps(load(None, [*given, "data.validation_share=0.3"]).data.model_dump())
