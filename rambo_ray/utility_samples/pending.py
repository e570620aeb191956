"""What is left to do for samples: which sets to train on, from which repeat, and of which the OTDD alone.

A sample is found in a store by its id, or, where it was measured with another OTDD or fewer repeats, by the id of its
trainings. So another solver trains nothing, and more repeats train the further ones; means over repeats are taken of
all single trainings, in float64, and are those of a run that trained them at once.

What is trained and what is interpolated are two sets of ids: an interpolated set has an OTDD and no trainings, and
must not stand for a retrained one of the same images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from rambo_ray.utility_samples.measuring import Judged, MeasurementSettings, Subset, groups, relative_cost
from rambo_ray.utility_samples.mock_rounds import MockPool
from rambo_ray.utility_samples.sampling import Measurement, Training, Trainings, Utility, UtilitySample, sample_id
from rambo_ray.utility_samples.store import SampleStore

OTDD_SHARE = 0.03  # of a training's time that an OTDD takes, about


@dataclass(frozen=True)
class Wanted:
    """Samples of one S_0 and S_val, how they are measured, and who plays and judges mock rounds.

    fingerprint: of the data; utility: what of a measurement is u(set).
    """

    samples: Sequence[UtilitySample]
    measuring: MeasurementSettings
    fingerprint: str
    utility: Utility
    pool: MockPool | None = None

    def training_id(self, sample: UtilitySample) -> str:
        """Content hash of a set and of all that one training of it depends on."""
        return sample_id(sample.indices, self._of(sample, self._training))

    def earlier_ids(self, sample: UtilitySample) -> list[str]:
        """Ids that the sample would have with every other OTDD that has a name."""
        found = self._earlier_rounds if sample.fold >= 0 else self._earlier_subsets
        return [sample_id(sample.indices, self._of(sample, identity)) for identity in found]

    def has_otdd(self, sample: UtilitySample) -> bool:
        """Whether its OTDD is measured, too."""
        return sample.fold < 0 or self.measuring.round_otdd

    # Said once for all samples: they are the most of what a sample would cost.

    @cached_property
    def rule(self) -> str:
        """How f is trained, as rows of a store say it."""
        return self.measuring.rule

    @cached_property
    def _training(self) -> str:
        return self.measuring.training_identity(self.fingerprint)

    @cached_property
    def _earlier_subsets(self) -> list[str]:
        return list(dict.fromkeys(other.identity(self.fingerprint) for other in self.measuring.otherwise()))

    @cached_property
    def _earlier_rounds(self) -> list[str]:
        return list(dict.fromkeys(other.round_identity(self.fingerprint) for other in self.measuring.otherwise()))

    def _of(self, sample: UtilitySample, identity: str) -> str:
        if sample.fold < 0:
            return identity
        assert self.pool is not None
        return self.pool.identity(identity, sample.fold)


@dataclass(frozen=True, slots=True)
class Piece:
    """Sets that one worker measures together; first: the repeat that it trains from, None for the OTDD alone."""

    job: int
    samples: tuple[UtilitySample, ...]
    first: int | None = None
    repeats: int = 1

    @property
    def subsets(self) -> tuple[Subset, ...]:
        """Their positions and folds."""
        return tuple((sample.indices, sample.fold) for sample in self.samples)

    @property
    def weight(self) -> float:
        """Expected work: that of the trainings of whole samples."""
        share = OTDD_SHARE if self.first is None else (self.repeats - self.first) / self.repeats
        return sum(relative_cost(sample.size) for sample in self.samples) * share


@dataclass(slots=True)
class _Sought:
    """A set to train on: for which job, what is known of it, and the places in pairs where it stands.

    measured: by an earlier version, which kept no single trainings; otdd: None until it is known, NaN where it is not
    wanted; others: samples of the same trainings with another OTDD, which wait for them.
    """

    job: int
    training_id: str
    places: list[UtilitySample]
    trainings: tuple[Training, ...] = ()
    measured: Measurement | None = None
    otdd: float | None = None
    others: tuple[str, ...] = ()


@dataclass
class Pending:
    """What several jobs lack in a store; told of what was measured, it has the rows to append to it.

    distances: OTDD of the interpolated sets, by sample id. origins: of rows that were not fetched yet.
    """

    jobs: Sequence[Wanted]
    utility: Utility
    pieces: list[Piece] = field(default_factory=list)
    distances: dict[str, float] = field(default_factory=dict)
    rows: list[UtilitySample] = field(default_factory=list)
    origins: dict[str, Trainings] = field(default_factory=dict)
    trained: int = 0
    _sought: dict[str, _Sought] = field(default_factory=dict)
    _training: dict[str, str] = field(default_factory=dict)  # by training id, the sample it is trained for

    @classmethod
    def of(cls, jobs: Sequence[Wanted], store: SampleStore, at_once: int, *, in_step: bool) -> Pending:
        """What is left of `jobs` where `store` is there; up to `at_once` models train together (see `groups`)."""
        made = cls(jobs, store.utility)
        interpolated: set[str] = set()
        for number, job in sorted(enumerate(jobs), key=lambda numbered: -numbered[1].measuring.repeats):
            retrained = [s for s in job.samples if s.kind == "retrained"]
            store.append(store.measured([s for s in retrained if s.sample_id in store.measurements]))
            made._add_retrained(number, job, store, retrained, at_once, in_step)
            for sample in job.samples:
                if sample.kind == "interpolated" and sample.sample_id not in interpolated:
                    interpolated.add(sample.sample_id)
                    made.pieces.append(Piece(number, (sample,)))
        # Job by job, and the longest first: the last pieces, when some actors have run dry, are then the shortest.
        made.pieces.sort(key=lambda p: (p.job, p.first is None, -p.weight))
        return made

    def finish(self, piece: Piece, found: Sequence[Judged]) -> None:
        """Take what a worker measured of a piece."""
        for sample, (trainings, otdd) in zip(piece.samples, found, strict=True):
            if sample.kind == "interpolated":
                self.distances[sample.sample_id] = otdd
                continue
            if not self._seeks(piece, sample):
                continue  # measured before; it trained along because its stack did
            sought = self._sought[sample.sample_id]
            sought.otdd = otdd
            if piece.first is not None:
                self.trained += 1
                if len(sought.trainings) >= piece.first:
                    sought.trainings = sought.trainings[: piece.first] + trainings + sought.trainings[piece.repeats :]
            for key in (sample.sample_id, *sought.others):
                if key in self._sought:
                    self._sought[key].trainings = sought.trainings
                    self._settle(key)

    def alone(self, piece: Piece) -> list[Piece]:
        """What is still to be measured of a piece, set by set."""
        wanted = [s for s in piece.samples if s.kind == "interpolated" or self._seeks(piece, s)]
        return [replace(piece, samples=(sample,)) for sample in wanted]

    def fetch(self) -> tuple[list[UtilitySample], dict[str, Trainings]]:
        """The rows to append since the last call, and their origins."""
        found = self.rows, self.origins
        self.rows, self.origins = [], {}
        return found

    def _seeks(self, piece: Piece, sample: UtilitySample) -> bool:
        sought = self._sought.get(sample.sample_id)
        return sought is not None and sought.job == piece.job

    def _add_retrained(
        self,
        number: int,
        job: Wanted,
        store: SampleStore,
        retrained: Sequence[UtilitySample],
        at_once: int,
        in_step: bool,
    ) -> None:
        missing = [s for s in store.missing(retrained) if s.sample_id not in self._sought]
        ids = {sample.sample_id: job.training_id(sample) for sample in missing}
        known = store.trainings(set(ids.values()))
        own: dict[str, _Sought] = {}
        for sample in missing:
            held = known.get(ids[sample.sample_id])
            one = _Sought(number, ids[sample.sample_id], [], () if held is None else held.trainings)
            if held is None and store.has_earlier_rows:
                earlier = (store.measurements.get(other) for other in job.earlier_ids(sample))
                one.measured = next((m for m in earlier if m is not None), None)
            if not job.has_otdd(sample):
                one.otdd = math.nan
            own[sample.sample_id] = one
        self._sought |= own
        for sample in retrained:
            if sample.sample_id in self._sought:
                self._sought[sample.sample_id].places.append(sample)

        repeats = job.measuring.repeats
        lacking = {key for key, one in own.items() if one.measured is None and len(one.trainings) < repeats}
        for key in list(lacking):
            first = self._sought.get(self._training.setdefault(own[key].training_id, key))
            if first is not None and first is not own[key]:
                first.others += (key,)
                lacking.remove(key)
        trained: set[str] = set()
        for group in groups(retrained, job.measuring.training, at_once, job.pool, in_step=in_step):
            firsts = [len(own[s.sample_id].trainings) for s in group if s.sample_id in lacking]
            if firsts:
                self.pieces.append(Piece(number, group, min(firsts), repeats))
                trained |= {s.sample_id for s in group}
        for sample in missing:
            if sample.sample_id in trained:
                continue
            if job.has_otdd(sample):
                self.pieces.append(Piece(number, (sample,)))
            self._settle(sample.sample_id)

    def _settle(self, key: str) -> None:
        """Make the rows of a sample, if all of it is known."""
        one = self._sought[key]
        job = self.jobs[one.job]
        trainings = one.trainings[: job.measuring.repeats]
        whole = len(trainings) == job.measuring.repeats
        if one.otdd is None or not (whole or one.measured):
            return
        if whole:
            measurement = Measurement.of(trainings, one.otdd)
            self.origins[key] = Trainings(one.training_id, job.fingerprint, job.measuring.seed, job.rule, one.trainings)
        else:
            assert one.measured is not None
            measurement = replace(one.measured, otdd=one.otdd)
        self.rows += [place.measured(measurement, self.utility) for place in one.places]
        del self._sought[key]
