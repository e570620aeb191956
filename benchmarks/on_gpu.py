"""What the package does on a GPU: equality, speed, memory and ceilings, in sections; `on_gpu.sh` starts it.

    python benchmarks/on_gpu.py OUT [--smoke] [--images FILE] [--seconds N] [--only SECTION ...]

Writes OUT/gpu.json and OUT/gpu.log after every measurement, so that a run that is cut off has said what it knew.
Without --images (a file of `pack_images.py`) images are made and accuracies mean nothing. On a machine without
CUDA everything runs on the CPU, which --smoke makes small enough. Exit code 1 where a section failed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package, which need not be installed

import torch
from gpu.record import Record, Section
from gpu.running import Planned, run

# In the order of importance; seconds of each when all run in DEFAULT_SECONDS.
SECTIONS: dict[str, tuple[str, str, float]] = {
    "device": ("gpu.device", "measure", 12.0),
    "equality": ("gpu.equality", "measure", 55.0),
    "mnist_rates": ("gpu.rates", "mnist", 35.0),
    "mnist_pairs": ("gpu.pairs", "mnist", 60.0),
    "resnet_rates": ("gpu.rates", "resnet", 40.0),
    "cifar_pairs": ("gpu.pairs", "cifar", 60.0),
    "whole_run": ("gpu.whole_run", "paper", 60.0),
    "mock_rounds": ("gpu.whole_run", "rounds", 35.0),
    "pool": ("gpu.pool", "measure", 20.0),
    "u_hat": ("gpu.fitting", "measure", 30.0),
    "steps": ("gpu.steps", "measure", 32.0),
    "otdd": ("gpu.transport", "measure", 15.0),
    "ray": ("gpu.with_ray", "measure", 75.0),
}
DEFAULT_SECONDS = 450.0


def main() -> int:
    """Run the sections that were asked for; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", metavar="OUT", type=Path, help="folder for gpu.json and gpu.log")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--images", metavar="FILE", type=Path, help="what pack_images.py wrote; default: made images")
    parser.add_argument("--seconds", type=float, default=DEFAULT_SECONDS, help="in all (default %(default)s)")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), metavar="SECTION", help=", ".join(SECTIONS))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    record = Record(arguments.output.resolve())
    asked = list(arguments.only or SECTIONS)
    if arguments.smoke and not arguments.only:
        asked.remove("ray")  # which has tests of its own, and starts for half a minute
    elif not arguments.only and importlib.util.find_spec("ray") is None:
        asked.remove("ray")
        record.log("ray is not installed: the section ray is left out")
    content = record.read()  # of an earlier call with other sections, which stay
    device = "cuda" if _has_gpu() else "cpu"
    content |= {
        "device": device, "smoke": arguments.smoke, "seconds": arguments.seconds, "images": str(arguments.images),
        "asked": asked, "began": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "torch": torch.__version__,
    }  # fmt: skip
    content["sections"] = {name: found for name, found in content["sections"].items() if name not in asked}
    record.write(content)
    with tempfile.TemporaryDirectory() as folder:
        root = _unpacked(arguments.images, Path(folder)) if arguments.images else None
        planned = [Planned(name, SECTIONS[name][2], _load(*SECTIONS[name][:2])) for name in SECTIONS if name in asked]
        began = time.monotonic()
        fine = run(planned, record, device=device, smoke=arguments.smoke, root=root, seconds=arguments.seconds)
    content = record.read()
    record.write(content | {"took": time.monotonic() - began})
    record.log(f"wrote {record.path}; " + ("all sections ran" if fine else "not all sections ran, see the log"))
    return 0 if fine else 1


def _load(module: str, function: str) -> Callable[[Section], None]:
    """A section's function; where its module cannot be imported, one that says so when it is the section's turn."""
    try:
        return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]
    except ImportError:
        told = traceback.format_exc()

    def missing(section: Section) -> None:
        raise RuntimeError(f"{module} cannot be imported; give the folder of wheels of what is missing\n{told}")

    return missing


def _has_gpu() -> bool:
    """Whether torch finds a GPU, asked in a process of its own: one that has asked can fork no more that use it."""
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.cuda.is_available() else 1)
    return os.waitpid(child, 0)[1] == 0


def _unpacked(images: Path, folder: Path) -> str:
    """The folder into which the packed images went."""
    with zipfile.ZipFile(images) as packed:
        packed.extractall(folder)
    return str(folder)


def names() -> Sequence[str]:
    """All sections, the most important first."""
    return list(SECTIONS)


if __name__ == "__main__":
    sys.exit(main())
