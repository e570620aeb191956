"""A run and its cluster in words, as every command that starts one says them first."""

from __future__ import annotations

from rambo_ray.classifier.training import TrainingSettings, choose_kernels
from rambo_ray.cluster.session import Session
from rambo_ray.config.schema import Config
from rambo_ray.data import scenarios
from rambo_ray.data.problem import Problem


def describe(config: Config, problem: Problem) -> str:
    """What is to be run, in a line or two."""
    each = f"embeddings of {problem.labeled.described}" if problem.of_vectors else "x".join(map(str, problem.shape))
    line = (
        f"RAMBO on {config.data.name}: {len(problem.labeled)} labelled, {len(problem.validation)} validation, "
        f"{problem.num_pool} in the pool ({each}, {len(problem.class_names)} classes); "
        f"picking {config.acquisition.budget}"
    )
    if config.data.scenario == "clean":
        return line
    rejected = f"; {len(problem.rejected)} rejected so far" if problem.rejected is not None else ""
    return f"{line}\n{scenarios.describe(config.data)}{rejected}"


def describe_cluster(session: Session, settings: TrainingSettings) -> str:
    """The cluster, and how f trains on it, in a line."""
    kernels = choose_kernels(
        settings.classifier, settings.precision, session.device, settings.kernels, session.abilities
    )
    how = " in compiled kernels" if kernels == "compiled" else ""
    how += ", as on any x86 CPU" if settings.reproducible == "any_x86" else ""
    head = ", a head on embeddings," if settings.embedding else ""
    return f"Ray: {session.describe()}; {settings.classifier}{head} on {session.device}, {settings.precision}{how}"
