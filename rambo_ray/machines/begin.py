"""What a task or an actor does first, in whatever process it finds itself."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from rambo_ray.errors import RunError
from rambo_ray.machines import machine
from rambo_ray.numerics import Reproducible


@contextmanager
def threads(count: int) -> Iterator[None]:
    """In the body torch computes with so many threads, on which the order depends in which its products add up."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Begin:
    """Sets torch's threads, and makes sure that this machine computes as the run's others do.

    A node may join a cluster while a run is under way. arithmetic, kernels: those of the `Agreement` that the run
    began with, "" where nobody can join or where no kernels are used.
    """

    threads: int
    reproducible: Reproducible = "machine"
    arithmetic: str = ""
    kernels: str = ""

    def __call__(self) -> None:
        """Raises RunError on a machine that computes otherwise."""
        torch.set_num_threads(self.threads)
        if self.arithmetic and machine.arithmetic(self.reproducible) != self.arithmetic:
            raise RunError(self._refused("CPU or its software is of another kind"))
        if self.kernels and machine.kernels_digest() != self.kernels:
            raise RunError(self._refused("C compiler is another, or missing"))

    def with_threads(self, threads: int) -> Begin:
        """The same with other threads."""
        return replace(self, threads=threads)

    def _refused(self, why: str) -> str:
        return (
            f"node {socket.gethostname()} joined the cluster and computes otherwise than the nodes that this run began "
            f"with: its {why}; take it out of the cluster and run the same command again"
        )
