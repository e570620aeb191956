"""What a backtest would cost, in proportion to the trainings that a run's forecast has timed."""

from __future__ import annotations

from collections.abc import Sequence

from rambo_ray.acquisition.baselines.min_margin import BOOTSTRAPS
from rambo_ray.backtest.playing import DRAWN
from rambo_ray.pipeline.forecast import Probe, Stage
from rambo_ray.pipeline.plan import Plan
from rambo_ray.utility_samples.measuring import relative_cost


def stage(
    probe: Probe, todo: Plan, methods: Sequence[str], rounds: int, draws: int, k: int, validation: int, workers: int
) -> Stage:
    """The expected cost of `rounds` rounds like `todo`, each a task of its own, on so many `workers`.

    k images in S_0, `validation` in the played S_val. What a method takes to pick is small beside trainings.
    """
    config = todo.config

    def seconds(images: int) -> float:
        return probe.training_s * relative_cost(images) / relative_cost(probe.size)

    bought = k + config.acquisition.budget
    each = seconds(k) + probe.forward_s * validation
    trainings = 1
    if "rambo" in methods:
        opinions = config.utility_samples.evidence_folds if todo.mock_pool is not None else 0
        share = probe.stacked_s / probe.training_s
        each += opinions * seconds(k + round(validation * (1 - 1 / max(opinions, 1))))
        each += config.utility_samples.repeats * share * sum(seconds(s.size) for s in todo.retrained)
        trainings += opinions + len(todo.retrained) * config.utility_samples.repeats
    for method in methods:
        times = draws if method in DRAWN else 1
        each += times * seconds(bought)
        trainings += times
    if "min_margin" in methods:
        each += BOOTSTRAPS * seconds(k)
        trainings += BOOTSTRAPS
    if {"posterior_balance", "margin_accepted"} & set(methods):
        each += seconds(k + validation)
        trainings += 1
    waves = -(-rounds // workers)
    return Stage("backtest", f"{rounds} rounds x {trainings} trainings", rounds * each, waves * each)
