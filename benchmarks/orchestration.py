"""What distributing costs: simulated trainings through the real collection, on 1 to 64 one-CPU actors.

    python benchmarks/orchestration.py [--samples 10000] [--actors 1 2 4 8 16 32 64] [--seconds 0.25]
                                       [--per-process 8] [--raylets 1] [--profile] [--json]

A training is a sleep, as long as a training of its size would be beside the others: (images)^1.2, in the mean
--seconds. All else is what a run does: its sets are drawn and known by their ids, `cluster.collect` plans, hands out,
collects and stores them. So one machine of a few cores can stand for a large cluster; what it cannot show is a network.
The driver has as many actors to hand work to as it says; behind them --per-process share a process of so many threads,
since 64 Pythons are more than a small machine holds: with 1 each has its own. Processes are spread over --raylets of
equal numbers of logical CPUs; none imports torch.

Fewer actors get fewer samples, as many each. Printed for each number: `ideal`, seconds of all trainings over the number
of actors; `wall`, from the moment that all have started; `efficiency`, ideal over wall; `busy`, the share of that time
that actors slept, which is more where a busy machine wakes them late; CPU milliseconds of the driver per sample, those
of Ray's threads in it included, which do not depend on who else uses the machine as much as `wall` does; its memory
after a tenth of the samples and at the end; CPU milliseconds of an append to the store in the first and the last
quarter; files of the store, and the CPU seconds to open it again.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import itertools
import json
import pstats
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
from ray.cluster_utils import Cluster

from rambo_ray.classifier.training import TrainingSettings
from rambo_ray.cluster import collect, workers
from rambo_ray.cluster.collect import Job, Labeled
from rambo_ray.cluster.session import Session
from rambo_ray.config.schema import ClassifierConfig, ClusterConfig
from rambo_ray.data.problem import LabeledArrays
from rambo_ray.progress import Progress
from rambo_ray.utility_samples.measuring import MeasurementSettings, relative_cost
from rambo_ray.utility_samples.sampling import Training, Trainings, UtilitySample, offline_pairs
from rambo_ray.utility_samples.store import SampleStore

K, SMALLEST = 200, 20


class Sleeper:
    """Stands in for `collect._RetrainActor`: sleeps instead of training; starts when all the others have."""

    def __init__(self, folder: str, count: int, unit_s: float) -> None:
        """folder: where the processes meet; count: how many they are; unit_s: seconds of a unit of work."""
        import uuid

        self.folder, self.count, self.unit_s = folder, count, unit_s
        (Path(folder) / uuid.uuid4().hex).touch()

    def ready(self) -> None:
        import os

        while len(os.listdir(self.folder)) < self.count:
            time.sleep(0.2)

    def work(self, pieces: Sequence[Any]) -> list[Any]:
        found = []
        for _, subsets, _ in pieces:
            seconds = sum(self.unit_s * len(indices) ** 1.2 for indices, _ in subsets)
            began = time.monotonic()
            time.sleep(seconds)
            score = len(subsets[0][0]) / 1000
            judged = [((Training(score, score, 1.0, 20, 4000, seconds),), 1.0) for _ in subsets]
            found.append((judged, time.monotonic() - began))
        return found


class Watched(Progress):
    """A Progress that notes the driver's CPU time when its first piece was done, and its memory on the way."""

    def __init__(self, total: int, weight: float) -> None:
        super().__init__("samples", total, total_weight=weight, stream=sys.stderr, every_s=30)
        self.cpu, self.at_first = 0.0, 0
        self.memory: list[int] = []

    def advance(self, count: int = 1, weight: float | None = None) -> None:
        super().advance(count, weight)
        if not self.cpu:
            self.cpu, self.at_first = time.process_time(), self.done
        if self.done * 20 // self.total >= len(self.memory):
            self.memory.append(psutil.Process().memory_info().rss)


class Timed(SampleStore):
    """A store that notes how long its appends take."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "accuracy")
        self.seconds: list[float] = []

    def append(self, samples: Sequence[UtilitySample], origins: Mapping[str, Trainings] | None = None) -> Path | None:
        began = time.process_time()
        path = super().append(samples, origins)
        if path is not None:
            self.seconds.append(time.process_time() - began)
        return path


@dataclass(frozen=True)
class Row:
    """What one number of actors cost."""

    actors: int
    samples: int
    ideal_s: float
    wall_s: float
    efficiency: float
    busy: float
    driver_ms: float
    early_mb: float
    late_mb: float
    first_append_ms: float
    last_append_ms: float
    files: int
    open_s: float

    def __str__(self) -> str:
        return (
            f"| {self.actors} | {self.samples:,} | {self.ideal_s:.1f} | {self.wall_s:.1f} | "
            f"{self.efficiency:.1%} | {self.busy:.1%} | {self.driver_ms:.2f} | {self.early_mb:.0f} to "
            f"{self.late_mb:.0f} | {self.first_append_ms:.1f}, {self.last_append_ms:.1f} | {self.files} | "
            f"{self.open_s:.2f} |"
        )


@contextmanager
def cluster_of(actors: int, raylets: int) -> Iterator[None]:
    """A Ray of `raylets` nodes that hold `actors` logical CPUs together."""
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
    memory = {"object_store_memory": 80_000_000}
    if raylets < 2:
        ray.init(address="local", num_cpus=actors, **memory, **quiet)
        try:
            yield
        finally:
            ray.shutdown()
        return
    shares = [actors // raylets + (number < actors % raylets) for number in range(raylets)]
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
    try:
        for share in shares:
            made.add_node(num_cpus=share, **memory)
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield
    finally:
        ray.shutdown()
        made.shutdown()


def measure(
    actors: int, samples: int, seconds: float, per_process: int, raylets: int, profiled: Callable[[Any], Any]
) -> Row:
    """Collect so many samples by so many actors, into a folder that is thrown away."""
    settings = TrainingSettings.from_config(
        ClassifierConfig(),  # type: ignore[call-arg]
        mean=(0.5,),
        std=(0.5,),
        image_shape=(1, 28, 28),
        num_classes=10,
    )
    measuring = MeasurementSettings(settings, 0, 1, "gaussian", "converged", 0.1)
    drawn = offline_pairs(samples // 2, K, SMALLEST, "uniform", 0, measuring.identity("simulated"))
    work = sum(relative_cost(sample.size) for sample in drawn)
    nothing = LabeledArrays(np.zeros((K, 1), dtype=np.float32), np.zeros(K, dtype=np.int64))
    seen: list[Watched] = []

    def watched(total: int, weight: float) -> Watched:
        seen.append(Watched(total, weight))
        return seen[-1]

    with tempfile.TemporaryDirectory() as folder, cluster_of(actors, raylets):
        meeting = Path(folder) / "meeting"
        meeting.mkdir()
        processes = -(-actors // per_process)
        threads = -(-actors // processes)
        sleeper = ray.remote(Sleeper).options(num_cpus=threads if processes > 1 else actors, max_concurrency=threads)

        def handed_out(pieces: Sequence[Any], start: Callable[[], Any], count: int, **how: Any) -> Any:
            made = [sleeper.remote(str(meeting), processes, seconds * samples / work) for _ in range(processes)]
            handles = itertools.cycle(made)
            return workers.work_through(pieces, lambda: next(handles), count, **how)

        collect.work_through = handed_out
        session = Session(ClusterConfig(), actors, 0.0, 1, 0.0, actors, raylets)  # type: ignore[call-arg]
        store = Timed(Path(folder) / "store")
        job = Job(drawn, measuring, "simulated", "accuracy", data=Labeled.put(nothing, nothing))
        _, usage = profiled(lambda: collect.collect(session, [job], store, watched))
        cpu = time.process_time()
        (progress,) = seen
        files = len(list((Path(folder) / "store").glob("part-*")))
        began = time.process_time()
        again = SampleStore(Path(folder) / "store", "accuracy")
        open_s = time.process_time() - began
        assert len(again.measurements) == len({sample.sample_id for sample in drawn}) == usage.retrained
    ideal, wall = seconds * samples / actors, usage.alive_s / actors
    quarter = max(len(store.seconds) // 4, 1)
    first, last = np.mean(store.seconds[:quarter]), np.mean(store.seconds[-quarter:])
    return Row(
        actors=actors,
        samples=samples,
        ideal_s=ideal,
        wall_s=wall,
        efficiency=ideal / wall,
        busy=usage.busy_fraction,
        driver_ms=1e3 * (cpu - progress.cpu) / max(samples - progress.at_first, 1),
        early_mb=progress.memory[1] / 1e6,
        late_mb=progress.memory[-1] / 1e6,
        first_append_ms=1e3 * float(first),
        last_append_ms=1e3 * float(last),
        files=files,
        open_s=open_s,
    )


def main() -> int:
    """Print the table, and with --json one last line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000, help="of the largest number of actors")
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--seconds", type=float, default=0.25, help="of a training, in the mean")
    parser.add_argument("--per-process", type=int, default=8, help="actors that share a process")
    parser.add_argument("--raylets", type=int, default=1)
    parser.add_argument("--profile", action="store_true", help="where the driver's time goes, on standard error")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()

    def profiled(call: Callable[[], Any]) -> Any:
        if not arguments.profile:
            return call()
        profile = cProfile.Profile()
        found = profile.runcall(call)
        text = io.StringIO()
        pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(25)
        print(text.getvalue(), file=sys.stderr)
        return found

    print("| actors | samples | ideal s | wall s | efficiency | busy | driver ms | MB | append ms | files | open s |")
    print("|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    rows = []
    for actors in arguments.actors:
        samples = max(arguments.samples * actors // max(arguments.actors) // 2 * 2, 20)
        rows.append(measure(actors, samples, arguments.seconds, arguments.per_process, arguments.raylets, profiled))
        print(rows[-1], flush=True)
    if arguments.json:
        print(json.dumps({"benchmark": "orchestration", "rows": [asdict(row) for row in rows]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
