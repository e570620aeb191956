"""The page of a sweep: the sentence, the table, the plots, what failed, and how the objective came about."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rambo_ray.report import gallery
from rambo_ray.sweep import plots as sweep_plots
from rambo_ray.sweep import results as sweep_results
from rambo_ray.sweep.results import Summary, TrialRow


def pictures(rows: Sequence[TrialRow], summary: Summary, keys: Sequence[str]) -> dict[str, bytes]:
    """The sweep's plots as PNGs, by name; none where no trial finished."""
    metrics = [
        name
        for name in ("objective", "simulated_accuracy", "ranking_accuracy", "oracle_accuracy", "oracle_test_accuracy")
        if any(math.isfinite(p.mean[name]) for p in summary.points)
    ]
    found = {f"by_{key}": sweep_plots.by_key(rows, summary, key, metrics) for key in keys}
    if len(keys) == 2:
        found["heat_map"] = sweep_plots.heat_map(summary, keys)
    if len(keys) > 2 or (len(keys) == 2 and found["heat_map"] is None):
        found["parallel_coordinates"] = sweep_plots.parallel_coordinates(summary, keys)
    return {name: picture for name, picture in found.items() if picture is not None}


def render(
    rows: Sequence[TrialRow],
    summary: Summary,
    keys: Sequence[str],
    plots: dict[str, bytes],
    configuration: str,
    how: str,
    banner: str = "",
) -> str:
    """The page as HTML. configuration: the varied configuration as YAML; how: how the objective came about.

    `banner` stands on top where the results come from labels that a real user does not have.
    """
    names = sweep_results.columns(bool(banner))
    compared = {d.point: d for d in summary.differences}
    table = [
        {
            "best": summary.best is not None and p.point == summary.best.point,
            "values": [sweep_results.shown(p.values[key]) for key in keys],
            "metrics": [sweep_results.interval(p, name) for name in names],
            "difference": _difference(compared[p.point]) if p.point in compared else "",
            "seeds": sweep_results.counts(p),
        }
        for p in summary.points
    ]
    failed = [
        (", ".join(f"{key}={sweep_results.shown(row.values[key])}" for key in keys), row.seed, row.error)
        for row in rows
        if row.status == "failed"
    ]
    return gallery.template("sweep.html.j2").render(
        banner=banner,
        keys=keys,
        sentence=summary.sentence,
        names=list(names.values()),
        table=table,
        plots=[(_title(name), gallery.data_uri(png, "png")) for name, png in plots.items()],
        failed=failed,
        how=how,
        configuration=configuration,
        column=gallery.TILE,
    )


def _difference(d: sweep_results.PointDifference) -> str:
    text = f"{d.mean:+.4f}"
    if math.isfinite(d.low):
        text += f" [{d.low:+.4f}, {d.high:+.4f}]"
    return f"{text}, ahead in {d.wins} of {d.seeds}"


def _title(name: str) -> str:
    return f"Along {name.removeprefix('by_')}" if name.startswith("by_") else name.replace("_", " ").capitalize()
