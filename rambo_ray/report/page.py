"""The report of a run: one page that holds everything it shows.

It is read by the person who decides whether the picked images go to the annotators, so it opens
with the outcome and the figures that support or weaken it, then shows the images themselves, and
keeps how they were found for last. The page fetches nothing; every string from the data is escaped, and the page's
content policy forbids every script but its own, which it names by its hash: that sorts, finds and copies.

N images in the pool, B picked, K classes.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from markupsafe import Markup

from rambo_ray.acquisition.greedy import candidate_count
from rambo_ray.config.loading import all_keys, differences, flatten
from rambo_ray.config.schema import Config, is_head
from rambo_ray.progress import duration
from rambo_ray.report import balance, gallery, listing, plots
from rambo_ray.report.content import ReportContent
from rambo_ray.report.gallery import NAME_LETTERS, Bar, shortened
from rambo_ray.report.near_copies import NEAR, near_copies
from rambo_ray.report.next_steps import steps
from rambo_ray.report.pool_map import pool_map
from rambo_ray.report.reading import number, signed
from rambo_ray.report.sections import model_plots, selection_plots
from rambo_ray.report.wishes import Wish, wishes
from rambo_ray.report.words import worded

# Strategies beside RAMBO that look at S_val's labels.
STEERED = ("glister", "uncertainty_herding", "posterior_balance", "margin_accepted")
VALUE_LETTERS = 1000  # of a setting or a list of class names


@dataclass(frozen=True)
class Figure:
    """One of the figures at the top: what it is, the number, and how to read it."""

    name: str
    value: str
    reading: str


def render(content: ReportContent) -> str:
    """The page as HTML, below 3 MB; the same content gives the same page."""
    picked = len(content.selection.pool_index)
    images = (content.selection, content.problem, content.revealed)
    tiles = list(gallery.tiles(*images, content.config.output.report_images))
    script = resources.files("rambo_ray.report").joinpath("templates/report.js").read_text(encoding="utf-8")
    listed, shares = listing.rows(content), balance.shares(content)
    return gallery.template(
        "report.html.j2"
    ).render(
        script=Markup(script),  # ours, and no string from the data is in it
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        dataset="your own pool" if content.config.data.name == "own" else content.config.data.name,
        picked=picked,
        pictures=worded("1 image" if picked == 1 else f"{picked:,} images", content.things),
        images=content.things,
        image=content.things.removesuffix("s"),
        outcome=outcome(content),
        figures=key_figures(content),
        tiles=tiles,
        column=max([gallery.TILE, *(tile.width for tile in tiles[:1])]),
        plot_size=plots.SIZE_PIXELS,
        classes=gallery.class_bars(*images),
        balance=[] if shares is None else balance.rows(shares),
        balance_said="" if shares is None else _spaced(balance.sentence(shares, content.things)),
        opinions=content.compared is not None,
        copies=near_copies(content),
        near=NEAR,
        map=pool_map(content),
        removed=listing.removed(content),
        removed_count=content.problem.num_pool - candidate_count(content.problem.num_pool, content.config.acquisition),
        rows=listed,
        steps=steps(content),
        revealed=content.revealed is not None,
        strategy=content.strategy,
        selection_plots=selection_plots(content),
        **_of_u_hat(content),
        stages=stage_bars(content.metrics["seconds"]),
        total=_total(content.metrics["seconds"]),
        facts=list(_facts(content)),
        settings=list(_settings(content.config)),
        manifest=[(key, _text(value)) for key, value in _flat(content.manifest)],
    )


def _of_u_hat(content: ReportContent) -> dict[str, Any]:
    """What the page says of u_hat; nothing where another strategy picked."""
    if content.strategy is not None:
        return {"followed": True, "by_size": [], "model_plots": [], "wishes": []}
    judged = content.judgement
    return {
        "followed": content.followed,
        "by_size": _by_size(content),
        "trust": _spaced(judged.sentence()),
        "model_plots": model_plots(content),
        "wishes": _wishes(content),
        "unit": "points" if judged.fraction else "nats",
    }


# -- what the run comes to -----------------------------------------------------------------------


def outcome(content: ReportContent) -> str:
    """One plain sentence or two: what was picked, and what there is to be said for it."""
    sizes, picked = content.metrics["sizes"], len(content.selection.pool_index)
    who, pool = content.strategy or "RAMBO", f"the pool's {sizes['pool']:,} {content.things}"
    judged = "" if content.strategy is not None else f" {_spaced(content.judgement.sentence())}"
    first = f"{who} picked {picked:,} of {pool} to be sent to the annotators."
    if content.problem.copies is not None:
        first += worded(f" There are {content.problem.copies.sentence()}.", content.things)
    for name, part in (("test", f"the test {content.things}"), ("validation", f"the validation {content.things}")):
        before, after = _accuracies(content.metrics, name)
        if before is not None and after is not None:
            unclear = abs(after - before) <= uncertainty(before, after, sizes[name])
            said = (
                f"{first} Their labels were known in this run: with them, the classifier's accuracy on "
                f"{part} goes from {before:.3f} to {after:.3f}"
                + (f", which {sizes[name]:,} {content.things} cannot tell from no change." if unclear else ".")
            )
            return said if content.followed else f"{said}{judged}"
    return f"{first}{judged}"


def uncertainty(before: float, after: float, count: int) -> float:
    """What a difference of two accuracies on `count` images can be by chance, 19 times of 20.

    As if the two classifiers erred independently. They err on the same images, so it is less; but
    another training of either would differ, too, and that is not in it.
    """
    return 1.96 * math.sqrt((before * (1 - before) + after * (1 - after)) / max(1, count))


def key_figures(content: ReportContent) -> list[Figure]:
    """The figures at the top, in the order they are to be read."""
    sizes, picked = content.metrics["sizes"], len(content.selection.pool_index)
    steps = len(content.selection.step_scores)
    share = f"{100 * picked / max(1, sizes['pool']):.1f}\u00a0% of a pool of {sizes['pool']:,}"
    pace = f"in {steps} steps of {sizes['batch_size']:,}" if steps > 1 else "in one step"
    pace = pace if content.strategy is None else f"by {content.strategy}"
    made = [Figure(worded("Images to annotate", content.things), f"{picked:,}", f"{share}, picked {pace}")]
    for name, title in (("test", "Test accuracy"), ("validation", "Validation accuracy")):
        before, after = _accuracies(content.metrics, name)
        if before is None:
            continue
        on = f"on {sizes[name]:,} {content.things}"
        if name == "validation" and (content.strategy is None or content.strategy in STEERED):
            on += ", by which the choice was steered"
        if after is None:
            made.append(Figure(title, f"{before:.3f}", f"before annotation, {on}"))
        else:
            change = f"{signed(100 * (after - before))} points"
            error = f"give or take {100 * uncertainty(before, after, sizes[name]):.1f}"
            made.append(Figure(title, f"{before:.3f} → {after:.3f}", f"{change}, {error}, {on}"))
    if content.strategy is not None:
        return made
    judged = content.judgement
    made.append(Figure("Held-out ranking accuracy", _spaced(judged.shown), _spaced(judged.phrase())))
    return made


# -- what u_hat wants, and what it got -----------------------------------------------------------


def _wishes(content: ReportContent) -> list[Wish]:
    """The coefficients of the quadratic u_hat; none of a network."""
    if content.u_hat is None:
        return []
    budget = content.config.acquisition.budget
    return wishes(content.u_hat, content.evidence_names, budget, content.judgement.fraction)


def _left_out(content: ReportContent) -> int:
    """How many images no step could pick, for their margins; copies, which were left out before, are not among them."""
    streamed = content.problem.survey is not None
    count = content.problem.num_pool if streamed else len(content.margins)
    return count - candidate_count(count, content.config.acquisition)


def _by_size(content: ReportContent) -> list[Bar]:
    """u_hat's ranking of the held-out sets of each size; the mark is where a guess would be."""
    return [
        Bar(f"{size:,} {content.things}", round(100 * accuracy, 2), f"{100 * accuracy:.0f} %", 50.0)
        for size, accuracy in content.judgement.by_size
        if accuracy is not None
    ]


# -- how it was found ----------------------------------------------------------------------------


def stage_bars(seconds: Mapping[str, Any]) -> list[Bar]:
    """How long each stage took, in the order of the run."""
    stages = {name: number(value) for name, value in seconds.items() if name != "total"}
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
    total = number(seconds.get("total"))
    parts = [value for value in map(number, seconds.values()) if value is not None]
    return _lasting(sum(parts) if total is None else total)


def _facts(content: ReportContent) -> Iterator[tuple[str, str]]:
    """What the run had and used, as pairs of a name and a value."""
    sizes, collect = content.metrics["sizes"], content.metrics.get("collect") or {}
    if content.problem.of_vectors:
        each = f"embeddings of {content.problem.labeled.described}"
    else:
        height, width, channels = content.problem.shape
        each = f"images of {width} × {height} pixels, {'grey' if channels == 1 else 'colour'}"
    yield "labelled (k)", f"{sizes['k']:,} {content.things}"
    yield "validation", f"{sizes['validation']:,} {content.things}"
    yield "test", f"{sizes['test']:,} {content.things}" if sizes.get("test") else "none"
    yield "pool", f"{sizes['pool']:,} {each}"
    yield "classes", f"{len(content.problem.class_names):,}"
    if content.problem.of_vectors:
        yield "classifier", f"{content.config.classifier.name}, on these embeddings"
    elif is_head(content.config.classifier.name):
        yield "classifier", f"{content.config.classifier.name}, on {content.config.classifier.embedding} embeddings"
    drawn = {
        "subsets": "offline pairs (P)",
        "mock_rounds": "pairs of mock rounds (P)",
        "both": "pairs of each kind (P)",
    }
    if content.strategy is None:
        yield drawn[content.config.utility_samples.source], f"{sizes['num_pairs']:,}"
    counts = {"retrained": "sets trained on", "reused": "reused from earlier"}
    for key, name in counts.items():
        if collect.get(key) is not None:
            yield name, f"{collect[key]:,}"
    if collect.get("quarantined"):
        count = len(collect["quarantined"])
        yield "left out", f"{count} {'sets' if count > 1 else 'set'} that killed every worker (metrics.json)"
    busy, rate = number(collect.get("busy_fraction")), number(collect.get("passes_per_second"))
    if busy is not None:
        yield "workers busy", f"{100 * busy:.0f} % of the time"
    if rate is not None:
        yield "training speed", f"{rate:,.0f} {content.things}/s per worker"
    for key in ("precision", "kernels", "reproducible", "cluster"):
        if content.metrics.get(key):
            yield key, _text(content.metrics[key])


def _settings(config: Config) -> Iterator[tuple[str, str, str, bool]]:
    """Every key of the configuration: its name, value and meaning, and whether it is not the default."""
    values, changed = flatten(config), differences(config, Config.model_validate({}))
    for key, _, meaning in all_keys():
        yield key, _text(values[key]), meaning, key in changed


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


# -- numbers and words ---------------------------------------------------------------------------


def _accuracies(metrics: Mapping[str, Any], name: str) -> tuple[float | None, float | None]:
    before, after = metrics.get("accuracy_before") or {}, metrics.get("accuracy_after") or {}
    return number(before.get(name)), number(after.get(name))


def _spaced(text: str) -> str:
    """Where a line must not break: between a number and its percent sign."""
    return text.replace(" %", "\u00a0%")


def _lasting(seconds: float | None) -> str:
    return "–" if seconds is None else duration(seconds)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return shortened(", ".join(map(_text, value)), VALUE_LETTERS)
    if isinstance(value, bool):  # as the configuration's YAML spells it
        return str(value).lower()
    return "–" if value is None else shortened(str(value), VALUE_LETTERS)
