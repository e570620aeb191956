"""Random numbers of many models at once, on whatever device, none of them dependent on the others.

A generator per model would need a call per model and draw. Here each number is a function of whose it is and which:
SplitMix64 (Steele, Lea and Flood, 2014) with a start of its own for each (seed, purpose, epoch or step), read at
any place of its stream: number c is mix(start + (c + 1) * GOLDEN), in integer arithmetic, which rounds nowhere. So
a model draws the same whatever stack, device or batch it is in, and 24 bits of a number are uniform in [0, 1).

Letters: G models, n numbers of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64

# What numbers are for: streams of one seed that have nothing to do with one another.
WEIGHTS, SHUFFLES, DROPOUT = 1, 2, 3

_BITS = 24  # of a number: what a float32 in [0, 1) can hold


def starts(seeds: Sequence[int] | Tensor, purpose: int, device: torch.device | str = "cpu") -> Tensor:
    """Where the models' streams for a purpose start, int64 [G]."""
    if not isinstance(seeds, Tensor):
        seeds = torch.tensor([_signed(seed) for seed in seeds], dtype=torch.int64)
    return at(_mix(seeds.to(device)), purpose)


def at(start: Tensor, place: Tensor | int) -> Tensor:
    """The numbers at places of streams, int64 of all 64 bits; the two are broadcast against each other.

    A number may be the start of a stream, too: of one epoch or one step.
    """
    steps = (place + 1) * GOLDEN
    return _mix(start + (_signed(steps) if isinstance(steps, int) else steps))


def uniform(numbers: Tensor) -> Tensor:
    """Numbers of `at` as float32 in [0, 1)."""
    return _upper(numbers).to(torch.float32).mul_(2.0**-_BITS)


def kept(numbers: Tensor, probability: float) -> Tensor:
    """Masks of dropout: float32 1 / (1 - probability), or 0 with that probability."""
    mask = _upper(numbers) >= round(probability * 2**_BITS)
    return mask.to(torch.float32).mul_(1 / (1 - probability))


def orders(start: Tensor, lengths: Tensor, longest: int) -> Tensor:
    """A random order of 0..length-1 in each row, int64 [., longest]; what lies beyond its length means nothing."""
    places = torch.arange(longest, device=start.device)
    keys = at(start[:, None], places).bitwise_and_(2**63 - 1)
    keys.masked_fill_(places >= lengths[:, None], 2**63 - 1)
    return keys.argsort(dim=1, stable=True)


def _upper(numbers: Tensor) -> Tensor:
    return _shifted(numbers, 64 - _BITS)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)).mul_(_SECOND)
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """z >> bits with zeros shifted in, where torch repeats the sign."""
    return (z >> bits).bitwise_and_(2 ** (64 - bits) - 1)


def _signed(value: int) -> int:
    """The int64 with the lowest 64 bits of a number."""
    return (value + 2**63) % 2**64 - 2**63
