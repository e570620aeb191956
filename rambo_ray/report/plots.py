"""The plots of the report, each from plain arrays to the bytes of a PNG.

One colour means one thing on every plot: vermilion is what was picked, blue what was measured or
learned from, grey everything else. Only matplotlib's objects are used, never pyplot, so that
drawing leaves no trace in the process that asked for it, and the same arrays give the same bytes.

A function returns None where its arrays hold nothing that could be drawn. Not-a-number is left
out everywhere.

N images in the pool, B picked, G subsets.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from rambo_ray.utility_samples.sampling import Utility, UtilitySample

PICKED, LEARNED, PALE, INK, MUTED, RULE = "#d1490c", "#1f6aa5", "#a3adb8", "#1b2127", "#5b6670", "#e3e6ea"
BACKGROUND = "#ffffff"

# Half a page column wide: the letters stay readable where a phone shows the plot at 340 pixels.
SIZE_INCHES = (4.6, 2.9)
DPI = 200
SIZE_PIXELS = tuple(round(side * DPI) for side in SIZE_INCHES)
LETTERS, SMALL = 9.0, 8.0

# More dots than this cannot be told apart, and a run can score a million candidate batches.
MOST_DOTS = 12_000
# Up to this many steps there is room to lay a step's candidates side by side.
MOST_SPREAD_STEPS = 30
MOST_MARKS = 8

UTILITY_LABELS: Mapping[Utility, str] = {
    "accuracy": "accuracy on $S_{val}$ (fraction)",
    "soft_accuracy": "soft accuracy on $S_{val}$ (fraction)",
    "neg_val_loss": "negative loss on $S_{val}$ (nats)",
}


def margin_histogram(
    margins: np.ndarray,
    picked: np.ndarray,
    margin_pool: int,
    histogram: np.ndarray | None = None,
    things: str = "images",
) -> bytes | None:
    """How many of the pool's margins [N], and of the `picked` [B] among them, are how large.

    A line marks the largest of the `margin_pool` smallest: what the first step chose from. histogram: counts of all of
    the pool's in equal bins from 0 to 1, where `margins` are only the smallest of them.
    """
    margins = np.sort(margins[np.isfinite(margins)].astype(np.float64))
    count = len(margins) if histogram is None else int(histogram.sum())
    if len(margins) == 0:
        return None
    figure, axes = new_figure("margin of f (difference of two probabilities)", f"{things} (log scale)")
    if histogram is None:
        bins = np.linspace(0.0, max(float(margins[-1]), 1e-6), 51).tolist()
        axes.hist(margins, bins, color=PALE, label=f"pool, {count:,}")
    else:
        middles = (np.arange(len(histogram)) + 0.5) / len(histogram)
        bins = np.linspace(0.0, 1.0, 51).tolist()
        axes.hist(middles, bins, weights=histogram, color=PALE, label=f"pool, {count:,}")
    axes.hist(picked[np.isfinite(picked)], bins, color=PICKED, label=f"picked, {len(picked):,}")
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)  # so that a single image still has a bar
    axes.set_xlim(bins[0], bins[-1])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}" if count >= 1 else ""))
    axes.yaxis.set_minor_formatter(NullFormatter())
    if margin_pool < count:
        threshold = float(margins[margin_pool - 1])
        name = f"M = {margin_pool:,} smallest"
        axes.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (4, 2)), label=name)
    legend(axes, 3)
    return png(figure)


def step_scores(scores: Sequence[np.ndarray]) -> bytes | None:
    """Scores by u_hat of each step's candidate batches, one array per step, of which the best was taken.

    Where there is room, a step's candidates stand side by side from the worst to the best.
    """
    if not any(np.isfinite(of_step).any() for of_step in scores):
        return None
    figure, axes = new_figure("step j", "score by û (no unit)")
    spread = 0.3 if len(scores) <= MOST_SPREAD_STEPS else 0.0
    most = max(2, MOST_DOTS // len(scores))
    places, drawn, taken = [], [], []
    for j, of_step in enumerate(scores):
        of_step = np.asarray(of_step, np.float64)
        y = thinned(np.sort(of_step[np.isfinite(of_step)]), most)
        x = j + spread * np.linspace(-1, 1, len(y)) if len(y) > 1 else np.full(len(y), float(j))
        places.append(x)
        drawn.append(y)
        taken += [(x[-1], y[-1])] if len(y) else []
    x, y = np.concatenate(places), np.concatenate(drawn)
    axes.plot(x, y, "o", color=PALE, markersize=2.6, mew=0, label="candidate batch")
    x, y = np.array(taken).T
    axes.plot(x, y, "o", color=PICKED, markersize=5.5 if spread else 3.0, mew=0, label="taken")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(-0.6, len(scores) - 0.4)
    legend(axes, 2)
    return png(figure)


def utility_by_size(samples: Sequence[UtilitySample], utility: Utility, things: str = "images") -> bytes | None:
    """Utility against size of the subsets of S_0 that were retrained, the nested sets S_0, ..., S_tau_1 marked."""
    retrained = [s for s in samples if s.kind == "retrained" and s.fold < 0 and np.isfinite(s.utility)]
    if not retrained:
        return None
    figure, axes = new_figure(f"subset size ({things})", UTILITY_LABELS[utility])
    nested_sets = sorted((s for s in retrained if is_nested_set(s)), key=lambda s: s.iteration)
    held_out = [s for s in retrained if is_held_out(s)]
    pairs = [s for s in retrained if s.pair_id >= 0]
    solid = {"color": LEARNED, "alpha": 0.55, "markersize": 3.2, "mew": 0}
    hollow = {"mfc": BACKGROUND, "mec": INK, "markersize": 3.6, "mew": 0.8}
    for group, look, label in ((pairs, solid, "of a pair"), (held_out, hollow, "held out")):
        if group:
            size, value = [s.size for s in group], [s.utility for s in group]
            axes.plot(size, value, "o", label=label, **look)  # type: ignore[arg-type]
    if nested_sets:
        size, value = [s.size for s in nested_sets], [s.utility for s in nested_sets]
        style = {"color": INK, "linewidth": 0.8, "markersize": 4.5}
        axes.plot(size, value, "-D", label="prefix $S_i$", **style)  # type: ignore[arg-type]
        for at in _sparse(len(nested_sets)):
            name = f"$S_{{{nested_sets[at].iteration}}}$"
            where = (size[at], value[at])
            text = axes.annotate(name, where, (0, 6), textcoords="offset points", ha="center", fontsize=SMALL)
            text.set_path_effects([withStroke(linewidth=2.5, foreground=BACKGROUND)])
        axes.margins(y=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes, 3)
    return png(figure)


def transport_by_utility(samples: Sequence[UtilitySample], utility: Utility, things: str = "images") -> bytes | None:
    """OTDD to S_val against utility of the retrained subsets, shaded by size."""
    found = [
        (s.utility, s.measurement.otdd, s.size)
        for s in samples
        if s.kind == "retrained" and s.fold < 0 and s.measurement is not None
    ]
    points = np.array(found, np.float64).reshape(-1, 3)
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) == 0:
        return None
    figure, axes = new_figure(UTILITY_LABELS[utility], "OTDD to $S_{val}$ (½ squared units)")
    x, y, size = points.T
    dots = axes.scatter(x, y, c=size, cmap="cividis_r", s=11, alpha=0.8, linewidths=0)
    bar = figure.colorbar(dots, ax=axes, pad=0.02, aspect=30)
    bar.set_label(f"subset size ({things})", fontsize=LETTERS, color=MUTED)
    bar.ax.tick_params(labelsize=SMALL, colors=MUTED, length=0)
    bar.ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    bar.outline.set_visible(False)  # type: ignore[operator]
    return png(figure)


def losses(history: Sequence[Mapping[str, float]]) -> bytes | None:
    """Inner and outer loss over the outer epochs of all iterations."""
    lines = {"inner": _column(history, "inner_loss"), "outer": _column(history, "outer_loss")}
    values = np.concatenate([*lines.values()])
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return None
    figure, axes = new_figure("outer epoch", "loss (no unit)")
    _lines(axes, lines)
    if values.min() > 0 and values.max() > 20 * values.min():
        axes.set_yscale("log")
    _mark_iterations(axes, history)
    return png(figure)


def ranking_accuracies(history: Sequence[Mapping[str, float]]) -> bytes | None:
    """Share of pairs ranked rightly over the outer epochs, of the pairs fitted to and the longer ones."""
    lines = {
        "shorter pairs": _column(history, "train_ranking_accuracy"),
        "longer pairs": _column(history, "val_ranking_accuracy"),
    }
    if not any(np.isfinite(line).any() for line in lines.values()):
        return None
    figure, axes = new_figure("outer epoch", "pairs in the right order (fraction)")
    _lines(axes, lines)
    low = min(0.4, *(float(np.nanmin(line)) for line in lines.values() if np.isfinite(line).any()))
    axes.set_ylim(low - 0.02, 1.02)
    axes.axhline(0.5, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), label="chance")
    _mark_iterations(axes, history)
    return png(figure)


def held_out(scores: np.ndarray, utilities: np.ndarray, utility: Utility) -> bytes | None:
    """u_hat's scores [G] of held-out subsets against the utilities [G] they turned out to have."""
    known = np.isfinite(scores) & np.isfinite(utilities)
    if not known.any():
        return None
    figure, axes = new_figure("score by û (no unit)", UTILITY_LABELS[utility])
    axes.plot(scores[known], utilities[known], "o", color=LEARNED, alpha=0.8, markersize=4.5, mew=0)
    return png(figure)


def is_nested_set(sample: UtilitySample) -> bool:
    """Whether `sample` is one of S_0, ..., S_tau_1."""
    return sample.pair_id < 0 and sample.iteration >= 0


def is_held_out(sample: UtilitySample) -> bool:
    """Whether `sample` is one of those that u_hat is judged on."""
    return sample.pair_id < 0 and sample.iteration < 0


def thinned(values: np.ndarray, most: int) -> np.ndarray:
    """At most `most` (2 or more) of sorted `values`, evenly apart in rank, the first and last included."""
    if len(values) <= most:
        return values
    return values[np.linspace(0, len(values) - 1, most).round().astype(np.int64)]


def new_figure(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    """A figure of the report's size with one pair of axes."""
    figure = blank(SIZE_INCHES)
    axes = figure.add_subplot()
    dress(axes, x_label, y_label)
    return figure, axes


def blank(inches: tuple[float, float]) -> Figure:
    """A figure without axes."""
    figure = Figure(figsize=inches, dpi=DPI, layout="constrained", facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    return figure


def dress(axes: Axes, x_label: str, y_label: str) -> None:
    """The look of all plots: no box, pale rules, small muted letters."""
    axes.set_facecolor(BACKGROUND)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PALE)
    axes.tick_params(which="both", colors=MUTED, labelsize=SMALL, length=3, color=PALE)
    axes.tick_params(which="minor", length=0)
    axes.grid(axis="y", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel(x_label, fontsize=LETTERS, color=MUTED)
    axes.set_ylabel(y_label, fontsize=LETTERS, color=MUTED)


def _lines(axes: Axes, lines: Mapping[str, np.ndarray]) -> None:
    # What is fitted to is pale, what judges is dark; a dot where a line of one epoch would be invisible.
    for (name, values), color in zip(lines.items(), (PALE, LEARNED), strict=True):
        marker = "o" if len(values) == 1 else ""
        epochs = np.arange(1, len(values) + 1)
        axes.plot(epochs, values, marker=marker, color=color, linewidth=1.6, label=name)
    axes.set_xlim(0.5, max(map(len, lines.values())) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _mark_iterations(axes: Axes, history: Sequence[Mapping[str, float]]) -> None:
    """A thin line where an iteration begins, and its name above the axes where there is room for names."""
    iterations = [int(row["iteration"]) for row in history]
    starts = [i for i, now in enumerate(iterations) if i == 0 or now != iterations[i - 1]]
    legend(axes, 3, above=14.0)
    for start in starts[1:] if len(starts) <= 60 else ():
        axes.axvline(start + 0.5, color=PALE, linewidth=0.8, zorder=0.5)
    for at in _sparse(len(starts)):
        name = "offline" if iterations[starts[at]] < 0 else f"$S_{{{iterations[starts[at]]}}}$"
        where = (starts[at] + 0.5, 1.0)
        axes.annotate(
            name,
            where,
            (2, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize=SMALL,
            color=MUTED,
        )


def _sparse(count: int) -> list[int]:
    """Positions of at most MOST_MARKS of `count` things in a row, evenly apart, the first included."""
    return list(range(0, count, max(1, -(-count // MOST_MARKS))))


def _column(history: Sequence[Mapping[str, float]], name: str) -> np.ndarray:
    values = np.array([row.get(name, np.nan) for row in history], np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def legend(axes: Axes, columns: int, *, above: float = 2.0) -> None:
    """The legend as one line above the axes, `above` points from them, where it can hide nothing."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        borderaxespad=above / SMALL,
        borderpad=0.0,
        ncols=columns,
        frameon=False,
        fontsize=SMALL,
        labelcolor=MUTED,
        handlelength=1.4,
        markerscale=1.2,
        handletextpad=0.5,
        columnspacing=1.4,
    )


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG; the same figure gives the same bytes."""
    file = io.BytesIO()
    # Without matplotlib's own note the file depends on nothing but the plot.
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()
