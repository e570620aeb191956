"""A connection to Ray, what it has to give, and what this run takes of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray

from rambo_ray import numerics
from rambo_ray.cluster import starting, watch
from rambo_ray.config.schema import ClusterConfig
from rambo_ray.errors import UserError

# POT imports every array library it finds; here it gets numpy arrays only.
_ENVIRONMENT = {
    "POT_BACKEND_DISABLE_PYTORCH": "1",
    "POT_BACKEND_DISABLE_TENSORFLOW": "1",
    "POT_BACKEND_DISABLE_JAX": "1",
}


@dataclass(frozen=True)
class Session:
    """The cluster as this run uses it: actors and tasks of `cpus` CPUs and `gpus` GPUs each."""

    config: ClusterConfig
    total_cpus: float
    total_gpus: float
    cpus: int
    gpus: float
    num_workers: int
    nodes: int

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
def connect(config: ClusterConfig) -> Iterator[Session]:
    """Connect as `config` says, and leave again what was started here.

    A Ray that this process already has is used as it is. Otherwise cluster.address or RAY_ADDRESS
    names a cluster; without either a local one is started, with as many CPUs as the run asks for.
    Raises UserError where the cluster cannot be reached or cannot hold what was asked for.
    """
    numerics.settle(config.reproducible, restart=False)
    own = not ray.is_initialized()
    if own:
        _start(config)
    else:
        _check_environment(config)
    try:
        with watch.logged(), watch.alive():
            yield _session(config)
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
    address = config.address or os.environ.get("RAY_ADDRESS")
    if address and address != "local":
        with starting.connecting(address):
            ray.init(address=address, **common)
        return
    cores = os.cpu_count() or 1
    asked = (config.num_workers or 1) * config.threads_per_worker
    with starting.local():
        ray.init(
            address="local",
            num_cpus=max(cores, asked, config.fit_workers),
            include_dashboard=config.dashboard or (None if address else False),  # None: where Ray has one
            **common,
        )


def _check_environment(config: ClusterConfig) -> None:
    """Whether the workers of a Ray that is there already compute as asked: they have its job's environment."""
    held = (ray.get_runtime_context().runtime_env or {}).get("env_vars", {})
    if config.reproducible == "any_x86" and not numerics.pinned(held):
        raise UserError(
            "cluster.reproducible=any_x86: this process is connected to a Ray whose workers compute otherwise; "
            "disconnect it first (ray.shutdown())"
        )


def _session(config: ClusterConfig) -> Session:
    resources = ray.cluster_resources()
    total_cpus, total_gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    gpus = config.gpus_per_worker
    if gpus is None:
        gpus = 0.25 if total_gpus and config.reproducible == "machine" else 0.0
    if gpus > total_gpus:
        raise UserError(f"cluster.gpus_per_worker={gpus}: the cluster has {total_gpus:g} GPUs; lower it or set it to 0")
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(_room(node, config.threads_per_worker, gpus) for node in alive)
    wanted = config.num_workers or room
    if room < wanted or room < 1:
        key, value = ("num_workers", wanted) if room else ("threads_per_worker", config.threads_per_worker)
        raise UserError(
            f"cluster.{key}={value}: the cluster ({total_cpus:g} CPUs, {total_gpus:g} GPUs) holds {room} actors of "
            f"{config.threads_per_worker} CPUs and {gpus:g} GPUs; lower cluster.{key}"
        )
    if config.fit_workers > total_cpus:
        raise UserError(
            f"cluster.fit_workers={config.fit_workers}: the cluster has {total_cpus:g} CPUs; lower cluster.fit_workers"
        )
    return Session(config, total_cpus, total_gpus, config.threads_per_worker, gpus, wanted, len(alive))


def _room(resources: dict[str, float], cpus: int, gpus: float) -> int:
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
