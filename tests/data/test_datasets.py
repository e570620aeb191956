"""Loading of the benchmark datasets and of labelled Parquet datasets."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rambo_ray.config.schema import DataConfig
from rambo_ray.data.datasets import BENCHMARKS, load
from rambo_ray.data.problem import Problem, Revealed, statistics

from .refused import refusal
from .written_images import pictures, png, write_parquet

SMALL = {"num_labeled": 12, "num_validation": 8}
NAMES = ("cat", "dog", "owl")


def revealed(data: DataConfig, seed: int = 0) -> tuple[Problem, Revealed]:
    problem, hidden = load(data, seed)
    assert hidden is not None
    return problem, hidden


def config(root: Path, name: str = "parquet", **keys: Any) -> DataConfig:
    return DataConfig(name=name, root=str(root), **{**SMALL, **keys})


def everything(problem: Problem, hidden: Revealed) -> dict[str, tuple[bytes, str]]:
    """Id -> pixels and class name, of all images of the training split."""
    parts = [
        (problem.labeled, problem.labeled.labels),
        (problem.validation, problem.validation.labels),
        (problem.pool, hidden.pool_labels),
    ]
    return {
        name: (image.tobytes(), problem.class_names[label])
        for images, labels in parts
        for name, image, label in zip(images.ids, images.pixels, labels, strict=True)
    }


class TestDigits:
    def test_sizes_shape_and_scale(self) -> None:
        problem, hidden = revealed(DataConfig(num_labeled=50, num_validation=100))
        assert hidden.test is not None
        assert problem.shape == (8, 8, 1)
        assert problem.pool.pixels.max() == 255
        assert len(problem.pool) == len(hidden.pool_labels)
        assert len(problem.pool) + 150 + len(hidden.test) == 1797
        assert (problem.mean, problem.std) == statistics(problem.labeled.pixels)

    def test_test_split_is_a_fifth_of_every_class_and_the_same_for_every_seed(self) -> None:
        (problem, first), (_, second) = (revealed(DataConfig(), seed) for seed in (1, 2))
        assert first.test is not None and second.test is not None
        assert first.test.ids == second.test.ids
        assert not set(first.test.ids) & {*problem.labeled.ids, *problem.validation.ids, *problem.pool.ids}
        whole = np.bincount(np.concatenate([first.test.labels, *labels_of(problem, first)]))
        assert np.all(np.abs(np.bincount(first.test.labels) - whole / 5) < 1)

    def test_split_seed_replaces_the_seed(self) -> None:
        pools = [
            load(DataConfig(split_seed=split_seed), seed)[0].pool.ids
            for split_seed, seed in [(None, 3), (3, 0), (3, 1), (None, 4)]
        ]
        assert pools[0] == pools[1] == pools[2] != pools[3]

    def test_size_and_channels(self) -> None:
        problem, hidden = revealed(DataConfig(image_size=12, channels=3))
        assert problem.shape == (12, 12, 3) == (hidden.test.shape if hidden.test else None)
        assert len(problem.mean) == 3

    def test_too_many_images_asked_for(self) -> None:
        line = refusal(DataConfig(num_labeled=1000, num_validation=1000))
        assert "data.num_labeled=1000" in line and "lower" in line


def labels_of(problem: Problem, hidden: Revealed) -> list[np.ndarray]:
    return [problem.labeled.labels, problem.validation.labels, hidden.pool_labels]


class TestParquet:
    def test_round_trip_over_shards_with_declared_names(self, tmp_path: Path) -> None:
        pixels, labels = pictures(60, channels=3), np.arange(60) % 3
        for shard in range(3):
            rows = slice(shard * 20, shard * 20 + 20)
            file = tmp_path / f"train-0000{shard}-of-00003.parquet"
            write_parquet(file, pixels[rows], labels[rows], names=NAMES)
        write_parquet(tmp_path / "test-00000-of-00001.parquet", pixels[:5], labels[:5], names=NAMES)
        problem, hidden = revealed(config(tmp_path))
        assert problem.class_names == NAMES
        assert everything(problem, hidden) == {
            f"train/{row}": (pixels[row].tobytes(), NAMES[row % 3]) for row in range(60)
        }
        assert hidden.test is not None
        assert hidden.test.ids == tuple(f"test/{row}" for row in range(5))
        assert np.array_equal(hidden.test.pixels, pixels[:5])
        assert hidden.test.labels.tolist() == [0, 1, 2, 0, 1]

    def test_a_single_file_has_no_test_split(self, tmp_path: Path) -> None:
        file = write_parquet(tmp_path / "all.parquet", pictures(30), np.arange(30) % 3)
        assert revealed(config(file))[1].test is None

    def test_other_files_are_the_training_set_but_test_files_never(self, tmp_path: Path) -> None:
        write_parquet(tmp_path / "part1.parquet", pictures(30), np.arange(30) % 3)
        write_parquet(tmp_path / "test.parquet", pictures(4, seed=1), np.arange(4) % 3)
        problem, hidden = revealed(config(tmp_path))
        assert len(problem.pool) == 10 and hidden.test is not None and len(hidden.test) == 4

    def test_integers_without_names_are_counted_in_their_own_order(self, tmp_path: Path) -> None:
        labels = np.array([2, 10, 7] * 10)
        problem, hidden = revealed(config(write_parquet(tmp_path / "a.parquet", pictures(30), labels)))
        assert problem.class_names == ("2", "7", "10")
        assert {int(name.split("/")[1]) % 3: c for name, (_, c) in everything(problem, hidden).items()} == {
            0: "2", 1: "10", 2: "7",
        }  # fmt: skip

    @pytest.mark.parametrize("dictionary", [False, True])
    def test_string_classes(self, tmp_path: Path, dictionary: bool) -> None:
        labels = pa.array(["owl", "cat", "dog"] * 10)
        labels = labels.dictionary_encode() if dictionary else labels
        problem, hidden = revealed(config(write_parquet(tmp_path / "a.parquet", pictures(30), labels)))
        assert problem.class_names == NAMES
        assert everything(problem, hidden)["train/1"][1] == "cat"

    @pytest.mark.parametrize(
        ("columns", "expected"),
        [
            ({"id": [f"x{i}" for i in range(30)], "paths": [f"{i}.png" for i in range(30)]}, "x0"),
            ({"id": list(range(100, 130))}, "100"),
            ({"path": [f"{i}.png" for i in range(30)]}, "0.png"),
            ({"paths": [f"p/{i}.png" for i in range(30)]}, "p/0.png"),
            ({"id": ["same"] * 30, "paths": [f"p/{i}.png" for i in range(30)]}, "p/0.png"),
            ({"paths": ["same"] * 30}, "train/0"),
            ({"paths": [None, *(f"{i}.png" for i in range(29))]}, "train/0"),
        ],
    )
    def test_ids(self, tmp_path: Path, columns: dict[str, Any], expected: str) -> None:
        file = write_parquet(tmp_path / "a.parquet", pictures(30), np.arange(30) % 3, **columns)
        assert expected in everything(*revealed(config(file)))

    def test_one_more_row_keeps_the_ids_of_the_others(self, tmp_path: Path) -> None:
        pixels, labels = pictures(31), np.arange(31) % 3
        small = everything(*revealed(config(write_parquet(tmp_path / "a.parquet", pixels[:30], labels[:30]))))
        large = everything(*revealed(config(write_parquet(tmp_path / "b.parquet", pixels, labels))))
        assert small.items() <= large.items()

    def test_pool_limit(self, tmp_path: Path) -> None:
        file = write_parquet(tmp_path / "a.parquet", pictures(60), np.arange(60) % 3)
        whole, part = (load(config(file, pool_limit=limit), 0)[0] for limit in (None, 7))
        assert part.pool.ids == whole.pool.ids[:7]
        assert part.fingerprint == whole.fingerprint

    def test_binary_images_and_the_name_img(self, tmp_path: Path) -> None:
        file = tmp_path / "a.parquet"
        encoded = [png(picture) for picture in pictures(30)]
        pa.parquet.write_table(pa.table({"img": encoded, "label": np.arange(30) % 3}), file)
        assert load(config(file), 0)[0].shape == (6, 6, 1)


class TestParquetMistakes:
    @pytest.mark.parametrize(
        ("labels", "parts"),
        [
            (None, ["no column 'label'", "it has: image"]),
            ([0, None, 2] * 10, ["row 1", "label is null", "10 rows"]),
            ([0, 1, -1] * 10, ["row 2", "label -1 is negative", "relabel"]),
            ([0.0, 1.0, 2.0] * 10, ["'label' is double", "integers or strings"]),
            ([True, False, True] * 10, ["'label' is bool", "integers or strings"]),
            ([4] * 30, ["one class", "at least 2"]),
            (["cat"] * 30, ["one class", "at least 2"]),
            (pa.array([2**63] * 30, pa.uint64()), ["64 bits"]),
        ],
    )
    def test_labels(self, tmp_path: Path, labels: Any, parts: list[str]) -> None:
        line = refusal(config(write_parquet(tmp_path / "a.parquet", pictures(30), labels)))
        assert all(part in line for part in ["data.root: ", "a.parquet", *parts]), line

    @pytest.mark.parametrize(
        ("labels", "parts"),
        [
            ([0, 1, 3] * 10, ["label 3 is beyond the 3 class names"]),
            (["cat", "dog", "own"] * 10, ["class 'own' is not declared", "did you mean 'owl'?"]),
        ],
    )
    def test_labels_against_declared_names(self, tmp_path: Path, labels: Any, parts: list[str]) -> None:
        line = refusal(config(write_parquet(tmp_path / "a.parquet", pictures(30), labels, names=NAMES)))
        assert all(part in line for part in parts), line

    def test_a_class_of_the_test_split_alone(self, tmp_path: Path) -> None:
        write_parquet(tmp_path / "train-0.parquet", pictures(30), ["cat", "dog", "owl"] * 10)
        write_parquet(tmp_path / "test-0.parquet", pictures(2), ["cat", "elk"])
        assert "class 'elk' is not among the 3 classes" in refusal(config(tmp_path))

    def test_shards_that_disagree(self, tmp_path: Path) -> None:
        write_parquet(tmp_path / "train-0.parquet", pictures(30), ["cat", "dog", "owl"] * 10)
        write_parquet(tmp_path / "train-1.parquet", pictures(3), [0, 1, 2])
        assert "train-1.parquet: labels are int64, but string" in refusal(config(tmp_path))
        write_parquet(tmp_path / "train-0.parquet", pictures(30), [0, 1, 2] * 10, names=NAMES)
        assert "declares other class names" in refusal(config(tmp_path))

    def test_no_images(self, tmp_path: Path) -> None:
        file = tmp_path / "a.parquet"
        pa.parquet.write_table(pa.table({"picture": [b"x"] * 30, "label": np.arange(30) % 3}), file)
        assert "no column 'image'" in refusal(config(file))
        pa.parquet.write_table(pa.table({"image": ["x"] * 30, "label": np.arange(30) % 3}), file)
        assert "column 'image' is string" in refusal(config(file))

    def test_no_rows(self, tmp_path: Path) -> None:
        file = write_parquet(tmp_path / "a.parquet", [], pa.array([], pa.int64()))
        assert f"data.root: {file}: no rows" in refusal(config(file))

    @pytest.mark.parametrize(("content", "part"), [(None, "no image bytes"), (b"x", "not a readable image")])
    def test_bad_image_names_its_row(self, tmp_path: Path, content: bytes | None, part: str) -> None:
        images: list[bytes | None] = [png(picture) for picture in pictures(30)]
        images[17] = content
        line = refusal(config(write_parquet(tmp_path / "a.parquet", images, np.arange(30) % 3)))
        assert "a.parquet row 17" in line and part in line

    def test_mixed_sizes(self, tmp_path: Path) -> None:
        images = [png(picture) for picture in (*pictures(20), *pictures(10, side=7))]
        file = write_parquet(tmp_path / "a.parquet", images, np.arange(30) % 3)
        line = refusal(config(file))
        assert "row 20: 7x7 pixels" in line and "row 0 has 6x6" in line and "data.image_size=6" in line
        assert load(config(file, image_size=6), 0)[0].shape == (6, 6, 1)

    @pytest.mark.parametrize("cut", [0, 100, -300])
    def test_corrupt_file(self, tmp_path: Path, cut: int) -> None:
        file = write_parquet(tmp_path / "a.parquet", pictures(30), np.arange(30) % 3)
        file.write_bytes(file.read_bytes()[:cut])
        assert "not a readable Parquet file" in refusal(config(file))

    def test_damaged_pages(self, tmp_path: Path) -> None:
        file = write_parquet(tmp_path / "a.parquet", pictures(30), np.arange(30) % 3)
        content = bytearray(file.read_bytes())
        content[4:2000] = bytes(1996)
        file.write_bytes(content)
        assert "a.parquet" in refusal(config(file))

    def test_paths(self, tmp_path: Path) -> None:
        (tmp_path / "photos").mkdir()
        line = refusal(config(tmp_path / "fotos"))
        assert line == f"data.root={tmp_path / 'fotos'}: no such file or folder; did you mean 'photos'?"
        assert "correct the path" in refusal(config(tmp_path / "x" / "y" / "z"))
        assert "holds no Parquet files" in refusal(config(tmp_path / "photos"))

    def test_unknown_name(self) -> None:
        assert refusal(DataConfig(name="fashon_mnist")).endswith("did you mean 'fashion_mnist'?")
        assert "allowed: cifar10, digits" in refusal(DataConfig(name="nothing"))


class TestBenchmarks:
    def test_parquet_needs_neither_torch_nor_ray(self, tmp_path: Path) -> None:
        write_parquet(tmp_path / "train-0.parquet", pictures(60), np.arange(60) % 10)
        program = (
            "import sys; from rambo_ray.config.schema import DataConfig; from rambo_ray.data.datasets import load; "
            f"load(DataConfig(name='mnist', root={str(tmp_path)!r}, num_labeled=12, num_validation=8), 0); "
            "assert not {'torch', 'torchvision', 'ray'} & set(sys.modules)"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", program], env=environment, check=True)

    @pytest.mark.parametrize("below", ["fashion_mnist", "."])
    def test_parquet_in_root_or_below(self, tmp_path: Path, below: str) -> None:
        write_parquet(tmp_path / below / "train-00000-of-00001.parquet", pictures(60), np.arange(60) % 10)
        problem, _ = load(config(tmp_path, "fashion_mnist"), 0)
        assert problem.class_names == BENCHMARKS["fashion_mnist"].class_names
        assert (problem.mean, problem.std) == ((0.1307,), (0.3081,))

    def test_more_channels_take_s_0s_own_normalisation(self, tmp_path: Path) -> None:
        write_parquet(tmp_path / "train-0.parquet", pictures(60), np.arange(60) % 10)
        problem, _ = load(config(tmp_path, "mnist", channels=3, image_size=9), 0)
        assert problem.shape == (9, 9, 3)
        assert (problem.mean, problem.std) == statistics(problem.labeled.pixels)

    def test_another_dataset_in_root(self, tmp_path: Path) -> None:
        write_parquet(tmp_path / "train-0.parquet", pictures(60), np.arange(60) % 3)
        line = refusal(config(tmp_path, "cifar10"))
        assert "3 classes" in line and "data.name=parquet" in line

    @pytest.mark.parametrize(
        ("name", "shape"),
        [("mnist", (5, 4)), ("fashion_mnist", (5, 4)), ("cifar10", (5, 4, 3)), ("svhn", (3, 5, 4))],
    )
    def test_torchvision_arrays(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, shape: tuple[int, ...]
    ) -> None:
        datasets = pytest.importorskip("torchvision.datasets")
        stored = np.random.default_rng(0).integers(0, 256, (60, *shape), dtype=np.uint8)
        calls = []

        def fake(root: str, *, download: bool, train: bool = True, split: str = "train") -> SimpleNamespace:
            is_train = train and split == "train"
            calls.append((root, download, is_train))
            pixels = stored[:40] if is_train else stored[40:]
            labels = [i % 10 for i in range(len(pixels))]
            return SimpleNamespace(data=pixels, targets=labels, labels=np.array(labels))

        classes = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "svhn": "SVHN"}
        monkeypatch.setattr(datasets, classes[name], fake)
        problem, hidden = revealed(config(tmp_path, name, download=False))
        expected = stored.transpose(0, 2, 3, 1) if name == "svhn" else stored.reshape(60, 5, 4, -1)
        assert {name: pixels for name, (pixels, _) in everything(problem, hidden).items()} == {
            f"train/{row}": expected[row].tobytes() for row in range(40)
        }
        assert hidden.test is not None and np.array_equal(hidden.test.pixels, expected[40:])
        assert calls == [(str(tmp_path), False, True), (str(tmp_path), False, False)]
        assert problem.mean == BENCHMARKS[name].normalisation[0]  # type: ignore[index]

    def test_torchvision_files(self, tmp_path: Path) -> None:
        pytest.importorskip("torchvision")
        pixels, labels = pictures(50, side=28), np.arange(50, dtype=np.uint8) % 10
        raw = tmp_path / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for prefix, rows in (("train", slice(0, 40)), ("t10k", slice(40, 50))):
            count = len(labels[rows])
            header = struct.pack(">4i", 2051, count, 28, 28)
            contents = {
                "images-idx3": header + pixels[rows].tobytes(),
                "labels-idx1": struct.pack(">2i", 2049, count) + labels[rows].tobytes(),
            }
            for kind, content in contents.items():
                (raw / f"{prefix}-{kind}-ubyte").write_bytes(content)
                (raw / f"{prefix}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))
        problem, hidden = revealed(config(tmp_path, "mnist", download=False))
        assert everything(problem, hidden)["train/7"] == (pixels[7].tobytes(), "7")
        assert hidden.test is not None and hidden.test.labels.tolist() == list(range(10))

    @pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "svhn"])
    def test_absent_and_not_to_be_downloaded(self, tmp_path: Path, name: str) -> None:
        pytest.importorskip("torchvision")
        line = refusal(config(tmp_path, name, download=False))
        assert line.startswith(f"data.root={tmp_path}: holds no {name}")
        assert "set data.download=true" in line and "train-*.parquet" in line

    def test_download_that_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        datasets = pytest.importorskip("torchvision.datasets")

        def fail(*arguments: object, **keys: object) -> None:
            raise RuntimeError("Error downloading\nfrom everywhere")

        monkeypatch.setattr(datasets, "CIFAR10", fail)
        line = refusal(config(tmp_path, "cifar10"))
        assert "could not be downloaded" in line and "Error downloading from everywhere" in line


class TestRealData:
    """Needs RAMBO_DATA, a folder with mnist, fashion_mnist and cifar10 in Parquet."""

    @pytest.mark.parametrize(
        ("name", "shape"), [("mnist", (28, 28, 1)), ("fashion_mnist", (28, 28, 1)), ("cifar10", (32, 32, 3))]
    )
    def test_loads(self, name: str, shape: tuple[int, int, int]) -> None:
        root = os.environ.get("RAMBO_DATA")
        if root is None:
            pytest.skip("the environment variable RAMBO_DATA names no folder of datasets")
        if not (Path(root) / name).is_dir():
            pytest.skip(f"RAMBO_DATA holds no {name}")
        problem, hidden = revealed(DataConfig(name=name, root=root, num_labeled=200, pool_limit=5000))
        assert hidden.test is not None
        assert problem.shape == hidden.test.shape == shape
        assert problem.class_names == BENCHMARKS[name].class_names
        assert len(problem.pool) == len(hidden.pool_labels) == 5000
        assert problem.pool.ids[0].startswith("train/")
        assert set(hidden.test.labels.tolist()) == set(range(10))
