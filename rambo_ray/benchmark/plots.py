"""The plots of a benchmark: accuracy against the budget, leads over the control, accuracy along a key.

Vermilion is RAMBO, blue its control, black random; all other methods have pale colours of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from rambo_ray.benchmark.experiment import Experiment, Panel
from rambo_ray.benchmark.results import HEADLINE, RANDOM, Metric, Results
from rambo_ray.config import loading
from rambo_ray.report.paired import mean_and_error
from rambo_ray.report.plots import BACKGROUND, INK, LEARNED, MUTED, PALE, PICKED, SMALL, blank, dress, png
from rambo_ray.sweep.plots import axis

WIDE_INCHES = (6.6, 3.6)
ROW_INCHES = 0.26
LABELS = {"accuracy": "accuracy on $S_{val}$ (%)", "test_accuracy": "accuracy on test (%)"}


def curves(results: Results, panel: Panel, metric: Metric) -> bytes | None:
    """Mean accuracy against the budget, a line per method, with the standard error over seeds as a band.

    With a single budget: `bars`.
    """
    experiment = results.experiment
    if len(experiment.budgets) == 1:
        return bars(results, panel, metric)
    figure, axes = _wide("labelling budget B (images)", LABELS[metric])
    drawn = False
    for name, color, width in _styles(experiment):
        found = [mean_and_error(results.values(panel, name, budget, metric)) for budget in experiment.budgets]
        drawn |= _line(axes, np.array(experiment.budgets, float), found, name, color, width)
    if not drawn:
        return None
    axes.xaxis.set_major_locator(FixedLocator(list(experiment.budgets)))
    axes.xaxis.set_minor_locator(NullLocator())
    _beside(axes)
    return png(figure)


def bars(results: Results, panel: Panel, metric: Metric) -> bytes | None:
    """Mean accuracy at the only budget, a row per method, best on top; hollow: the paper's."""
    budget = results.experiment.budgets[-1]
    found = {
        name: (mean_and_error(results.values(panel, name, budget, metric)), color)
        for name, color, _ in _styles(results.experiment)
    }
    names = sorted((n for n in found if math.isfinite(found[n][0][0])), key=lambda n: found[n][0][0])
    if not names:
        return None
    figure, axes = _rows(names, LABELS[metric])
    for row, name in enumerate(names):
        (mean, error), color = found[name]
        axes.errorbar(100 * mean, row, xerr=100 * error if math.isfinite(error) else None, fmt="o", color=color, ms=5)
    paper = panel.paper.get(budget, {}) if metric == "accuracy" else {}
    known = [(paper[name][0], row) for row, name in enumerate(names) if name in paper]
    if known:
        x, y = zip(*known, strict=True)
        axes.plot(x, y, "D", mfc=BACKGROUND, mec=MUTED, ms=5, label="the paper's")
        axes.legend(frameon=False, fontsize=SMALL, labelcolor=MUTED, loc="lower right")
    return png(figure)


def leads(results: Results, panel: Panel, metric: Metric) -> bytes | None:
    """Each method's lead over the control, paired by seed, mean over budgets: dot and 95 % t interval; pale: seeds."""
    control = results.experiment.control
    found = {
        name: (results.lead(panel, name, control, metric), color)
        for name, color, _ in _styles(results.experiment)
        if name != control
    }
    names = sorted((n for n in found if found[n][0].seeds), key=lambda n: found[n][0].mean)
    if not names:
        return None
    figure, axes = _rows(names, f"lead over {control} in {LABELS[metric].replace('(%)', '(points)')}")
    axes.axvline(0, color=INK, linewidth=0.8)
    base = results.over_budgets(panel, control, metric)
    for row, name in enumerate(names):
        d, color = found[name]
        own = results.over_budgets(panel, name, metric)
        single = [100 * (own[seed] - base[seed]) for seed in own.keys() & base.keys()]
        axes.plot(single, [row] * len(single), "o", color=PALE, ms=3, mew=0, zorder=1)
        half = [[100 * (d.mean - d.low)], [100 * (d.high - d.mean)]] if math.isfinite(d.low) else None
        axes.errorbar(100 * d.mean, row, xerr=half, fmt="o", color=color, ms=5, zorder=2)
    return png(figure)


def along(results: Results, metric: Metric) -> bytes | None:
    """Mean accuracy at the largest budget along the key that panels differ in; None where there is no such key."""
    experiment = results.experiment
    if experiment.along is None:
        return None
    key, budget = experiment.along.key, experiment.budgets[-1]
    values = [loading.flatten(panel.config)[key] for panel in experiment.panels]
    on = axis(values)
    figure, axes = _wide(experiment.along.label, LABELS[metric])
    places = np.array([on.places[value] for value in values])
    order = np.argsort(places)
    drawn = False
    for name, color, width in _styles(experiment):
        found = [mean_and_error(results.values(panel, name, budget, metric)) for panel in experiment.panels]
        drawn |= _line(axes, places[order], [found[i] for i in order], name, color, width)
    if not drawn:
        return None
    axes.xaxis.set_major_locator(FixedLocator([place for place, _ in on.ticks]))
    axes.xaxis.set_major_formatter(FixedFormatter([name for _, name in on.ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    _beside(axes)
    return png(figure)


def _styles(experiment: Experiment) -> list[tuple[str, Any, float]]:
    """Name, colour and line width of each method; those that matter most are drawn last, on top."""
    named = {HEADLINE: (PICKED, 2.4), experiment.control: (LEARNED, 2.0), RANDOM: (INK, 1.6)}
    others = [method.name for method in experiment.methods if method.name not in named]
    pale = [*(colormaps["tab20"](i) for i in range(1, 20, 2)), *(colormaps["Dark2"](i) for i in (5, 3, 4))]
    styles: list[tuple[str, Any, float]] = [(name, pale[i % len(pale)], 1.2) for i, name in enumerate(others)]
    present = [method.name for method in experiment.methods]
    return styles + [(name, *named[name]) for name in (RANDOM, experiment.control, HEADLINE) if name in present]


def _line(axes: Axes, x: np.ndarray, found: Sequence[tuple[float, float]], name: str, color: Any, width: float) -> bool:
    mean, error = (100 * np.array(column, dtype=np.float64) for column in zip(*found, strict=True))
    known = np.isfinite(mean)
    if not known.any():
        return False
    axes.plot(x[known], mean[known], "-o", color=color, linewidth=width, markersize=2 + width, label=name)
    if width > 1.5:  # bands of all methods would cover one another
        half = np.nan_to_num(error[known])
        axes.fill_between(x[known], mean[known] - half, mean[known] + half, color=color, alpha=0.15, linewidth=0)
    return True


def _wide(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = blank(WIDE_INCHES)
    axes = figure.add_subplot()
    dress(axes, x_label, y_label)
    return figure, axes


def _rows(names: Sequence[str], x_label: str) -> tuple[Figure, Axes]:
    figure = blank((WIDE_INCHES[0], 0.9 + ROW_INCHES * len(names)))
    axes = figure.add_subplot()
    dress(axes, x_label, "")
    axes.grid(False)
    axes.grid(axis="x", color="#e3e6ea", linewidth=0.7)
    axes.set_yticks(range(len(names)), list(names))
    axes.set_ylim(-0.6, len(names) - 0.4)
    return figure, axes


def _beside(axes: Axes) -> None:
    """The legend to the right of the axes, the last drawn on top."""
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=SMALL,
        labelcolor=MUTED, handlelength=1.4,
    )  # fmt: skip
