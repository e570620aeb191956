"""Losses summed in fixed groups, so that one worker and several get the same bits.

The pairs of a fit are dealt into V shards, whatever the number of workers; a worker computes its
shards, and sums over shards are taken in the order of the shards. Two operations carry a loss over
the workers, each the other's derivative, so that gradients, Hessian-vector products and unrolled
steps of a sharded loss come out complete and equal on every worker:

    fan(x)      one copy of x for each of this worker's shards; backward: `total`
    total(p)    sum over all shards of all workers;             backward: `fan`

Nothing here knows what a worker is: `Group.gather` is the identity in one process and an all-gather
under torch.distributed.

A matrix product's roundings may depend on where its operands begin in memory: BLAS libraries take
other instructions for addresses that are no multiple of a cache line. So the copies of `fan`, which lie one
after the other, are padded to whole lines, forward and in every derivative: a shard's operands begin as
they would if it had a worker of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rambo_ray.numerics import LINE_BYTES


def _alone(parts: Tensor) -> Tensor:
    return parts


@dataclass(frozen=True)
class Group:
    """This worker's place among the shards; the default is one worker with every shard."""

    shards: int = 1
    rank: int = 0
    size: int = 1
    gather: Callable[[Tensor], Tensor] = _alone  # [shards / size, n] of this worker -> [shards, n] of all

    def __post_init__(self) -> None:
        if self.shards % self.size or not 0 <= self.rank < self.size:
            raise ValueError(f"rank {self.rank} of {self.size} workers cannot share {self.shards} shards evenly")

    @property
    def local(self) -> range:
        """The shards of this worker."""
        each = self.shards // self.size
        return range(self.rank * each, (self.rank + 1) * each)


class _Fan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return x.expand(len(group.local), *x.shape).clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Total.apply(grads[0], ctx.group), None


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parts: Tensor, group: Group) -> Tensor:
        ctx.group = group
        gathered = group.gather(parts.contiguous())
        result = gathered[0].clone()
        for part in gathered[1:]:  # in the order of the shards: the same roundings on every worker
            result += part
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Fan.apply(grads[0], ctx.group), None


def fan(tensors: Sequence[Tensor], group: Group) -> list[list[Tensor]]:
    """For each of this worker's shards, its own copy of `tensors`; one communication in backward."""
    padded = [F.pad(t.reshape(-1), (0, -t.numel() % (LINE_BYTES // t.element_size()))) for t in tensors]
    flat = _Fan.apply(torch.cat(padded), group)
    sizes = [t.numel() for t in padded]
    return [
        [p[: t.numel()].view(t.shape) for p, t in zip(row.split(sizes), tensors, strict=True)] for row in flat.unbind(0)
    ]


def total(parts: Sequence[Tensor], group: Group) -> Tensor:
    """The sum, over all shards of all workers, of one tensor per shard of this worker."""
    return _Total.apply(torch.stack(list(parts)), group)
