"""How many trials of a sweep run at once: no more than leave room for the trainers that they start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rambo_ray.cluster import nodes
from rambo_ray.cluster.session import Session, slots
from rambo_ray.cluster.waiting import until_room
from rambo_ray.errors import UserError
from rambo_ray.sweep.search_space import Space


def most(session: Session, space: Space) -> int:
    """How many trials can run at once in the whole cluster; raises UserError where not even one can.

    A trial holds its own CPUs and GPUs and, with num_workers >= 1, those of the trainer it starts. Tune does
    not know of the latter: with one trial too many, all would wait for one another for ever.
    """
    if not space.num_workers:
        return min(session.num_workers, space.max_concurrent or session.num_workers)
    fit = _at_once(session, space, [node["Resources"] for node in nodes.alive()])
    if fit < 1:
        cpus, gpus = session.cpus * (1 + space.num_workers), _gpus_of_trial(session, space)
        needed, has = f"{cpus} CPUs", f"{session.total_cpus:g}"
        if gpus:
            needed, has = f"{needed} and {gpus:g} GPUs", f"{has} and {session.total_gpus:g}"
        raise UserError(
            f"--space num_workers={space.num_workers}: a trial needs {needed}, itself and its workers, but the "
            f"cluster has {has}; lower num_workers, or set it to 0 to fit inside the trial"
        )
    return min(fit, space.max_concurrent or fit)


def now(session: Session, space: Space) -> int:
    """How many can run in what is free: others may hold the rest. Waits for room for one, and says so."""
    wanted = most(session, space)
    if not space.num_workers:
        return wanted
    asked = {"num_cpus": session.cpus * (1 + space.num_workers), "num_gpus": _gpus_of_trial(session, space)}
    what = "the first trial, itself and its workers"
    return min(until_room(what, asked, lambda: _at_once(session, space, nodes.free()), wanted, enough=1), wanted)


def _at_once(session: Session, space: Space, resources: Sequence[Mapping[str, float]]) -> int:
    """How many trials with trainers nodes with these resources hold."""
    fit = slots(resources, session.cpus, 0) // (1 + space.num_workers)
    gpus = _gpus_of_trial(session, space)
    return min(fit, int(sum(node.get("GPU", 0.0) for node in resources) / gpus + 1e-9)) if gpus else fit


def _gpus_of_trial(session: Session, space: Space) -> float:
    """GPUs that a trial takes, its own share and a whole one for each worker of its trainer."""
    return session.gpus + space.num_workers if session.gpus else 0.0
