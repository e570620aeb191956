"""Workers of a sharded loss as threads of this process, with an all-gather between them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rambo_ray.utility_model.sharding import Group


class _AllGather:
    def __init__(self, size: int) -> None:
        self.parts: list[Tensor | None] = [None] * size
        self.barrier = threading.Barrier(size, timeout=60.0)

    def of(self, rank: int) -> Callable[[Tensor], Tensor]:
        def gather(part: Tensor) -> Tensor:
            self.parts[rank] = part.detach().clone()
            self.barrier.wait()
            gathered = torch.cat([p for p in self.parts if p is not None])
            self.barrier.wait()  # nobody writes the next part before all have read this one
            return gathered

        return gather


def run_workers(size: int, shards: int, work: Callable[[Group], Any]) -> list[Any]:
    """`work` on each of `size` workers that share `shards`; their results by rank, or the first error."""
    gather = _AllGather(size)
    results: list[Any] = [None] * size
    errors: list[Exception] = []

    def run(rank: int) -> None:
        try:
            results[rank] = work(Group(shards, rank, size, gather.of(rank)))
        except Exception as error:
            errors.append(error)
            gather.barrier.abort()  # the others must not wait for this one

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    real = [e for e in errors if not isinstance(e, threading.BrokenBarrierError)]
    if errors:
        raise (real or errors)[0]
    return results
