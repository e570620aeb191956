"""Small fits of u_hat that tests share, and their states."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from rambo_ray.config.schema import UtilityModelConfig
from rambo_ray.utility_model.fitting import FitInput, FitResult, fit
from rambo_ray.utility_model.objective import Pairs


def draw_pairs(count: int, k: int, low: int, high: int, generator: np.random.Generator) -> list[tuple[Any, Any]]:
    def subset(d: int) -> tuple[int, ...]:
        return tuple(sorted(generator.choice(k, d, replace=False).tolist()))

    return [(subset(d), subset(d)) for d in generator.integers(low, high, count).tolist()]


def pairs_of(drawn: list[tuple[Any, Any]], value: np.ndarray) -> Pairs:
    """Pairs whose utility is the mean of `value` over the subset, and whose OTDD falls with it."""
    utility = np.array([[value[list(s)].mean() for s in pair] for pair in drawn])
    first, second = (tuple(pair[i] for pair in drawn) for i in range(2))
    return Pairs(first, second, utility, 3.0 - utility)


def task_of(inputs: np.ndarray, offline: Pairs, **keys: Any) -> FitInput:
    everything = (tuple(range(len(inputs))),)
    return FitInput(inputs, offline, everything, (0.5,), (), UtilityModelConfig(**keys), seed=0)


def pretraining_task(seed: int = 3, **keys: Any) -> FitInput:
    """A small fit with tau_1 = 2: 16 images, S_0 of 8, 12 and 16."""
    generator = np.random.default_rng(0)
    k, unknown = 16, np.full(16, np.nan)
    interpolation = tuple(pairs_of(draw_pairs(4, size, 2, size, generator), unknown) for size in (8, 12))
    return FitInput(
        images=generator.normal(size=(k, 1, 8, 8)).astype(np.float32),
        offline=pairs_of(draw_pairs(13, k, 3, k, generator), generator.normal(size=k)),
        nested_sets=(tuple(range(8)), tuple(range(12)), tuple(range(16))),
        nested_utilities=(0.2, 0.5, 0.6),
        interpolation=tuple(replace(p, otdd=np.ones((4, 2))) for p in interpolation),
        config=UtilityModelConfig(**{"outer_epochs": 3, "inner_steps": 3, "channels": 4, **keys}),
        seed=seed,
    )


def bytes_of(state: dict[str, Any]) -> bytes:
    """A state as torch.save writes it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


class States:
    """A `report` that keeps every state, as the objects themselves and as torch.save writes them."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []
        self.live: list[dict[str, Any]] = []
        self.written: list[bytes] = []

    def __call__(self, metrics: Mapping[str, float], state: Any) -> None:
        self.metrics.append(dict(metrics))
        self.live.append(state())
        self.written.append(bytes_of(state()))


@functools.cache
def whole_fit(**keys: Any) -> tuple[FitResult, States]:
    """The fit of `pretraining_task(**keys)` and what it reported: once for all tests that compare with it."""
    torch.manual_seed(2)
    np.random.seed(2)
    states = States()
    return fit(pretraining_task(**keys), report=states), states


def assert_same_bits(one: FitResult, other: FitResult) -> None:
    assert one.weights.keys() == other.weights.keys()
    for name, weight in one.weights.items():
        assert np.array_equal(weight, other.weights[name]), name
    assert (one.lambdas, one.history, one.scale) == (other.lambdas, other.history, other.scale)
    assert len(one.interpolated) == len(other.interpolated)
    assert all(np.array_equal(a, b) for a, b in zip(one.interpolated, other.interpolated, strict=True))
