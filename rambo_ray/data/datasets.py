"""From a `DataConfig` to a `Problem`: built-in datasets, one labelled Parquet dataset, or your files.

- benchmark names (digits, mnist, fashion_mnist, cifar10, svhn) and `parquet`: one labelled training
  set is divided at random into S_0 | S_val | U_0 (`scenarios` says how where data.scenario asks for
  another pool), and the pool's labels and the test split are returned apart, as `Revealed`;
- `own`: S_0, S_val and U_0 are three sets in whatever form, and nothing is revealed (`rambo_ray.data.own`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rambo_ray.config.schema import DataConfig
from rambo_ray.data import depths, names, own, parquet, scenarios, torchvision
from rambo_ray.data.decoding import decode_all, refusal, reshape
from rambo_ray.data.images import Format, Images, LabeledImages, Pixels
from rambo_ray.data.items import Integers
from rambo_ray.data.labels import check_two_classes, translated
from rambo_ray.data.problem import Normalisation, Problem, Revealed, divide
from rambo_ray.data.reading import Reading
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


@dataclass(frozen=True, eq=False)
class Loaded:
    """A problem, what an evaluation may know (None for `own`), and what was read of one's own data, else None."""

    problem: Problem
    revealed: Revealed | None
    reading: Reading | None = None


class Reader:
    """Reads datasets and divides them; one that several seeds or splits share is read once."""

    def __init__(self) -> None:
        self._whole: dict[str, Dataset] = {}

    def load(self, data: DataConfig, seed: int, streams: bool = False) -> tuple[Problem, Revealed | None]:
        """The problem that `data` describes, and what an evaluation may know (None for `own`); see `read`."""
        loaded = self.read(data, seed, streams)
        return loaded.problem, loaded.revealed

    def read(self, data: DataConfig, seed: int, streams: bool = False) -> Loaded:
        """The problem that `data` describes, and what there is to say of it.

        streams: whether the caller can do with a pool that is not in memory, where `data` wants it so.

        The split follows from data.split_seed, or from `seed` where that is null. Raises UserError, one
        line, for whatever is wrong with the configuration's names and paths or with the files.
        """
        if data.name not in NAMES:
            raise UserError(f"data.name={data.name}: no such dataset; {nearest(data.name, NAMES)}")
        if data.name == "own":
            problem, reading = own.read(data, seed, streams=streams)
            assert problem is not None  # what is wrong was raised
            return Loaded(problem, None, reading)
        source = repr([data.name, data.root, data.download, data.image_size, data.channels, data.bit_depth])
        if source not in self._whole:
            self._whole[source] = _dataset(data)
        dataset = self._whole[source]
        benchmark = BENCHMARKS.get(data.name)
        normalisation = benchmark.normalisation if benchmark else None
        if normalisation and len(normalisation[0]) != dataset.train.shape[2]:
            normalisation = None  # grey turned to colour or back: the usual numbers do not apply
        split_seed = seed if data.split_seed is None else data.split_seed
        if data.scenario != "clean":
            made = scenarios.divide(dataset.train, dataset.test, dataset.class_names, data, split_seed, normalisation)
            return Loaded(*made)
        problem, pool_labels = divide(
            dataset.train,
            dataset.class_names,
            num_labeled=data.num_labeled,
            num_validation=data.num_validation,
            pool_limit=data.pool_limit,
            seed=split_seed,
            normalisation=normalisation,
        )
        return Loaded(problem, Revealed(pool_labels, dataset.test))


def load(data: DataConfig, seed: int, streams: bool = False) -> tuple[Problem, Revealed | None]:
    """One problem, see `Reader.load`."""
    return Reader().load(data, seed, streams)


def read(data: DataConfig, seed: int, streams: bool = False) -> Loaded:
    """The same with what there is to say of it, see `Reader.read`."""
    return Reader().read(data, seed, streams)


def _dataset(data: DataConfig) -> Dataset:
    wanted = Format(data.image_size, data.channels, bits=data.bit_depth or 16)
    if data.name == "digits":
        return _digits(wanted)
    root = Path(data.root or DEFAULT_ROOT).expanduser()
    if data.name == "parquet":
        files = _parquet_files(root, f"data.root={data.root}")
        with _naming("data.root"):
            return _parquet(files, wanted, data.bit_depth)
    class_names = BENCHMARKS[data.name].class_names
    for folder in (root / data.name, root):
        files = parquet.find(folder) if folder.is_dir() else []
        if parquet.of_split(files, "train"):
            with _naming("data.root"):
                dataset = _parquet(files, wanted, data.bit_depth)
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


def _parquet(files: list[Path], wanted: Format, bit_depth: int | None) -> Dataset:
    """Files named train-* are the training set (all but test-*, where none is), test-* the test set."""
    test_files = parquet.of_split(files, "test")
    others = [file for file in files if file not in test_files]
    train_files = parquet.of_split(files, "train") or others
    if not train_files:
        train_files, test_files = test_files, []
    source = str(train_files[0])
    classes = parquet.read_labels(train_files)
    check_two_classes(classes.codes, source, "give a dataset of several classes")
    # Labels are checked before any image is decoded, which takes seconds.
    codes = None
    if test_files:
        codes = translated(parquet.read_labels(test_files), classes, str(test_files[0]), source)
    sets = {"train/": train_files} | ({"test/": test_files} if test_files else {})
    pixels = _pixels(sets, wanted, bit_depth)
    ids = {part: parquet.names(sets[part], part, unique_ids=False) for part in sets}
    for each in (*ids.values(), classes.names):
        names.check(each, source, "classes" if each is classes.names else "ids")
    made = {part: Images(pixels[part], ids[part]) for part in sets}
    test = None if codes is None else _labeled(made["test/"], codes)
    return Dataset(_labeled(made["train/"], classes.codes), test, classes.names)


def _pixels(sets: dict[str, list[Path]], wanted: Format, bit_depth: int | None) -> dict[str, Pixels]:
    """The pixels of each set, of one size and depth. Raises UserError for images that cannot be read."""
    found, like = {}, wanted
    for part, files in sets.items():
        decoded = decode_all(parquet.batches(files), parquet.count(files), like)
        if decoded.seen.broken:
            raise refusal(decoded.seen.broken, parquet.count(files))
        if decoded.seen.odd is not None:
            raise decoded.seen.odd
        found[part] = decoded
        _, height, width, channels = decoded.pixels.shape
        like = replace(wanted, like=(f"{files[0]} row 0", (height, width, channels)))
    bits, _ = depths.settle({str(sets[part][0]): decoded.seen for part, decoded in found.items()}, bit_depth)
    if bits == wanted.bits or all(decoded.seen.deep < 0 for decoded in found.values()):
        return {part: decoded.pixels for part, decoded in found.items()}
    return _pixels(sets, replace(wanted, bits=bits), bits)


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


def _labeled(images: Images, codes: Integers) -> LabeledImages:
    return LabeledImages(images.pixels, images.ids, codes)


def _row_ids(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}/{row}" for row in range(count))
