"""`rambo plan`: what a run, and a backtest before it, would cost on this machine or cluster."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from rambo_ray.acquisition.baselines import own
from rambo_ray.annotation import rounds
from rambo_ray.cli import backtest
from rambo_ray.cli.described import describe, describe_cluster
from rambo_ray.cli.entry import shown
from rambo_ray.cli.next_round import configuration
from rambo_ray.cluster import fit, probe
from rambo_ray.cluster.session import connect
from rambo_ray.config.schema import Config, is_head
from rambo_ray.data import memory
from rambo_ray.data.problem import LabeledArrays, Problem, Revealed
from rambo_ray.errors import UserError
from rambo_ray.pipeline import choices, forecast, once, plan
from rambo_ray.progress import Stages, duration


def called(parsed: argparse.Namespace) -> int:
    """The command `plan`; returns its exit code."""
    if parsed.folds < 0:
        raise UserError(f"--folds {parsed.folds}: must not be negative; give the rounds of a backtest, or 0 for none")
    config = configuration(parsed)
    with shown(parsed, config.output.progress_seconds) as stages:
        forecast_costs(config, stages, folds=parsed.folds)
    return 0


def forecast_costs(config: Config, stages: Stages | None = None, folds: int = 0) -> list[forecast.Stage]:
    """Time one small training on the cluster and say what a run of `config` would take of it; writes nothing.

    folds: say too what a backtest of so many rounds would take, 0: none. Raises UserError for what cannot be run.
    """
    loaded = rounds.read(config, streams=True)
    stages = stages or Stages(every_s=config.output.progress_seconds)
    for text in loaded.said:
        stages.say(text)
    return forecast_costs_on(config, loaded.problem, loaded.revealed, stages, folds)


def forecast_costs_on(
    config: Config, problem: Problem, revealed: Revealed | None, stages: Stages, folds: int = 0
) -> list[forecast.Stage]:
    """The same for a problem that is in memory."""
    config, chosen = choices.made(config, problem)
    problem, revealed = once.thinned(config, problem, revealed)
    own.find(config.acquisition.strategy, "acquisition.strategy")
    strategy, ask = config.acquisition.strategy, config.acquisition.model_copy(update={"strategy": "rambo"})
    todo = plan.make(config.model_copy(update={"acquisition": ask}), problem)  # whose sets are what is timed
    before = backtest.costed(config, problem, folds) if folds else None
    config = todo.config
    stages.say("\n".join([describe(config, problem), *chosen, *todo.said]))
    labeled, validation, embed_s = LabeledArrays.of(problem.labeled), LabeledArrays.of(problem.validation), 0.0
    with connect(config.cluster, stages.say) as session:
        todo = todo.on(session.device, session.abilities)
        stages.say(describe_cluster(session, todo.training))
        if is_head(config.classifier.name):
            labeled, validation, embed_s = probe.embedded(session, config, problem)
        measured = probe.probe(session, todo, labeled, validation)
    iterations = max(len(todo.nested_sets) - 1, 0)
    pairs = todo.num_pairs + len(todo.interpolation) // 2
    epochs = config.utility_model.outer_epochs * (1 + iterations)
    found = forecast.stages(
        config,
        measured,
        todo.retrained,
        interpolated=len(todo.interpolation),
        iterations=iterations,
        k=len(problem.labeled),
        num_pool=problem.num_pool,
        num_workers=session.num_workers,
        revealed=revealed is not None,
        opinions=config.utility_samples.evidence_folds if todo.mock_pool is not None else 0,
        num_validation=len(problem.validation),
        embed_s=embed_s,
        num_test=len(revealed.test) if revealed is not None and revealed.test is not None else 0,
        trainer=0 if fit.is_here(session, pairs, epochs) else session.config.trainer_workers,
    )
    if strategy != "rambo":  # f and its outputs are all that another strategy needs
        found = [stage for stage in found if stage.name not in ("evidence", "utility samples", "u_hat")]
    stored = sum(part.array.nbytes for part in (problem.labeled, problem.validation, problem.pool))
    test = revealed.test.array.nbytes if revealed is not None and revealed.test is not None else 0
    free = memory.available() if session.nodes == 1 else None
    table = forecast.table(found, measured, session.device, session.num_workers, stored + test, free)
    if before is not None:
        cost = before(measured, session.num_workers)
        table += (
            f"\na backtest before it, rambo backtest --folds {folds}: {cost.pieces}, "
            f"{duration(cost.worker_s)} of one worker, {duration(cost.wall_s)} on the clock"
        )
        found.append(cost)
    stages.finish(table, None, {"stages": [asdict(part) for part in found]})
    return found
