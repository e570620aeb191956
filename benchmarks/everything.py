"""Every benchmark of a fast path, one after the other, and one table of what they found.

    python benchmarks/everything.py OUT [--data DIR] [--only NAME ...]

Writes OUT/NAME.log as each one speaks, OUT/benchmarks.jsonl with a line of JSON for each and OUT/benchmarks.md, the
table, after each one: what was cut off says what it had. A benchmark that fails does not keep the others; the exit
code is 1 then. Nothing else should run: each is a ratio of two things measured in
turn, which other work disturbs less than their seconds, but does disturb. `big_pool.py`, `backtest_verdicts.py` and
`on_gpu.sh` take hours, a million images or a GPU, and are commands of their own (benchmarks/README.md).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from rambo_ray.machines import machine
from rambo_ray.progress import duration
from rambo_ray.report import tables

HERE = Path(__file__).resolve().parent
Found = Mapping[str, Any]


@dataclass(frozen=True)
class Benchmark:
    """One script. what: a ratio of what to what; more: its other figures in words; data: whether it takes --data."""

    what: str
    more: Callable[[Found], str]
    options: tuple[str, ...] = ()
    data: bool = True
    gpu: bool = False


def _samples(found: Found) -> str:
    arithmetic = f"{found['precision']}, {'compiled' if found['compiled'] else 'torch'}"
    points, error = found["accuracy_difference_points"], found["accuracy_difference_standard_error"]
    share = found["roofline_ms"] / found["step_ms"]
    return f"{arithmetic}; accuracy {points:+.2f} ± {error:.2f} points; {share:.0%} of the roofline"


def _otdd(found: Found) -> str:
    differences = [row["difference"] for row in found["rows"] if row["solver"] == "reference"]
    return f"differs by at most {max(differences):.0e} of it"


def _baselines(found: Found) -> str:
    slowest = max(found["rows"], key=lambda row: row["seconds"])
    return f"slowest on the whole pool: {slowest['strategy']}, {slowest['seconds']:.1f} s, {slowest['peak_mb']:.0f} MB"


def _orchestration(found: Found) -> str:
    last = found["rows"][-1]
    return f"{last['actors']} actors: {last['efficiency']:.1%} of ideal, {last['driver_ms']:.2f} ms of the driver each"


BENCHMARKS = {
    "utility_samples": Benchmark("retraining on subsets, against a plain loop", _samples),
    "otdd": Benchmark("OTDD of a subset, against its definition", _otdd),
    "utility_model": Benchmark(
        "a gradient of û's loss, against encoding set by set",
        lambda found: f"whole fit to {found['pairs']} pairs {found['fit_s']:.1f} s, {found['peak_mb']} MB",
        ("--threads", "1"),
    ),
    "acquisition": Benchmark(
        "a greedy step, against encoding every joined set",
        lambda found: "the same images" if found["same"] else "OTHER IMAGES",
        data=False,
    ),
    "baselines": Benchmark("selection strategies, against the obvious code; the smallest", _baselines, data=False),
    "heads": Benchmark(
        "linear heads, against scikit-learn's one by one; the smallest",
        lambda found: ", ".join(f"{row['rate']:.0f}/s of {row['images']} images" for row in found["rows"]),
    ),
    "stacks": Benchmark(
        "models in a stack, against one by one; the largest",
        lambda found: ", ".join(f"{row['rate']:.0f}/s at {row['models']} at once" for row in found["rows"]),
        gpu=True,
    ),
    "orchestration": Benchmark(
        "",
        _orchestration,
        ("--samples", "2000", "--actors", "1", "8", "64"),
        data=False,
    ),
}


def main() -> int:
    """Run what was asked for; 1 where one of them failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--data", default=os.environ.get("RAMBO_DATA"), help="folder of the real datasets")
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), default=list(BENCHMARKS), metavar="NAME")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    rows: list[list[str]] = []
    failed = False
    with (given.output / "benchmarks.jsonl").open("w", encoding="utf-8") as lines:
        for name in given.only:
            benchmark = BENCHMARKS[name]
            if benchmark.gpu and not torch.cuda.is_available():
                rows.append([name, benchmark.what, "", "left out: no GPU here", "", ""])
                _write(given.output, rows)
                continue
            data = ["--data", given.data] if benchmark.data and given.data else []
            command = [f"benchmarks/{name}.py", *data, *benchmark.options]
            began = time.perf_counter()
            code, found = _run(name, [*command, "--json"], given.output / f"{name}.log")
            took = time.perf_counter() - began
            failed |= code != 0
            ratio = f"{found['ratio']:.3g}" if found and "ratio" in found else ""
            said = benchmark.more(found) if found else f"failed with exit code {code}: see {name}.log"
            shown = " ".join("DIR" if part == given.data else part for part in command)
            rows.append([name, benchmark.what, ratio, said, duration(took), f"`python {shown}`"])
            lines.write(json.dumps({"name": name, "code": code, "seconds": took, "found": found}) + "\n")
            lines.flush()
            _write(given.output, rows)
    print(f"\n{_page(rows)}\n{given.output / 'benchmarks.md'}")
    return int(failed)


def _run(name: str, command: list[str], log: Path) -> tuple[int, Found | None]:
    """Exit code and last line's JSON of a benchmark, whose lines are shown and kept as they come."""
    print(f"\n== {name}", flush=True)
    found: Found | None = None
    with log.open("w", encoding="utf-8") as kept:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=HERE.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            kept.write(line)
            if line.startswith('{"benchmark": '):
                found = json.loads(line)
            else:
                print(line, end="", flush=True)
    return process.wait(), found


def _write(folder: Path, rows: list[list[str]]) -> None:
    (folder / "benchmarks.md").write_text(_page(rows), encoding="utf-8")


def _page(rows: list[list[str]]) -> str:
    this = machine.this()
    versions = ", ".join(f"{name} {version}" for name, version in this.software if name in ("torch", "numpy", "ray"))
    head = ["benchmark", "ratio of", "ratio", "more", "took", "command"]
    when = datetime.now(timezone.utc).strftime("%d %B %Y").lstrip("0")
    return f"{when}, {this.processor}, {os.cpu_count()} cores; {versions}\n\n{tables.markdown(head, rows)}\n"


if __name__ == "__main__":
    sys.exit(main())
