"""The plots of a benchmark: accuracy against the budget, leads over the control, accuracy along a key.

Vermilion is RAMBO, blue its control, black random; all other methods have pale colours of their own. What
looks at the truth is grey, dashed or hollow, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from rambo_ray.benchmark.experiment import CEILINGS, Experiment, Panel
from rambo_ray.benchmark.results import HEADLINE, RANDOM, Metric, Results
from rambo_ray.config import loading
from rambo_ray.report.paired import mean_and_error
from rambo_ray.report.plots import BACKGROUND, INK, LEARNED, MUTED, PALE, PICKED, SMALL, blank, dress, png
from rambo_ray.sweep.plots import axis

WIDE_INCHES = (6.6, 3.6)
ROW_INCHES = 0.26
GREYS = ("#8b929a", "#a9b0b8", "#6f7780", "#c0c5cb")  # of ceilings
LABELS = {"accuracy": "accuracy on $S_{val}$ (%)", "test_accuracy": "accuracy on test (%)"}


@dataclass(frozen=True)
class Style:
    """How a method is drawn; truth: whether it looks at the labels that it is to buy."""

    name: str
    color: Any
    width: float
    truth: bool = False

    @property
    def label(self) -> str:
        """What the plot calls it."""
        return f"{self.name} (uses the truth)" if self.truth else self.name

    @property
    def fill(self) -> Any:
        """Of its dots."""
        return BACKGROUND if self.truth else self.color


def curves(results: Results, panel: Panel, metric: Metric) -> bytes | None:
    """Mean accuracy against the budget, a line per method, with the standard error over seeds as a band.

    With a single budget: `bars`.
    """
    experiment = results.experiment
    if len(experiment.budgets) == 1:
        return bars(results, panel, metric)
    figure, axes = _wide("labelling budget B (images)", LABELS[metric])
    drawn = False
    for style in _styles(experiment):
        found = [mean_and_error(results.values(panel, style.name, budget, metric)) for budget in experiment.budgets]
        drawn |= _line(axes, np.array(experiment.budgets, float), found, style)
    if not drawn:
        return None
    axes.xaxis.set_major_locator(FixedLocator(list(experiment.budgets)))
    axes.xaxis.set_minor_locator(NullLocator())
    _beside(axes)
    return png(figure)


def bars(results: Results, panel: Panel, metric: Metric) -> bytes | None:
    """Mean accuracy at the only budget, a row per method, best on top; hollow: the paper's."""
    budget = results.experiment.budgets[-1]
    styles = {style.name: style for style in _styles(results.experiment)}
    found = {name: mean_and_error(results.values(panel, name, budget, metric)) for name in styles}
    names = sorted((n for n in found if math.isfinite(found[n][0])), key=lambda n: found[n][0])
    if not names:
        return None
    figure, axes = _rows([styles[name].label for name in names], LABELS[metric])
    for row, name in enumerate(names):
        mean, error = found[name]
        _dot(axes, 100 * mean, row, 100 * error if math.isfinite(error) else None, styles[name])
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
    styles = {style.name: style for style in _styles(results.experiment) if style.name != control}
    found = {name: results.lead(panel, name, control, metric) for name in styles}
    names = sorted((n for n in found if found[n].seeds), key=lambda n: found[n].mean)
    if not names:
        return None
    labels = [styles[name].label for name in names]
    figure, axes = _rows(labels, f"lead over {control} in {LABELS[metric].replace('(%)', '(points)')}")
    axes.axvline(0, color=INK, linewidth=0.8)
    base = results.over_budgets(panel, control, metric)
    for row, name in enumerate(names):
        d = found[name]
        own = results.over_budgets(panel, name, metric)
        single = [100 * (own[seed] - base[seed]) for seed in own.keys() & base.keys()]
        axes.plot(single, [row] * len(single), "o", color=PALE, ms=3, mew=0, zorder=1)
        half = [[100 * (d.mean - d.low)], [100 * (d.high - d.mean)]] if math.isfinite(d.low) else None
        _dot(axes, 100 * d.mean, row, half, styles[name])
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
    for style in _styles(experiment):
        found = [mean_and_error(results.values(panel, style.name, budget, metric)) for panel in experiment.panels]
        drawn |= _line(axes, places[order], [found[i] for i in order], style)
    if not drawn:
        return None
    axes.xaxis.set_major_locator(FixedLocator([place for place, _ in on.ticks]))
    axes.xaxis.set_major_formatter(FixedFormatter([name for _, name in on.ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    _beside(axes)
    return png(figure)


def _styles(experiment: Experiment) -> list[Style]:
    """The style of each method; those that matter most are drawn last, on top, the ceilings first."""
    named = {HEADLINE: (PICKED, 2.4), experiment.control: (LEARNED, 2.0), RANDOM: (INK, 1.6)}
    ceilings = [method.name for method in experiment.methods if method.kind in CEILINGS and method.name not in named]
    others = [method.name for method in experiment.methods if method.name not in (*named, *ceilings)]
    pale = [*(colormaps["tab20"](i) for i in range(1, 20, 2)), *(colormaps["Dark2"](i) for i in (5, 3, 4))]
    styles = [Style(name, GREYS[i % len(GREYS)], 1.2, truth=True) for i, name in enumerate(ceilings)]
    styles += [Style(name, pale[i % len(pale)], 1.2) for i, name in enumerate(others)]
    present = [method.name for method in experiment.methods]
    return styles + [Style(name, *named[name]) for name in (RANDOM, experiment.control, HEADLINE) if name in present]


def _dot(axes: Axes, x: float, row: int, error: Any, style: Style) -> None:
    axes.errorbar(x, row, xerr=error, fmt="o", color=style.color, mfc=style.fill, ms=5, zorder=2)


def _line(axes: Axes, x: np.ndarray, found: Sequence[tuple[float, float]], style: Style) -> bool:
    mean, error = (100 * np.array(column, dtype=np.float64) for column in zip(*found, strict=True))
    known = np.isfinite(mean)
    if not known.any():
        return False
    color, width = style.color, style.width
    how = {"mfc": style.fill, "linewidth": width, "markersize": 2 + width, "label": style.label}
    axes.plot(x[known], mean[known], "--o" if style.truth else "-o", color=color, **how)
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
