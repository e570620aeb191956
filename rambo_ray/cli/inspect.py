"""`rambo inspect`: what a run would read, and all that is wrong with it or seldom meant, without the run."""

from __future__ import annotations

import argparse
import sys

from rambo_ray.annotation import rounds
from rambo_ray.cli.next_round import configuration
from rambo_ray.config.schema import Config
from rambo_ray.data import own, warnings
from rambo_ray.data.problem import Problem
from rambo_ray.data.reading import Reading
from rambo_ray.errors import UserError, one_line
from rambo_ray.pipeline import choices, plan


def called(parsed: argparse.Namespace) -> int:
    """The command `inspect`; returns its exit code: 2 where a run would be refused."""
    refused = look(configuration(parsed))
    for line in refused:
        print(f"{parsed.program}: error: {one_line(line)}", file=sys.stderr)
    return 2 if refused else 0


def look(config: Config) -> list[str]:
    """Say what is read, and warnings; returns why a run of `config` would be refused, a line for each reason."""
    errors: list[UserError] = []
    problem, reading, said = _read(config, errors)
    for text in said:
        print(text)
    if problem is not None:
        print(_described(problem))
        for line in warnings.of(problem, reading):
            print(f"warning: {line}")
        try:
            config, chosen = choices.made(config, problem)
            todo = plan.make(config, problem)
            for line in (*chosen, *todo.said):
                print(line)
        except UserError as error:
            errors.append(error)
    lines = [str(error) for error in errors]
    if not lines:
        print("a run can begin")
    sys.stdout.flush()
    return list(dict.fromkeys(lines))


def _read(config: Config, errors: list[UserError]) -> tuple[Problem | None, Reading | None, list[str]]:
    """The problem, what was read, and what is said of both; of a later round with what was bought before."""
    if config.data.name == "own" and config.round.after is None:
        problem, reading = own.read(config.data, config.seed, errors.append)
        return problem, reading, [] if reading is None else [reading.text()]
    try:
        loaded = rounds.read(config)
    except UserError as error:
        errors.append(error)
        return None, None, []
    return loaded.problem, loaded.reading, list(loaded.said)


def _described(problem: Problem) -> str:
    """The sizes of the three sets as a run has them, and their classes."""
    each = f"embeddings of {problem.labeled.described}" if problem.of_vectors else problem.labeled.described
    rejected = f", {len(problem.rejected):,} of none of the classes" if problem.rejected is not None else ""
    return (
        f"S_0 {len(problem.labeled):,}, S_val {len(problem.validation):,}, pool {len(problem.pool):,}{rejected}; "
        f"{len(problem.class_names)} classes; as f sees them: {each}"
    )
