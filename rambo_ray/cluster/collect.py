"""Utility samples by Ray actors: each holds S_0 and S_val, zero-copy, and measures subset after subset."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ray

from rambo_ray.cluster.session import Session
from rambo_ray.cluster.workers import Usage, work_through
from rambo_ray.progress import Progress
from rambo_ray.retraining import LabeledArrays, Protocol, Retrainer
from rambo_ray.sample_store import SampleStore
from rambo_ray.utility_samples import Measurement, UtilitySample

# Finished samples reach the disk at least this often: what a crash can cost.
WRITE_EVERY_S = 2.0


@dataclass(frozen=True)
class Labeled:
    """S_0 and S_val in the object store; the references must outlive every actor that reads them."""

    labeled: ray.ObjectRef
    validation: ray.ObjectRef

    @classmethod
    def put(cls, labeled: LabeledArrays, validation: LabeledArrays) -> Labeled:
        """Put both sets once, for all actors and tasks of a run."""
        return cls(ray.put(labeled), ray.put(validation))


class _RetrainActor:
    """A `Retrainer` in a process of its own."""

    def __init__(
        self, labeled: LabeledArrays, validation: LabeledArrays, protocol: Protocol, device: str, threads: int
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        self.retrainer = Retrainer(labeled, validation, protocol, device)

    def ready(self) -> bool:
        return True

    def work(self, piece: tuple[tuple[int, ...], bool]) -> tuple[Measurement, float]:
        began = time.monotonic()
        indices, retrain = piece
        return self.retrainer.measure(indices, retrain=retrain), time.monotonic() - began


def collect(
    session: Session,
    data: Labeled,
    protocol: Protocol,
    store: SampleStore,
    samples: Sequence[UtilitySample],
    progress: Callable[[int, float], Progress],
) -> tuple[list[UtilitySample], Usage]:
    """Measure those of `samples` that `store` lacks, append each to it, and return all of them measured.

    Interpolated samples get their OTDD only, and are not stored: their utility is still to come.
    `progress` makes a Progress for a number of pieces and their total weight. Raises RunError where
    a sample cannot be measured; all finished before are in the store.
    """
    retrained = [s for s in samples if s.kind == "retrained"]
    store.append(store.measured([s for s in retrained if s.sample_id in store.measurements]))
    missing = store.missing(retrained)
    by_content = {s.sample_id: s for s in samples if s.kind == "interpolated"}
    # The longest first: the last pieces, when some actors have run dry, are then the shortest.
    todo = sorted([*missing, *by_content.values()], key=lambda s: (s.kind == "interpolated", -s.size))
    weights = [_weight(s) for s in todo]
    found: dict[str, Measurement] = {}
    usage = Usage()
    if todo:
        shown = progress(len(todo), sum(weights))
        _measure(session, data, protocol, store, retrained, todo, weights, found, usage, shown)
        shown.close()
    measured = {s.sample_id: s for s in store.measured(retrained)}
    return [
        s.measured(found[s.sample_id], store.utility)
        if s.kind == "interpolated"
        else s.measured(measured[s.sample_id].measurement, store.utility)  # type: ignore[arg-type]
        for s in samples
    ], usage


def _measure(
    session: Session,
    data: Labeled,
    protocol: Protocol,
    store: SampleStore,
    retrained: Sequence[UtilitySample],
    todo: Sequence[UtilitySample],
    weights: Sequence[float],
    found: dict[str, Measurement],
    usage: Usage,
    shown: Progress,
) -> None:
    actor = ray.remote(_RetrainActor).options(**session.options)
    places: dict[str, list[UtilitySample]] = {}  # one content can stand in several pairs
    for sample in retrained:
        places.setdefault(sample.sample_id, []).append(sample)
    unwritten: list[UtilitySample] = []
    written = time.monotonic()
    try:
        for position, measurement in work_through(
            [(s.indices, s.kind == "retrained") for s in todo],
            lambda: actor.remote(data.labeled, data.validation, protocol, session.device, session.cpus),
            session.num_workers,
            max_tries=session.config.max_tries,
            name=lambda piece: f"subset of {len(piece[0])} images",
            usage=usage,
            on_retry=shown.fail,
        ):
            sample = todo[position]
            found[sample.sample_id] = measurement
            unwritten += [s.measured(measurement, store.utility) for s in places.get(sample.sample_id, [])]
            shown.advance(1, weights[position])
            if time.monotonic() - written >= WRITE_EVERY_S:
                store.append(unwritten)
                unwritten, written = [], time.monotonic()
    finally:
        store.append(unwritten)


def _weight(sample: UtilitySample) -> float:
    """Expected work: trainings grow a little faster than linearly with size; an OTDD alone is about 1/30."""
    return sample.size**1.2 * (1.0 if sample.kind == "retrained" else 0.03)
