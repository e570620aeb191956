"""Utility samples on disk: append-only Parquet files that survive whatever stops a run.

Every finished sample is in a file of its own batch, written under a temporary name and then
renamed, so a reader never sees half a file. A sample is found again by its content hash: a second
run, a resumed run or a larger P retrains only what no file holds. Interpolated samples depend on
u_hat and are written anew, in one file, by each fit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rambo_ray.config.schema import Config
from rambo_ray.errors import RunError
from rambo_ray.files import replacing
from rambo_ray.utility_samples.sampling import Measurement, Utility, UtilitySample

FOLDER = "utility_samples"
_MEASURED = ("accuracy", "soft_accuracy", "val_loss")
_DEVIATIONS = ("accuracy_std", "soft_accuracy_std", "val_loss_std")
_COLUMNS = {"images_seen": "passes"}  # where a file calls a measurement's field otherwise

SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("pair_id", pa.int64(), nullable=False),
        pa.field("iteration", pa.int32(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("indices", pa.list_(pa.int32()), nullable=False),
        pa.field("size", pa.int32(), nullable=False),
        *(pa.field(name, pa.float32()) for name in _MEASURED),
        *(pa.field(name, pa.float32()) for name in _DEVIATIONS),
        pa.field("utility", pa.float32()),
        pa.field("otdd", pa.float32()),
        pa.field("epochs", pa.int32()),
        pa.field("passes", pa.int64()),
        pa.field("seconds", pa.float32()),
        pa.field("fold", pa.int32()),
    ]
)


class SampleStore:
    """The folder `utility_samples/` of an output directory."""

    def __init__(self, folder: str | Path, utility: Utility, earlier: str | Path | None = None) -> None:
        """Use `folder`, made when first written to; `utility` is what the column of that name holds.

        earlier: the folder of another run whose samples count, too; it is only read.
        """
        self.folder = Path(folder)
        self.utility = utility
        self._rows: set[tuple[str, int, int]] = set()
        self.measurements: dict[str, Measurement] = {}
        if earlier is not None:
            self._read(Path(earlier))
        self.borrowed = frozenset(self.measurements)
        self._rows.clear()  # what is used of them is written here, too
        self._read(self.folder)

    def _read(self, folder: Path) -> None:
        for path in sorted(folder.glob("part-*.parquet")):
            try:
                rows = pq.read_table(path).to_pylist()
                for row in rows:
                    self.measurements[row["sample_id"]] = _measurement(row)
                    self._rows.add((row["sample_id"], row["pair_id"], row["iteration"]))
            except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
                reason = " ".join(str(error).split())[:120]
                raise RunError(f"{path}: not a file of utility samples ({reason}); delete it and run again") from error

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

    def append(self, samples: Sequence[UtilitySample]) -> Path | None:
        """Write measured samples that are not in any file yet; returns the new file, if there is one.

        Measurements are kept as they read back from the file (float32), so that a run and its
        resumption compute with the same numbers.
        """
        fresh = {(s.sample_id, s.pair_id, s.iteration): s for s in samples}
        new = [sample for row, sample in fresh.items() if row not in self._rows]
        if not new:
            return None
        name = hashlib.sha256("".join(f"{s.sample_id}{s.pair_id}{s.iteration}" for s in new).encode()).hexdigest()
        table = _table(new)
        # Read back before it is written: a sample without a measurement must not get into a file.
        measurements = {row["sample_id"]: _measurement(row) for row in table.to_pylist()}
        path = _write(self.folder / f"part-{name[:16]}.parquet", table)
        self.measurements.update(measurements)
        self._rows.update((s.sample_id, s.pair_id, s.iteration) for s in new)
        return path

    def write_interpolated(self, samples: Sequence[UtilitySample]) -> Path:
        """Replace the file of interpolated samples."""
        return _write(self.folder / "interpolated.parquet", _table(samples))


def _table(samples: Sequence[UtilitySample]) -> pa.Table:
    columns: dict[str, list[object]] = {name: [] for name in SCHEMA.names}
    for sample in samples:
        for name in ("sample_id", "pair_id", "iteration", "kind", "size", "utility", "fold"):
            columns[name].append(getattr(sample, name))
        columns["indices"].append(list(sample.indices))
        for name in (*_MEASURED, *_DEVIATIONS, "otdd", "epochs", "images_seen", "seconds"):
            value = getattr(sample.measurement, name) if sample.measurement is not None else None
            columns[_COLUMNS.get(name, name)].append(value)
    return pa.table(columns, schema=SCHEMA)


def _measurement(row: dict[str, object]) -> Measurement:
    def number(name: str) -> float:
        return float("nan") if row[name] is None else float(row[name])  # type: ignore[arg-type]

    reals = {name: number(name) for name in (*_MEASURED, *_DEVIATIONS, "otdd", "seconds")}
    return Measurement(**reals, epochs=int(row["epochs"]), images_seen=int(row["passes"]))  # type: ignore[call-overload]


def _write(path: Path, table: pa.Table) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        pq.write_table(table, temporary)
    return path
