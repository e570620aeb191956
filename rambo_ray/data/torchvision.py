"""MNIST, FashionMNIST, CIFAR10 and SVHN as torchvision stores and downloads them.

torchvision is imported only when a dataset is asked for: it takes seconds and hundreds of
megabytes, and a run on Parquet files needs none of it.

N images, H height, W width, C channels.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from rambo_ray.data.images import Pixels
from rambo_ray.data.items import Integers
from rambo_ray.errors import UserError

CLASSES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "svhn": "SVHN"}


def read(name: str, root: Path, split: str, download: bool) -> tuple[Pixels, Integers]:
    """Pixels uint8 [N, H, W, C] and labels int64 [N] of a split, "train" or "test".

    What `root` does not hold is downloaded where `download` allows it. Raises UserError, one line,
    where the dataset is absent, cannot be downloaded or cannot be read.
    """
    try:
        dataset = _open(name, root, split, download)
    except ImportError as error:
        raise UserError(f"data.name={name}: needs the package '{error.name}'; install it") from error
    except Exception as error:  # whatever the network, the disk or an unpickled file may raise
        reason = " ".join(str(error).split()).partition(" You can use")[0] or type(error).__name__
        if download:
            raise UserError(
                f"data.root={root}: {name} could not be downloaded or read ({reason[:160]}); put {name}'s "
                "files or train-*.parquet there, or delete what is damaged there and try again"
            ) from error
        raise UserError(
            f"data.root={root}: holds no {name} that can be read ({reason[:160]}); set data.download=true, "
            f"or put {name}'s files or train-*.parquet there"
        ) from error
    pixels = np.asarray(dataset.data, dtype=np.uint8)
    labels = np.asarray(dataset.labels if name == "svhn" else dataset.targets, dtype=np.int64)
    if name == "svhn":
        pixels = pixels.transpose(0, 2, 3, 1)  # stored channels first
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    return np.ascontiguousarray(pixels), labels


def _open(name: str, root: Path, split: str, download: bool) -> Any:
    import torchvision.datasets

    which = {"split": split} if name == "svhn" else {"train": split == "train"}
    with contextlib.redirect_stdout(sys.stderr):  # the standard output belongs to the job
        return getattr(torchvision.datasets, CLASSES[name])(str(root), download=download, **which)
