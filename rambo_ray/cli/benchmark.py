"""The job behind `jobs/benchmark.py`: from an experiment's name to its runs, tables, plots and report."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from rambo_ray.benchmark import experiment, layout
from rambo_ray.benchmark import report as benchmark_report
from rambo_ray.benchmark import results as benchmark_results
from rambo_ray.benchmark.experiment import Experiment
from rambo_ray.benchmark.results import METRICS, Results
from rambo_ray.benchmark.runs import Failure, RunStore
from rambo_ray.cli.entry import Parser, exit_code
from rambo_ray.cluster import benchmark
from rambo_ray.cluster.session import connect
from rambo_ray.errors import UserError, nearest
from rambo_ray.pipeline.outputs import Output
from rambo_ray.progress import Stages, duration
from rambo_ray.utility_samples.store import SampleStore


def parser() -> argparse.ArgumentParser:
    """The command line of `jobs/benchmark.py`."""
    made = Parser(
        prog="benchmark.py",
        description="Compare RAMBO with other strategies and with its own controls, run by run.",
        epilog="Finished runs are kept in DIR/cells.jsonl and shared by all experiments; the same command computes "
        "what is missing.",
    )
    made.add_argument("--experiment", metavar="NAME", help="of jobs/experiments, or the path of a YAML file")
    made.add_argument("--output", metavar="DIR", help="output directory, for any number of experiments")
    made.add_argument("--seeds", metavar="N", type=int, help="only the first N seeds of the experiment")
    made.add_argument("--budgets", metavar="B,B", type=_numbers, help="only these budgets of the experiment")
    made.add_argument("--samples", metavar="DIR", help="folder of utility samples; default: DIR/work/utility_samples")
    made.add_argument("--report", action="store_true", help="compute nothing: report what is finished")
    made.add_argument("--list", action="store_true", help="list the experiments and exit")
    made.add_argument("overrides", nargs="*", metavar="section.key=value", help="override a key in all panels")
    return made


def main(jobs: Path, arguments: Sequence[str] | None = None) -> int:
    """Run a benchmark; `jobs` holds experiments/ and configs/. Returns the exit code, 1 where a run failed, too."""

    def job() -> int:
        parsed = parser().parse_intermixed_args(arguments)
        known = {path.stem: path for path in sorted((jobs / "experiments").glob("*.yaml"))}
        if parsed.list:
            for name, path in known.items():
                print(f"{name:<24} {experiment.load(path, jobs / 'configs').title}")
            return 0
        for option in ("experiment", "output"):
            if getattr(parsed, option) is None:
                raise UserError(f"--{option}: is needed; see benchmark.py --help")
        file = _file(parsed.experiment, known)
        wanted = experiment.load(file, jobs / "configs", parsed.overrides, parsed.seeds, parsed.budgets)
        command = f"python jobs/benchmark.py --experiment {parsed.experiment} --output {parsed.output}"
        command += f" --seeds {parsed.seeds}" if parsed.seeds is not None else ""
        command += f" --budgets {','.join(map(str, parsed.budgets))}" if parsed.budgets is not None else ""
        command = " ".join([command, *parsed.overrides])
        samples = Path(parsed.samples) if parsed.samples else None
        failures = execute(wanted, Path(parsed.output), command, samples=samples, compute=not parsed.report)
        return 1 if failures else 0

    return exit_code("benchmark.py", job)


def execute(
    wanted: Experiment, folder: Path, command: str, *, samples: Path | None = None, compute: bool = True
) -> list[Failure]:
    """Finish the runs of an experiment and write its report; returns what failed.

    Raises UserError, before anything is computed, for what cannot be run.
    """
    began = time.monotonic()
    base = wanted.panels[0].config
    stages = Stages(every_s=base.output.progress_seconds)
    if (folder / "config.yaml").is_file():
        raise UserError(f"--output {folder}: holds a run or a sweep, not a benchmark; give another directory")
    store = RunStore(folder)
    laid_out = layout.lay_out(wanted, store)
    total, missing = len(laid_out.ids), sum(len(group.runs) for group in laid_out.groups)
    stages.say(
        f"{wanted.name}: {wanted.title}\n{len(wanted.panels)} panels x {len(wanted.methods)} methods x "
        f"{len(wanted.budgets)} budgets x {len(wanted.seeds)} seeds = {total} runs, {total - missing} of them finished"
    )
    where = _writable(folder)
    failures: list[Failure] = []
    if compute and missing:
        with connect(base.cluster) as session:
            stages.say(f"Ray: {session.describe()}")
            kept = SampleStore(samples or where / "work" / "utility_samples", base.utility_samples.utility)
            failures = benchmark.run(session, laid_out.groups, store, kept, where / "work", stages)
    results = benchmark_results.gather(wanted, laid_out.ids, store.runs)
    _write(results, where / wanted.name, failures, total - len(results.runs), command)
    _say(results, stages, where / wanted.name, failures, time.monotonic() - began)
    return failures


def _numbers(text: str) -> list[int]:
    """Whole numbers between commas; argparse makes an error of a ValueError."""
    return [int(part) for part in text.split(",")]


_numbers.__name__ = "budgets such as 500,1000 as a"  # argparse says: invalid ... value: 'x'


def _file(name: str, known: dict[str, Path]) -> Path:
    if name in known:
        return known[name]
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    remedy = f"{nearest(name, known)} (or give the path of a YAML file)"
    raise UserError(f"--experiment {name}: no such experiment; {remedy}")


def _writable(folder: Path) -> Path:
    """The output directory, made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {folder}: {error.strerror}; give a directory you can write to") from error
    return folder.resolve()


def _write(results: Results, folder: Path, failures: list[Failure], missing: int, command: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    output = Output(folder)
    plots = benchmark_report.pictures(results)
    for name, picture in plots.items():
        (folder / f"{name}.png").write_bytes(picture)
    if results.runs:
        benchmark_results.write_runs(results, folder)
    output.write_text("tables.md", benchmark_report.markdown(results, command))
    output.write_text("report.html", benchmark_report.render(results, plots, failures, missing, command))


def _say(results: Results, stages: Stages, folder: Path, failures: list[Failure], seconds: float) -> None:
    for panel in results.experiment.panels:
        for metric in results.metrics():
            stages.say(f"\n{panel.name}, accuracy on {METRICS[metric]} in percent")
            stages.say(benchmark_results.brief(results, panel, metric))
        for sentence in benchmark_results.remarks(results, panel):
            stages.say(sentence)
    stages.say("")
    for sentence in benchmark_results.headline(results):
        stages.say(sentence)
    for failure in failures:
        stages.say(f"failed: {failure.where}: {failure.error}")
    stages.say(f"\n{len(results.runs)} runs finished, {duration(seconds)}; files in {folder}:")
    stages.say("  report.html  tables.md  cells.csv  cells.parquet  *.png")
