"""Strategies of a user's own, by a name that they register or by `package.module:function`.

They take part in benchmarks and backtests like the published ones. The batches that û is offered
(`acquisition.proposals`) stay those of the published ones, so that registering a strategy changes no selection.
"""

from __future__ import annotations

import inspect

import numpy as np

from rambo_ray.acquisition.baselines.inputs import Strategy, StrategyInputs
from rambo_ray.errors import UserError
from rambo_ray.own import names
from rambo_ray.own.names import Own, in_one_line

KEY = "methods"

_registered: dict[str, Own] = {}


def register(name: str, strategy: Strategy, taken: frozenset[str] = frozenset()) -> None:
    """Let `name` mean a strategy in this process: as a method of experiments and backtests.

    strategy: a callable (StrategyInputs, budget, generator) that returns `budget` distinct positions in the pool in
    the order picked, and draws from nothing but the generator. Raises UserError for a name that is `taken` or holds
    a colon, and for what cannot be called or sent to a worker.
    """
    if name in taken or not name or ":" in name:
        rule = "is one of this package's methods" if name in taken else "must be a word without a colon"
        raise UserError(f"{KEY}: {name}: {rule}; give your strategy another name")
    if not callable(strategy):
        raise UserError(f"{KEY}: {name}: a {type(strategy).__name__}; must be callable as (inputs, budget, generator)")
    _registered[name] = names.find(names.given(strategy), KEY, (), "strategy")


def registered() -> tuple[str, ...]:
    """The names that were registered."""
    return tuple(_registered)


def find(name: str, key: str = KEY) -> Own | None:
    """The user's strategy that `name` means as the value of `key`, None where it has no colon and was not registered.

    Raises UserError for what cannot be imported, or called as strategies are.
    """
    if name in _registered:
        return _registered[name]
    if ":" not in name:
        return None
    found = names.find(name, key, (), "strategy")
    try:
        inspect.signature(names.loaded(name, found.pickled, key, (), "strategy")).bind("inputs", "budget", "generator")
    except TypeError as error:
        raise UserError(
            f"{key}={name}: {in_one_line(error)}; must be callable as (inputs, budget, generator) and return positions"
        ) from error
    except ValueError:  # of a function in C nobody knows
        pass
    return found


def pick(own: Own, inputs: StrategyInputs, budget: int, generator: np.random.Generator) -> np.ndarray:
    """What the user's strategy picks, int64 [B]. Raises ValueError where that is no B positions in the pool."""
    strategy = names.loaded(own.name, own.pickled, KEY, (), "strategy")
    found = np.asarray(strategy(inputs, budget, generator))
    if found.shape != (budget,) or found.dtype.kind not in "iu":
        raise ValueError(f"{own.name}: returned {found.dtype} {found.shape}; must be {budget} positions in the pool")
    if len(found) and not 0 <= found.min() <= found.max() < len(inputs):
        raise ValueError(f"{own.name}: position {found.min()} or {found.max()} is not in the pool of {len(inputs)}")
    return found.astype(np.int64)
