"""data.name=own: the user's labelled, validation and pool files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rambo_ray.config.schema import DataConfig
from rambo_ray.data.datasets import load
from rambo_ray.data.problem import Problem, statistics

from .refused import refusal
from .written_images import pictures, write_file, write_parquet

LABELED, VALIDATION, POOL = pictures(6, seed=1), pictures(4, seed=2), pictures(9, seed=3)


def own(root: Path, **keys: Any) -> DataConfig:
    parts = {part: keys.pop(part, str(root / part)) for part in ("labeled", "validation", "pool")}
    return DataConfig(name="own", **parts, **keys)


def problem(data: DataConfig) -> Problem:
    found, revealed = load(data, 0)
    assert revealed is None
    return found


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """labeled/ and validation/ with class folders cat and dog, pool/ flat; files are numbered from 0."""
    for part, images in (("labeled", LABELED), ("validation", VALIDATION)):
        for i, image in enumerate(images):
            write_file(tmp_path / part / ("cat", "dog")[i % 2] / f"{i}.png", image)
    for i, image in enumerate(POOL):
        write_file(tmp_path / "pool" / f"{i}.png", image)
    return tmp_path


@pytest.fixture
def parquets(tmp_path: Path) -> Path:
    """The same as Parquet files, labels as strings, ids in a column."""
    for part, images in (("labeled", LABELED), ("validation", VALIDATION), ("pool", POOL)):
        labels = None if part == "pool" else [("cat", "dog")[i % 2] for i in range(len(images))]
        ids = [f"{part} {i}" for i in range(len(images))]
        write_parquet(tmp_path / f"{part}.parquet", images, labels, id=ids)
    return tmp_path


def of_parquets(root: Path, **keys: Any) -> DataConfig:
    parts = {part: str(root / f"{part}.parquet") for part in ("labeled", "validation", "pool")}
    return own(root, **{**parts, **keys})


class TestFolders:
    def test_flat_pool(self, folders: Path) -> None:
        found = problem(own(folders))
        assert found.class_names == ("cat", "dog")
        cats, dogs = (f"cat/{i}.png" for i in (0, 2, 4)), (f"dog/{i}.png" for i in (1, 3, 5))
        assert found.labeled.ids == (*cats, *dogs)
        assert found.labeled.labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert np.array_equal(found.validation.pixels, VALIDATION[[0, 2, 1, 3]])
        assert found.pool.ids == tuple(f"{i}.png" for i in range(9))
        assert np.array_equal(found.pool.pixels, POOL)
        assert (found.mean, found.std) == statistics(LABELED)

    def test_nested_pool(self, folders: Path) -> None:
        (folders / "pool" / "monday").mkdir()
        (folders / "pool/7.png").rename(folders / "pool/monday/7.PNG")
        assert problem(own(folders)).pool.ids[-2:] == ("8.png", "monday/7.PNG")

    def test_a_seed_changes_nothing(self, folders: Path) -> None:
        first, second = (load(own(folders), seed)[0] for seed in (0, 1))
        assert (first.fingerprint, first.pool_fingerprint) == (second.fingerprint, second.pool_fingerprint)

    def test_size_and_channels(self, folders: Path) -> None:
        write_file(folders / "pool" / "big.jpg", pictures(1, seed=9, side=40, channels=3)[0])
        line = refusal(own(folders))
        assert "data.pool: " in line and "big.jpg: 40x40 pixels, 3 channels" in line
        assert "data.labeled=" in line and "data.image_size=6" in line and "data.channels=1" in line
        assert problem(own(folders, image_size=5, channels=3)).shape == (5, 5, 3)

    def test_a_class_of_the_validation_alone(self, folders: Path) -> None:
        (folders / "validation/dog").rename(folders / "validation/dgo")
        line = refusal(own(folders))
        assert line.startswith(f"data.validation={folders / 'validation'}: class 'dgo' is not among the 2")
        assert "did you mean 'dog'?" in line

    def test_a_single_class(self, folders: Path) -> None:
        for file in (folders / "labeled/dog").iterdir():
            file.unlink()
        line = refusal(own(folders))
        assert line.startswith("data.labeled=") and "at least 2" in line

    @pytest.mark.parametrize("part", ["labeled", "validation", "pool"])
    def test_missing_empty_and_wrong(self, folders: Path, part: str) -> None:
        line = refusal(own(folders, **{part: str(folders / f"{part}s")}))
        assert line == f"data.{part}={folders / part}s: no such file or folder; did you mean '{part}'?"
        (folders / "empty").mkdir()
        line = refusal(own(folders, **{part: str(folders / "empty")}))
        assert line.startswith(f"data.{part}={folders / 'empty'}: holds neither Parquet files nor images")
        (folders / "list.txt").write_text("a,b")
        line = refusal(own(folders, **{part: str(folders / "list.txt")}))
        assert line.startswith(f"data.{part}={folders / 'list.txt'}: is no folder and does not end in")

    def test_damaged_image(self, folders: Path) -> None:
        (folders / "pool/3.png").write_bytes(b"")
        line = refusal(own(folders))
        assert line.startswith(f"data.pool: {folders / 'pool/3.png'}: not a readable image")

    @pytest.mark.parametrize("source", ["labeled/dog/1.png", "validation/cat/0.png"])
    def test_an_image_of_the_pool_is_labelled(self, folders: Path, source: str) -> None:
        (folders / "pool/zzz.png").write_bytes((folders / source).read_bytes())
        line = refusal(own(folders))
        part = source.partition("/")[0]
        assert line.startswith(f"data.pool: 1 of its images are also in data.{part} (first: 'zzz.png')")

    def test_an_image_twice_in_the_pool_is_allowed(self, folders: Path) -> None:
        (folders / "pool/zzz.png").write_bytes((folders / "pool/0.png").read_bytes())
        assert len(problem(own(folders)).pool) == 10


class TestParquet:
    def test_equals_the_folders(self, parquets: Path) -> None:
        found = problem(of_parquets(parquets))
        assert found.class_names == ("cat", "dog")
        assert np.array_equal(found.labeled.pixels, LABELED)
        assert found.labeled.labels.tolist() == [0, 1] * 3
        assert found.pool.ids == tuple(f"pool {i}" for i in range(9))

    def test_parquet_and_folders_mix_by_class_name(self, folders: Path) -> None:
        file = write_parquet(folders / "v.parquet", VALIDATION, ["dog", "cat", "dog", "cat"])
        assert problem(own(folders, validation=str(file))).validation.labels.tolist() == [1, 0, 1, 0]

    def test_a_folder_of_shards(self, parquets: Path) -> None:
        for i in range(3):
            write_parquet(parquets / f"shards/part{i}.parquet", POOL[3 * i : 3 * i + 3])
        found = problem(of_parquets(parquets, pool=str(parquets / "shards")))
        assert found.pool.ids == tuple(map(str, range(9)))
        assert np.array_equal(found.pool.pixels, POOL)

    def test_row_numbers_of_two_files_are_not_the_same_image(self, tmp_path: Path) -> None:
        write_parquet(tmp_path / "labeled.parquet", LABELED, [0, 1] * 3)
        write_parquet(tmp_path / "validation.parquet", VALIDATION, [0, 1] * 2)
        write_parquet(tmp_path / "pool.parquet", POOL)
        found = problem(of_parquets(tmp_path))
        assert found.labeled.ids[0] == "labeled/0"
        assert found.pool.ids[0] == "0"

    @pytest.mark.parametrize(
        "garbage",
        [[None] * 9, [-5.5] * 9, ["nonsense"] * 9, list(range(9)), [[1, 2]] * 9, [2**62] * 9],
        ids=["nulls", "floats", "strings", "integers", "lists", "huge"],
    )
    def test_labels_of_a_pool_are_never_read(
        self, parquets: Path, garbage: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clean = problem(of_parquets(parquets))
        ids = [f"pool {i}" for i in range(9)]
        file = write_parquet(parquets / "poisoned.parquet", POOL, garbage, id=ids, names=["x", "y"])
        poisoned = problem(of_parquets(parquets, pool=str(file)))
        assert poisoned.fingerprint == clean.fingerprint
        assert poisoned.pool_fingerprint == clean.pool_fingerprint
        assert poisoned.class_names == clean.class_names
        assert (poisoned.mean, poisoned.std) == (clean.mean, clean.std)

    def test_an_id_in_two_files(self, parquets: Path) -> None:
        ids = [*(f"pool {i}" for i in range(8)), "labeled 2"]
        write_parquet(parquets / "pool.parquet", POOL, id=ids)
        line = refusal(of_parquets(parquets))
        assert line.startswith("data.pool: 1 of its ids are also in data.labeled (first: 'labeled 2')")

    @pytest.mark.parametrize(
        ("ids", "part"),
        [
            (["a", "a", *"bcdefgh"], "holds 'a' twice"),
            ([None, *"abcdefgh"], "holds nulls"),
            ([i + 0.5 for i in range(9)], "is double"),
        ],
    )
    def test_ids_must_name_one_image_each(self, parquets: Path, ids: list[Any], part: str) -> None:
        write_parquet(parquets / "pool.parquet", POOL, id=ids)
        line = refusal(of_parquets(parquets))
        assert line.startswith("data.pool: ") and "column 'id'" in line and part in line

    def test_declared_names_in_another_order(self, parquets: Path) -> None:
        write_parquet(parquets / "labeled.parquet", LABELED, [0, 1] * 3, names=["dog", "cat"])
        write_parquet(parquets / "validation.parquet", VALIDATION, [0, 0, 0, 1], names=["cat", "dog"])
        found = problem(of_parquets(parquets))
        assert found.class_names == ("dog", "cat")
        assert found.validation.labels.tolist() == [1, 1, 1, 0]

    def test_bare_numbers_are_positions_in_the_declared_names(self, parquets: Path) -> None:
        write_parquet(parquets / "labeled.parquet", LABELED, [0, 2] * 3, names=["dog", "cat", "owl"])
        write_parquet(parquets / "validation.parquet", VALIDATION, [2, 2, 0, 1])
        found = problem(of_parquets(parquets))
        assert found.validation.labels.tolist() == [2, 2, 0, 1]
        write_parquet(parquets / "validation.parquet", VALIDATION, [2, 3, 0, 1])
        assert "class '3' is not among the 3 classes" in refusal(of_parquets(parquets))

    @pytest.mark.parametrize("part", ["labeled", "validation"])
    def test_missing_labels(self, parquets: Path, part: str) -> None:
        write_parquet(parquets / f"{part}.parquet", pictures(4, seed=8))
        line = refusal(of_parquets(parquets))
        assert line.startswith(f"data.{part}: ") and "no column 'label'" in line
