"""A backtest's verdict as people and programs read it: a table, Markdown, CSV, JSON, and a plot."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rambo_ray.backtest.gains import Gain, Round
from rambo_ray.backtest.verdict import BEFORE, RANDOM, Standing, Verdict, interval
from rambo_ray.report import tables
from rambo_ray.report.plots import INK, MUTED, PICKED, blank, dress, png

HEAD = ("method", "accuracy", "over random", "95 % interval", "behind the best", "95 % interval", "ahead", "s")


@dataclass(frozen=True)
class Played:
    """What the rounds were like, as means over them.

    bought: B'; pool, validation, judges: images of the mock pool, of the played S_val, and that judged. mix [K]: the
    classes' shares in the real pool as estimated; budget, num_pool: of the real round. copies: what is said of copies
    in S_val, None where there are none.
    """

    rounds: int
    bought: int
    pool: float
    validation: float
    judges: float
    mix: tuple[float, ...]
    class_names: tuple[str, ...]
    budget: int
    num_pool: int
    copies: str | None = None

    @property
    def sentence(self) -> str:
        """How the rounds compare with the real one."""
        return (
            f"{self.rounds} rounds, each buying {self.bought} of about {self.pool:.0f} images, with "
            f"{self.validation:.0f} as S_val and {self.judges:.0f} judges; the real one buys {self.budget:,} of "
            f"{self.num_pool:,}. Gains are those of rounds of this size: a larger purchase usually gains more."
        )


def table(found: Verdict) -> list[tuple[str, ...]]:
    """A row per method, the highest gain first, random and f on S_0 alone among them by their accuracy."""
    rows = [_row(s, s is found.best) for s in found.standings]
    blank_cells = ("",) * 6
    rows.append((RANDOM, f"{100 * found.random:.1f}", *blank_cells))
    rows.append(("(before)", f"{100 * found.before:.1f}", *blank_cells))
    return sorted(rows, key=lambda row: -float(row[1]))


def brief(found: Verdict) -> str:
    """The table for a terminal."""
    return tables.aligned([HEAD, *table(found)], left=1)


def markdown(found: Verdict, played: Played, command: str, advice: Sequence[str]) -> str:
    """The page backtest.md."""
    parts = ["# Backtest", f"`{command}`", *found.sentences, *advice, "## How it was played", played.sentence]
    parts += [f"{played.copies}."] if played.copies else []
    shares = zip(played.class_names, played.mix, strict=True)
    common = sorted(shares, key=lambda share: -share[1])
    parts.append("Classes of the pool, estimated: " + ", ".join(f"{name} {100 * p:.1f} %" for name, p in common) + ".")
    parts += ["## Methods", "Accuracy on the judges, in percent; gains in points; s: seconds of one thread per round."]
    parts.append(tables.markdown(HEAD, table(found)))
    return "\n\n".join(parts) + "\n"


def comma_separated(found: Verdict) -> str:
    """backtest.csv: a row per method, accuracies and gains as fractions."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "accuracy", "gain", "gain_low", "gain_high", "behind", "behind_low", "behind_high",
                     "rounds", "rounds_ahead", "seconds"])  # fmt: skip
    for s in found.standings:
        own, behind = s.over_random, s.behind
        numbers = (s.accuracy, own.mean, own.low, own.high, behind.mean, behind.low, behind.high)
        writer.writerow([s.method, *(f"{n:.6f}" for n in numbers), own.rounds, own.ahead, f"{s.seconds:.2f}"])
    writer.writerow([RANDOM, f"{found.random:.6f}", *("0.000000",) * 3, *("",) * 6])
    return text.getvalue()


def content(
    found: Verdict, played: Played, rounds: Sequence[Round], command: str, advice: Mapping[str, str]
) -> dict[str, Any]:
    """What backtest.json holds."""
    bought = {
        name: np.mean([r.classes[r.methods.index(name)] for r in rounds], axis=0)
        for name in rounds[0].methods
        if name != BEFORE
    }
    classes = (*played.class_names, "(none)")
    return {
        "recommended": found.recommended,
        "verdict": found.kind,
        "sentences": found.sentences,
        "best": found.best.method,
        "commands": dict(advice),
        "command": command,
        "played": asdict(played),
        "accuracy_random": found.random,
        "accuracy_before": found.before,
        "methods": {
            s.method: {
                "accuracy": s.accuracy,
                "gain": _numbers(s.over_random),
                "behind_best": _numbers(s.behind),
                "seconds_per_round": s.seconds,
                "bought_by_class": dict(zip(classes, bought[s.method].round(2).tolist(), strict=True)),
            }
            for s in found.standings
        },
        "random_bought_by_class": dict(zip(classes, bought[RANDOM].round(2).tolist(), strict=True)),
    }


def plot(found: Verdict) -> bytes:
    """PNG: each method's gain over random with its interval, the highest first, the recommended one in colour."""
    count = len(found.standings)
    figure = blank((6.6, 1.1 + 0.26 * count))
    axes = figure.subplots()
    for place, standing in enumerate(found.standings):
        gain = standing.over_random
        color = PICKED if standing.method == found.recommended else INK
        axes.plot([100 * gain.low, 100 * gain.high], [place, place], color=color, linewidth=1.4)
        axes.plot([100 * gain.mean], [place], "o", color=color, markersize=5)
    axes.axvline(0.0, color=MUTED, linewidth=1.0)
    axes.set_yticks(range(count), [s.method for s in found.standings])
    axes.set_ylim(count - 0.5, -0.5)
    dress(axes, "gain over random in played rounds, points of accuracy (95 % interval)", "")
    return png(figure)


def _row(standing: Standing, first: bool) -> tuple[str, ...]:
    own, behind = standing.over_random, standing.behind
    cells = [standing.method, f"{100 * standing.accuracy:.1f}", f"{100 * own.mean:+.2f}", interval(own)]
    cells += ["", ""] if first else [f"{100 * behind.mean:.2f}", interval(behind)]
    return (*cells, f"{own.ahead}/{own.rounds}", f"{standing.seconds:.1f}")


def _numbers(found: Gain) -> dict[str, float | int]:
    return asdict(found)
