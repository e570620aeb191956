"""What each competitor of a benchmark picks from one prepared pool, in one process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from rambo_ray import seeds
from rambo_ray.acquisition import controls
from rambo_ray.acquisition.baselines import STRATEGIES, own
from rambo_ray.benchmark.experiment import ORACLE, Method
from rambo_ray.benchmark.rivals import RIVALS
from rambo_ray.config.schema import Config
from rambo_ray.pipeline import judging
from rambo_ray.pipeline.judging import AnyFit, AnyInput
from rambo_ray.pipeline.prepared import PreparedProblem, acquire, retrain
from rambo_ray.utility_model.ranking import RankingQuality


def pick(
    prepared: PreparedProblem, method: Method, config: Config, fit: Callable[[AnyInput], AnyFit], device: str
) -> tuple[np.ndarray, RankingQuality, float]:
    """Positions [B] in the pool, in the order picked; how u_hat ranks (NaN without one), seconds of its fit.

    Raises ValueError for a method that picks an image twice or not B of them.
    """
    ranking, fit_seconds = RankingQuality(math.nan, math.nan, 0, 0), 0.0
    if method.fits:
        began = time.monotonic()
        task = prepared.fit_input(config)
        model = fit(controls.shuffled(task, config.seed) if method.kind == "rambo_shuffled" else task).model()
        fit_seconds = time.monotonic() - began
        ranking = prepared.ranking(model, config.seed)
        # What shuffled utilities are worth is to be seen, so that u_hat is always followed.
        if method.kind != "rambo_shuffled" and judging.follows_filter(config, ranking):
            positions = controls.margin_m_random(prepared.margins, config.acquisition, config.seed)
        else:
            positions = acquire(config, prepared, model, device).pool_index
    else:
        positions = _without_u_hat(prepared, method, config, device)
    budget, different = config.acquisition.budget, len(np.unique(positions))
    if len(positions) != budget or different != budget:
        raise ValueError(f"{method.name}: {different} different images for a budget of {budget}")
    return positions, ranking, fit_seconds


def _without_u_hat(prepared: PreparedProblem, method: Method, config: Config, device: str) -> np.ndarray:
    assert prepared.strategy_inputs is not None
    ask, kind = config.acquisition, method.kind
    generator = seeds.generator(config.seed, "baseline", seeds.index_of(kind))
    if method.own is not None:
        return own.pick(method.own, prepared.strategy_inputs, ask.budget, generator)
    if kind in STRATEGIES:
        return STRATEGIES[kind](prepared.strategy_inputs, ask.budget, generator)
    if kind == "margin_m_random":
        return controls.margin_m_random(prepared.margins, ask, config.seed)
    if kind == "margin_m_balanced":
        return controls.margin_m_balanced(prepared.strategy_inputs.logits, prepared.margins, ask, config.seed)
    if kind in RIVALS:
        return RIVALS[kind](prepared, config, device)
    assert kind == ORACLE
    final = seeds.integer(config.seed, "final_classifier")

    def accuracy_of(positions: np.ndarray) -> float:
        return retrain(prepared, positions, final, device).accuracy["validation"]

    return controls.oracle(prepared.margins, ask, config.seed, accuracy_of)
