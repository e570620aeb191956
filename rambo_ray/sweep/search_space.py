"""The space of a sweep: which keys of the configuration vary, how they are drawn, how points are judged.

A space file is YAML:

    keys:                                     # any key that changes a result, by its dotted path
      utility_model.lambda_ot: {grid: [0, 0.1, 1]}          # each of these values
      acquisition.batch_size: {randint: [10, 100], step: 10}   # a whole number, both ends included
    seeds: 3                                  # the base's seed and the two after it; or a list
    search: {method: grid, samples: 20}

Kinds of a key: grid, choice (one of a list), uniform, loguniform, randint ([low, high]; `step` rounds
to its multiples), remainder ({of: 700, minus: data.num_labeled}: what another key of the space leaves
of a total). Methods: grid (every combination of the grids, times `samples` draws where a key is drawn),
random (`samples` draws), optuna (`samples` suggestions by its TPE). The other sections are the classes
below. All points that can be known are checked against the configuration before anything starts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from rambo_ray import seeds
from rambo_ray.config import loading
from rambo_ray.config.explain import explain
from rambo_ray.config.schema import Config, Count, CountOrNone, CountOrZero, NonNegative, Repeats, Section, Seed
from rambo_ray.config.unread import unread
from rambo_ray.errors import UserError, nearest

Range = Annotated[list[float], Field(min_length=2, max_length=2)]
Share = Annotated[float, Field(gt=0, lt=1)]
Values = Annotated[list[Any], Field(min_length=1)]

# Not settings of the method: where and on what it runs, and the seeds, which have their own section.
_FIXED = ("seed", "acquisition.strategy", "cluster.", "output.", "data.name", "data.root", "data.download",
          "data.labeled", "data.validation", "data.pool")  # fmt: skip
_FREE = ("data.pool_limit",)
_CORNERS = 6  # dimensions whose extremes are all checked together before a search


class Remainder(Section):
    """What `minus`, another key of the space, leaves of a total of `of`."""

    of: Count
    minus: str


class Dimension(Section):
    """How one key varies; exactly one kind, and `step` where a number is drawn."""

    grid: Values | None = None
    choice: Values | None = None
    uniform: Range | None = None
    loguniform: Range | None = None
    randint: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None
    remainder: Remainder | None = None
    step: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _kind(self) -> Dimension:
        kinds = [name for name in KINDS if getattr(self, name) is not None]
        if len(kinds) != 1:
            raise ValueError(f"has {' and '.join(kinds) or 'no kind'}: give exactly one of {', '.join(KINDS)}")
        values = self.grid or self.choice
        if values is not None and any(a == b and type(a) is type(b) for a, b in itertools.combinations(values, 2)):
            raise ValueError(f"{self.kind}={values}: holds a value twice; keep one")
        if self.ends is not None and not self.ends[0] < self.ends[1]:
            raise ValueError(f"{self.kind}={list(self.ends)}: low must be below high")
        if self.loguniform is not None and self.loguniform[0] <= 0:
            raise ValueError(f"loguniform={self.loguniform}: low must be above 0; give 0 as a value of a grid")
        if self.step is not None and self.ends is None:
            raise ValueError(f"step={self.step:g}: only rounds uniform, loguniform and randint; leave it out")
        return self

    @property
    def kind(self) -> str:
        """The name of its kind."""
        return next(name for name in KINDS if getattr(self, name) is not None)

    @property
    def ends(self) -> Sequence[float] | None:
        """[low, high] where a number is drawn."""
        return self.uniform or self.loguniform or self.randint

    @property
    def drawn(self) -> bool:
        """Whether its values are drawn rather than listed or computed."""
        return self.kind in ("choice", "uniform", "loguniform", "randint")

    def draw(self, generator: np.random.Generator) -> Any:
        """One value of a drawn dimension."""
        if self.choice is not None:
            return self.choice[int(generator.integers(len(self.choice)))]
        assert self.ends is not None
        low, high = self.ends
        if self.randint is not None:
            value = float(generator.integers(int(low), int(high) + 1))
        elif self.loguniform is not None:
            value = math.exp(generator.uniform(math.log(low), math.log(high)))
        else:
            value = generator.uniform(low, high)
        return self.rounded(value)

    def rounded(self, value: float) -> Any:
        """`value` as the key takes it: on a multiple of `step` between the ends, whole for randint."""
        if self.step is not None:
            assert self.ends is not None
            low, high = (math.ceil(self.ends[0] / self.step), math.floor(self.ends[1] / self.step))
            value = min(max(round(value / self.step), low), high) * self.step
        return int(value) if self.randint is not None else float(value)

    def extremes(self) -> list[Any]:
        """The values that a check of a search looks at."""
        if self.choice is not None:
            return list(self.choice)
        assert self.ends is not None
        return [self.rounded(float(end)) for end in self.ends]


KINDS = ("grid", "choice", "uniform", "loguniform", "randint", "remainder")


_MOST_POINTS = 100_000


class Search(Section):
    """How points are chosen."""

    method: Literal["grid", "random", "optuna"] = "grid"
    samples: CountOrNone = None


class Scheduler(Section):
    """Whether trials that fall behind end early, judged by u_hat's ranking of D_val after outer epochs."""

    name: Literal["none", "asha", "median"] = "none"
    grace: Count = Field(10, description="outer epochs before a trial may be ended")
    reduction: Annotated[int, Field(ge=2)] = Field(3, description="asha keeps one in this many")


class ObjectiveWeights(Section):
    """Weights of what is maximised: accuracy after the simulated acquisition, and u_hat's held-out ranking."""

    simulated: NonNegative = 1.0
    ranking: NonNegative = 0.1


class Simulation(Section):
    """Acquisition inside S_0: folds, the share of labels each sees, and the share of the rest it acquires."""

    folds: Repeats = 2
    visible: Share = 0.5
    budget: Share = 0.2


class Space(Section):
    """A whole space file."""

    keys: Annotated[dict[str, Dimension], Field(min_length=1)]
    seeds: Repeats | Annotated[list[Seed], Field(min_length=1)] = 3
    search: Search = Field(default_factory=Search)
    scheduler: Scheduler = Field(default_factory=Scheduler)  # type: ignore[arg-type]
    objective: ObjectiveWeights = Field(default_factory=ObjectiveWeights)
    simulation: Simulation = Field(default_factory=Simulation)
    num_workers: CountOrZero = 0
    max_concurrent: CountOrNone = None

    def seed_list(self, base: Config) -> list[int]:
        """The seeds that every point is evaluated with."""
        return list(self.seeds) if isinstance(self.seeds, list) else [base.seed + i for i in range(self.seeds)]


def load(path: str | Path, base: Config) -> Space:
    """The space in `path`, checked together with the configuration it varies; raises UserError, one line."""
    content = loading.read_yaml(path, "--space")
    try:
        space = Space.model_validate(content)
    except ValidationError as error:
        raise UserError(f"--space {path}: {explain(error, Space)}") from error
    try:
        _check(space, base)
    except UserError as error:
        raise UserError(f"--space {path}: {error}") from error
    return space


def points(space: Space, base: Config) -> list[dict[str, Any]]:
    """All points of a grid or random search, values by dotted key; none for optuna, whose points come later.

    Draw i depends on the base's seed and i alone, so that more samples extend fewer. Every point is
    checked: raises UserError for one that no run could have.
    """
    if space.search.method == "optuna":
        return []
    grids = {key: d.grid for key, d in space.keys.items() if d.grid is not None}
    drawn = {key: d for key, d in space.keys.items() if d.drawn}
    found: list[dict[str, Any]] = []
    count = math.prod(map(len, grids.values())) * ((space.search.samples or 1) if drawn else 1)
    if count > _MOST_POINTS:
        raise UserError(
            f"keys: {' x '.join(grids) or 'search.samples'} makes {count:,} points, must be at most "
            f"{_MOST_POINTS:,}; list fewer values, or draw some by search.method=random"
        )
    for i in range((space.search.samples or 1) if drawn else 1):
        generator = seeds.generator(base.seed, "search", i)
        draws = {key: d.draw(generator) for key, d in drawn.items()}
        for listed in itertools.product(*grids.values()):
            point = complete(space, {**dict(zip(grids, listed, strict=True)), **draws})
            if point not in found:
                configure(base, point, base.seed)
                found.append(point)
    return found


def complete(space: Space, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """A point's values in the order of the space, with the remainders that follow from the others."""
    values = dict(chosen)
    for key, dimension in space.keys.items():
        if dimension.remainder is not None:
            values[key] = dimension.remainder.of - values[dimension.remainder.minus]
    return {key: values[key] for key in space.keys}


def configure(base: Config, values: Mapping[str, Any], seed: int) -> Config:
    """`base` with a point's values and a seed, checked whole; raises UserError naming the point."""
    try:
        return loading.with_values(base, {"seed": seed, **values})
    except UserError as error:
        named = ", ".join(f"{key}={value}" for key, value in values.items())
        raise UserError(f"the point {named} cannot be run: {error}") from error


def _check(space: Space, base: Config) -> None:
    if (strategy := base.acquisition.strategy) != "rambo":
        raise UserError(f"acquisition.strategy={strategy}: a sweep tries settings of RAMBO; leave the key out")
    known = loading.dotted_keys()
    method = space.search.method
    ignored = unread(base)
    for key, dimension in space.keys.items():
        if key not in known:
            raise UserError(f"keys: {key}: unknown key of the configuration; {nearest(key, known)}")
        if key.startswith(_FIXED) and key not in _FREE:
            remedy = "list several under 'seeds'" if key == "seed" else "set it with --config, not in a space"
            raise UserError(f"keys: {key}: is not a setting that a sweep varies; {remedy}")
        if key in ignored and ignored[key].decides not in space.keys and "method" not in space.keys:
            raise UserError(f"keys: {key}: is {ignored[key]}, or leave it out of the space")
        if dimension.grid is not None and method != "grid":
            raise UserError(f"keys: {key}: grid={dimension.grid}: search.method={method} draws values; write 'choice'")
        if method == "optuna" and loading.needs_retraining(key):
            raise UserError(
                f"keys: {key}: search.method=optuna would retrain all utility samples for each suggestion; use "
                "grid or random, whose points share theirs"
            )
        if dimension.remainder is not None:
            other = space.keys.get(dimension.remainder.minus)
            if other is None or other.remainder is not None:
                raise UserError(
                    f"keys: {key}: remainder.minus={dimension.remainder.minus}: must be a key of this space that "
                    f"is no remainder; {nearest(dimension.remainder.minus, space.keys)}"
                )
        if key == "data.num_labeled" and base.data.name == "own":
            raise UserError("keys: data.num_labeled: not read where data.name=own; leave it out")
        if dimension.step is not None and dimension.ends is not None:
            low, high = dimension.ends
            if math.ceil(low / dimension.step) > math.floor(high / dimension.step):
                raise UserError(f"keys: {key}: no multiple of step={dimension.step:g} in [{low:g}, {high:g}]")
    draws = any(d.drawn for d in space.keys.values())
    if space.search.samples is None and (method != "grid" or draws):
        raise UserError(f"search.samples=null: search.method={method} with drawn keys needs it; say how many")
    if method != "grid" and not draws:
        raise UserError(f"search.method={method}: no key is drawn; use method grid")
    if len(set(space.seed_list(base))) != len(space.seed_list(base)):
        raise UserError(f"seeds={space.seeds}: holds a seed twice; keep one")
    if space.objective.simulated == 0 and space.objective.ranking == 0:
        raise UserError("objective: both weights are 0; give one of simulated and ranking a weight")
    # Held-out mock rounds are dealt over four groups, and only those of one group are comparable.
    least = 5 if base.utility_samples.source == "mock_rounds" else 2
    if space.objective.ranking > 0 and base.utility_samples.num_held_out < least:
        raise UserError(
            f"objective.ranking={space.objective.ranking:g}: is judged on held-out sets, but the configuration has "
            f"utility_samples.num_held_out={base.utility_samples.num_held_out}; set it to {least} or more, or set "
            "objective.ranking=0"
        )
    quadratic = base.utility_model.architecture == "quadratic"
    if space.scheduler.name != "none" and quadratic and not {"method", "utility_model.architecture"} & set(space.keys):
        raise UserError(
            f"scheduler.name={space.scheduler.name}: looks at u_hat after outer epochs, and "
            "utility_model.architecture=quadratic has none; set scheduler.name=none"
        )
    if space.num_workers and base.utility_model.shards % space.num_workers:
        raise UserError(
            f"num_workers={space.num_workers}: must divide utility_model.shards={base.utility_model.shards}, so that "
            f"sums do not depend on the workers; set utility_model.shards={space.num_workers}"
        )
    points(space, base)
    if method == "optuna":
        _check_corners(space, base)


def _check_corners(space: Space, base: Config) -> None:
    drawn = {key: d for key, d in space.keys.items() if d.drawn}
    first = {key: d.extremes()[0] for key, d in drawn.items()}
    corners = itertools.islice(itertools.product(*(d.extremes() for d in drawn.values())), 4**_CORNERS)
    for corner in [*corners, *([first[k] if k != key else e for k in first] for key, d in drawn.items()
                               for e in d.extremes())]:  # fmt: skip
        configure(base, complete(space, dict(zip(drawn, corner, strict=True))), base.seed)
