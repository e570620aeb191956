"""An experiment: which methods compete on which data, with which budgets and seeds.

An experiment file is YAML (`jobs/experiments/` has the paper's):

    title: Accuracy against the budget
    panels:                              # a panel is a plot of its own: one dataset, one setting
      - config: fashion_mnist.yaml       # of jobs/configs, or a path relative to this file
        set: {utility_samples.num_pairs: 60}
        name: FashionMNIST               # default: data.name
        split: redrawn                   # redrawn: each seed its own S_0, S_val, U_0; fixed: that of seed 0
        seeds: 3                         # default: those of the experiment
        paper: {500: {rambo: [83.1, 0.1]}}   # the paper's accuracies in percent, by budget and method
        paper_minutes: {utility samples: 50}
    methods: [random, margin, rambo, {name: no OT, method: rambo, set: {utility_model.lambda_ot: 0.0}}]
    budgets: [500, 1000]
    seeds: 5                             # 0 to 4; or a list
    control: margin_m_random             # what differences are taken to, beside `random`
    along: {key: data.num_labeled, label: k}   # panels that differ in this key are also drawn along it

A run is one panel, method, budget and seed: one selection, one training of f, its accuracies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from rambo_ray.acquisition.baselines import NESTED, STRATEGIES, Strategy, own
from rambo_ray.config import loading
from rambo_ray.config.explain import explain
from rambo_ray.config.schema import AcquisitionConfig, Config, Count, Repeats, Section, Seed
from rambo_ray.config.unread import unread
from rambo_ray.errors import UserError, nearest
from rambo_ray.own.names import Own

Split = Literal["redrawn", "fixed"]
Seeds = Repeats | Annotated[list[Seed], Field(min_length=1)]

# Methods that fit u_hat, those that take RAMBO's margin filter but not its choice, further ones that train
# classifiers of their own, and those that look at the truth.
PAPER = "rambo_paper"
U_HAT = ("rambo", "rambo_shuffled", PAPER)
CONTROLS = ("margin_m_random", "margin_m_balanced", "posterior_balance", "margin_accepted")
TRAINED = ("min_margin",)
ORACLE = "oracle"
CEILINGS = (ORACLE, "oracle_margin", "oracle_strategies", "oracle_balanced")
METHODS = (*STRATEGIES, *TRAINED, *CONTROLS, *U_HAT, *CEILINGS)
# What neither fits u_hat nor is a strategy, and yet looks at M or b.
FILTERED = (*CONTROLS, ORACLE, "oracle_margin", "oracle_strategies")

_NOT_A_METHODS = ("acquisition.budget", "acquisition.strategy")


def register_strategy(name: str, strategy: Strategy) -> None:
    """Let `name` mean a strategy of your own in this process; see `acquisition.baselines.own.register`."""
    own.register(name, strategy, frozenset(METHODS))


class MethodEntry(Section):
    """A method under a name of its own, with settings of its own."""

    name: str
    method: str
    set: dict[str, Any] = Field(default_factory=dict)


class PanelEntry(Section):
    """One dataset in one setting."""

    config: str
    set: dict[str, Any] = Field(default_factory=dict)
    name: str | None = None
    split: Split = "redrawn"
    seeds: Seeds | None = None
    paper: dict[int, dict[str, Annotated[list[float], Field(min_length=2, max_length=2)]]] = Field(default_factory=dict)
    paper_minutes: dict[str, float] = Field(default_factory=dict)


class Along(Section):
    """The key that panels differ in, and what the plot calls it."""

    key: str
    label: str


class ExperimentFile(Section):
    """A whole experiment file."""

    title: str
    note: str = ""
    panels: Annotated[list[PanelEntry], Field(min_length=1)]
    methods: Annotated[list[str | MethodEntry], Field(min_length=1)]
    budgets: Annotated[list[Count], Field(min_length=1)]
    seeds: Seeds = 10
    control: str = "margin_m_random"
    along: Along | None = None


@dataclass(frozen=True)
class Method:
    """A competitor: its name in tables, what it is (one of METHODS), keys of the configuration it sets.

    own: the strategy where it is the user's, whatever its kind is called.
    """

    name: str
    kind: str
    values: Mapping[str, Any]
    own: Own | None = None

    def __post_init__(self) -> None:
        if self.own is None and self.kind not in METHODS:  # found here, as a worker knows no registered names
            object.__setattr__(self, "own", own.find(self.kind))

    @property
    def fits(self) -> bool:
        """Whether it fits u_hat, and so needs utility samples."""
        return self.kind in U_HAT


@dataclass(frozen=True)
class Panel:
    """One dataset in one setting, on its own seeds.

    paper: the paper's [mean, standard error] in percent, by budget and method.
    """

    name: str
    config: Config
    split: Split
    paper: Mapping[int, Mapping[str, tuple[float, float]]]
    paper_minutes: Mapping[str, float]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Experiment:
    """A checked experiment; seeds: those of any panel."""

    name: str
    title: str
    note: str
    panels: tuple[Panel, ...]
    methods: tuple[Method, ...]
    budgets: tuple[int, ...]
    seeds: tuple[int, ...]
    control: str
    along: Along | None

    def config(self, panel: Panel, method: Method, budget: int, seed: int) -> Config:
        """The configuration of a run."""
        values = {**method.values, "seed": seed, "acquisition.budget": budget}
        if method.kind == PAPER:  # with as many pairs as the others have
            values = {"method": "paper", "utility_samples.num_pairs": panel.config.utility_samples.num_pairs, **values}
        if panel.split == "fixed":
            values["data.split_seed"] = 0
        return loading.with_values(panel.config, values)


def load(
    path: Path,
    configs: Path,
    overrides: Sequence[str] = (),
    num_seeds: int | None = None,
    only_budgets: Sequence[int] | None = None,
) -> Experiment:
    """The experiment in the file `path`; raises UserError, one line, for the first thing that is wrong.

    configs: the folder where a panel's configuration is looked for, before the experiment's own.
    overrides change every panel's configuration; num_seeds takes only the first so many seeds, only_budgets
    some of the budgets.
    """
    where = f"--experiment {path.stem}"
    try:
        content = ExperimentFile.model_validate(loading.read_yaml(path, "--experiment"))
    except ValidationError as error:
        raise UserError(f"{where}: {explain(error, ExperimentFile)}") from error
    try:
        return _checked(path, content, configs, overrides, num_seeds, only_budgets)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _checked(
    path: Path,
    content: ExperimentFile,
    configs: Path,
    overrides: Sequence[str],
    num_seeds: int | None,
    only_budgets: Sequence[int] | None,
) -> Experiment:
    methods = tuple(_method(entry) for entry in content.methods)
    _once("methods", [method.name for method in methods])
    names = [method.name for method in methods]
    if content.control not in names:
        hint = nearest(content.control, names)
        raise UserError(f"control={content.control}: must be one of this experiment's methods; {hint}")
    panels = tuple(_panel(entry, path.parent, configs, overrides, content.seeds) for entry in content.panels)
    _once("panels", [panel.name for panel in panels])
    budgets = tuple(sorted(content.budgets))
    _once("budgets", budgets)
    for budget in only_budgets or ():
        if budget not in budgets:
            raise UserError(f"--budgets {budget}: must be of {', '.join(map(str, budgets))}, the budgets that it has")
    most = max(len(panel.seeds) for panel in panels)
    if num_seeds is not None and not 1 <= num_seeds <= most:
        raise UserError(f"--seeds {num_seeds}: must be 1 to {most}, the seeds that it has; give one of these")
    panels = tuple(replace(panel, seeds=panel.seeds[:num_seeds]) for panel in panels)
    made = Experiment(
        name=path.stem,
        title=content.title,
        note=content.note,
        panels=panels,
        methods=methods,
        budgets=budgets if only_budgets is None else tuple(sorted(set(only_budgets))),
        seeds=tuple(dict.fromkeys(seed for panel in panels for seed in panel.seeds)),
        control=content.control,
        along=content.along,
    )
    if content.along is not None and (key := content.along.key) not in loading.dotted_keys():
        raise UserError(f"along.key={key}: unknown key; {nearest(key, loading.dotted_keys())}")
    for panel in panels:
        for budget, known in panel.paper.items():
            for name in known:
                if name not in names or budget not in budgets:
                    raise UserError(f"panels: {panel.name}: paper: {budget}: {name}: no such budget and method here")
        for method in methods:
            for budget in budgets:
                config = made.config(panel, method, budget, panel.seeds[0])  # raises UserError for what cannot be
                ignored = unread(config) if method.fits else {}
                for key in method.values:
                    if key in ignored:
                        raise UserError(f"methods: {method.name}: {key}: is {ignored[key]}")
    return made


def _method(entry: str | MethodEntry) -> Method:
    name, kind, values = (entry, entry, {}) if isinstance(entry, str) else (entry.name, entry.method, entry.set)
    if kind not in METHODS and own.find(kind) is None:
        raise UserError(
            f"methods: {kind}: no such method; {nearest(kind, (*METHODS, *own.registered()))} (or give "
            "package.module:function of your own)"
        )
    for key in values:
        if key not in loading.dotted_keys():
            raise UserError(f"methods: {name}: {key}: unknown key; {nearest(key, loading.dotted_keys())}")
        if not key.startswith(("utility_model.", "acquisition.")) or key in _NOT_A_METHODS:
            raise UserError(
                f"methods: {name}: {key}: a method may set keys of utility_model and acquisition, budget and strategy "
                "aside; "
                "set what concerns all methods in the panel"
            )
    return Method(name, kind, values)


def _panel(entry: PanelEntry, beside: Path, configs: Path, overrides: Sequence[str], default: int | list[int]) -> Panel:
    found = next((p for p in (configs / entry.config, beside / entry.config) if p.is_file()), None)
    if found is None:
        where = " or ".join(str(folder) for folder in dict.fromkeys((configs, beside)))
        raise UserError(f"panels: config={entry.config}: no such file in {where}; give the path of a YAML file")
    content = loading.with_keys(loading.read_yaml(found), entry.set)
    # What neither the file nor the panel nor the command says is decided by the method, so by all of them together.
    config = loading.parse(loading.apply_overrides(content, overrides))
    if (strategy := config.acquisition.strategy) != "rambo":
        raise UserError(
            f"panels: acquisition.strategy={strategy}: an experiment's methods say who picks; leave the key out and "
            f"list {strategy} under methods"
        )
    if config.data.name == "own":
        raise UserError(f"panels: config={entry.config}: data.name=own: has no labels of the pool; give a benchmark")
    paper = {
        budget: {name: (pair[0], pair[1]) for name, pair in known.items()} for budget, known in entry.paper.items()
    }
    wanted = default if entry.seeds is None else entry.seeds
    seeds = tuple(wanted) if isinstance(wanted, list) else tuple(range(wanted))
    _once("seeds", seeds)
    return Panel(entry.name or config.data.name, config, entry.split, paper, entry.paper_minutes, seeds)


def _once(what: str, values: Sequence[Any]) -> None:
    double = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if double is not None:
        raise UserError(f"{what}: {double}: occurs twice; keep one, or give it another name")


def is_nested(kind: str, ask: AcquisitionConfig, budgets: Sequence[int]) -> bool:
    """Whether what a method picks for the largest of `budgets`, in order, begins with what it picks for the others.

    True of RAMBO and of all that acquires in its steps as long as no budget cuts a batch short.
    """
    if kind not in METHODS:  # the user's own may do for each budget what it likes
        return len(budgets) == 1
    if kind in STRATEGIES:
        return kind in NESTED
    if kind in (*TRAINED, "oracle_balanced"):
        return True
    if kind in ("margin_accepted", "oracle_margin"):  # where they are short of images, B decides which they add
        return len(budgets) == 1
    if kind in ("margin_m_balanced", "posterior_balance"):
        return budgets[-1] <= ask.margin_pool
    if kind in U_HAT and ask.candidates in ("strategies", "mixed"):  # what strategies propose depends on B
        return len(budgets) == 1
    return all(budget % ask.batch_size == 0 for budget in budgets[:-1])
