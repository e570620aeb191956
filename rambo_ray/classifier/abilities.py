"""What f can be computed with: what this machine can, or all of several."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch

from rambo_ray.classifier import kernels


@dataclass(frozen=True)
class Abilities:
    """kernels: MnistNet's compiled ones; tiles: these in bfloat16 (AMX); bfloat16: products of it on the CPU;
    cuda_bfloat16: on the GPU; each without emulation."""

    kernels: bool
    tiles: bool
    bfloat16: bool
    cuda_bfloat16: bool

    @classmethod
    def here(cls) -> Abilities:
        """Those of this machine; builds the kernels if need be."""
        return cls(kernels.library() is not None, kernels.tiles(), bfloat16(), cuda_bfloat16())

    @classmethod
    def common(cls, several: Iterable[Abilities]) -> Abilities:
        """What each of several can."""
        every = list(several)
        return cls(**{field.name: all(getattr(one, field.name) for one in every) for field in fields(cls)})


def bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 itself (AMX, AVX512-BF16), instead of emulating it."""
    # Private names, so absent ones must not break a run: then float32 is always right.
    tests = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, test, bool)() for test in tests)


def cuda_bfloat16() -> bool:
    """Whether the GPU that this process sees does; False without one."""
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
