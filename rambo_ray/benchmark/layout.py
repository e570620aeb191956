"""Which runs an experiment consists of, and which of them are to be computed: a group per prepared problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rambo_ray.benchmark.experiment import Experiment, Method
from rambo_ray.benchmark.runs import RunStore, run_id
from rambo_ray.config.schema import Config
from rambo_ray.data import datasets
from rambo_ray.data.problem import Problem, Revealed
from rambo_ray.errors import UserError
from rambo_ray.pipeline import fitted, once, plan
from rambo_ray.pipeline.fitted import Sizes
from rambo_ray.pipeline.prepared import Request, prepared_key

Key = tuple[str, str, int, int]  # panel, method, budget, seed


@dataclass(frozen=True)
class PendingRun:
    """A run that is not finished yet."""

    run_id: str
    data: str
    method: Method
    budget: int
    config: Config


@dataclass(frozen=True)
class RunGroup:
    """A problem to be prepared, under its name, and the runs on it; `request` reads its images."""

    name: str
    runs: tuple[PendingRun, ...]
    request: Callable[[], Request]


@dataclass(frozen=True)
class Layout:
    """The ids of all runs, and the groups of those that are missing; said: what their plans say, by panel."""

    ids: dict[Key, str]
    groups: list[RunGroup]
    said: tuple[str, ...]


def lay_out(wanted: Experiment, store: RunStore) -> Layout:
    """Every run's id, and a group per prepared problem for those that are not in `store`; checks all of them.

    A dataset is read once, whatever the number of seeds; a problem is divided again when its turn comes.
    """
    data = _Datasets()
    ids: dict[Key, str] = {}
    missing: dict[str, list[PendingRun]] = {}
    found: dict[str, tuple[str, Callable[[bool], Request]]] = {}
    checked: set[str] = set()
    said: dict[str, None] = {}
    for seed in wanted.seeds:
        for panel in wanted.panels:
            if seed not in panel.seeds:
                continue
            if panel.config.classifier.precision == "auto":
                raise UserError(
                    f"panels: {panel.name}: classifier.precision=auto: depends on the machine, but runs of several "
                    "machines stand side by side; set classifier.precision=float32 (or bfloat16)"
                )
            first, arithmetic = wanted.panels[0], panel.config.cluster.reproducible
            if arithmetic != first.config.cluster.reproducible:
                raise UserError(
                    f"panels: {panel.name}: cluster.reproducible={arithmetic}: one command computes in one arithmetic, "
                    f"and {first.name} has {first.config.cluster.reproducible}; give all panels the same"
                )
            for method in wanted.methods:
                for budget in wanted.budgets:
                    raw = wanted.config(panel, method, budget, seed)
                    config = data.fitted(raw, panel.name)
                    prepared = prepared_key(config)
                    look = f"{prepared} {method.name if method.fits else ''}"
                    if budget == wanted.budgets[-1] and look not in checked:
                        checked.add(look)
                        said.update(dict.fromkeys(_check(panel.name, raw, data)))
                    key = (panel.name, method.name, budget, seed)
                    ids[key] = run_id(config, method, data.fingerprint(config), data.training(config))
                    if ids[key] in store.runs or any(t.run_id == ids[key] for t in missing.get(prepared, [])):
                        continue
                    found.setdefault(prepared, (f"{panel.name}, seed {seed}", partial(data.request, config)))
                    missing.setdefault(prepared, []).append(
                        PendingRun(ids[key], config.data.name, method, budget, config)
                    )
    groups = [
        RunGroup(name, tuple(missing[prepared]), partial(request, any(run.method.fits for run in missing[prepared])))
        for prepared, (name, request) in found.items()
    ]
    return Layout(ids, groups, tuple(said))


def _check(panel: str, config: Config, data: _Datasets) -> list[str]:
    """What the plan of such a run says. Raises UserError for what no run could be made of."""
    try:
        return [f"{panel}: {line}" for line in plan.make(config, data.problem(config)[0]).said]
    except UserError as error:
        raise UserError(f"panels: {panel}: {error}") from error


class _Datasets:
    """Datasets by what they depend on, read once; of each division only the fingerprints are kept."""

    def __init__(self) -> None:
        self._reader = datasets.Reader()
        self._fingerprints: dict[str, str] = {}
        self._training: dict[str, str] = {}
        self._sizes: dict[str, Sizes] = {}
        self._last: tuple[str, tuple[Problem, Revealed | None]] | None = None

    def problem(self, config: Config) -> tuple[Problem, Revealed | None]:
        """The problem of a configuration; the last one is kept."""
        name = self._name(config)
        if self._last is None or self._last[0] != name:
            self._last = (name, once.thinned(config, *self._reader.load(config.data, config.seed)))
        return self._last[1]

    def fitted(self, config: Config, panel: str) -> Config:
        """`config` with defaults that fit its data. Raises UserError, which names the `panel`, where none do."""
        name = self._name(config)
        if name not in self._sizes:
            self._sizes[name] = Sizes.of(self.problem(config)[0])
        try:
            return fitted.fit(config, self._sizes[name]).config
        except ValueError as error:
            raise UserError(f"panels: {panel}: {error}") from error

    def fingerprint(self, config: Config) -> str:
        """Of S_0, S_val and the pool."""
        name = self._name(config)
        if name not in self._fingerprints:
            made, _ = self.problem(config)
            self._fingerprints[name] = f"{made.fingerprint} {made.pool_fingerprint}"
        return self._fingerprints[name]

    def training(self, config: Config) -> str:
        """The identity of f's training rule."""
        name = f"{self._name(config)} {config.classifier}"
        if name not in self._training:
            self._training[name] = plan.training_settings(config, self.problem(config)[0]).identity()
        return self._training[name]

    def request(self, config: Config, utility_samples: bool) -> Request:
        """What is to be prepared for a group of runs, with its images."""
        made, revealed = self.problem(config)
        todo = plan.make(config, made)
        return Request(todo if utility_samples else todo.without_samples(), made, revealed, outputs=True)

    def _name(self, config: Config) -> str:
        split = config.seed if config.data.split_seed is None else config.data.split_seed
        return f"{split} {config.data} {once.key(config)}"
