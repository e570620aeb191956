"""`rambo plan`: what a run, and a backtest before it, would cost on this machine or cluster."""

from __future__ import annotations

import argparse

from rambo_ray.cli.entry import configuration, shown
from rambo_ray.cli.run import forecast_costs
from rambo_ray.errors import UserError


def called(parsed: argparse.Namespace) -> int:
    """The command `plan`; returns its exit code."""
    if parsed.folds < 0:
        raise UserError(f"--folds {parsed.folds}: must not be negative; give the rounds of a backtest, or 0 for none")
    config = configuration(parsed)
    with shown(parsed, config.output.progress_seconds) as stages:
        forecast_costs(config, stages, folds=parsed.folds)
    return 0
