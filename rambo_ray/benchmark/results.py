"""What the runs of an experiment come to: means over seeds, paired differences, tables, the headline.

Every method is compared with two: `random`, as papers do, and the experiment's control, which for
RAMBO is its own margin filter without u_hat. Differences are taken seed by seed; where a panel has
several budgets, each seed's value is its mean over them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import pyarrow as pa

from rambo_ray.benchmark.experiment import Experiment, Method, Panel
from rambo_ray.benchmark.runs import FILE_NAMES, BenchmarkRun
from rambo_ray.files import write_table
from rambo_ray.report import tables
from rambo_ray.report.paired import PairedDifference, difference, mean_and_error

Metric = Literal["accuracy", "test_accuracy"]
METRICS: Mapping[Metric, str] = {"test_accuracy": "test", "accuracy": "S_val"}
RANDOM = "random"
HEADLINE = "rambo"


@dataclass(frozen=True)
class Results:
    """An experiment with those of its runs that are finished, by panel, method, budget and seed."""

    experiment: Experiment
    runs: Mapping[tuple[str, str, int, int], BenchmarkRun]

    def values(self, panel: Panel, method: str, budget: int, metric: str) -> dict[int, float]:
        """A metric by seed, of the finished runs of one curve's point."""
        return {
            seed: getattr(run, metric)
            for seed in self.experiment.seeds
            if (run := self.runs.get((panel.name, method, budget, seed))) is not None
        }

    def over_budgets(self, panel: Panel, method: str, metric: str) -> dict[int, float]:
        """A metric's mean over all budgets, by seed, of the seeds that finished all of them."""
        columns = [self.values(panel, method, budget, metric) for budget in self.experiment.budgets]
        seeds = set(columns[0]).intersection(*columns[1:])
        return {seed: sum(column[seed] for column in columns) / len(columns) for seed in sorted(seeds)}

    def lead(self, panel: Panel, method: str, over: str, metric: str) -> PairedDifference:
        """How far `method` is ahead of `over`, paired by seed, mean over budgets."""
        return difference(self.over_budgets(panel, method, metric), self.over_budgets(panel, over, metric))

    def references(self) -> list[str]:
        """The methods that others are compared with: random and the control, those of them that take part."""
        names = [method.name for method in self.experiment.methods]
        return [name for name in dict.fromkeys((RANDOM, self.experiment.control)) if name in names]

    def metrics(self) -> list[Metric]:
        """The accuracies that are known: that on test only where there is a test split."""
        return [m for m in METRICS if any(math.isfinite(getattr(run, m)) for run in self.runs.values())]


def gather(
    experiment: Experiment, ids: Mapping[tuple[str, str, int, int], str], finished: Mapping[str, BenchmarkRun]
) -> Results:
    """The results of `experiment`; ids: of all its runs; finished: runs by id."""
    return Results(experiment, {key: finished[run_id] for key, run_id in ids.items() if run_id in finished})


def headline(results: Results) -> list[str]:
    """A sentence per panel: what u_hat adds to the control and to random, and whether that exceeds the noise."""
    experiment = results.experiment
    leader, metrics = _leader(results), results.metrics()
    sentences = []
    for panel in experiment.panels if metrics else ():
        parts = []
        for over in [name for name in reversed(results.references()) if name != leader]:
            d = results.lead(panel, leader, over, metrics[0])
            if d.seeds:
                parts.append(f"{over} {points(d.mean)}{_certainty(d)}")
        if parts:
            where = "on test" if metrics[0] == "test_accuracy" else "on S_val"
            sentences.append(f"{panel.name}: {leader} {where} against " + "; against ".join(parts) + ".")
    return sentences


def _leader(results: Results) -> str:
    """The method that the sentences are about: RAMBO where it takes part."""
    names = [method.name for method in results.experiment.methods]
    return HEADLINE if HEADLINE in names else names[0]


def _certainty(d: PairedDifference) -> str:
    seeds = f"ahead in {d.wins} of {d.seeds} seeds"
    if not math.isfinite(d.low):
        return f" points ({seeds}; one seed says nothing about noise)"
    verdict = "beyond the noise over seeds" if d.clear else "within the noise over seeds"
    return f" points (95 % t interval {points(d.low)} to {points(d.high)}, {seeds}: {verdict})"


def points(value: float) -> str:
    """A difference of two fractions in percentage points."""
    return f"{100 * value:+.2f}" if math.isfinite(value) else "-"


def percent(mean: float, error: float) -> str:
    """Mean and standard error of a fraction in percent, as the paper prints them."""
    if not math.isfinite(mean):
        return "-"
    return f"{100 * mean:.1f} ± {100 * error:.1f}" if math.isfinite(error) else f"{100 * mean:.1f}"


def header(results: Results, panel: Panel, metric: Metric) -> list[str]:
    """The columns of `table`."""
    names = ["method", *(f"B={budget}" for budget in results.experiment.budgets)]
    names += [f"paper, B={budget}" for budget in sorted(panel.paper)] if metric == "accuracy" else []
    for over in results.references():
        names += [f"- {over}", "95 % t", "95 % bootstrap", "ahead"]
    return [*names, "seeds"]


def table(results: Results, panel: Panel, metric: Metric) -> list[list[str]]:
    """A row per method: accuracy in percent by budget, the paper's beside it, the lead over the references.

    The paper's figures are accuracies on S_val and stand beside those only.
    """
    rows = []
    for method in results.experiment.methods:
        row = [method.name]
        for budget in results.experiment.budgets:
            row.append(percent(*mean_and_error(results.values(panel, method.name, budget, metric))))
        for budget in sorted(panel.paper) if metric == "accuracy" else ():
            known = panel.paper[budget].get(method.name)
            row.append("" if known is None else f"{known[0]:.1f} ± {known[1]:.1f}")
        for over in results.references():
            row += _compared(results, panel, method, over, metric)
        row.append(str(len(results.over_budgets(panel, method.name, metric))))
        rows.append(row)
    return rows


def _compared(results: Results, panel: Panel, method: Method, over: str, metric: Metric) -> list[str]:
    d = results.lead(panel, method.name, over, metric)
    if method.name == over or d.seeds == 0:
        return ["", "", "", ""]
    interval = f"{points(d.low)} to {points(d.high)}" if math.isfinite(d.low) else ""
    bootstrap = f"{points(d.bootstrap_low)} to {points(d.bootstrap_high)}" if math.isfinite(d.low) else ""
    return [points(d.mean), interval, bootstrap, f"{d.wins}/{d.seeds}"]


def times(results: Results, panel: Panel) -> list[list[str]]:
    """A row per method of mean seconds of one thread, see TIMES; the final training is that of the largest budget."""
    largest = results.experiment.budgets[-1]
    rows = []
    for method in results.experiment.methods:
        samples, picked, fitted, trained = (
            mean_and_error(results.values(panel, method.name, largest, name))[0]
            for name in ("sample_seconds", "select_seconds", "fit_seconds", "train_seconds")
        )
        if math.isfinite(picked):
            own = [f"{samples:.0f}", f"{fitted:.1f}"] if method.fits else ["", ""]
            rows.append([method.name, own[0], f"{picked:.1f}", own[1], f"{trained:.1f}"])
    return rows


TIMES = ("method", "utility samples (s)", "selection (s)", "of it: fit of u_hat (s)", "final training (s)")


def remarks(results: Results, panel: Panel) -> list[str]:
    """What stands below a panel's tables: `standing` by each accuracy, then `rankings`."""
    return [s for metric in results.metrics() for s in standing(results, panel, metric)] + rankings(results, panel)


def standing(results: Results, panel: Panel, metric: Metric) -> list[str]:
    """A sentence that sorts all other methods by RAMBO's lead over them: beyond the noise, within it, behind.

    Each is judged by its own 95 % t interval: of twenty true ties one is expected to be called clear.
    Empty with fewer than two seeds or no other method.
    """
    leader = _leader(results)
    others = [method.name for method in results.experiment.methods if method.name != leader]
    leads = {name: results.lead(panel, leader, name, metric) for name in others}
    known = {name: d for name, d in leads.items() if d.seeds > 1}
    ahead, tied, behind = "beyond the noise ahead of", "within the noise of", "beyond the noise behind"
    groups: dict[str, list[str]] = {ahead: [], tied: [], behind: []}
    for name, d in sorted(known.items(), key=lambda lead: lead[1].mean, reverse=True):
        groups[tied if not d.clear else ahead if d.mean > 0 else behind].append(f"{name} ({points(d.mean)})")
    parts = [f"{verdict} {', '.join(names)}" for verdict, names in groups.items() if names]
    return [f"{leader} on {METRICS[metric]}, paired by seed, 95 % each: {'; '.join(parts)}."] if parts else []


def rankings(results: Results, panel: Panel) -> list[str]:
    """A sentence per method that fits u_hat: how well it ranks held-out, truly retrained subsets."""
    found = []
    for method in results.experiment.methods:
        if method.fits:
            share, share_error = mean_and_error(results.over_budgets(panel, method.name, "ranking_accuracy"))
            tau, tau_error = mean_and_error(results.over_budgets(panel, method.name, "kendall_tau"))
            if math.isfinite(share):
                errors = (f" ± {e:.2f}" if math.isfinite(e) else "" for e in (share_error, tau_error))
                found.append(
                    f"{method.name} puts {share:.2f}{next(errors)} of held-out pairs of subsets in the right order "
                    f"(chance 0.50), Kendall tau {tau:+.2f}{next(errors)}."
                )
    return found


def brief(results: Results, panel: Panel, metric: Metric) -> str:
    """The table as a terminal has room for it: without the bootstrap's columns."""
    head, rows = header(results, panel, metric), table(results, panel, metric)
    kept = [i for i, name in enumerate(head) if name != "95 % bootstrap"]
    return tables.aligned([[line[i] for i in kept] for line in (head, *rows)], left=1)


def write_runs(results: Results, folder: Path) -> None:
    """Write cells.csv and cells.parquet: a row per finished run of the experiment."""
    names = [field.name for field in fields(BenchmarkRun) if field.name not in ("data", "method", "budget", "seed")]
    columns = {FILE_NAMES.get(name, name): name for name in names}
    records = [
        {"panel": panel, "method": method, "budget": budget, "seed": seed}
        | {column: getattr(run, name) for column, name in columns.items()}
        for (panel, method, budget, seed), run in results.runs.items()
    ]
    write_table(pa.Table.from_pylist(records), folder / "cells")
