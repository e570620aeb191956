"""One machine as arithmetic sees it: what is installed there, its CPU's instructions and caches, its GPU.

Libraries choose their instructions, and in which order they add up, by these; so do the compiled kernels by their
compiler. Two machines of which all of it is the same compute the same bits.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import re
import socket
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import rambo_ray
from rambo_ray import numerics
from rambo_ray.classifier import kernels
from rambo_ray.classifier.abilities import Abilities

# What computes, by the name it is installed under.
OWN = "rambo_ray"
COMPUTING = ("torch", "numpy", "scipy", "scikit-learn", "POT", "torchvision", "timm")

# Of /proc/cpuinfo: what kind of CPU it is (x86 or Arm), and the instruction sets among its flags.
_KIND = ("vendor_id", "cpu family", "model", "CPU implementer", "CPU architecture", "CPU variant", "CPU part")
_INSTRUCTIONS = re.compile(r"^(sse|ssse|avx|fma|f16c|amx|bmi|abm|neon|asimd|sve|sme(?!p)|fphp|bf16|i8mm)")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True)
class Machine:
    """host: its name. software: what is installed, by name, with its version. cpu: what arithmetic depends on of the
    CPU, as in `cpu_kind`; processor, gpu: their names, for people ("" without a GPU). kernels: a digest of the
    compiled ones, "" where there are none. unsupported: why it cannot compute as any x86 CPU, None where it can.
    """

    host: str
    software: tuple[tuple[str, str], ...]
    cpu: tuple[tuple[str, str], ...]
    processor: str
    gpu: str
    kernels: str
    unsupported: str | None
    abilities: Abilities = field(compare=False)

    def arithmetic(self, reproducible: numerics.Reproducible) -> str:
        """A digest of all that its results' bits depend on, but for kernels, GPUs and this package's own files.

        The files of a checkout may change while a run goes on, which is no reason to end it.
        """
        installed = [pair for pair in self.software if pair[0] != OWN]
        parts = [rambo_ray.__version__, installed, self.cpu if reproducible == "machine" else reproducible]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@functools.cache
def this() -> Machine:
    """The machine that this process is on, as the process sees it; builds the compiled kernels if need be."""
    chip = cpu_info()
    return Machine(
        host=socket.gethostname(),
        software=software(),
        cpu=cpu_kind(chip),
        processor=chip.get("model name") or platform.processor() or platform.machine(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        kernels=kernels_digest(),
        unsupported=numerics.unsupported(),
        abilities=Abilities.here(),
    )


@functools.cache
def arithmetic(reproducible: numerics.Reproducible) -> str:
    """This process's `Machine.arithmetic`, without building kernels."""
    bare = Machine("", software(), cpu_kind(cpu_info()), "", "", "", None, Abilities(False, False, False, False))
    return bare.arithmetic(reproducible)


@functools.cache
def software() -> tuple[tuple[str, str], ...]:
    """What is installed here that computes, by name, with its version; of this package also what its files hold."""
    found = [("Python", ".".join(platform.python_version_tuple()[:2])), (OWN, source_digest())]
    for name in COMPUTING:
        try:
            found.append((name, torch.__version__ if name == "torch" else version(name)))
        except PackageNotFoundError:
            continue
    return tuple(found)


@functools.cache
def source_digest(folder: Path = Path(__file__).parents[1]) -> str:
    """A digest of a package's sources."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".c", ".h")):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


@functools.cache
def kernels_digest() -> str:
    """Of the compiled kernels: their sources, the compiler and what it knows of this CPU; "" without any."""
    try:
        return kernels.fingerprint(kernels.compiler()) if kernels.library() is not None else ""
    except kernels.Unavailable:
        return ""


def cpu_info(path: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """What Linux says of the first CPU; empty elsewhere."""
    try:
        block = path.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in block.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def cpu_kind(info: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Of a CPU, by name: its kind, its instruction sets, its caches, and what libraries are told to make of it."""
    found = {"architecture": platform.machine().lower()}
    found |= {name: info[name] for name in _KIND if name in info}
    flags = (info.get("flags") or info.get("Features") or "").split()
    found["instructions"] = " ".join(sorted(flag for flag in flags if _INSTRUCTIONS.match(flag)))
    found["caches"] = " ".join(_cache_sizes())
    found["torch"] = torch.backends.cpu.get_cpu_capability()
    found |= {name: os.environ[name] for name in numerics.ANY_X86 if name in os.environ}
    return tuple(found.items())


def _cache_sizes(folder: Path = _CACHES) -> list[str]:
    """Of the caches that a product's blocks are cut to, in words: "L2 1024K"."""
    sizes = []
    for cache in sorted(folder.glob("index*")):
        try:
            level, kind, size = ((cache / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            sizes.append(f"L{level} {size}")
    return sizes
