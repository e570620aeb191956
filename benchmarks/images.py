"""The images that benchmarks measure on: the first rows of a dataset, from files that the user has."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow.dataset

from rambo_ray.data.decoding import decode, in_batches
from rambo_ray.data.images import Format


def add_data_option(parser: argparse.ArgumentParser, *names: str) -> None:
    """--data DIR, a folder with the named datasets; by default what RAMBO_DATA says."""
    folders = " or ".join(f"{name}/train-*.parquet" for name in names)
    parser.add_argument("--data", metavar="DIR", default=os.environ.get("RAMBO_DATA"), help=f"folder with {folders}")


def first_rows(data: str, name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 [count, H, W, C] and labels int64 [count] of the first file DIR/name/train-*.parquet.

    Ends the program with exit code 2 where there is no such file.
    """
    files = sorted(Path(data, name).glob("train-*.parquet"))
    if not files:
        print(f"--data {data}: no {name}/train-*.parquet there; name the folder above {name}/, or leave --data out",
              file=sys.stderr)  # fmt: skip
        raise SystemExit(2)
    # Only these rows: decoding a whole file takes seconds, and its memory would count as the benchmark's.
    table = pyarrow.dataset.dataset(files[0]).head(count, columns=["image", "label"])
    stored = [(f"{files[0]} row {row}", image["bytes"]) for row, image in enumerate(table["image"].to_pylist())]
    return decode(in_batches(stored), len(stored), Format()), table["label"].to_numpy()
