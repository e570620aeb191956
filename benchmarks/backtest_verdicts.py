"""Whether a backtest's verdicts are right: what it recommends against what was truly best, problem by problem.

    python benchmarks/backtest_verdicts.py --experiment verdicts --data DIR --output results [--seeds 0,1,2]
        [--panels "long tail"] [--folds 12] [--json]

`--experiment` is `verdicts` (CIFAR-10 embeddings) or `verdicts_digits`. The true gains are the runs of `rambo
benchmark` with that experiment, by the pool's real labels and on test; those that `--output` holds already are not
run again. Then the same problems are backtested, from S_0 and S_val alone, each in a folder of its own below
`--work`. A verdict is right where the true accuracy of the recommended method is at most a point below that of the
best one, random included. Rules and thresholds were settled on seeds 100 to 109.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rambo_ray.backtest.verdict import RANDOM
from rambo_ray.benchmark import experiment, layout
from rambo_ray.benchmark.experiment import Experiment, Method, Panel
from rambo_ray.benchmark.runs import RunStore
from rambo_ray.cli import backtest, ready
from rambo_ray.cli.backtest import METHODS, Asked
from rambo_ray.cli.commands import FOLDS
from rambo_ray.cluster import benchmark
from rambo_ray.cluster.session import Session, connect
from rambo_ray.data import datasets
from rambo_ray.progress import Stages
from rambo_ray.report import paired, tables
from rambo_ray.utility_samples.store import SampleStore

WITHIN = 0.01  # a point of accuracy: what a right verdict may be behind the best


def wanted(name: str, data: str | None, seeds: Sequence[int] | None, panels: Sequence[str]) -> Experiment:
    """The experiment, on these seeds and panels."""
    made = experiment.load(
        ready.file("experiment", name), ready.configs(), [] if data is None else [f"data.root={data}"]
    )
    chosen = [panel for panel in made.panels if not panels or panel.name in panels]
    if not chosen:
        raise SystemExit(f"--panels: must be of {', '.join(panel.name for panel in made.panels)}")
    own = made.seeds if seeds is None else tuple(seeds)
    return replace(made, panels=tuple(replace(panel, seeds=own) for panel in chosen), seeds=own)


def truth(session: Session, made: Experiment, folder: Path) -> dict[tuple[str, int], dict[str, float]]:
    """True accuracy on test of each method, by panel and seed; runs that `folder` lacks are made and kept there."""
    store = RunStore(folder)
    laid_out = layout.lay_out(made, store)
    samples = SampleStore(folder / "work" / "utility_samples", made.panels[0].config.utility_samples.utility)
    stages = Stages(stream=sys.stderr)
    if laid_out.groups and (
        failures := benchmark.run(session, laid_out.groups, store, samples, folder / "work", stages)
    ):
        raise SystemExit(f"{failures[0].where}: {failures[0].error}")
    found: dict[tuple[str, int], dict[str, float]] = {}
    for (panel, method, _, seed), run in laid_out.ids.items():
        found.setdefault((panel, seed), {})[method] = store.runs[run].test_accuracy
    return found


def verdict(
    made: Experiment, panel: Panel, seed: int, folds: int, work: Path, reader: datasets.Reader
) -> tuple[str, str, dict[str, float]]:
    """What a backtest of one problem recommends, how sure it is, and the gains that it expects."""
    config = made.config(panel, Method("rambo", "rambo", {}), made.budgets[0], seed)
    problem, _ = reader.load(config.data, config.seed)
    asked = Asked(folds, METHODS, work / f"{made.name} {panel.name} {seed}".replace(" ", "_"), "", "rambo run")
    found = backtest.execute_on(config, problem, asked, Stages(stream=io.StringIO())).verdict
    return found.recommended, found.kind, {s.method: s.over_random.mean for s in found.standings}


def main() -> int:
    """Compute what is missing and print the verdicts beside the truth."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--experiment", default="verdicts")
    parser.add_argument("--data", help="folder of the datasets")
    parser.add_argument("--output", default="results", help="folder of cells.jsonl with the true gains")
    parser.add_argument("--work", default="backtests", help="folder for the backtests, which go on where they stopped")
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--panels", type=lambda text: text.split(","), default=[])
    parser.add_argument("--folds", type=int, default=FOLDS)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    made = wanted(given.experiment, given.data, given.seeds, given.panels)
    output, rows = Path(given.output), []
    reader = datasets.Reader()
    with connect(made.panels[0].config.cluster) as session:
        truths = truth(session, made, output)
        for seed in made.seeds:
            for panel in made.panels:
                true = truths[panel.name, seed]
                recommended, kind, gains = verdict(made, panel, seed, given.folds, Path(given.work), reader)
                best = max(true, key=lambda method: true[method])
                rows.append(
                    {
                        "panel": panel.name,
                        "seed": seed,
                        "recommended": recommended,
                        "verdict": kind,
                        "expected_gain": gains.get(recommended, 0.0),
                        "true_gain": true[recommended] - true[RANDOM],
                        "best": best,
                        "best_gain": true[best] - true[RANDOM],
                        "right": true[best] - true[recommended] <= WITHIN,
                    }
                )
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(json.dumps(rows) if given.json else said(rows))
    return 0


def said(rows: Sequence[dict[str, object]]) -> str:
    """The rows as Markdown, and per panel how often the verdict was right and what following it truly gained."""
    head = list(rows[0])
    lines = [tables.markdown(head, [[_cell(row[key]) for key in head] for row in rows]), ""]
    for panel in dict.fromkeys(str(row["panel"]) for row in rows):
        own = [row for row in rows if row["panel"] == panel]
        right = sum(bool(row["right"]) for row in own)
        gains = {int(str(row["seed"])): float(str(row["true_gain"])) for row in own}
        gained = paired.difference(gains, dict.fromkeys(gains, 0.0))
        regret = np.mean([float(str(row["best_gain"])) - float(str(row["true_gain"])) for row in own])
        lines.append(
            f"{panel}: right in {right} of {len(own)}; what was recommended truly gained {100 * gained.mean:+.2f} "
            f"points over random (95 % {100 * gained.low:+.2f} to {100 * gained.high:+.2f}), {100 * regret:.2f} "
            "below the best"
        )
    return "\n".join(lines)


def _cell(value: object) -> str:
    return f"{100 * value:+.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
