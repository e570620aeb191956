"""Utility samples by Ray actors: each holds S_0 and S_val, zero-copy, and measures set after set.

On GPUs a piece of work is a group of sets whose models train in one stack; on CPUs it is one, or a
group of linear heads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ray

from rambo_ray.classifier import stacks
from rambo_ray.classifier.training import TrainingSettings
from rambo_ray.cluster.session import Session
from rambo_ray.cluster.workers import Usage, work_through
from rambo_ray.data.problem import LabeledArrays
from rambo_ray.pipeline.plan import Measured, Plan
from rambo_ray.progress import Progress
from rambo_ray.utility_samples.measuring import MeasurementSettings, Retrainer, Subset, groups, relative_cost
from rambo_ray.utility_samples.mock_rounds import MockPool
from rambo_ray.utility_samples.sampling import Measurement, Utility, UtilitySample
from rambo_ray.utility_samples.store import SampleStore

# Finished samples reach the disk at least this often: what a crash can cost.
WRITE_EVERY_S = 2.0

# Models that train together on a GPU at most, where its memory holds them: enough to fill it, and
# few enough that a GPU more finds work.
GROUP = 128

# Of a GPU's memory, for the stacks of its actors together; libraries and images need the rest.
ROOM = 0.8


@dataclass(frozen=True)
class Labeled:
    """S_0 and S_val in the object store; the references must outlive every actor that reads them."""

    labeled: ray.ObjectRef
    validation: ray.ObjectRef

    @classmethod
    def put(cls, labeled: LabeledArrays, validation: LabeledArrays) -> Labeled:
        """Put both sets once, for all actors and tasks of a run."""
        return cls(ray.put(labeled), ray.put(validation))


@dataclass(frozen=True)
class Job:
    """Samples of one S_0 that are to be measured, how, what of it is u(set), and who plays and judges mock rounds."""

    data: Labeled
    measuring: MeasurementSettings
    samples: Sequence[UtilitySample]
    utility: Utility
    pool: MockPool | None = None


class _RetrainActor:
    """A `Retrainer` in a process of its own; it turns to another job's S_0 when its first piece comes."""

    def __init__(
        self,
        jobs: Sequence[tuple[ray.ObjectRef, ray.ObjectRef, MeasurementSettings, MockPool | None]],
        device: str,
        threads: int,
        at_once: int | None,
        gpus: float,
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        self.jobs, self.device, self.fixed, self.gpus = jobs, device, at_once, gpus
        self.job = -1

    def ready(self) -> bool:
        return True

    def work(self, piece: tuple[int, tuple[Subset, ...], bool]) -> tuple[list[Measurement], float]:
        began = time.monotonic()
        job, subsets, retrain = piece
        if job != self.job:
            labeled, validation, measuring, pool = self.jobs[job]
            self.retrainer = Retrainer(ray.get(labeled), ray.get(validation), measuring, self.device, pool)
            self.at_once = self.fixed or self._room_for(measuring.training)
            self.job = job
        if retrain:
            found = self.retrainer.measure_group(subsets, self.at_once)
        else:
            found = [self.retrainer.measure(*subset, retrain=False) for subset in subsets]
        return found, time.monotonic() - began

    def _room_for(self, settings: TrainingSettings) -> int:
        import torch

        if settings.classifier not in stacks.STACKED:
            return GROUP
        whole = torch.cuda.get_device_properties(0).total_memory
        return stacks.models_that_fit(settings, ROOM * min(self.gpus, 1.0) * whole)


@dataclass(frozen=True)
class _Piece:
    job: int
    samples: tuple[UtilitySample, ...]

    @property
    def retrain(self) -> bool:
        return self.samples[0].kind == "retrained"

    @property
    def subsets(self) -> tuple[Subset, ...]:
        return tuple((sample.indices, sample.fold) for sample in self.samples)

    @property
    def weight(self) -> float:
        """Expected work: that of the trainings; an OTDD alone is about 1/30."""
        return sum(relative_cost(sample.size) for sample in self.samples) * (1.0 if self.retrain else 0.03)


def measure(
    session: Session,
    plans: Sequence[tuple[Plan, Labeled]],
    store: SampleStore,
    progress: Callable[[int, float], Progress],
) -> tuple[list[Measured], Usage]:
    """For each plan, u(set) and OTDD of its pairs, acc_i of S_0 ... S_tau_1, OTDD of what is interpolated.

    Fig. 2, lines 3, 6, 10 and 11. What `store` holds is not trained again; what it lacks is added to it.
    """
    jobs = [
        Job(data, todo.measuring, todo.all_samples, todo.config.utility_samples.utility, todo.mock_pool)
        for todo, data in plans
    ]
    found, usage = collect(session, jobs, store, progress)
    measured = []
    for (todo, _), samples in zip(plans, found, strict=True):
        remaining = iter(samples)
        measured.append(Measured(*(tuple(next(remaining) for _ in part) for part in todo.parts)))
    return measured, usage


def collect(
    session: Session, jobs: Sequence[Job], store: SampleStore, progress: Callable[[int, float], Progress]
) -> tuple[list[list[UtilitySample]], Usage]:
    """Measure those of the jobs' samples that `store` lacks, append each to it, and return all of them measured.

    One pool of actors goes through all jobs. Interpolated samples get their OTDD only, and are not
    stored: their utility is still to come. `progress` makes a Progress for a number of pieces and
    their total weight. Raises RunError where a sample cannot be measured; all finished before are in
    the store.
    """
    pieces: list[_Piece] = []
    wanted: set[str] = set()
    places: dict[str, list[UtilitySample]] = {}  # one content can stand in several pairs
    for number, job in enumerate(jobs):
        retrained = [s for s in job.samples if s.kind == "retrained"]
        store.append(store.measured([s for s in retrained if s.sample_id in store.measurements]))
        missing = {s.sample_id for s in store.missing(retrained)} - wanted
        in_step = session.device == "cpu"
        stacked = groups(retrained, job.measuring.training, session.models_at_once or GROUP, job.pool, in_step=in_step)
        pieces += [_Piece(number, group) for group in stacked if any(s.sample_id in missing for s in group)]
        interpolated = {s.sample_id: s for s in job.samples if s.kind == "interpolated"}
        pieces += [_Piece(number, (s,)) for key, s in interpolated.items() if key not in wanted | missing]
        wanted |= missing | interpolated.keys()
        for sample in retrained:
            if sample.sample_id in wanted:
                places.setdefault(sample.sample_id, []).append(sample)
    # Job by job, and the longest first: the last pieces, when some actors have run dry, are then the shortest.
    pieces.sort(key=lambda p: (p.job, not p.retrain, -p.weight))
    found: dict[str, Measurement] = {}
    usage, known = Usage(), len(store.measurements)
    if pieces:
        shown = progress(sum(len(p.samples) for p in pieces), sum(p.weight for p in pieces))
        _measure(session, jobs, store, places, pieces, found, usage, shown)
        shown.close()
    usage.retrained = len(store.measurements) - known

    def measured(sample: UtilitySample, utility: Utility) -> UtilitySample:
        known = store.measurements if sample.kind == "retrained" else found
        return sample.measured(known[sample.sample_id], utility)

    return [[measured(sample, job.utility) for sample in job.samples] for job in jobs], usage


def _measure(
    session: Session,
    jobs: Sequence[Job],
    store: SampleStore,
    places: dict[str, list[UtilitySample]],
    pieces: Sequence[_Piece],
    found: dict[str, Measurement],
    usage: Usage,
    shown: Progress,
) -> None:
    actor = ray.remote(_RetrainActor).options(**session.options)
    parts = [(job.data.labeled, job.data.validation, job.measuring, job.pool) for job in jobs]
    unwritten: list[UtilitySample] = []
    written = time.monotonic()
    try:
        for position, measurements in work_through(
            [(p.job, p.subsets, p.retrain) for p in pieces],
            lambda: actor.remote(parts, session.device, session.cpus, session.models_at_once, session.gpus),
            session.num_workers,
            max_tries=session.config.max_tries,
            name=lambda piece: _named([indices for indices, _ in piece[1]]),
            usage=usage,
            on_retry=shown.fail,
        ):
            piece = pieces[position]
            for sample, measurement in zip(piece.samples, measurements, strict=True):
                found[sample.sample_id] = measurement
                unwritten += [s.measured(measurement, store.utility) for s in places.get(sample.sample_id, [])]
            shown.advance(len(piece.samples), piece.weight)
            if time.monotonic() - written >= WRITE_EVERY_S:
                store.append(unwritten)
                unwritten, written = [], time.monotonic()
    finally:
        store.append(unwritten)


def _named(subsets: Sequence[tuple[int, ...]]) -> str:
    sizes = " to ".join(str(size) for size in sorted({min(map(len, subsets)), max(map(len, subsets))}))
    return f"subset of {sizes} images" if len(subsets) == 1 else f"stack of {len(subsets)} subsets of {sizes} images"
