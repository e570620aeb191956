"""Packs the images that `on_gpu.sh` needs into one file of at most 15 MB, for a machine without them.

    python benchmarks/pack_images.py [--data DIR] [--output images.zip]

The first rows of MNIST, FashionMNIST and CIFAR-10 from DIR (or RAMBO_DATA), folders with `train-*.parquet` and
`test-*.parquet`, as the Parquet files they were: the images keep their own compression, and the package's own reader
reads them after unpacking. Their order is the datasets', which is mixed.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import zipfile
from pathlib import Path

import pyarrow.dataset
import pyarrow.parquet

# Rows of each split: enough for S_0, S_val and, of FashionMNIST, for a pool and a test set of some thousands.
ROWS = {
    "fashion_mnist": {"train": 12_000, "test": 2_000},
    "mnist": {"train": 3_000, "test": 10},
    "cifar10": {"train": 3_600, "test": 10},
}
LIMIT = 15_000_000  # bytes


def pack(data: Path, output: Path) -> int:
    """Write the file; its bytes. Raises FileNotFoundError where a dataset is missing, ValueError beyond the limit."""
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as packed:
        for name, splits in ROWS.items():
            for split, count in splits.items():
                files = sorted((data / name).glob(f"{split}-*.parquet"))
                if not files:
                    raise FileNotFoundError(f"{data}: no {name}/{split}-*.parquet there; name the folder above {name}/")
                table = pyarrow.dataset.dataset(files[0]).head(count, columns=["image", "label"])
                content = io.BytesIO()
                # Zstandard finds something in the headers of small PNGs, which all begin alike.
                pyarrow.parquet.write_table(table, content, compression="zstd", compression_level=19)
                packed.writestr(f"{name}/{split}-00000-of-00001.parquet", content.getvalue())
    size = output.stat().st_size
    if size > LIMIT:
        raise ValueError(f"{output}: {size} bytes, more than {LIMIT}; lower ROWS in {__file__}")
    return size


def main() -> int:
    """Pack, and say how large the file is; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", metavar="DIR", default=os.environ.get("RAMBO_DATA"), help="folder with the datasets")
    parser.add_argument("--output", metavar="FILE", type=Path, default=Path("images.zip"))
    arguments = parser.parse_args()
    if not arguments.data:
        parser.error("--data DIR is needed, or RAMBO_DATA: the folder with mnist/, fashion_mnist/ and cifar10/")
    try:
        size = pack(Path(arguments.data), arguments.output)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{arguments.output}: {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
