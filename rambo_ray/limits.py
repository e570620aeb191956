"""What this process may use of its machine: CPUs and memory, by its container's limits and not only by what is there.

A container's limits are those of its control group and of the groups above it, in either version of Linux's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

GROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def cpus(groups: Path = GROUPS, own: Path = OWN) -> int:
    """CPUs that this process may use, at least 1: those it is bound to, and no more than its container's share."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = _share(groups, own)
    return bound if share is None else max(min(bound, int(share + 1e-6)), 1)


def memory_left(groups: Path = GROUPS, own: Path = OWN) -> int | None:
    """Bytes that the container still allows, None where there is no limit."""
    left = []
    for folder in _folders("memory", groups, own):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            try:
                left.append(max(int(_read(folder / limit)) - int(_read(folder / used)), 0))
            except (OSError, ValueError):  # "max" is no number: no limit
                continue
    return min(left, default=None)


def _share(groups: Path, own: Path) -> float | None:
    """CPUs' time that the container gets, in CPUs; None where there is no limit."""
    shares = []
    for folder in _folders("cpu", groups, own):
        for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            try:
                quota, period = " ".join(_read(folder / name) for name in files).split()
                if int(quota) > 0:  # -1: no limit
                    shares.append(int(quota) / int(period))
            except (OSError, ValueError, ZeroDivisionError):
                continue
    return min(shares, default=None)


def _folders(controller: str, groups: Path, own: Path) -> Iterator[Path]:
    """The folders of this process's group and of all above it, of version 2 and of version 1.

    Within a container its own group may be shown as the topmost one.
    """
    found = {groups: None, groups / controller: None}
    try:
        lines = _read(own).splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, names, path = (line + "::").split(":")[:3]
        mounted = groups if not names else groups / controller if controller in names.split(",") else None
        if mounted is None:
            continue
        folder = mounted / path.lstrip("/")
        found |= dict.fromkeys([folder, *(above for above in folder.parents if above.is_relative_to(mounted))])
    yield from found


def _read(path: Path) -> str:
    return path.read_text(encoding="ascii", errors="replace").strip()
