"""Utility samples by Ray actors: each holds S_0 and S_val, zero-copy, and measures subset after subset."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ray

from rambo_ray.cluster.session import Session
from rambo_ray.cluster.workers import Usage, work_through
from rambo_ray.pool import Problem
from rambo_ray.progress import Progress
from rambo_ray.retraining import LabeledArrays, Protocol, Retrainer, relative_cost
from rambo_ray.sample_store import SampleStore
from rambo_ray.utility_samples import Measurement, Utility, UtilitySample

# Finished samples reach the disk at least this often: what a crash can cost.
WRITE_EVERY_S = 2.0


@dataclass(frozen=True)
class Labeled:
    """S_0 and S_val in the object store; the references must outlive every actor that reads them."""

    labeled: ray.ObjectRef
    validation: ray.ObjectRef

    @classmethod
    def put(cls, problem: Problem) -> Labeled:
        """Put both sets once, for all actors and tasks of a run."""
        return cls(ray.put(LabeledArrays.of(problem.labeled)), ray.put(LabeledArrays.of(problem.validation)))


@dataclass(frozen=True)
class Job:
    """Samples of one S_0 that are to be measured, how, and what of it is u(subset)."""

    data: Labeled
    protocol: Protocol
    samples: Sequence[UtilitySample]
    utility: Utility


class _RetrainActor:
    """A `Retrainer` in a process of its own; it turns to another job's S_0 when its first piece comes."""

    def __init__(
        self, jobs: Sequence[tuple[ray.ObjectRef, ray.ObjectRef, Protocol]], device: str, threads: int
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        self.jobs, self.device = jobs, device
        self.job = -1

    def ready(self) -> bool:
        return True

    def work(self, piece: tuple[int, tuple[int, ...], bool]) -> tuple[Measurement, float]:
        began = time.monotonic()
        job, indices, retrain = piece
        if job != self.job:
            labeled, validation, protocol = self.jobs[job]
            self.retrainer = Retrainer(ray.get(labeled), ray.get(validation), protocol, self.device)
            self.job = job
        return self.retrainer.measure(indices, retrain=retrain), time.monotonic() - began


@dataclass(frozen=True)
class _Piece:
    job: int
    sample: UtilitySample

    @property
    def retrain(self) -> bool:
        return self.sample.kind == "retrained"


def collect(
    session: Session, jobs: Sequence[Job], store: SampleStore, progress: Callable[[int, float], Progress]
) -> tuple[list[list[UtilitySample]], Usage]:
    """Measure those of the jobs' samples that `store` lacks, append each to it, and return all of them measured.

    One pool of actors goes through all jobs. Interpolated samples get their OTDD only, and are not
    stored: their utility is still to come. `progress` makes a Progress for a number of pieces and
    their total weight. Raises RunError where a sample cannot be measured; all finished before are in
    the store.
    """
    todo: dict[str, _Piece] = {}
    places: dict[str, list[UtilitySample]] = {}  # one content can stand in several pairs
    for number, job in enumerate(jobs):
        retrained = [s for s in job.samples if s.kind == "retrained"]
        store.append(store.measured([s for s in retrained if s.sample_id in store.measurements]))
        for sample in [*store.missing(retrained), *(s for s in job.samples if s.kind == "interpolated")]:
            todo.setdefault(sample.sample_id, _Piece(number, sample))
        for sample in retrained:
            places.setdefault(sample.sample_id, []).append(sample)
    # Job by job, and the longest first: the last pieces, when some actors have run dry, are then the shortest.
    pieces = sorted(todo.values(), key=lambda p: (p.job, not p.retrain, -p.sample.size))
    found: dict[str, Measurement] = {}
    usage = Usage()
    if pieces:
        shown = progress(len(pieces), sum(_weight(p.sample) for p in pieces))
        _measure(session, jobs, store, places, pieces, found, usage, shown)
        shown.close()

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
    parts = [(job.data.labeled, job.data.validation, job.protocol) for job in jobs]
    unwritten: list[UtilitySample] = []
    written = time.monotonic()
    try:
        for position, measurement in work_through(
            [(p.job, p.sample.indices, p.retrain) for p in pieces],
            lambda: actor.remote(parts, session.device, session.cpus),
            session.num_workers,
            max_tries=session.config.max_tries,
            name=lambda piece: f"subset of {len(piece[1])} images",
            usage=usage,
            on_retry=shown.fail,
        ):
            sample = pieces[position].sample
            found[sample.sample_id] = measurement
            unwritten += [s.measured(measurement, store.utility) for s in places.get(sample.sample_id, [])]
            shown.advance(1, _weight(sample))
            if time.monotonic() - written >= WRITE_EVERY_S:
                store.append(unwritten)
                unwritten, written = [], time.monotonic()
    finally:
        store.append(unwritten)


def _weight(sample: UtilitySample) -> float:
    """Expected work: that of a training; an OTDD alone is about 1/30."""
    return relative_cost(sample.size) * (1.0 if sample.kind == "retrained" else 0.03)
