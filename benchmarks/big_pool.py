"""A pool of a million images through a run: the driver's memory, and the pass's rate beside a plain loop's.

    python benchmarks/big_pool.py make DIR [--data DIR] [--images 1000000] [--shards 20]
    python benchmarks/big_pool.py measure DIR --output RESULT.json [--runs DIR] [--set KEY=VALUE ...]

`make` writes DIR/pool/*.parquet, PNGs of 28x28 in the layout of Hugging Face datasets, made from MNIST's training
images by a shift and noise on the digit's own pixels, each one unique; and DIR/labeled and DIR/validation, 200 and
1000 of its test images. `measure` runs `rambo run` on them and asks the kernel for its driver's largest memory.
Before and after that, with as many processes as the run has actors, a plain loop reads, decodes and predicts the
first images of each shard: the rate of the pass is divided by the mean of both, as other work may slow the machine.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
from PIL import Image

from rambo_ray.data import parquet
from rambo_ray.data.decoding import decode, in_batches
from rambo_ray.data.images import Format

GROUP = 5000  # rows of a row group
PROGRAM = "import sys; from rambo_ray.cli.main import main; sys.exit(main())"
SHIFT, NOISE = 2, 12  # pixels, levels


def main() -> int:
    """Make or measure; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    make = commands.add_parser("make", help="write the images")
    make.add_argument("folder", type=Path)
    make.add_argument("--data", default=os.environ.get("RAMBO_DATA"), help="folder with mnist/train-*.parquet")
    make.add_argument("--images", type=int, default=1_000_000)
    make.add_argument("--shards", type=int, default=20)
    make.set_defaults(call=lambda given: made(given.folder, Path(given.data), given.images, given.shards))
    measure = commands.add_parser("measure", help="run on them")
    measure.add_argument("folder", type=Path)
    measure.add_argument("--output", type=Path, required=True)
    measure.add_argument("--runs", type=Path, default=Path("runs/big_pool"))
    measure.add_argument("--plain", type=int, default=40_000, help="images of the plain loop, each time")
    measure.add_argument("--set", dest="overrides", nargs="+", default=[], metavar="KEY=VALUE", help="keys of the run")
    measure.set_defaults(call=measured)
    given = parser.parse_args()
    given.call(given)
    return 0


# -- the images ----------------------------------------------------------------------------------


def made(folder: Path, data: Path, images: int, shards: int) -> None:
    """Write pool, labelled and validation images below `folder`."""
    train, _ = _mnist(data, "train")
    bounds = np.linspace(0, images, shards + 1).astype(int)
    (folder / "pool").mkdir(parents=True, exist_ok=True)
    pieces = [
        (train, folder / "pool" / f"pool-{n:05d}.parquet", int(bounds[n]), int(bounds[n + 1])) for n in range(shards)
    ]
    began = time.perf_counter()
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as processes:
        parts = []
        for count, marks in enumerate(processes.map(_shard, pieces), 1):
            parts.append(marks)
            rate = sum(map(len, parts)) / (time.perf_counter() - began)
            print(f"{count} of {shards} shards, {rate:.0f} images/s", flush=True)
    seen = np.concatenate(parts)
    repeated = len(seen) - len(np.unique(seen))
    if repeated:
        raise SystemExit(f"{repeated} images occur twice; change SHIFT or NOISE")
    test, labels = _mnist(data, "test")
    for name, rows in (("labeled", slice(0, 200)), ("validation", slice(200, 1200))):
        _written(
            folder / name / f"{name}.parquet", test[rows], [f"{name}-{i}" for i in range(len(test[rows]))], labels[rows]
        )


def _shard(piece: tuple[np.ndarray, Path, int, int]) -> np.ndarray:
    """Write images first to last as a file; the first 8 bytes of each one's digest."""
    import hashlib

    train, path, first, last = piece
    numbers = np.arange(first, last)
    # Each number has its own noise, whatever the number of shards.
    pixels = np.concatenate([_varied(train, numbers[i : i + GROUP]) for i in range(0, len(numbers), GROUP)])
    _written(path, pixels, [f"{i:08d}" for i in numbers])
    return np.array(
        [int.from_bytes(hashlib.blake2b(image, digest_size=8).digest(), "big") for image in pixels], np.uint64
    )


def _varied(train: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Training image number i mod len(train), moved by up to SHIFT pixels, with up to NOISE levels on its ink."""
    pixels = train[numbers % len(train)]
    made = np.zeros_like(pixels)
    for place, number in enumerate(numbers.tolist()):
        generator = np.random.default_rng([16, number])
        down, right = generator.integers(-SHIFT, SHIFT + 1, 2)
        image = np.roll(pixels[place], (down, right), (0, 1)).astype(np.int16)
        noise = generator.integers(-NOISE, NOISE + 1, image.shape)
        made[place] = np.where(image > 0, np.clip(image + noise, 1, 255), 0)
    return made


def _written(path: Path, pixels: np.ndarray, ids: list[str], labels: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = []
    for image in pixels:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG", compress_level=1)
        stored.append({"bytes": file.getvalue(), "path": None})
    columns = {"id": ids, "image": pa.array(stored, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))}
    if labels is not None:
        columns["label"] = labels
    pq.write_table(pa.table(columns), path, row_group_size=GROUP)


def _mnist(data: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    files = sorted((data / "mnist").glob(f"{split}-*.parquet"))
    if not files:
        raise SystemExit(f"--data {data}: no mnist/{split}-*.parquet there; name the folder above mnist/")
    pixels = decode(parquet.batches(files), parquet.count(files), Format())
    return pixels[..., 0], parquet.read_labels(files).codes


# -- the measurement -----------------------------------------------------------------------------


def measured(given: argparse.Namespace) -> None:
    """Run, and write what was measured."""
    pool = sorted((given.folder / "pool").glob("*.parquet"))
    overrides = [
        "data.name=own",
        *(f"data.{part}={given.folder / part}" for part in ("labeled", "validation", "pool")),
        "data.stream=always",
        *given.overrides,
    ]
    workers = os.cpu_count() or 1
    before = plain(pool, given.plain, workers)
    output = given.runs.resolve()
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, "run", "--output", str(output), *overrides])
    peak = 0
    while process.poll() is None:
        peak = max(peak, *map(_peak_bytes, [process.pid, *_children(process.pid)]))  # the driver is watched over
        time.sleep(0.5)
    whole = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(process.returncode)
    after = plain(pool, given.plain, workers)
    metrics = json.loads((output / "metrics.json").read_text())
    images, seconds = metrics["sizes"]["pool"], metrics["seconds"]["pass over the pool"]
    both = (before["images_per_s"] + after["images_per_s"]) / 2
    result = {
        "images": images,
        "driver_peak_bytes": peak,
        "pass_s": seconds,
        "pass_images_per_s": images / seconds,
        "plain_before": before,
        "plain_after": after,
        "ratio": images / seconds / both,
        "run_s": whole,
        "seconds": metrics["seconds"],
        "load": os.getloadavg(),
    }
    given.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def plain(pool: list[Path], images: int, workers: int) -> dict[str, float]:
    """Images a second of `workers` processes that each read, decode and predict their share in a loop."""
    each = images // workers
    with ProcessPoolExecutor(workers, get_context("spawn")) as processes:
        list(processes.map(_loop, [(pool[:1], 500)] * workers))  # what is imported and built is not timed
        began = time.perf_counter()
        parts = list(processes.map(_loop, [(pool[n::workers], each) for n in range(workers)]))
        seconds = time.perf_counter() - began
    decoding, forward = (sum(part[i] for part in parts) for i in (0, 1))
    return {
        "images_per_s": each * workers / seconds,
        "decode_s_per_image": decoding / (each * workers),
        "forward_s_per_image": forward / (each * workers),
    }


def _loop(share: tuple[list[Path], int]) -> tuple[float, float]:
    """Seconds spent decoding, and in f, on the first images of some files."""
    import torch

    from rambo_ray.classifier import prediction, training
    from rambo_ray.classifier.settings import TrainingSettings
    from rambo_ray.config.schema import ClassifierConfig

    torch.set_num_threads(1)
    files, count = share
    settings = TrainingSettings.from_config(
        ClassifierConfig(),
        mean=(0.13,),
        std=(0.31,),
        image_shape=(1, 28, 28),
        num_classes=10,  # type: ignore[call-arg]
    )
    model = training.build("mnist_net", (1, 28, 28), 10).eval()
    model = model.to(memory_format=model.memory_format)
    left, decoding, forward = count, 0.0, 0.0
    for number, path in enumerate(files):
        take = left // (len(files) - number)
        left -= take
        began = time.perf_counter()
        column = pyarrow.dataset.dataset(path).head(take, columns=["image"]).column("image").to_pylist()
        stored = [(str(path), image["bytes"]) for image in column]
        pixels = decode(in_batches(stored), len(stored), Format())
        decoding += time.perf_counter() - began
        began = time.perf_counter()
        prediction.margins(prediction.predict(model, pixels, settings)[0])
        forward += time.perf_counter() - began
    return decoding, forward


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it has ended meanwhile
        return []


def _peak_bytes(pid: int) -> int:
    """The largest resident memory that a process has had so far, by the kernel's own count."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = [line.split() for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0][1]) * 1024 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
