"""The plots of a sweep: the objective along each key, over two keys, and over many.

Vermilion is the best point, blue the mean over seeds with its standard error, grey single trials.
P points, S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from rambo_ray.report.plots import (
    INK,
    LEARNED,
    LETTERS,
    MUTED,
    PALE,
    PICKED,
    SIZE_INCHES,
    SMALL,
    blank,
    dress,
    legend,
    new_figure,
    png,
)
from rambo_ray.sweep.results import PointSummary, Summary, TrialRow, shown

LABELS = {
    "objective": "objective",
    "simulated_accuracy": "simulated\naccuracy",
    "ranking_accuracy": "ranking\naccuracy",
    "oracle_accuracy": "ORACLE\naccuracy, S_val",
    "oracle_test_accuracy": "ORACLE\naccuracy, test",
}
# Positive values that span more than this factor stand on a logarithmic axis.
LOG_SPAN = 30.0
MOST_CELLS = 12
MOST_TICKS = 9


@dataclass(frozen=True)
class Axis:
    """Where the values of a key stand: a place for each, and the ticks that say so."""

    places: dict[Any, float]
    ticks: list[tuple[float, str]]


def axis(values: Sequence[Any]) -> Axis:
    """A place for each distinct value.

    Numbers stand where they belong, by their logarithm where they are positive (0 aside) and span
    more than LOG_SPAN; 0 then has a place of its own, a step left of the smallest. Anything else
    stands side by side in the order of first mention.
    """
    distinct = list(dict.fromkeys(values))
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in distinct):
        return Axis(
            {v: float(i) for i, v in enumerate(distinct)}, [(float(i), shown(v)) for i, v in enumerate(distinct)]
        )
    distinct.sort()
    positive = [v for v in distinct if v > 0]
    if positive and distinct[0] >= 0 and positive[-1] / positive[0] > LOG_SPAN:
        places = {v: math.log10(v) for v in positive}
        step = (places[positive[-1]] - places[positive[0]]) / max(len(positive) - 1, 1)
        if distinct[0] == 0:
            places[distinct[0]] = places[positive[0]] - max(step, 0.3)
    else:
        places = {v: float(v) for v in distinct}
    named = distinct
    if len(distinct) > MOST_TICKS:
        named = [distinct[i] for i in np.linspace(0, len(distinct) - 1, MOST_TICKS).round().astype(int)]
    return Axis(places, [(places[v], shown(v)) for v in named])


def by_key(rows: Sequence[TrialRow], summary: Summary, key: str, metrics: Sequence[str]) -> bytes | None:
    """The metrics against one key, a panel each: mean and standard error over seeds, single trials as dots.

    Where other keys vary, too, the line is the mean over all points with that value. None where no
    trial finished.
    """
    done = [row for row in rows if row.status == "finished"]
    if not done:
        return None
    on = axis([p.values[key] for p in summary.points])
    wide, high = SIZE_INCHES
    figure = blank((wide, high * (0.45 + 0.55 * len(metrics))))
    panels = np.atleast_1d(figure.subplots(len(metrics), 1, sharex=True))
    several = any(len(p.values) > 1 for p in summary.points)
    for panel, metric in zip(panels, metrics, strict=True):
        dress(panel, "", LABELS[metric])
        panel.scatter(
            [on.places[row.values[key]] for row in done], [getattr(row, metric) for row in done], s=10, color=PALE,
            label="one seed",
        )  # fmt: skip
        _means(panel, done, key, metric, on, several)
        if summary.best is not None:
            panel.scatter(
                [on.places[summary.best.values[key]]], [summary.best.mean[metric]], s=34, color=PICKED, zorder=4,
                label="best point",
            )  # fmt: skip
    _ticks(panels[-1], on)
    panels[-1].set_xlabel(key, fontsize=LETTERS, color=MUTED)
    legend(panels[0], 3)
    return png(figure)


def _means(panel: Axes, done: Sequence[TrialRow], key: str, metric: str, on: Axis, several: bool) -> None:
    groups: dict[Any, list[float]] = {}
    for row in done:
        groups.setdefault(row.values[key], []).append(getattr(row, metric))
    order = sorted(groups, key=lambda value: on.places[value])
    means = [float(np.mean(groups[v])) for v in order]
    errors = [float(np.std(groups[v], ddof=1) / math.sqrt(len(groups[v]))) if len(groups[v]) > 1 else 0 for v in order]
    panel.errorbar(
        [on.places[v] for v in order], means, yerr=errors, color=LEARNED, linewidth=1.6, capsize=3, marker="o",
        markersize=4, label="mean ± s.e." + (" over seeds, other keys" if several else " over seeds"),
    )  # fmt: skip


def _ticks(axes: Axes, on: Axis) -> None:
    axes.xaxis.set_major_locator(FixedLocator([place for place, _ in on.ticks]))
    axes.xaxis.set_major_formatter(FixedFormatter([name for _, name in on.ticks]))
    axes.xaxis.set_minor_locator(NullLocator())


def heat_map(summary: Summary, keys: Sequence[str]) -> bytes | None:
    """Mean objective over two keys, a cell per pair of values; None where they are too many or not a grid."""
    points = [p for p in summary.points if math.isfinite(p.mean["objective"])]
    columns, rows = (sorted_values([p.values[key] for p in summary.points]) for key in keys)
    if not points or max(len(columns), len(rows)) > MOST_CELLS or len(columns) * len(rows) > 2 * len(summary.points):
        return None
    grid = np.full((len(rows), len(columns)), np.nan)
    for p in points:
        grid[rows.index(p.values[keys[1]]), columns.index(p.values[keys[0]])] = p.mean["objective"]
    figure, axes = new_figure(keys[0], keys[1])
    axes.grid(False)
    image = axes.imshow(grid, origin="lower", aspect="auto", cmap="Blues")
    axes.set_xticks(range(len(columns)), [shown(v) for v in columns])
    axes.set_yticks(range(len(rows)), [shown(v) for v in rows])
    middle = (np.nanmin(grid) + np.nanmax(grid)) / 2
    for (i, j), value in np.ndenumerate(grid):
        if math.isfinite(value):
            color = "white" if value > middle else INK
            axes.text(j, i, f"{value:.3f}", ha="center", va="center", fontsize=SMALL, color=color)
    bar = figure.colorbar(image, ax=axes)
    bar.ax.tick_params(labelsize=SMALL, colors=MUTED)
    bar.set_label("mean objective", fontsize=LETTERS, color=MUTED)
    return png(figure)


def sorted_values(values: Sequence[Any]) -> list[Any]:
    """Distinct values by their place on an `axis`."""
    on = axis(values)
    return sorted(on.places, key=lambda value: on.places[value])


def parallel_coordinates(summary: Summary, keys: Sequence[str]) -> bytes | None:
    """A line per point across one axis per key, the darker the larger its mean objective; the best in vermilion."""
    points = [p for p in summary.points if math.isfinite(p.mean["objective"])]
    if not points:
        return None
    axes_of = [axis([p.values[key] for p in points]) for key in keys]
    figure, axes = new_figure("", "")
    axes.grid(False)
    axes.spines[["left", "bottom"]].set_visible(False)
    objectives = np.array([p.mean["objective"] for p in points])
    low, high = objectives.min(), objectives.max()
    best = summary.best
    for p in sorted(points, key=lambda p: p.mean["objective"]):
        share = 0.5 if high == low else (p.mean["objective"] - low) / (high - low)
        is_best = best is not None and p.point == best.point
        axes.plot(
            range(len(keys)), [_height(on, p, key) for on, key in zip(axes_of, keys, strict=True)],
            color=PICKED if is_best else colormaps["Blues"](0.25 + 0.75 * share), linewidth=2.2 if is_best else 1.1,
        )  # fmt: skip
    for i, on in enumerate(axes_of):
        axes.axvline(i, color=PALE, linewidth=0.8, zorder=0)
        for place, name in on.ticks:
            axes.annotate(name, (i, _scaled(on, place)), (3, 0), textcoords="offset points", fontsize=SMALL, color=INK)
    axes.set_yticks([])
    axes.set_xticks(range(len(keys)), [key.replace(".", ".\n") for key in keys])
    axes.set_xlim(-0.1, len(keys) - 0.75)
    axes.set_title(
        f"mean objective from {low:.3f} (pale) to {high:.3f} (vermilion)", fontsize=LETTERS, color=MUTED, loc="left"
    )
    return png(figure)


def _height(on: Axis, p: PointSummary, key: str) -> float:
    return _scaled(on, on.places[p.values[key]])


def _scaled(on: Axis, place: float) -> float:
    low, high = min(on.places.values()), max(on.places.values())
    return 0.5 if high == low else (place - low) / (high - low)
