"""What distributing costs: time to the first trained model, idle actors, memory of the driver.

    python benchmarks/orchestration.py [--config jobs/configs/digits.yaml] [--pairs 200] [--json] [key=value ...]

Starts Ray, collects the utility samples of a configuration into a folder that is thrown away, and
reports: seconds from before ray.init to the first trained model, the share of the actors' wall time
that was training, the driver's memory after a tenth of the samples and at the end, and `ratio`:
samples per second of the actors over those of one process without Ray on the same samples' first 40 per
actor. Needs an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import time
from pathlib import Path

import psutil
import torch

from rambo_ray.cluster.collect import Job, Labeled, collect
from rambo_ray.cluster.session import connect
from rambo_ray.config import loading
from rambo_ray.data import datasets
from rambo_ray.data.problem import LabeledArrays
from rambo_ray.pipeline import plan
from rambo_ray.progress import Progress
from rambo_ray.utility_samples.measuring import Retrainer
from rambo_ray.utility_samples.store import SampleStore

ALONE = 40


class Watched(Progress):
    """A Progress that notes when its first piece was done, and the driver's memory on the way."""

    first_at = 0.0

    def __init__(self, total: int, weight: float) -> None:
        super().__init__("samples", total, total_weight=weight, stream=io.StringIO())
        self.memory: list[int] = []

    def advance(self, count: int = 1, weight: float | None = None) -> None:
        super().advance(count, weight)
        self.first_at = self.first_at or time.perf_counter()
        self.memory.append(psutil.Process().memory_info().rss)


def main() -> int:
    """Print the figures, and with --json one last line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", default=str(Path(__file__).parents[1] / "jobs" / "configs" / "digits.yaml"))
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    arguments = parser.parse_intermixed_args()
    config = loading.load(arguments.config, [f"utility_samples.num_pairs={arguments.pairs}", *arguments.overrides])
    problem, _ = datasets.load(config.data, config.seed)
    seen: list[Watched] = []

    def watched(total: int, weight: float) -> Watched:
        seen.append(Watched(total, weight))
        return seen[-1]

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, connect(config.cluster) as session:
        connected = time.perf_counter()
        todo = plan.make(config, problem).on(session.device)
        job = Job(Labeled.put(problem), todo.measuring, todo.offline, todo.utility)
        _, usage = collect(session, [job], SampleStore(Path(folder), todo.utility), watched)
        ended = time.perf_counter()
        workers = session.num_workers
    (progress,) = seen
    rate = (len(progress.memory) - 1) / (ended - progress.first_at)
    early, late = (progress.memory[i] / 1e6 for i in (len(progress.memory) // 10, -1))

    torch.set_num_threads(config.cluster.threads_per_worker)
    retrainer = Retrainer(
        LabeledArrays.of(problem.labeled), LabeledArrays.of(problem.validation), todo.measuring, "cpu"
    )
    few = todo.offline[:: max(1, len(todo.offline) // ALONE)]
    retrainer.measure(few[0].indices)
    start = time.perf_counter()
    for sample in few:
        retrainer.measure(sample.indices)
    alone = len(few) / (time.perf_counter() - start)

    print(f"{config.data.name}: {len(progress.memory)} samples, {workers} actors")
    print(f"ray.init {connected - began:.1f} s, first trained model after {progress.first_at - began:.1f} s")
    print(f"actors were training {usage.busy_fraction:.1%} of their time")
    print(f"driver: {early:.0f} MB after a tenth of the samples, {late:.0f} MB after all")
    print(f"{rate:.2f} samples/s, one process without Ray {alone:.2f}: {rate / alone:.2f} times with {workers} actors")
    if arguments.json:
        print(json.dumps({
            "benchmark": "orchestration", "ratio": rate / alone, "first_model_s": progress.first_at - began,
            "busy": usage.busy_fraction, "driver_mb": [early, late], "actors": workers,
        }))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
