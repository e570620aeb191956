"""Clocks, peaks of memory and what a machine reaches, for code that may run on a GPU."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch

T = TypeVar("T")
MB = 1e6


def synchronize(device: str) -> None:
    """Wait until the device has done all it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def timed(call: Callable[[], T], device: str) -> tuple[T, float]:
    """What a call returns, and its seconds, the device's work included."""
    synchronize(device)
    began = time.perf_counter()
    value = call()
    synchronize(device)
    return value, time.perf_counter() - began


def best_of(call: Callable[[], Any], device: str, times: int = 5) -> float:
    """The shortest of some calls, seconds, after one that does not count."""
    call()
    return min(timed(call, device)[1] for _ in range(times))


def peak_mb(call: Callable[[], T], device: str) -> tuple[T, float]:
    """What a call returns, and the most of the GPU's memory beyond what was held before, MB; NaN on a CPU."""
    if device != "cuda":
        return call(), float("nan")
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    value = call()
    torch.cuda.synchronize()
    return value, (torch.cuda.max_memory_allocated() - held) / MB


def process_mb() -> float:
    """The largest this process has been, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB


def matmul_tflops(device: str, kind: str, size: int) -> float:
    """What a size x size product of random matrices reaches, TFLOP/s. kind: float32, tf32, bfloat16 or float64."""
    dtype = torch.float32 if kind == "tf32" else getattr(torch, kind)
    a, b = (torch.randn(size, size, device=device, dtype=torch.float32).to(dtype) for _ in range(2))
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
    try:
        return 2 * size**3 / best_of(lambda: torch.mm(a, b), device) / 1e12
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def copy_gbytes(device: str, size: int) -> float:
    """What a copy of `size` bytes within the device's memory reaches, GB/s, read and written bytes counted."""
    source = torch.randint(0, 255, (size,), device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * size / best_of(lambda: target.copy_(source), device) / 1e9
