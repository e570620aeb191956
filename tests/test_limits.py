"""What a container allows counts, in both versions of control groups, and not only what the machine has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rambo_ray import limits

BOUND = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def written(root: Path, own: str, **files: str) -> tuple[Path, Path]:
    """Control groups' files (`__` in a name is a slash, `_of_` a dot) and what a process says its group is."""
    for name, content in files.items():
        path = root / "groups" / name.replace("__", "/").replace("_of_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    (root / "groups").mkdir(exist_ok=True)
    (root / "own").write_text(own + "\n")
    return root / "groups", root / "own"


@pytest.mark.parametrize(
    ("own", "files", "share"),
    [
        ("0::/", {}, None),
        ("0::/", {"cpu_of_max": "max 100000"}, None),
        ("0::/", {"cpu_of_max": "150000 100000"}, 1.5),
        ("0::/pod/box", {"pod__cpu_of_max": "50000 100000", "pod__box__cpu_of_max": "200000 100000"}, 0.5),
        ("0::/somewhere/else", {"cpu_of_max": "300000 100000"}, 3.0),  # a container sees its own group on top
        ("4:cpu,cpuacct:/box", {"cpu__box__cpu_of_cfs_quota_us": "250000",
                                 "cpu__box__cpu_of_cfs_period_us": "100000"}, 2.5),
        ("4:cpu,cpuacct:/box", {"cpu__cpu_of_cfs_quota_us": "-1", "cpu__cpu_of_cfs_period_us": "100000"}, None),
        ("0::/", {"cpu_of_max": "nonsense"}, None),
    ],
)  # fmt: skip
def test_a_share_of_cpus(own: str, files: dict[str, str], share: float | None, tmp_path: Path) -> None:
    groups, mine = written(tmp_path, own, **files)
    assert limits._share(groups, mine) == share
    expected = BOUND if share is None else max(min(BOUND, int(share)), 1)
    assert limits.cpus(groups, mine) == expected


def test_a_tenth_of_a_cpu_is_still_one(tmp_path: Path) -> None:
    assert limits.cpus(*written(tmp_path, "0::/", cpu_of_max="10000 100000")) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux binds processes to CPUs")
def test_a_process_that_is_bound_to_one_cpu_uses_one(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert limits.cpus(*written(tmp_path, "0::/")) == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("own", "files", "left"),
    [
        ("0::/", {}, None),
        ("0::/", {"memory_of_max": "max", "memory_of_current": "5"}, None),
        ("0::/", {"memory_of_max": "5000", "memory_of_current": "2000"}, 3000),
        ("0::/a/b", {"a__memory_of_max": "900", "a__memory_of_current": "300", "a__b__memory_of_max": "800",
                     "a__b__memory_of_current": "100"}, 600),
        ("0::/", {"memory_of_max": "10", "memory_of_current": "20"}, 0),
        ("9:memory:/box", {"memory__box__memory_of_limit_in_bytes": "70",
                            "memory__box__memory_of_usage_in_bytes": "20"}, 50),
    ],
)  # fmt: skip
def test_memory_that_a_container_still_allows(
    own: str, files: dict[str, str], left: int | None, tmp_path: Path
) -> None:
    assert limits.memory_left(*written(tmp_path, own, **files)) == left
