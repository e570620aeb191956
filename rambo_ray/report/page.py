"""The report of a run: one page that holds everything it shows.

It is read by the person who decides whether the picked images go to the annotators, so it opens
with the outcome and the figures that support or weaken it, then shows the images themselves, and
keeps how they were found for last. The page fetches nothing and runs nothing; every string from
the data is escaped, and the page's content policy forbids scripts besides.

N images in the pool, B picked, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rambo_ray.acquisition.greedy import Selection
from rambo_ray.config.loading import all_keys, flatten
from rambo_ray.config.schema import Config
from rambo_ray.data.problem import Problem, Revealed
from rambo_ray.progress import duration
from rambo_ray.report import gallery, plots
from rambo_ray.report.gallery import NAME_LETTERS, Bar, data_uri, shortened
from rambo_ray.utility_samples.sampling import UtilitySample

VALUE_LETTERS = 1000  # of a setting or a list of class names


@dataclass(frozen=True)
class ReportContent:
    """All that a report shows.

    metrics: what metrics.json holds; manifest: what manifest.json holds. revealed: None for a pool
    without known labels. margins: of f, [N]. samples: retrained and interpolated. history: one row
    per outer epoch of the fit. held_out: u_hat's scores and true utilities of held-out subsets, [G].
    """

    config: Config
    metrics: Mapping[str, Any]
    manifest: Mapping[str, Any]
    problem: Problem
    revealed: Revealed | None
    selection: Selection
    margins: np.ndarray
    samples: Sequence[UtilitySample]
    history: Sequence[Mapping[str, float]]
    held_out: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Figure:
    """One of the figures at the top: what it is, the number, and how to read it."""

    name: str
    value: str
    reading: str


@dataclass(frozen=True)
class Plot:
    """A plot, what it is called, how to read it, what it shows in words; source None: nothing to show."""

    title: str
    reading: str
    alt: str
    source: str | None


def render(content: ReportContent) -> str:
    """The page as HTML, below 3 MB; the same content gives the same page."""
    picked = len(content.selection.pool_index)
    images = (content.selection, content.problem, content.revealed)
    tiles = list(gallery.tiles(*images, content.config.output.report_images))
    return gallery.template("report.html.j2").render(
        dataset="your own pool" if content.config.data.name == "own" else content.config.data.name,
        picked=picked,
        pictures="1 image" if picked == 1 else f"{picked:,} images",
        outcome=outcome(content),
        figures=key_figures(content),
        tiles=tiles,
        column=max([gallery.TILE, *(tile.width for tile in tiles[:1])]),
        plot_size=plots.SIZE_PIXELS,
        classes=gallery.class_bars(*images),
        selection_plots=_selection_plots(content),
        model_plots=_model_plots(content),
        stages=stage_bars(content.metrics["seconds"]),
        total=_total(content.metrics["seconds"]),
        facts=list(_facts(content)),
        settings=list(_settings(content.config)),
        manifest=[(key, _text(value)) for key, value in _flat(content.manifest)],
    )


# -- what the run comes to -----------------------------------------------------------------------


def outcome(content: ReportContent) -> str:
    """One plain sentence or two: what was picked, and what there is to be said for it."""
    sizes, picked = content.metrics["sizes"], len(content.selection.pool_index)
    first = f"RAMBO picked {picked:,} of the pool's {sizes['pool']:,} images to be sent to the annotators."
    for name, part in (("test", "the test images"), ("validation", "the validation images")):
        before, after = _accuracies(content.metrics, name)
        if before is not None and after is not None:
            unclear = abs(after - before) <= uncertainty(before, after, sizes[name])
            return (
                f"{first} Their labels were known in this run: with them, the classifier's accuracy on "
                f"{part} goes from {before:.3f} to {after:.3f}"
                + (f", which {sizes[name]:,} images cannot tell from no change." if unclear else ".")
            )
    return f"{first} {ranking_reading(content.metrics['ranking'])[1]}"


def uncertainty(before: float, after: float, count: int) -> float:
    """What a difference of two accuracies on `count` images can be by chance, 19 times of 20.

    As if the two classifiers erred independently. They err on the same images, so it is less; but
    another training of either would differ, too, and that is not in it.
    """
    return 1.96 * math.sqrt((before * (1 - before) + after * (1 - after)) / max(1, count))


def ranking_reading(ranking: Mapping[str, Any]) -> tuple[str, str]:
    """What the held-out ranking accuracy means: a phrase, and a sentence.

    Chance is judged by the variance of Kendall's tau of two unrelated rankings of G subsets,
    2 (2 G + 5) / (9 G (G - 1)); the pairwise accuracy is (tau + 1) / 2.
    """
    accuracy = _number(ranking.get("held_out_pairwise_accuracy"))
    subsets = int(ranking.get("held_out_subsets") or 0)
    if accuracy is None or subsets < 2:
        why = "fewer than two subsets were held out" if subsets < 2 else "all held-out subsets are worth the same"
        return f"not judged: {why}", f"How well û ranks could not be judged: {why}."
    half = 1.96 * math.sqrt(2 * (2 * subsets + 5) / (9 * subsets * (subsets - 1))) / 2
    low, high = max(0.0, 0.5 - half), min(1.0, 0.5 + half)
    band = f"0.50 is chance; {subsets} subsets ranked at random give {low:.2f} to {high:.2f}"
    said = f"Of pairs of held-out subsets, û puts {100 * accuracy:.0f}\u00a0% in the right order"
    if accuracy > 0.5 + half:
        return f"better than chance ({band})", f"{said}, which is better than chance."
    if accuracy < 0.5 - half:
        verdict = "which is worse than chance: its choice is not to be trusted"
        return f"worse than chance ({band})", f"{said}, {verdict}."
    return (
        f"not told apart from chance ({band})",
        f"{said}, which cannot be told apart from chance: expect little more from its choice than from any "
        "images of small margin.",
    )


def key_figures(content: ReportContent) -> list[Figure]:
    """The figures at the top, in the order they are to be read."""
    sizes, picked = content.metrics["sizes"], len(content.selection.pool_index)
    steps = len(content.selection.step_scores)
    share = f"{100 * picked / max(1, sizes['pool']):.1f}\u00a0% of a pool of {sizes['pool']:,}"
    pace = f"in {steps} steps of {sizes['batch_size']:,}" if steps > 1 else "in one step"
    made = [Figure("Images to annotate", f"{picked:,}", f"{share}, picked {pace}")]
    for name, title in (("test", "Test accuracy"), ("validation", "Validation accuracy")):
        before, after = _accuracies(content.metrics, name)
        if before is None:
            continue
        on = f"on {sizes[name]:,} images"
        if name == "validation":
            on += ", by which the choice was steered"
        if after is None:
            made.append(Figure(title, f"{before:.3f}", f"before annotation, {on}"))
        else:
            change = f"{100 * (after - before):+.1f} points".replace("-", "−")
            error = f"give or take {100 * uncertainty(before, after, sizes[name]):.1f}"
            made.append(Figure(title, f"{before:.3f} → {after:.3f}", f"{change}, {error}, {on}"))
    ranking = content.metrics["ranking"]
    accuracy = _number(ranking.get("held_out_pairwise_accuracy"))
    shown = "–" if accuracy is None else f"{accuracy:.2f}"
    made.append(Figure("Held-out ranking accuracy", shown, ranking_reading(ranking)[0]))
    return made


# -- how they were found -------------------------------------------------------------------------


def _selection_plots(content: ReportContent) -> list[Plot]:
    selection, margin_pool = content.selection, content.config.acquisition.margin_pool
    some = margin_pool < len(content.margins)
    chosen_from = f"the M = {margin_pool:,} smallest" if some else "the whole pool"
    return [
        _plot(
            "Margins of the pool",
            f"Small margins are images f is undecided on. The first step chose from {chosen_from}.",
            "Histogram of the pool's margins with the picked images among them.",
            plots.margin_histogram(content.margins, selection.margin, margin_pool),
        ),
        _plot(
            "Candidate batches",
            "What û makes of all images had so far together with one more batch, from the worst to the best "
            "of a step. Where the dots lie close together, û saw little difference.",
            f"Scores of the candidate batches in {len(selection.step_scores)} steps, with the batch taken.",
            plots.step_scores(selection.step_scores),
        ),
    ]


def _model_plots(content: ReportContent) -> list[Plot]:
    utility = content.config.utility_samples.utility
    scores, utilities = content.held_out
    ranking = content.metrics["ranking"]
    tau = _number(ranking.get("held_out_kendall_tau"))
    agreement = "" if tau is None else f" Kendall's τ is {tau:+.2f}.".replace("-", "−")
    return [
        _plot(
            "û on held-out subsets",
            "What û says of subsets it was not fitted to, against what training on them gave: a rising cloud "
            f"is a ranking that holds.{agreement}",
            f"Scatter of score and true utility of {len(scores)} held-out subsets.",
            plots.held_out(np.asarray(scores, np.float64), np.asarray(utilities, np.float64), utility),
        ),
        _plot(
            "Ranking while fitting",
            "Pairs in the right order. The longer pairs are not fitted to, but they steer the penalty.",
            "Ranking accuracy of shorter and longer pairs over the outer epochs.",
            plots.ranking_accuracies(content.history),
        ),
        _plot(
            "Utility samples",
            "Subsets of the labelled images, each with a classifier trained on it. û learns from pairs of "
            "one size: from the height of the cloud, not from its rise.",
            "Scatter of subset size and utility, with the growing nested_sets marked.",
            plots.utility_by_size(content.samples, utility),
        ),
        _plot(
            "Distance to the validation images",
            "OTDD of the same subsets, which û learns to predict beside the ranking. A falling cloud says "
            "that closer subsets are worth more.",
            "Scatter of utility and optimal transport distance, shaded by subset size.",
            plots.transport_by_utility(content.samples, utility),
        ),
        _plot(
            "Losses of the fit",
            "Inner: on the shorter pairs, with the penalty on the weights. Outer: on the longer pairs, which "
            "decides that penalty. A line marks where pairs drawn from S₀, S₁, … join.",
            "Inner and outer loss over the outer epochs.",
            plots.losses(content.history),
        ),
    ]


def _plot(title: str, reading: str, alt: str, picture: bytes | None) -> Plot:
    return Plot(title, reading, alt, None if picture is None else data_uri(picture, "png"))


def stage_bars(seconds: Mapping[str, Any]) -> list[Bar]:
    """How long each stage took, in the order of the run."""
    stages = {name: _number(value) for name, value in seconds.items() if name != "total"}
    longest = max((value for value in stages.values() if value is not None), default=0.0) or 1.0
    return [
        Bar(
            shortened(name.replace("u_hat", "û"), NAME_LETTERS),
            round(100 * (value or 0.0) / longest, 2),
            _lasting(value),
        )
        for name, value in stages.items()
    ]


def _total(seconds: Mapping[str, Any]) -> str:
    total = _number(seconds.get("total"))
    parts = [value for value in map(_number, seconds.values()) if value is not None]
    return _lasting(sum(parts) if total is None else total)


def _facts(content: ReportContent) -> Iterator[tuple[str, str]]:
    """What the run had and used, as pairs of a name and a value."""
    sizes, collect = content.metrics["sizes"], content.metrics.get("collect") or {}
    height, width, channels = content.problem.shape
    kind = "grey" if channels == 1 else "colour"
    yield "labelled (k)", f"{sizes['k']:,} images"
    yield "validation", f"{sizes['validation']:,} images"
    yield "test", f"{sizes['test']:,} images" if sizes.get("test") else "none"
    yield "pool", f"{sizes['pool']:,} images of {width} × {height} pixels, {kind}"
    yield "classes", f"{len(content.problem.class_names):,}"
    yield "offline pairs (P)", f"{sizes['num_pairs']:,}"
    counts = {"retrained": "subsets trained on", "reused": "reused from earlier"}
    for key, name in counts.items():
        if collect.get(key) is not None:
            yield name, f"{collect[key]:,}"
    busy, rate = _number(collect.get("busy_fraction")), _number(collect.get("passes_per_second"))
    if busy is not None:
        yield "workers busy", f"{100 * busy:.0f} % of the time"
    if rate is not None:
        yield "training speed", f"{rate:,.0f} images/s per worker"
    for key in ("precision", "kernels", "reproducible", "cluster"):
        if content.metrics.get(key):
            yield key, _text(content.metrics[key])


def _settings(config: Config) -> Iterator[tuple[str, str, str, bool]]:
    """Every key of the configuration: its name, value and meaning, and whether it is not the default."""
    values = flatten(config)
    for key, default, meaning in all_keys():
        yield key, _text(values[key]), meaning, values[key] != default


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


# -- numbers and words ---------------------------------------------------------------------------


def _accuracies(metrics: Mapping[str, Any], name: str) -> tuple[float | None, float | None]:
    before, after = metrics.get("accuracy_before") or {}, metrics.get("accuracy_after") or {}
    return _number(before.get(name)), _number(after.get(name))


def _number(value: Any) -> float | None:
    """`value` where it is a finite number."""
    return float(value) if value is not None and math.isfinite(value) else None


def _lasting(seconds: float | None) -> str:
    return "–" if seconds is None else duration(seconds)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return shortened(", ".join(map(_text, value)), VALUE_LETTERS)
    if isinstance(value, bool):  # as the configuration's YAML spells it
        return str(value).lower()
    return "–" if value is None else shortened(str(value), VALUE_LETTERS)
