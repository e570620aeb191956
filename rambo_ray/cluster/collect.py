"""Utility samples by Ray actors: each holds S_0 and S_val, zero-copy, and measures set after set.

On GPUs a piece of work is a group of sets whose models train in one stack; on CPUs it is one, or a
group of linear heads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import ray

from rambo_ray.classifier import stacks
from rambo_ray.classifier.training import TrainingSettings
from rambo_ray.cluster.session import Session
from rambo_ray.cluster.workers import Usage, work_through
from rambo_ray.data.problem import LabeledArrays
from rambo_ray.errors import RunError
from rambo_ray.machines.begin import Begin
from rambo_ray.pipeline import left_out
from rambo_ray.pipeline.left_out import Quarantined
from rambo_ray.pipeline.plan import Measured, Plan
from rambo_ray.progress import Progress
from rambo_ray.utility_samples.measuring import Judged, MeasurementSettings, Retrainer, Subset
from rambo_ray.utility_samples.mock_rounds import MockPool
from rambo_ray.utility_samples.pending import Pending, Piece, Wanted
from rambo_ray.utility_samples.sampling import Measurement, Utility, UtilitySample
from rambo_ray.utility_samples.store import SampleStore

# Finished samples reach the disk at least this often: what a crash can cost.
WRITE_EVERY_S = 2.0

# Sets that were given up before any was measured: what kills workers is then not what is in the sets.
HOPELESS = 4

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
class Job(Wanted):
    """Samples that are to be measured, and where their S_0 and S_val lie."""

    data: Labeled = field(kw_only=True)


# A piece as an actor gets it: number of the job, sets, repeat to train from; None: the OTDD alone.
_Sent = tuple[int, tuple[Subset, ...], int | None]


class _RetrainActor:
    """A `Retrainer` in a process of its own; it turns to another job's S_0 when its first piece comes."""

    def __init__(
        self,
        jobs: Sequence[tuple[ray.ObjectRef, ray.ObjectRef, MeasurementSettings, MockPool | None]],
        device: str,
        begin: Begin,
        at_once: int | None,
        gpus: float,
    ) -> None:
        begin()
        self.jobs, self.device, self.fixed, self.gpus = jobs, device, at_once, gpus
        self.job = -1

    def ready(self) -> str:
        return str(ray.get_runtime_context().get_node_id())

    def work(self, pieces: Sequence[_Sent]) -> list[tuple[list[Judged], float]]:
        found = []
        for piece in pieces:
            began = time.monotonic()
            found.append((self._measure(*piece), time.monotonic() - began))
        return found

    def _measure(self, job: int, subsets: Sequence[Subset], first: int | None) -> list[Judged]:
        if job != self.job:
            labeled, validation, measuring, pool = self.jobs[job]
            self.retrainer = Retrainer(ray.get(labeled), ray.get(validation), measuring, self.device, pool)
            self.at_once = self.fixed or self._room_for(measuring.training)
            self.job = job
        if first is None:
            return [((), self.retrainer.otdd(*subset)) for subset in subsets]
        return self.retrainer.train_group(subsets, self.at_once, first)

    def _room_for(self, settings: TrainingSettings) -> int:
        import torch

        if settings.classifier not in stacks.STACKED:
            return GROUP
        whole = torch.cuda.get_device_properties(0).total_memory
        return stacks.models_that_fit(settings, ROOM * min(self.gpus, 1.0) * whole)


def measure(
    session: Session,
    plans: Sequence[tuple[Plan, Labeled]],
    store: SampleStore,
    progress: Callable[[int, float], Progress],
) -> tuple[list[Measured], Usage]:
    """For each plan, u(set) and OTDD of its pairs, acc_i of S_0 ... S_tau_1, OTDD of what is interpolated.

    Fig. 2, lines 3, 6, 10 and 11. What `store` holds is not trained again; what it lacks is added to it. Sets that
    kill every worker are left out (`left_out`, `Usage.quarantined`); raises RunError where too few are left.
    """
    jobs = [
        Job(
            todo.all_samples,
            todo.measuring,
            todo.fingerprint,
            todo.config.utility_samples.utility,
            todo.mock_pool,
            data=data,
        )
        for todo, data in plans
    ]
    found, usage = collect(session, jobs, store, progress)
    measured = []
    for (todo, _), samples in zip(plans, found, strict=True):
        remaining = iter(samples)
        made = Measured(*(tuple(next(remaining) for _ in part) for part in todo.parts))
        if usage.quarantined:
            made = left_out.leave_out(made)
            left_out.check(todo.config, made, todo.num_pairs)
        measured.append(made)
    return measured, usage


def collect(
    session: Session, jobs: Sequence[Job], store: SampleStore, progress: Callable[[int, float], Progress]
) -> tuple[list[list[UtilitySample]], Usage]:
    """Measure those of the jobs' samples that `store` lacks, append each to it, and return all of them measured.

    One pool of actors goes through all jobs. Interpolated samples get their OTDD only, and are not
    stored: their utility is still to come. A sample that kills every worker that tries it comes back without a
    measurement and is named in the usage. `progress` makes a Progress for a number of pieces and
    their total weight. Raises RunError where a sample cannot be measured, or so many kill their workers that it
    cannot be for what is in them; all finished before are in the store.
    """
    pending = Pending.of(jobs, store, session.models_at_once or GROUP, in_step=session.device == "cpu")
    usage = Usage(damaged_files=store.damaged)
    if pending.pieces:
        shown = progress(sum(len(p.samples) for p in pending.pieces), sum(p.weight for p in pending.pieces))
        _measure(session, jobs, store, pending, usage, shown)
        shown.close()
    store.append(*pending.fetch())
    usage.retrained = pending.trained

    def measured(sample: UtilitySample, utility: Utility) -> UtilitySample:
        if sample.kind == "retrained":
            known = store.measurements.get(sample.sample_id)
            return sample if known is None else sample.measured(known, utility)
        otdd = pending.distances.get(sample.sample_id)
        return sample if otdd is None else sample.measured(Measurement.of((), otdd), utility)

    return [[measured(sample, job.utility) for sample in job.samples] for job in jobs], usage


def _measure(
    session: Session, jobs: Sequence[Job], store: SampleStore, pending: Pending, usage: Usage, shown: Progress
) -> None:
    actor = ray.remote(_RetrainActor).options(**session.options)
    parts = [(job.data.labeled, job.data.validation, job.measuring, job.pool) for job in jobs]
    pieces, known = pending.pieces, len(store.measurements)
    total = known + sum(len(p.samples) for p in pieces)
    written = time.monotonic()

    def given_up(position: int, why: str) -> None:
        piece = pieces[position]
        singles = pending.alone(piece)
        shown.advance(len(piece.samples) - len(singles), piece.weight - sum(p.weight for p in singles))
        if len(piece.samples) > 1:  # which of a stack it is shows when each trains alone
            again.extend(singles)
            return
        shown.advance(len(singles), sum(p.weight for p in singles))
        usage.quarantined += [Quarantined(p.samples[0], why) for p in singles]
        lost = len(usage.quarantined)
        if lost >= HOPELESS and not (known or pending.trained or pending.distances):
            raise RunError(
                f"the first {lost} sets that were tried, large and small, each killed {session.config.max_tries} "
                f"workers, and none was measured ({why}); free memory, or see what kills the workers, then run the "
                "same command again"
            )
        if 2 * lost > total:
            raise RunError(
                f"{lost} of {total} sets killed {session.config.max_tries} workers each, the last one so: {why}; free "
                "memory, or see what kills the workers, then run the same command again"
            )

    try:
        while pieces:
            again: list[Piece] = []
            for position, found in work_through(
                [(p.job, p.subsets, p.first) for p in pieces],
                lambda: actor.remote(parts, session.device, session.begin, session.models_at_once, session.gpus),
                session.num_workers,
                max_tries=session.config.max_tries,
                name=lambda piece: _named([indices for indices, _ in piece[1]]),
                usage=usage,
                on_retry=shown.fail,
                asked=session.options,
                on_given_up=given_up,
                weights=[p.weight for p in pieces],
            ):
                piece = pieces[position]
                pending.finish(piece, found)
                shown.advance(len(piece.samples), piece.weight)
                if time.monotonic() - written >= WRITE_EVERY_S:
                    store.append(*pending.fetch())
                    written = time.monotonic()
            pieces = again
    finally:
        store.append(*pending.fetch())


def _named(subsets: Sequence[tuple[int, ...]]) -> str:
    sizes = " to ".join(str(size) for size in sorted({min(map(len, subsets)), max(map(len, subsets))}))
    return f"subset of {sizes} images" if len(subsets) == 1 else f"stack of {len(subsets)} subsets of {sizes} images"
