"""The job behind `jobs/benchmark.py`: from an experiment's name to its cells, tables, plots and report."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rambo_ray import benchmark_report, benchmark_results, datasets, experiment, rambo
from rambo_ray.benchmark_results import METRICS, Results
from rambo_ray.cells import CellStore, Failure, cell_id
from rambo_ray.cluster import benchmark
from rambo_ray.cluster.benchmark import Site, Todo
from rambo_ray.cluster.grounds import Request, ground_key
from rambo_ray.cluster.session import connect
from rambo_ray.config import Config
from rambo_ray.errors import UserError, nearest
from rambo_ray.experiment import Experiment
from rambo_ray.main import Parser, exit_code
from rambo_ray.outputs import Output
from rambo_ray.pool import Problem, Revealed
from rambo_ray.progress import duration
from rambo_ray.sample_store import SampleStore
from rambo_ray.stages import Stages

Key = tuple[str, str, int, int]


def parser() -> argparse.ArgumentParser:
    """The command line of `jobs/benchmark.py`."""
    made = Parser(
        prog="benchmark.py",
        description="Compare RAMBO with other strategies and with its own controls, cell by cell.",
        epilog="Finished cells are kept in DIR/cells.jsonl and shared by all experiments; the same command computes "
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
    """Run a benchmark; `jobs` holds experiments/ and configs/. Returns the exit code, 1 where a cell failed, too."""

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
    """Finish the cells of an experiment and write its report; returns what failed.

    Raises UserError, before anything is computed, for what cannot be run.
    """
    began = time.monotonic()
    base = wanted.panels[0].config
    stages = Stages(every_s=base.output.progress_seconds)
    if (folder / "config.yaml").is_file():
        raise UserError(f"--output {folder}: holds a run or a sweep, not a benchmark; give another directory")
    store = CellStore(folder)
    laid_out = _lay_out(wanted, store)
    total, missing = len(laid_out.ids), sum(len(site.cells) for site in laid_out.sites)
    stages.say(
        f"{wanted.name}: {wanted.title}\n{len(wanted.panels)} panels x {len(wanted.methods)} methods x "
        f"{len(wanted.budgets)} budgets x {len(wanted.seeds)} seeds = {total} cells, {total - missing} of them finished"
    )
    where = _writable(folder)
    failures: list[Failure] = []
    if compute and missing:
        with connect(base.cluster) as session:
            stages.say(f"Ray: {session.describe()}")
            kept = SampleStore(samples or where / "work" / "utility_samples", base.utility_samples.utility)
            failures = benchmark.run(session, laid_out.sites, store, kept, where / "work", stages)
    results = benchmark_results.gather(wanted, laid_out.ids, store.cells)
    _write(results, where / wanted.name, failures, total - len(results.cells), command)
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


@dataclass(frozen=True)
class _LaidOut:
    """The ids of all cells, and the sites with what is missing."""

    ids: dict[Key, str]
    sites: list[Site]


def _lay_out(wanted: Experiment, store: CellStore) -> _LaidOut:
    """Every cell's id, and a site per ground for those that are not in `store`; checks all of them.

    A dataset is read once, whatever the number of seeds; a problem is divided again when its turn comes.
    """
    data = _Datasets()
    ids: dict[Key, str] = {}
    missing: dict[str, list[Todo]] = {}
    found: dict[str, tuple[str, Callable[[bool], Request]]] = {}
    checked: set[str] = set()
    for seed in wanted.seeds:
        for panel in wanted.panels:
            if panel.config.classifier.precision == "auto":
                raise UserError(
                    f"panels: {panel.name}: classifier.precision=auto: depends on the machine, but cells of several "
                    "machines stand side by side; set classifier.precision=float32 (or bfloat16)"
                )
            for method in wanted.methods:
                for budget in wanted.budgets:
                    config = wanted.config(panel, method, budget, seed)
                    ground = ground_key(config)
                    look = f"{ground} {method.name if method.fits else ''}"
                    if budget == wanted.budgets[-1] and look not in checked:
                        checked.add(look)
                        _check(panel.name, config, data)
                    key = (panel.name, method.name, budget, seed)
                    ids[key] = cell_id(config, method, data.fingerprint(config), data.recipe(config))
                    if ids[key] in store.cells or any(t.cell_id == ids[key] for t in missing.get(ground, [])):
                        continue
                    found.setdefault(ground, (f"{panel.name}, seed {seed}", partial(data.request, config)))
                    missing.setdefault(ground, []).append(Todo(ids[key], config.data.name, method, budget, config))
    sites = [
        Site(name, tuple(missing[ground]), partial(request, any(cell.method.fits for cell in missing[ground])))
        for ground, (name, request) in found.items()
    ]
    return _LaidOut(ids, sites)


def _check(panel: str, config: Config, data: _Datasets) -> None:
    """Raise UserError for a cell that no run could have."""
    try:
        rambo.plan(config, data.problem(config)[0], "cpu")
    except UserError as error:
        raise UserError(f"panels: {panel}: {error}") from error


class _Datasets:
    """Datasets by what they depend on, read once; of each division only the fingerprints are kept."""

    def __init__(self) -> None:
        self._reader = datasets.Reader()
        self._fingerprints: dict[str, str] = {}
        self._recipes: dict[str, str] = {}
        self._last: tuple[str, tuple[Problem, Revealed | None]] | None = None

    def problem(self, config: Config) -> tuple[Problem, Revealed | None]:
        """The problem of a configuration; the last one is kept."""
        name = self._name(config)
        if self._last is None or self._last[0] != name:
            self._last = (name, self._reader.load(config.data, config.seed))
        return self._last[1]

    def fingerprint(self, config: Config) -> str:
        """Of S_0, S_val and the pool."""
        name = self._name(config)
        if name not in self._fingerprints:
            made, _ = self.problem(config)
            self._fingerprints[name] = f"{made.fingerprint} {made.pool_fingerprint}"
        return self._fingerprints[name]

    def recipe(self, config: Config) -> str:
        """The identity of f's training rule."""
        name = f"{self._name(config)} {config.classifier}"
        if name not in self._recipes:
            self._recipes[name] = rambo.recipe(config, self.problem(config)[0], "cpu").identity()
        return self._recipes[name]

    def request(self, config: Config, utility_samples: bool) -> Request:
        """The ground's request, with its images."""
        made, revealed = self.problem(config)
        return Request(config, made, revealed, utility_samples=utility_samples, outputs=True)

    def _name(self, config: Config) -> str:
        split = config.seed if config.data.split_seed is None else config.data.split_seed
        return f"{split} {config.data}"


def _write(results: Results, folder: Path, failures: list[Failure], missing: int, command: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    output = Output(folder)
    plots = benchmark_report.pictures(results)
    for name, picture in plots.items():
        (folder / f"{name}.png").write_bytes(picture)
    if results.cells:
        benchmark_results.write_cells(results, folder)
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
    stages.say(f"\n{len(results.cells)} cells finished, {duration(seconds)}; files in {folder}:")
    stages.say("  report.html  tables.md  cells.csv  cells.parquet  *.png")
