"""What the trials of a sweep come to: a row each, means over seeds, the best point, and how sure that is.

P points, each with up to S seeds. Points are compared by their differences seed by seed, since the
data of one seed can be several times further from that of another than two settings are apart.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from rambo_ray.files import write_table
from rambo_ray.report import paired, tables

METRICS = ("objective", "simulated_accuracy", "simulated_gain", "ranking_accuracy", "kendall_tau",
           "oracle_accuracy", "oracle_test_accuracy")  # fmt: skip
TABLE_ROWS = 20


@dataclass(frozen=True)
class TrialRow:
    """One point evaluated with one seed; metrics as in `trial.Score`, NaN unless finished."""

    point: int
    values: dict[str, Any]
    seed: int
    status: Literal["finished", "stopped", "failed"]  # stopped: ended early by the scheduler
    objective: float
    simulated_accuracy: float
    simulated_gain: float
    ranking_accuracy: float
    kendall_tau: float
    oracle_accuracy: float
    oracle_test_accuracy: float
    epochs: int
    seconds: float
    error: str  # one line, "" unless failed


@dataclass(frozen=True)
class PointSummary:
    """A point over its finished seeds: mean and standard error of each metric (NaN below 1, below 2 seeds)."""

    point: int
    values: dict[str, Any]
    mean: dict[str, float]
    error: dict[str, float]
    finished: int
    stopped: int
    failed: int


@dataclass(frozen=True)
class PointDifference(paired.PairedDifference):
    """The best point's objective minus that of `point`, over the seeds that both finished."""

    point: int


@dataclass(frozen=True)
class Summary:
    """All points, in their order; the best of those that finished with the most seeds; how it compares."""

    points: list[PointSummary]
    best: PointSummary | None
    differences: list[PointDifference]
    sentence: str


def summarise(rows: Sequence[TrialRow], keys: Sequence[str]) -> Summary:
    """Means over seeds, the point of the largest mean objective, and whether it stands out of the noise."""
    numbers = sorted({row.point for row in rows})
    points = [_point([row for row in rows if row.point == number]) for number in numbers]
    most = max((p.finished for p in points), default=0)
    complete = [p for p in points if p.finished == most and math.isfinite(p.mean["objective"])] if most else []
    best = max(complete, key=lambda p: p.mean["objective"], default=None)
    differences = [] if best is None else [
        _difference(rows, best.point, p.point) for p in points if p.point != best.point and p.finished
    ]  # fmt: skip
    return Summary(points, best, differences, _sentence(points, best, differences, keys))


def _point(rows: Sequence[TrialRow]) -> PointSummary:
    done = [row for row in rows if row.status == "finished"]
    mean, error = {}, {}
    for name in METRICS:
        mean[name], error[name] = paired.mean_and_error({row.seed: getattr(row, name) for row in done})
    count = {status: sum(row.status == status for row in rows) for status in ("stopped", "failed")}
    return PointSummary(rows[0].point, rows[0].values, mean, error, len(done), count["stopped"], count["failed"])


def _difference(rows: Sequence[TrialRow], best: int, other: int) -> PointDifference:
    first, second = (
        {r.seed: r.objective for r in rows if r.status == "finished" and r.point == point} for point in (best, other)
    )
    return PointDifference(**asdict(paired.difference(first, second)), point=other)


def _sentence(
    points: Sequence[PointSummary],
    best: PointSummary | None,
    differences: Sequence[PointDifference],
    keys: Sequence[str],
) -> str:
    if best is None:
        return f"No point of {len(points)} finished: there is no best setting."
    name = ", ".join(f"{key} = {shown(best.values[key])}" for key in keys)
    value = f"{best.mean['objective']:.4f}"
    if math.isfinite(best.error["objective"]):
        value += f" ± {best.error['objective']:.4f}"
    head = f"{name} has the largest mean objective ({value}"
    if not differences:
        return f"{head}); no other point finished, so there is nothing to compare it with."
    if best.finished < 2:
        return f"{head}, one seed); whether that exceeds the noise cannot be said from one seed."
    head += f" over {best.finished} seeds)"
    within = [d for d in differences if not d.clear]
    others = "the other point" if len(differences) == 1 else f"the {len(differences)} other points"
    if not within:
        text = f"{head}; its paired differences from {others} all exceed the noise over seeds (95 % t interval)."
    elif len(within) == len(differences):
        text = f"{head}, but its paired differences from {others} do not exceed the noise over seeds (95 % t interval)."
    else:
        text = (
            f"{head}; of its paired differences from {others}, {len(differences) - len(within)} exceed the noise over "
            f"seeds (95 % t interval) and {len(within)} do not."
        )
    if len(differences) > 1:
        text += f" Being the best of {len(points)} flatters its mean."
    return text


def table(summary: Summary, keys: Sequence[str], oracle: bool) -> str:
    """The points as aligned text, the best marked with *; the TABLE_ROWS best where there are more."""
    points = summary.points
    note = ""
    if len(points) > TABLE_ROWS:
        ranked = sorted(points, key=lambda p: -_or_least(p.mean["objective"]))[:TABLE_ROWS]
        points = [p for p in points if p in ranked]
        note = f"\nthe {TABLE_ROWS} best of {len(summary.points)} points"
    names = columns(oracle)
    lines = [["", *(key.partition(".")[2] for key in keys), *names.values(), "seeds"]]
    for p in points:
        mark = "*" if summary.best is not None and p.point == summary.best.point else ""
        cells = [interval(p, name) for name in names]
        lines.append([mark, *(shown(p.values[key]) for key in keys), *cells, counts(p)])
    return tables.aligned(lines) + note


def columns(oracle: bool) -> dict[str, str]:
    """The metrics that a table shows, and what it calls them."""
    names = {"objective": "objective", "simulated_accuracy": "simulated", "ranking_accuracy": "ranking"}
    return {**names, **({"oracle_test_accuracy": "oracle test"} if oracle else {})}


def interval(p: PointSummary, name: str) -> str:
    """Mean and standard error of a metric, as text."""
    if not math.isfinite(p.mean[name]):
        return "-"
    error = f" ± {p.error[name]:.4f}" if math.isfinite(p.error[name]) else ""
    return f"{p.mean[name]:.4f}{error}"


def counts(p: PointSummary) -> str:
    """How many seeds finished, and what became of the others."""
    others = [f"{count} {name}" for name, count in (("stopped", p.stopped), ("failed", p.failed)) if count]
    return ", ".join([str(p.finished), *others])


def shown(value: Any) -> str:
    """A key's value as text; floats to four digits."""
    if value is None:
        return "null"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _or_least(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def write_tables(rows: Sequence[TrialRow], keys: Sequence[str], folder: Path, oracle: bool) -> None:
    """Write sweep.parquet and sweep.csv: a row per trial, swept keys by their dotted names.

    `oracle` (column and Parquet metadata) marks results that used the pool's labels.
    """
    data: dict[str, pa.Array] = {"point": pa.array([row.point for row in rows], pa.int64())}
    for key in keys:
        data[key] = _column([row.values[key] for row in rows])
    data["seed"] = pa.array([row.seed for row in rows], pa.int64())
    data["status"] = pa.array([row.status for row in rows], pa.string())
    for name in METRICS:
        data[name] = pa.array([getattr(row, name) for row in rows], pa.float64())
    data["epochs"] = pa.array([row.epochs for row in rows], pa.int64())
    data["seconds"] = pa.array([row.seconds for row in rows], pa.float64())
    data["error"] = pa.array([row.error for row in rows], pa.string())
    data["oracle"] = pa.array([oracle] * len(rows), pa.bool_())
    content = pa.table(data).replace_schema_metadata({"rambo_ray.oracle": json.dumps(oracle)})
    write_table(content, folder / "sweep")


def _column(values: Sequence[Any]) -> pa.Array:
    """Numbers stay numbers; a column of several types becomes text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if len(kinds) > 1 or kinds & {list, dict}:
        return pa.array([None if value is None else json.dumps(value) for value in values], pa.string())
    return pa.array(values)
