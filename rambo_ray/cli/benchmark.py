"""`rambo benchmark`: from an experiment's name to its runs, tables, plots and report."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rambo_ray import files, locks, numerics, run_log
from rambo_ray.annotation import rounds
from rambo_ray.benchmark import experiment, layout
from rambo_ray.benchmark import report as benchmark_report
from rambo_ray.benchmark import results as benchmark_results
from rambo_ray.benchmark.experiment import Experiment
from rambo_ray.benchmark.results import METRICS, Results
from rambo_ray.benchmark.runs import Failure, RunStore
from rambo_ray.cli import ready
from rambo_ray.cli.entry import shown
from rambo_ray.cluster import benchmark, nodes
from rambo_ray.cluster.session import connect
from rambo_ray.errors import UserError
from rambo_ray.pipeline import claims
from rambo_ray.pipeline.outputs import Output
from rambo_ray.progress import Stages, duration
from rambo_ray.utility_samples.store import SampleStore


def called(parsed: argparse.Namespace) -> int:
    """The command `benchmark`; returns its exit code, 1 where a run failed."""
    if parsed.list:
        for name, path in ready.known("experiment").items():
            print(f"{name:<24} {experiment.load(path, ready.configs()).title}")
        return 0
    for option in ("experiment", "output"):
        if getattr(parsed, option) is None:
            raise UserError(f"--{option}: is needed; see {parsed.program} --help")
    file = ready.file("experiment", parsed.experiment)
    wanted = experiment.load(file, ready.configs(), parsed.overrides, parsed.seeds, parsed.budgets)
    for panel in wanted.panels:
        rounds.check_first(panel.config, "a benchmark")
    numerics.settle(wanted.panels[0].config.cluster.reproducible, restart=parsed.restart)
    command = f"rambo benchmark --experiment {parsed.experiment} --output {parsed.output}"
    command += f" --seeds {parsed.seeds}" if parsed.seeds is not None else ""
    command += f" --budgets {','.join(map(str, parsed.budgets))}" if parsed.budgets is not None else ""
    command = " ".join([command, *parsed.overrides])
    samples = Path(parsed.samples) if parsed.samples else None
    with shown(parsed, wanted.panels[0].config.output.progress_seconds) as stages:
        failures = execute(
            wanted, Path(parsed.output), command, samples=samples, compute=not parsed.report, stages=stages
        )
    return 1 if failures else 0


def execute(
    wanted: Experiment,
    folder: Path,
    command: str,
    *,
    samples: Path | None = None,
    compute: bool = True,
    stages: Stages | None = None,
) -> list[Failure]:
    """Finish the runs of an experiment and write its report; returns what failed.

    stages: default: lines on standard output.
    Raises UserError, before anything is computed, for what cannot be run.
    """
    began = time.monotonic()
    base = wanted.panels[0].config
    stages = stages or Stages(every_s=base.output.progress_seconds)
    if (folder / "config.yaml").is_file():
        raise UserError(f"--output {folder}: holds a run or a sweep, not a benchmark; give another directory")
    if compute:  # a report alone may be drawn while the runs go on
        claims.refuse_early(folder)
    store = RunStore(folder)
    laid_out = layout.lay_out(wanted, store)
    total, missing = len(laid_out.ids), sum(len(group.runs) for group in laid_out.groups)
    seeds = "/".join(str(count) for count in dict.fromkeys(len(panel.seeds) for panel in wanted.panels))
    stages.say(
        f"{wanted.name}: {wanted.title}\n{len(wanted.panels)} panels x {len(wanted.methods)} methods x "
        f"{len(wanted.budgets)} budgets x {seeds} seeds = {total} runs, {total - missing} of them finished"
    )
    for line in laid_out.said:
        stages.say(line)
    claims.make(folder)
    where, failures = folder.resolve(), list[Failure]()
    if compute and missing:
        with locks.held(where / locks.RUN), connect(base.cluster, stages.say) as session:
            files.remove_leftovers(where)
            run_log.keep(where)
            nodes.check_folder(where)
            stages.say(f"Ray: {session.describe()}")
            kept = SampleStore(samples or where / "work" / "utility_samples", base.utility_samples.utility)
            for line in kept.said:
                stages.say(line)
            failures = benchmark.run(session, laid_out.groups, store, kept, where / "work", stages)
    results = benchmark_results.gather(wanted, laid_out.ids, store.runs)
    _write(results, where / wanted.name, failures, total - len(results.runs), command)
    _say(results, stages, where / wanted.name, failures, time.monotonic() - began)
    return failures


def _write(results: Results, folder: Path, failures: list[Failure], missing: int, command: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    output = Output(folder)
    plots = benchmark_report.pictures(results)
    for name, picture in plots.items():
        output.write_bytes(f"{name}.png", picture)
    if results.runs:
        benchmark_results.write_runs(results, folder)
    output.write_text("tables.md", benchmark_report.markdown(results, command))
    output.write_text("report.html", benchmark_report.render(results, plots, failures, missing, command))


def _say(results: Results, stages: Stages, folder: Path, failures: list[Failure], seconds: float) -> None:
    lines = []
    for panel in results.experiment.panels:
        for metric in results.metrics():
            lines += [f"\n{panel.name}, accuracy on {METRICS[metric]} in percent"]
            lines += [benchmark_results.brief(results, panel, metric)]
        lines += benchmark_results.remarks(results, panel)
    lines += ["", *benchmark_results.headline(results)]
    lines += [f"failed: {failure.where}: {failure.error}" for failure in failures]
    lines += [f"\n{len(results.runs)} runs finished, {duration(seconds)}; files in {folder}:"]
    lines += ["  report.html  tables.md  cells.csv  cells.parquet  *.png"]
    figures = {"runs": len(results.runs), "failed": len(failures), "seconds": seconds}
    stages.finish("\n".join(lines), folder / "report.html", figures)
