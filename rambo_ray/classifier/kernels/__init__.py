"""Kernels in C for MnistNet on a CPU, built by the machine's own compiler when first needed.

Retraining thousands of small networks is what a run on CPUs waits for, and torch's layers, called one
by one, wait for memory at most of it (`benchmarks/utility_samples.py`). The sources beside this file
keep an image's work in the cache. They are compiled for the CPU at hand in a second or two, once: the
result is kept in `$XDG_CACHE_HOME/rambo_ray` or `~/.cache/rambo_ray`, by sources, compiler and CPU.
`CC` names another compiler. Without one, everything computes the same with torch, slower.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOURCES = Path(__file__).parent
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fPIC")
LIMIT = 120.0  # seconds a compiler may take

log = logging.getLogger(__name__)


class AdamStep(ctypes.Structure):
    """One step of Adam in numbers: lr / (1 - beta1^t), betas and 1 - betas, 1 / sqrt(1 - beta2^t), epsilon."""

    _fields_ = [(name, ctypes.c_float) for name in ("rate", "beta1", "rest1", "beta2", "rest2", "root", "epsilon")]


# Every kernel's arguments: a count, an array of floats, bytes or labels, or a step of Adam.
N, F, B, L, S = ctypes.c_int64, "float32", "int8", "int64", ctypes.POINTER(AdamStep)
KERNELS: dict[str, tuple[Any, ...]] = {
    "has_tiles": (),
    "head": (N, N, F, F, F, F, F, L, F, F, F, F, F),  # returns how many are right
    "adam": (N, F, F, F, F, S),
}
for _of in ("float32", "bfloat16"):  # conv2's and fc1's products
    KERNELS |= {
        f"scratch_floats_{_of}": (N, N, N),
        f"forward_{_of}": (N, N, N, N, F, F, F, F, F, F, B, F),
        f"backward_{_of}": (N, N, N, N, F, F, F, F, F, B, F, F, F, F, F),
        f"work_floats_{_of}": (N,),
        f"dense_{_of}": (N, N, F, F, F, F),
        f"dense_backward_{_of}": (N, N, F, F, F, F, F, F, S, F),
    }
COUNTS = ("has_tiles", "head", "scratch_floats", "work_floats")  # what they return


class Unavailable(Exception):
    """Why there are no kernels."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernels for this process, None where they cannot be had; says so once, and what helps."""
    try:
        return load()
    except Unavailable as reason:
        log.warning(
            "no compiled kernels: %s; training mnist_net on a CPU takes several times longer. Install a C compiler "
            "(Debian: apt install gcc), or name one in CC",
            reason,
        )
        return None


@functools.cache
def tiles() -> bool:
    """Whether there are kernels, and this CPU multiplies bfloat16 in tiles (AMX), and lets this process."""
    found = library()
    return found is not None and bool(found.has_tiles())


def load() -> ctypes.CDLL:
    """The kernels, from the cache or built. Raises Unavailable."""
    chosen = compiler()
    name = f"kernels-{fingerprint(chosen)}.so"
    try:
        built = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rambo_ray" / name
        if not built.exists():
            built.parent.mkdir(parents=True, exist_ok=True)
            # Under another name first: other processes build at the same time.
            with tempfile.TemporaryDirectory(dir=built.parent) as folder:
                os.replace(build(chosen, Path(folder)), built)
        return opened(built)
    except (OSError, RuntimeError):  # no home, or nothing can be kept or run there
        with tempfile.TemporaryDirectory() as folder:
            made = build(chosen, Path(folder))
            try:
                return opened(made)
            except OSError as error:
                raise Unavailable(str(error)) from None


def compiler() -> list[str]:
    """The command of the C compiler: $CC, or the first of the usual names. Raises Unavailable."""
    named = shlex.split(os.environ.get("CC", ""))
    found = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if not named and found is None:
        raise Unavailable("no C compiler on PATH (cc, gcc, clang)")
    return named or [str(found)]


def fingerprint(compiler: list[str]) -> str:
    """A digest of sources, compiler and what it knows of this CPU."""
    digest = hashlib.sha256()
    # Version and every instruction set are among the macros that a compiler predefines.
    digest.update(_run([*compiler, *FLAGS, "-dM", "-E", "-x", "c", os.devnull]))
    for path in sorted([*SOURCES.glob("*.c"), *SOURCES.glob("*.h")]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:24]


def build(compiler: list[str], folder: Path) -> Path:
    """The shared library, made in a folder. Raises Unavailable, with the compiler's first error."""
    target = folder / "kernels.so"

    def compiled(source: Path) -> str:
        made = folder / f"{source.stem}.o"
        _run([*compiler, *FLAGS, "-c", "-o", str(made), str(source)])
        return str(made)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        objects = list(threads.map(compiled, sorted(SOURCES.glob("*.c"))))
    _run([*compiler, *FLAGS, "-shared", "-o", str(target), *objects, "-lm"])
    return target


def opened(path: Path) -> ctypes.CDLL:
    """A library, with its kernels' types. Raises OSError for one that cannot be loaded."""
    found = ctypes.CDLL(str(path))
    for name, arguments in KERNELS.items():
        kernel = getattr(found, name)
        kernel.restype = ctypes.c_int64 if name.startswith(COUNTS) else None
        kernel.argtypes = [ctypes.c_void_p if isinstance(kind, str) else kind for kind in arguments]
    found.has_tiles()  # Linux wants to be asked before a process uses them
    return found


def call(name: str, *arguments: int | Tensor | AdamStep) -> int:
    """Run a kernel, return what it counts; tensors are read and written where they lie.

    Raises ValueError for a tensor that is not contiguous or not of the type the kernel takes; their
    sizes are the caller's duty.
    """
    found = library()
    assert found is not None
    passed: list[Any] = []
    for argument, kind in zip(arguments, KERNELS[name], strict=True):
        if isinstance(argument, Tensor):
            if argument.dtype != getattr(torch, str(kind), None) or not argument.is_contiguous():
                strides = argument.stride()
                raise ValueError(f"{name}: {argument.dtype} with strides {strides}; expected {kind}, contiguous")
            passed.append(argument.data_ptr())
        else:
            passed.append(argument)
    return getattr(found, name)(*passed) or 0


def _run(command: list[str]) -> bytes:
    try:
        done = subprocess.run(command, capture_output=True, timeout=LIMIT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]}: {error}") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines()
        first = next((line for line in lines if "error" in line), lines[0] if lines else f"exit code {done.returncode}")
        raise Unavailable(f"{command[0]}: {first}")
    return done.stdout
