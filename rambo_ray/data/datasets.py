"""From a `DataConfig` to a `Problem`: built-in datasets, one labelled Parquet dataset, or your files.

- benchmark names (digits, mnist, fashion_mnist, cifar10, svhn) and `parquet`: one labelled training
  set is divided at random into S_0 | S_val | U_0 (`scenarios` says how where data.scenario asks for
  another pool), and the pool's labels and the test split are returned apart, as `Revealed`;
- `own`: S_0, S_val and U_0 are three files or folders, and nothing is revealed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np

from rambo_ray.config.schema import DataConfig
from rambo_ray.data import folders, held, parquet, scenarios, torchvision
from rambo_ray.data.images import Format, Images, LabeledImages, reshape
from rambo_ray.data.items import Integers, Items
from rambo_ray.data.labels import Labels, check_two_classes, translated
from rambo_ray.data.problem import Normalisation, Problem, Revealed, check_overlap, divide, statistics
from rambo_ray.data.vectors import LabeledVectors, Vectors
from rambo_ray.errors import UserError, nearest

DEFAULT_ROOT = "~/.cache/rambo_ray"

_TEN_DIGITS = tuple("0123456789")
_GARMENTS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Benchmark:
    """Class names of a benchmark dataset, and its usual normalisation (None: from S_0)."""

    class_names: tuple[str, ...]
    normalisation: Normalisation | None


# The normalisations are those of the paper's code base; SVHN's is ImageNet's.
BENCHMARKS = {
    "digits": Benchmark(_TEN_DIGITS, None),
    "mnist": Benchmark(_TEN_DIGITS, ((0.1307,), (0.3081,))),
    "fashion_mnist": Benchmark(_GARMENTS, ((0.1307,), (0.3081,))),
    "cifar10": Benchmark(_OBJECTS, ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))),
    "svhn": Benchmark(_TEN_DIGITS, ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))),
}
NAMES = (*BENCHMARKS, "parquet", "own")


@dataclass(frozen=True, eq=False)
class Dataset:
    """A labelled dataset before it is divided; labels are positions in `class_names`."""

    train: LabeledImages
    test: LabeledImages | None
    class_names: tuple[str, ...]


class Reader:
    """Reads datasets and divides them; one that several seeds or splits share is read once."""

    def __init__(self) -> None:
        self._whole: dict[str, Dataset] = {}

    def load(self, data: DataConfig, seed: int) -> tuple[Problem, Revealed | None]:
        """The problem that `data` describes, and what an evaluation may know (None for `own`).

        The split follows from data.split_seed, or from `seed` where that is null. Raises UserError, one
        line, for whatever is wrong with the configuration's names and paths or with the files.
        """
        if data.name not in NAMES:
            raise UserError(f"data.name={data.name}: no such dataset; {nearest(data.name, NAMES)}")
        if data.name == "own":
            return _own(data), None
        source = repr([data.name, data.root, data.download, data.image_size, data.channels])
        if source not in self._whole:
            self._whole[source] = _dataset(data)
        dataset = self._whole[source]
        benchmark = BENCHMARKS.get(data.name)
        normalisation = benchmark.normalisation if benchmark else None
        if normalisation and len(normalisation[0]) != dataset.train.shape[2]:
            normalisation = None  # grey turned to colour or back: the usual numbers do not apply
        split_seed = seed if data.split_seed is None else data.split_seed
        if data.scenario != "clean":
            return scenarios.divide(dataset.train, dataset.test, dataset.class_names, data, split_seed, normalisation)
        problem, pool_labels = divide(
            dataset.train,
            dataset.class_names,
            num_labeled=data.num_labeled,
            num_validation=data.num_validation,
            pool_limit=data.pool_limit,
            seed=split_seed,
            normalisation=normalisation,
        )
        return problem, Revealed(pool_labels, dataset.test)


def load(data: DataConfig, seed: int) -> tuple[Problem, Revealed | None]:
    """One problem, see `Reader.load`."""
    return Reader().load(data, seed)


def _dataset(data: DataConfig) -> Dataset:
    wanted = Format(data.image_size, data.channels)
    if data.name == "digits":
        return _digits(wanted)
    root = Path(data.root or DEFAULT_ROOT).expanduser()
    if data.name == "parquet":
        files = _parquet_files(root, f"data.root={data.root}")
        with _naming("data.root"):
            return _parquet(files, wanted)
    class_names = BENCHMARKS[data.name].class_names
    for folder in (root / data.name, root):
        files = parquet.find(folder) if folder.is_dir() else []
        if parquet.of_split(files, "train"):
            with _naming("data.root"):
                dataset = _parquet(files, wanted)
            if len(dataset.class_names) != len(class_names):
                raise UserError(
                    f"data.root={root}: its Parquet files hold {len(dataset.class_names)} classes, but "
                    f"{data.name} has {len(class_names)}; set data.name=parquet or another data.root"
                )
            bare = dataset.class_names == tuple(str(i) for i in range(len(class_names)))
            return replace(dataset, class_names=class_names) if bare else dataset
    train = _torchvision(data, root, "train", wanted)
    return Dataset(train, _torchvision(data, root, "test", wanted), class_names)


def _torchvision(data: DataConfig, root: Path, split: str, wanted: Format) -> LabeledImages:
    pixels, labels = torchvision.read(data.name, root, split, data.download)
    return LabeledImages(reshape(pixels, wanted), _row_ids(split, len(labels)), labels)


def _digits(wanted: Format) -> Dataset:
    """scikit-learn's digits. It has no test split: every fifth image of each class is made one."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    labels = labels.astype(np.int64)
    levels = np.round(pixels * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    images = LabeledImages(reshape(levels, wanted), _row_ids("digits", len(labels)), labels)
    is_test = np.zeros(len(labels), bool)
    for label in range(10):
        is_test[np.flatnonzero(labels == label)[4::5]] = True
    return Dataset(images.take(np.flatnonzero(~is_test)), images.take(np.flatnonzero(is_test)), _TEN_DIGITS)


def _parquet(files: list[Path], wanted: Format) -> Dataset:
    """Files named train-* are the training set (all but test-*, where none is), test-* the test set."""
    test_files = parquet.of_split(files, "test")
    others = [file for file in files if file not in test_files]
    train_files = parquet.of_split(files, "train") or others
    if not train_files:
        train_files, test_files = test_files, []
    source = str(train_files[0])
    classes = parquet.read_labels(train_files)
    check_two_classes(classes.codes, source, "give a dataset of several classes")
    if not test_files:
        train = parquet.read(train_files, wanted, "train/")
        return Dataset(_labeled(train, classes.codes), None, classes.names)
    # Labels are checked before any image is decoded, which takes seconds.
    codes = translated(parquet.read_labels(test_files), classes, str(test_files[0]), source)
    train = parquet.read(train_files, wanted, "train/")
    wanted = replace(wanted, like=(f"{source} row 0", train.shape))
    test = parquet.read(test_files, wanted, "test/")
    return Dataset(_labeled(train, classes.codes), _labeled(test, codes), classes.names)


def _own(data: DataConfig) -> Problem:
    assert data.labeled is not None and data.validation is not None and data.pool is not None
    s_0 = _Part("labeled", data.labeled)
    s_val = _Part("validation", data.validation)
    u_0 = _Part("pool", data.pool)

    wanted = Format(data.image_size, data.channels)
    labeled, classes = s_0.read_labeled(wanted)
    check_two_classes(classes.codes, s_0.source, "label images of other classes too")
    if isinstance(labeled, Images):
        wanted = replace(wanted, like=(s_0.source, labeled.shape))
    validation, validation_classes = s_val.read_labeled(wanted)
    codes = translated(validation_classes, classes, s_val.source, s_0.source)
    pool = u_0.read(wanted)
    for part, items in ((s_val, validation), (u_0, pool)):
        _check_alike(labeled, items, s_0.source, part.source)

    identified = frozenset(part.key for part in (s_0, s_val, u_0) if part.has_ids())
    check_overlap(labeled, validation, pool, identified)
    mean, std = statistics(labeled.pixels) if isinstance(labeled, Images) else ((), ())
    return Problem(_labeled(labeled, classes.codes), _labeled(validation, codes), pool, classes.names, mean, std)


def _check_alike(labeled: Items, items: Items, first: str, second: str) -> None:
    """Raise UserError where one of the user's parts is of images and another of embeddings, or their sizes differ."""
    if items.array.shape[1:] != labeled.array.shape[1:]:
        of_images = isinstance(labeled, Images) and isinstance(items, Images)
        remedy = "set data.image_size and data.channels" if of_images else "give all three alike"
        raise UserError(f"{second}: {items.described}, but {first}: {labeled.described}; {remedy}")


class _Part:
    """One of the user's three: in memory (`held`), Parquet files (`files`), or else a folder of images (`path`)."""

    def __init__(self, key: str, path: str) -> None:
        self.key = key
        self.source = f"data.{key}={path}"
        self.held = held.find(path, f"data.{key}") if held.is_name(path) else None
        if self.held is not None:
            return
        self.path = Path(path).expanduser()
        _check_exists(self.path, self.source)
        self.files = parquet.find(self.path)
        if not self.files and not self.path.is_dir():
            raise UserError(f"{self.source}: is no folder and does not end in .parquet; give one of these")

    def read(self, wanted: Format) -> Items:
        """The images or embeddings alone: labels that may lie beside them are not read."""
        row_prefix = "" if self.key == "pool" else f"{self.key}/"
        with _naming(f"data.{self.key}"):
            if self.held is not None:
                return self.held.read(wanted, row_prefix)
            if not self.files:
                return folders.read(self.path, wanted, self.source)
            return parquet.read(self.files, wanted, row_prefix, unique_ids=True)

    def read_labeled(self, wanted: Format) -> tuple[Items, Labels]:
        with _naming(f"data.{self.key}"):
            if self.held is not None:
                return self.read(wanted), self.held.classes(self.source)
            if not self.files:
                return folders.read_classes(self.path, wanted, self.source)
            labels = parquet.read_labels(self.files)
        return self.read(wanted), labels

    def has_ids(self) -> bool:
        if self.held is not None:
            return self.held.ids is not None
        return bool(self.files) and parquet.has_ids(self.files)


def _parquet_files(path: Path, source: str) -> list[Path]:
    _check_exists(path, source)
    files = parquet.find(path)
    if not files:
        raise UserError(f"{source}: holds no Parquet files; give a file that ends in .parquet, or a folder")
    return files


def _check_exists(path: Path, source: str) -> None:
    if path.exists():
        return
    beside: list[str] = []
    if path.parent.is_dir():
        beside = [entry.name for entry in path.parent.iterdir() if not entry.name.startswith(".")]
    hint = nearest(path.name, beside)
    remedy = hint if hint.startswith("did") else "correct the path"
    raise UserError(f"{source}: no such file or folder; {remedy}")


@contextmanager
def _naming(key: str) -> Iterator[None]:
    """Errors about one file or row also say which key of the configuration led there."""
    try:
        yield
    except UserError as error:
        line = str(error)
        raise UserError(line if line.startswith("data.") else f"{key}: {line}") from error


@overload
def _labeled(items: Images, codes: Integers) -> LabeledImages: ...
@overload
def _labeled(items: Items, codes: Integers) -> LabeledImages | LabeledVectors: ...
def _labeled(items: Items, codes: Integers) -> LabeledImages | LabeledVectors:
    if isinstance(items, Images):
        return LabeledImages(items.pixels, items.ids, codes)
    assert isinstance(items, Vectors)
    return LabeledVectors(items.vectors, items.ids, codes)


def _row_ids(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}/{row}" for row in range(count))
