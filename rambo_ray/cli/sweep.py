"""`rambo sweep`: from a configuration and a space to a table, plots and the best setting."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from rambo_ray.annotation import rounds
from rambo_ray.cli import ready
from rambo_ray.cli.entry import configuration, shown
from rambo_ray.cluster import concurrency, nodes, prepare, sweep
from rambo_ray.cluster.prepare import Request
from rambo_ray.cluster.session import connect
from rambo_ray.cluster.sweep import Study
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data import datasets
from rambo_ray.data.problem import Problem, Revealed
from rambo_ray.errors import UserError
from rambo_ray.pipeline import choices, claims, fitted, once, plan
from rambo_ray.pipeline.fitted import Sizes
from rambo_ray.pipeline.outputs import Output
from rambo_ray.pipeline.prepared import prepared_key
from rambo_ray.progress import Stages, duration
from rambo_ray.sweep import report as sweep_report
from rambo_ray.sweep import results as sweep_results
from rambo_ray.sweep import search_space, simulation
from rambo_ray.sweep.results import Summary
from rambo_ray.sweep.search_space import Space
from rambo_ray.sweep.simulation import FoldScale
from rambo_ray.utility_samples.store import SampleStore

ORACLE = "ORACLE: these results use labels of the pool, which a real user does not have."


def called(parsed: argparse.Namespace) -> int:
    """The command `sweep`; returns its exit code, 1 where no trial finished."""
    base = configuration(parsed)
    rounds.check_first(base, "a sweep")
    space_file = ready.file("space", parsed.space)
    space = search_space.load(space_file, base)
    samples = Path(parsed.samples) if parsed.samples else None
    with shown(parsed, base.output.progress_seconds) as stages:
        summary = execute(base, space, parsed.output, space_file, samples=samples, oracle=parsed.oracle, stages=stages)
    return 0 if summary.best is not None else 1


def execute(
    base: Config,
    space: Space,
    folder: str,
    space_file: Path,
    *,
    samples: Path | None = None,
    oracle: bool = False,
    stages: Stages | None = None,
) -> Summary:
    """Run the sweep and write its files; returns the summary. stages: default: lines on standard output.

    Raises UserError, before anything is written, for what cannot be run; RunError for what failed.
    """
    claims.refuse_early(folder)
    began = time.monotonic()
    seeds, reader = space.seed_list(base), _Data()
    base, chosen = choices.made(base, reader.of(search_space.configure(base, {}, seeds[0]))[0])
    points = search_space.points(space, base)
    stages = stages or Stages(every_s=base.output.progress_seconds)
    fitting = reader.fit(search_space.configure(base, {}, seeds[0]))
    if fitting.acquisition.budget != base.acquisition.budget:  # of a small pool: one budget for all points
        base = loading.with_values(base, {"acquisition.budget": fitting.acquisition.budget})
    requests, fingerprints, k, scale = _requests(base, space, points, seeds, oracle, reader)
    count = f"{space.search.samples} suggestions" if space.search.method == "optuna" else f"{len(points)} points"
    stages.say(
        f"Sweep of {', '.join(space.keys)} on {base.data.name}: {count} x {len(seeds)} seeds; k={k}, "
        f"{len(requests)} sets of labelled images (seeds, folds) to measure"
    )
    for line in (*chosen, *next(iter(requests.values())).plan.said, *((ORACLE,) if oracle else ())):
        stages.say(line)
    base = reader.fit(base)
    with Output.claim(folder, base, space_file.read_text(encoding="utf-8")) as output:
        for line in output.said:
            stages.say(line)
        cluster = base.cluster.model_copy(update={"dashboard": base.cluster.dashboard or space.num_workers > 0})
        with connect(cluster, stages.say) as session:
            concurrency.most(session, space)
            nodes.check_folder(output.folder)
            stages.say(f"Ray: {session.describe()}")
            store = SampleStore(samples or output.folder / "utility_samples", base.utility_samples.utility)
            for line in store.said:
                stages.say(line)
            made = prepare.make(session, list(requests.values()), store, stages)
            study = Study(
                base=base,
                space=space,
                k=k,
                scale=scale,
                prepared=dict(zip(requests, prepare.share(made), strict=True)),
                fingerprints=fingerprints,
                folder=str(output.folder),
                oracle=oracle,
            )
            stages.begin("trials")
            rows = sweep.run(session, study, points, seeds, stages)
            stages.end()
        keys = list(space.keys)
        summary = sweep_results.summarise(rows, keys)
        sweep_results.write_tables(rows, keys, output.folder, oracle)
        if summary.best is not None:
            output.write_text("best.yaml", _best(base, summary, oracle, reader))
        plots = sweep_report.pictures(rows, summary, keys)
        for name, picture in plots.items():
            output.write_bytes(f"{name}.png", picture)
        how, banner = _how(space, k, scale, oracle), ORACLE if oracle else ""
        output.write_text(
            "report.html", sweep_report.render(rows, summary, keys, plots, loading.dump(base), how, banner)
        )
        lines = [
            "",
            *([ORACLE] if oracle else []),
            sweep_results.table(summary, keys, oracle),
            f"\n{summary.sentence}\n",
        ]
        lines.append(f"{len(rows)} trials in {duration(time.monotonic() - began)}; files in {output.folder}:")
        lines.append("  best.yaml  sweep.csv  sweep.parquet  report.html  *.png  tune/ (TensorBoard)")
        best = None if summary.best is None else summary.best.values
        stages.finish("\n".join(lines), output.folder, {"trials": len(rows), "best": best})
        return summary


def _requests(
    base: Config, space: Space, points: list[dict[str, Any]], seeds: list[int], oracle: bool, reader: _Data
) -> tuple[dict[str, Request], dict[int, str], int, FoldScale]:
    """The problems to prepare for the trials, by key; each seed's data fingerprint; k; the folds' scale.

    Everything is checked here, before a cluster is started.
    """
    configs = {seed: [search_space.configure(base, p, seed) for p in points or [{}]] for seed in seeds}
    data = reader.of
    k = len(data(search_space.configure(base, {}, seeds[0]))[0].labeled)
    ask = space.simulation
    scale = simulation.scale(base, configs[seeds[0]], k, visible=ask.visible, budget=ask.budget)
    # Where any point has strategies propose batches, they pick by what f says of the pools that are acquired from.
    outputs = any(c.acquisition.candidates in ("strategies", "mixed") for each in configs.values() for c in each)
    requests: dict[str, Request] = {}
    fingerprints = {}
    for seed in seeds:
        at_hand, _ = data(search_space.configure(base, {}, seed))
        fingerprints[seed] = f"{at_hand.fingerprint} {at_hand.pool_fingerprint}"
        for config in configs[seed]:
            problem, revealed = data(config)
            if oracle and revealed is None:
                raise UserError(f"--oracle: data.name={config.data.name} has no labels of the pool; leave --oracle out")
            todo = plan.make(config, problem)
            answers = revealed if oracle else None
            requests.setdefault(prepared_key(config), Request(todo, problem, answers, outputs and oracle))
            if space.objective.simulated == 0:
                continue
            small = simulation.fold_config(config, k, scale)
            for index in range(ask.folds):
                if prepared_key(small, index) not in requests:
                    part, hidden = simulation.fold(at_hand, index, ask.folds, small.data.num_labeled, seed)
                    requests[prepared_key(small, index)] = Request(plan.make(small, part), part, hidden, outputs)
    return requests, fingerprints, k, scale


class _Data:
    """The problems of a sweep's points, each read once."""

    def __init__(self) -> None:
        self._reader = datasets.Reader()
        self._loaded: dict[str, tuple[Problem, Revealed | None]] = {}

    def of(self, config: Config) -> tuple[Problem, Revealed | None]:
        """The problem of a configuration, and what its oracle may know."""
        split = config.data.split_seed if config.data.split_seed is not None else config.seed
        key = f"{split if config.data.name != 'own' else ''} {config.data} {once.key(config)}"
        if key not in self._loaded:
            self._loaded[key] = once.thinned(config, *self._reader.load(config.data, config.seed))
        return self._loaded[key]

    def fit(self, config: Config) -> Config:
        """`config` with defaults that fit its data. Raises UserError where none do."""
        try:
            return fitted.fit(config, Sizes.of(self.of(config)[0])).config
        except ValueError as error:
            raise UserError(str(error)) from error


def _best(base: Config, summary: Summary, oracle: bool, reader: _Data) -> str:
    """best.yaml: the base with the best point's values, ready for `rambo run`."""
    assert summary.best is not None
    config = reader.fit(search_space.configure(base, summary.best.values, base.seed))
    lines = [f"# {line}" for line in ((ORACLE,) if oracle else ())]
    lines += [f"# {summary.sentence}", "# rambo run --config best.yaml --output DIR"]
    return "\n".join(lines) + "\n" + loading.dump(config)


def _how(space: Space, k: int, scale: FoldScale, oracle: bool) -> str:
    """How the objective came about, for the report."""
    if oracle:
        return (
            "The objective is the accuracy on S_val of the classifier trained on S_0 and the B images picked from the "
            "real pool, answered with the benchmark's labels."
        )
    weights, ask = space.objective, space.simulation
    text = (
        f"The objective is {weights.simulated:g} x simulated accuracy + {weights.ranking:g} x ranking accuracy. "
        f"Ranking accuracy: the share of pairs of held-out, truly retrained subsets of S_0 that u_hat puts in the "
        "right order. "
    )
    if weights.simulated > 0:
        text += (
            f"Simulated accuracy: {ask.folds} times, the labels of a part of S_0's {k} images are hidden, images are "
            "picked from that part with everything that counts images scaled down "
            f"(k by {scale.labeled:.3g}, B, b and M by {scale.acquired:.3g}), the hidden labels answer, and the "
            "classifier trained on the result is scored on S_val."
        )
    return text
