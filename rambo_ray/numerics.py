"""One arithmetic on every x86 CPU: `cluster.reproducible: any_x86`.

The libraries below this package pick their instructions by the CPU they find, so that the last bits of a
sum differ between an Intel, an AMD and an older one of either; the fit of u_hat amplifies such bits until
another image is picked. Each library can be told to compute as on a common CPU, one with AVX2, but only
by the environment of its process, before it is loaded. So a command that is asked for `any_x86` starts
itself once more with that environment, and its workers get it from Ray.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NoReturn

from rambo_ray.errors import UserError

Reproducible = Literal["machine", "any_x86"]

ANY_X86 = {
    "MKL_CBWR": "COMPATIBLE",  # torch's matrix products: one branch for all vendors
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own loops
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # torch's convolutions
    "OPENBLAS_CORETYPE": "Haswell",  # numpy's and scipy's matrix products
    "OPENBLAS_L2_SIZE": "512",  # KB; their blocks, where they follow the cache
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",  # numpy's exp and log: none wider than AVX2
}
_NEEDED = {"avx2", "fma"}

LINE_BYTES = 64  # of a cache, and what torch aligns a tensor of its own to: products round alike from there


def pinned(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether an environment is that of `any_x86`."""
    return all(environment.get(name) == value for name, value in ANY_X86.items())


def variables(reproducible: Reproducible) -> dict[str, str]:
    """What the environment of every process of a run has to hold."""
    return dict(ANY_X86) if reproducible == "any_x86" else {}


def settle(reproducible: Reproducible, *, restart: bool) -> None:
    """Make sure that this process computes as asked, before it computes.

    With `restart`, for a command of its own, the process is started once more with the right environment
    and this function does not return. Raises UserError where the machine cannot compute so, and, without
    `restart`, where the environment is another one: the libraries may be loaded by now.
    """
    if reproducible == "machine":
        return
    reason = unsupported()
    if reason is not None:
        raise UserError(
            f"cluster.reproducible=any_x86: {reason}; set cluster.reproducible=machine, whose results hold for this "
            "type of machine"
        )
    if pinned():
        return
    if not restart:
        wanted = " ".join(f"{name}='{value}'" for name, value in ANY_X86.items())
        raise UserError(
            f"cluster.reproducible=any_x86: must be set before Python starts, and is not here; start it with {wanted}, "
            "or use the command line, which sees to it"
        )
    _restart()


def unsupported(machine: str | None = None, cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """Why this machine cannot compute as `any_x86`, None where it can; a CPU that does not say is believed."""
    machine = platform.machine() if machine is None else machine
    if machine.lower() not in ("x86_64", "amd64"):
        return f"this is a {machine} machine, not x86"
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return None
    flags = next((line.partition(":")[2].split() for line in text.splitlines() if line.startswith("flags")), None)
    missing = sorted(name.upper() for name in _NEEDED - set(flags)) if flags is not None else []
    return f"this CPU has no {' and '.join(missing)}" if missing else None


def _restart() -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **ANY_X86})
