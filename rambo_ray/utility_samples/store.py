"""Utility samples on disk: append-only Parquet files that survive whatever stops a run.

Every finished sample is in a part of its own batch (`parts`), written under a temporary name and then renamed, so a
reader never sees half a file. A sample is found again by its content hash: a second run, a resumed run or a larger P
retrains only what no file holds. What a file says is not taken on trust: a damaged part is set aside, a row whose
scores are not finite is not there, and both are trained again. Interpolated samples depend on u_hat and are written
anew, in one file, by each fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rambo_ray import __version__
from rambo_ray.config.schema import Config
from rambo_ray.errors import RunError
from rambo_ray.files import make_folder, put_aside, replacing
from rambo_ray.utility_samples import parts
from rambo_ray.utility_samples.parts import DEVIATIONS, MEANS, ORIGIN, SCHEMA, Damaged, Part
from rambo_ray.utility_samples.sampling import Measurement, Training, Trainings, Utility, UtilitySample

FOLDER = "utility_samples"
_COLUMNS = {"images_seen": "passes"}  # where a file calls a measurement's field otherwise
_REALS = (*MEANS, *DEVIATIONS, "otdd", "seconds")
_READ = ("sample_id", "pair_id", "iteration", *MEANS, *DEVIATIONS, "otdd", "epochs", "passes", "seconds")
_TOLD = 5  # damaged files that are named, before the others are counted

Place = tuple[str, int, int]  # a row: sample, pair, iteration


class SampleStore:
    """The folder `utility_samples/` of an output directory.

    said: what was wrong with the files, in lines for whoever starts the run; damaged: files that were set aside; run:
    the command that uses it now, by the time and the version, for rows of what it trains.
    """

    def __init__(self, folder: str | Path, utility: Utility, earlier: str | Path | None = None) -> None:
        """Use `folder`, made when first written to; `utility` is what the column of that name holds.

        earlier: the folder of another run whose samples count, too; it is only read. Raises RunError for files that
        cannot be read.
        """
        self.folder = Path(folder)
        self.earlier = None if earlier is None else Path(earlier)
        self.utility = utility
        self.said: list[str] = []
        self.damaged = 0
        self.run = f"{datetime.now(timezone.utc).isoformat(timespec='seconds')} rambo_ray {__version__}"
        self.measurements: dict[str, Measurement] = {}
        self._rows: set[Place] = set()
        self._small: list[Part] = []
        self._whole = True  # whether every row says which trainings it is the mean of
        self._doubted: dict[str, str] = {}
        if self.earlier is not None:
            self._read(self.earlier, ours=False)
        self.borrowed = frozenset(self.measurements)
        self._rows.clear()  # what is used of them is written here, too
        self._small.clear()
        self._read(self.folder, ours=True)
        doubted = {sample: why for sample, why in self._doubted.items() if sample not in self.measurements}
        if doubted:
            sample, why = next(iter(doubted.items()))
            count = f"{len(doubted)} utility samples are" if len(doubted) > 1 else "1 utility sample is"
            self.said.append(f"{count} trained again where needed: {why} (sample {sample} in {self.folder})")

    @classmethod
    def of_run(cls, folder: Path, config: Config) -> SampleStore:
        """The samples of a run in `folder`; a later round's are also looked for in those of the round before."""
        after = config.round.after
        earlier = None if after is None else Path(after).expanduser() / FOLDER
        return cls(folder / FOLDER, config.utility_samples.utility, earlier)

    def reused(self, samples: Iterable[UtilitySample]) -> int:
        """How many of `samples` an earlier run has measured."""
        return len({sample.sample_id for sample in samples} & self.borrowed)

    def missing(self, samples: Iterable[UtilitySample]) -> list[UtilitySample]:
        """Those of `samples` that no file holds a measurement of; each content once, in order."""
        found: dict[str, UtilitySample] = {}
        for sample in samples:
            if sample.sample_id not in self.measurements:
                found.setdefault(sample.sample_id, sample)
        return list(found.values())

    def measured(self, samples: Sequence[UtilitySample]) -> list[UtilitySample]:
        """`samples` with their measurements and utilities; raises KeyError where one is missing."""
        return [s.measured(self.measurements[s.sample_id], self.utility) for s in samples]

    def trainings(self, ids: Collection[str]) -> dict[str, Trainings]:
        """What files hold of the trainings with these ids (`Trainings.training_id`); of each the longest list."""
        return self._origins("training_id", ids)

    def runs_of(self, samples: Iterable[UtilitySample]) -> list[dict[str, Any]]:
        """Which command trained how many of `samples`: {"run", "folder", "samples"} each, the earliest first.

        run: null for what versions before this one trained; folder: null for this store's own.
        """
        left = {sample.sample_id for sample in samples}
        found: Counter[tuple[str | None, str | None]] = Counter()
        for folder in (self.folder, self.earlier):
            for table, _ in parts.contents(folder, ["sample_id", "run"]) if folder is not None else ():
                if "run" not in table.column_names:
                    continue
                wanted = pc.is_in(table["sample_id"], pa.array(left, pa.string()))
                table = table.filter(pc.and_(wanted, table["run"].is_valid()))
                for sample, run in zip(table["sample_id"].to_pylist(), table["run"].to_pylist(), strict=True):
                    if sample in left:
                        left.remove(sample)
                        found[run, None if folder == self.folder else str(folder)] += 1
        if left:
            found[None, None] += len(left)
        ordered = sorted(found.items(), key=lambda item: (item[0][0] or "", item[0][1] or ""))
        return [{"run": run, "folder": folder, "samples": count} for (run, folder), count in ordered]

    @property
    def has_earlier_rows(self) -> bool:
        """Whether some rows are known by their sample's id alone, as versions before this one wrote them."""
        return not self._whole

    def append(self, samples: Sequence[UtilitySample], origins: Mapping[str, Trainings] | None = None) -> Path | None:
        """Write measured samples that are not in any file yet; returns the new file, if there is one.

        origins: by sample id, the trainings behind them; of samples that a file holds already they are found there.
        Measurements are kept as they read back from the file (float32), so that a run and its
        resumption compute with the same numbers. Raises RunError, when all others are written, for a retrained sample
        whose scores are not finite; TypeError, before anything is, for one without a measurement.
        """
        fresh = {(s.sample_id, s.pair_id, s.iteration): s for s in samples}
        new = [sample for place, sample in fresh.items() if place not in self._rows]
        if not new:
            return None
        odd: RunError | None = None
        for sample in list(new):
            if sample.measurement is None:
                raise TypeError(f"sample {sample.sample_id} was never measured")
            if sample.measurement.odd is not None:
                new.remove(sample)
                odd = RunError(
                    f"sample {sample.sample_id} (pair {sample.pair_id}, a set of {sample.size} images): "
                    f"{sample.measurement.odd}; it is not stored: f's training diverged, lower classifier.learning_rate"
                )
        path = self._write(new, origins or {}) if new else None
        if odd is not None:
            raise odd
        return path

    def _write(self, new: Sequence[UtilitySample], origins: Mapping[str, Trainings]) -> Path:
        known = dict(origins)
        held = {s.sample_id for s in new if s.sample_id in self.measurements}
        known |= self._origins("sample_id", held - set(known))
        table = _table(new, known, {s.sample_id: self.run for s in new if s.sample_id not in held})
        part = parts.write(self.folder, table)
        self._take(table, [s.sample_id for s in new])
        if part.small:
            self._small.append(part)
        if len(self._small) >= parts.MERGE_AT:
            self._small, made = parts.merged(self.folder, self._small)
            if made is not None and made.small:
                self._small.append(made)
        return part.path

    def write_interpolated(self, samples: Sequence[UtilitySample]) -> Path:
        """Replace the file of interpolated samples."""
        path = self.folder / "interpolated.parquet"
        make_folder(self.folder)
        with replacing(path) as temporary:
            pq.write_table(_table(samples, {}), temporary, write_page_checksum=True)
        return path

    def _read(self, folder: Path, ours: bool) -> None:
        for table, part in self._sound(folder, ours):
            known = table["training_id"].null_count == 0 if "training_id" in table.column_names else False
            self._whole = self._whole and known
            self._take(table)
            if ours and part.small:
                self._small.append(part)

    def _sound(self, folder: Path, ours: bool) -> Iterable[tuple[pa.Table, Part]]:
        """The parts of a folder, damaged ones set aside where the folder is ours, and said."""
        bad: list[str] = []

        def told(path: Path, why: Damaged) -> None:
            bad.append(f"{path} is damaged: {why}; {put_aside(path) if ours else 'it is not read'}")

        yield from parts.contents(folder, (*_READ, "training_id"), told)
        self.damaged += len(bad)
        if len(bad) > _TOLD:
            bad[_TOLD:] = [f"{len(bad) - _TOLD} more files in {folder} are damaged"]
        self.said += bad
        if bad:
            self.said.append("their samples that this run needs are trained again; all others are kept")

    def _take(self, table: pa.Table, ids: Sequence[str] | None = None) -> None:
        """Learn the measurements in a table, and which rows there are; ids: of its samples, where somebody has them."""
        ids = table["sample_id"].to_pylist() if ids is None else ids
        reals = [table[name].to_numpy().astype(np.float64) for name in _REALS]
        sound = np.isfinite(np.stack(reals[:6])).all(axis=0)
        counts = table["epochs"].to_pylist(), table["passes"].to_pylist()
        columns = [column.tolist() for column in reals]
        # In the order of a measurement's fields.
        values = map(Measurement, *columns[:7], *counts, columns[7])
        rows = zip(ids, table["pair_id"].to_pylist(), table["iteration"].to_pylist(), strict=True)
        for row, measurement, trusted in zip(rows, values, sound.tolist(), strict=True):
            if not trusted:
                self._doubted[row[0]] = str(measurement.odd)
                continue
            self.measurements[row[0]] = measurement
            self._rows.add(row)

    def _origins(self, key: str, ids: Collection[str]) -> dict[str, Trainings]:
        found: dict[str, Trainings] = {}
        if not ids:
            return found
        wanted = pa.array(ids, pa.string())
        columns = dict.fromkeys([key, *(field.name for field in ORIGIN)])
        for folder in (self.folder, self.earlier):
            for table, _ in parts.contents(folder, list(columns)) if folder is not None else ():
                if "trainings" not in table.column_names:
                    continue
                for row in table.filter(pc.is_in(table[key], wanted)).to_pylist():
                    if row["trainings"] is None:
                        continue
                    held = found.get(row[key])
                    if held is None or len(held.trainings) < len(row["trainings"]):
                        found[row[key]] = _trainings(row)
        return found


def _trainings(row: Mapping[str, Any]) -> Trainings:
    own = tuple(
        Training(t["accuracy"], t["soft_accuracy"], t["val_loss"], t["epochs"], t["passes"], t["seconds"])
        for t in row["trainings"]
    )
    return Trainings(row["training_id"], row["data"], row["seed"], row["rule"], own)


def _table(
    samples: Sequence[UtilitySample], origins: Mapping[str, Trainings], runs: Mapping[str, str] | None = None
) -> pa.Table:
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for sample in samples:
        for name in ("sample_id", "pair_id", "iteration", "kind", "indices", "size", "utility", "fold"):
            columns[name].append(getattr(sample, name))
        for name in (*_REALS, "epochs", "images_seen"):
            value = getattr(sample.measurement, name) if sample.measurement is not None else None
            columns[_COLUMNS.get(name, name)].append(value)
        origin = origins.get(sample.sample_id)
        for name in ("training_id", "data", "seed", "rule"):
            columns[name].append(None if origin is None else getattr(origin, name))
        columns["run"].append((runs or {}).get(sample.sample_id))
        columns["trainings"].append(None if origin is None else [_as_row(t) for t in origin.trainings])
    return pa.table(columns, schema=SCHEMA)


def _as_row(training: Training) -> dict[str, Any]:
    names = (*MEANS, "epochs", "seconds")
    return {name: getattr(training, name) for name in names} | {"passes": training.images_seen}
