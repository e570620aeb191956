"""A connection to Ray, what it has to give, and what this run takes of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import ray

from rambo_ray import limits, numerics
from rambo_ray.classifier.abilities import Abilities
from rambo_ray.cluster import nodes, starting, waiting, watch
from rambo_ray.config.schema import ClusterConfig
from rambo_ray.errors import UserError
from rambo_ray.machines.agreement import Agreement
from rambo_ray.machines.begin import Begin

# POT imports every array library it finds; here it gets numpy arrays only.
_ENVIRONMENT = {
    "POT_BACKEND_DISABLE_PYTORCH": "1",
    "POT_BACKEND_DISABLE_TENSORFLOW": "1",
    "POT_BACKEND_DISABLE_JAX": "1",
}


@dataclass(frozen=True)
class Session:
    """The cluster as this run uses it: actors and tasks of `cpus` CPUs and `gpus` GPUs each.

    agreement: what its nodes have in common; None: it is this machine alone, which nobody can join.
    """

    config: ClusterConfig
    total_cpus: float
    total_gpus: float
    cpus: int
    gpus: float
    num_workers: int
    nodes: int
    agreement: Agreement | None = None

    @property
    def abilities(self) -> Abilities | None:
        """What all its nodes can compute f with; None: what this machine can."""
        return None if self.agreement is None else self.agreement.abilities

    @property
    def begin(self) -> Begin:
        """What each task and actor does first."""
        if self.agreement is None:
            return Begin(self.cpus)
        return Begin(self.cpus, self.config.reproducible, self.agreement.arithmetic, self.agreement.kernels)

    @property
    def device(self) -> str:
        """Where an actor or task of this run computes."""
        return "cuda" if self.gpus > 0 else "cpu"

    @property
    def models_at_once(self) -> int | None:
        """Models of one stack; None: as many as an actor finds room for."""
        return self.config.models_at_once or (1 if self.device == "cpu" else None)

    @property
    def options(self) -> dict[str, float]:
        """What one actor or task asks Ray for."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus}

    def describe(self) -> str:
        """The cluster in a line."""
        gpus = f", {self.total_gpus:g} GPUs" if self.total_gpus else ""
        nodes = f"{self.nodes} nodes" if self.nodes > 1 else "1 node"
        actors = f"{self.num_workers} actors" if self.num_workers > 1 else "1 actor"
        return f"{nodes}, {self.total_cpus:g} CPUs{gpus}; {actors}"


@contextmanager
def connect(config: ClusterConfig, say: Callable[[str], None] | None = None) -> Iterator[Session]:
    """Connect as `config` says, and leave again what was started here.

    A Ray that this process already has is used as it is. Otherwise cluster.address or RAY_ADDRESS
    names a cluster; without either a local one is started, with as many CPUs as the run asks for.
    say: is told what the person who watches should know, as that there is no room.
    Raises UserError where the cluster cannot be reached or cannot hold what was asked for.
    """
    numerics.settle(config.reproducible, restart=False)
    own = not ray.is_initialized()
    if own:
        _start(config)
    else:
        _check_environment(config)
    try:
        with watch.logged(), watch.alive(), waiting.heard_by(say):
            yield _session(config, alone=own and _address(config) is None)
    finally:
        if own:
            ray.shutdown()


def _start(config: ClusterConfig) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    common = {
        "log_to_driver": True,  # where `watch.logged` has it, which is not the terminal
        "configure_logging": True,
        "logging_level": "ERROR",
        "runtime_env": {"env_vars": {**_ENVIRONMENT, **numerics.variables(config.reproducible)}},
    }
    address = _address(config)
    if address is not None:
        with starting.connecting(address):
            ray.init(address=address, **common)
        return
    asked = max(config.num_workers or 1, config.trainer_workers) * config.threads_per_worker
    named = config.address or os.environ.get("RAY_ADDRESS")
    with starting.local():
        ray.init(
            address="local",
            num_cpus=max(limits.cpus(), asked),
            include_dashboard=config.dashboard or (None if named else False),  # None: where Ray has one
            _system_config=starting.local_settings(),
            **common,
        )


def _address(config: ClusterConfig) -> str | None:
    """Which cluster is asked for, None for one of this process's own."""
    address = config.address or os.environ.get("RAY_ADDRESS")
    return None if not address or address == "local" else address


def _check_environment(config: ClusterConfig) -> None:
    """Whether the workers of a Ray that is there already compute as asked: they have its job's environment."""
    held = (ray.get_runtime_context().runtime_env or {}).get("env_vars", {})
    if config.reproducible == "any_x86" and not numerics.pinned(held):
        raise UserError(
            "cluster.reproducible=any_x86: this process is connected to a Ray whose workers compute otherwise; "
            "disconnect it first (ray.shutdown())"
        )


def _session(config: ClusterConfig, alone: bool) -> Session:
    resources = ray.cluster_resources()
    total_cpus, total_gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    gpus = config.gpus_per_worker
    if gpus is None:
        gpus = 0.25 if total_gpus and config.reproducible == "machine" else 0.0
    if gpus > total_gpus:
        raise UserError(f"cluster.gpus_per_worker={gpus}: the cluster has {total_gpus:g} GPUs; lower it or set it to 0")
    alive = [node["Resources"] for node in nodes.alive()]
    room = slots(alive, config.threads_per_worker, gpus)
    wanted = config.num_workers or room
    if room < wanted or room < 1:
        key, value = ("num_workers", wanted) if room else ("threads_per_worker", config.threads_per_worker)
        raise UserError(
            f"cluster.{key}={value}: the cluster ({total_cpus:g} CPUs, {total_gpus:g} GPUs) holds {room} actors of "
            f"{config.threads_per_worker} CPUs and {gpus:g} GPUs; lower cluster.{key}"
        )
    places = slots(alive, config.threads_per_worker, 0)
    if config.trainer_workers > places:
        raise UserError(
            f"cluster.fit_workers={config.fit_workers}: the cluster ({total_cpus:g} CPUs) holds {places} workers of "
            f"{config.threads_per_worker} CPUs; lower cluster.fit_workers"
        )
    agreement = None if alone else nodes.agreed(config.reproducible, gpus)
    if agreement is not None and agreement.said is not None:
        waiting.say(agreement.said)
    count = sum(node["Alive"] for node in ray.nodes())  # also the driver's, which may have no CPUs for others
    made = Session(config, total_cpus, total_gpus, config.threads_per_worker, gpus, wanted, count, agreement)
    if not alone and not waiting.has_room(made.options):
        waiting.say(f"the cluster has no room now: {waiting.numbers(made.options)}; the run begins when there is some")
    return made


def slots(resources: Iterable[Mapping[str, float]], cpus: int, gpus: float) -> int:
    """Actors of so many CPUs and GPUs that fit on nodes with these resources."""
    return sum(_room(node, cpus, gpus) for node in resources)


def _room(resources: Mapping[str, float], cpus: int, gpus: float) -> int:
    """Actors that fit on one node; several fractions share a GPU, but no actor spans two."""
    by_cpu = int(resources.get("CPU", 0.0) // cpus)
    if gpus == 0:
        return by_cpu
    num_gpus = resources.get("GPU", 0.0)
    by_gpu = int(num_gpus) * int(1 / gpus + 1e-9) if gpus < 1 else int(num_gpus // gpus)
    return min(by_cpu, by_gpu)


def cause_of(error: BaseException) -> str:
    """What really went wrong inside a Ray task, in one line.

    The traceback is the error's: raise `from` it, or give it to `run_log.tracebacks`, and the log has it.
    """
    cause = getattr(error, "cause", None)
    if cause is None:
        # An actor's constructor leaves only the text of a traceback; its last line is the error.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return lines[-1][:300] if lines else type(error).__name__
    return f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}"
