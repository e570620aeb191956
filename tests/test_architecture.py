"""What holds between the package's files: who may import ray, that nothing imports in a circle, and their length."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rambo_ray"
LINES = 350

Graph = dict[str, set[str]]


def modules(package: Path) -> dict[str, Path]:
    """Every file of a package by the name under which it is imported."""
    found = {}
    for file in sorted(package.rglob("*.py")):
        parts = (package.name, *file.relative_to(package).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported(name: str, file: Path) -> Iterator[str]:
    """Names that a file imports at whatever depth of functions: `a.b` and, of `from a import b`, both a and a.b."""
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def import_graph(package: Path) -> Graph:
    """For each module those of the package that it imports.

    Of `from a import b` that is the module a.b where there is one, else a.
    """
    files = modules(package)
    graph: Graph = {}
    for name, file in files.items():
        found = set(imported(name, file)) & files.keys()
        graph[name] = {a for a in found if a != name and not any(b.startswith(f"{a}.") for b in found)}
    return graph


def between_packages(graph: Graph) -> Graph:
    """The same graph between what lies at the package's top: its packages and its single modules."""

    def top(name: str) -> str:
        return ".".join(name.split(".")[:2])

    joined: Graph = {}
    for name, others in graph.items():
        joined.setdefault(top(name), set()).update(top(other) for other in others if top(other) != top(name))
    return joined


def cycle(graph: Graph) -> list[str]:
    """A circle of imports, its first name again at its end; empty where there is none."""
    done: set[str] = set()

    def search(path: list[str]) -> list[str]:
        for other in sorted(graph.get(path[-1], ())):
            if other in path:
                return [*path[path.index(other) :], other]
            if other not in done and (found := search([*path, other])):
                return found
        done.add(path[-1])
        return []

    for name in sorted(graph):
        if name not in done and (found := search([name])):
            return found
    return []


def importing_ray(package: Path) -> list[str]:
    """The modules outside <package>.cluster that import ray or anything in it."""
    return [
        name
        for name, file in modules(package).items()
        if not f"{name}.".startswith(f"{package.name}.cluster.")
        and any(f"{other}.".startswith("ray.") for other in imported(name, file))
    ]


def too_long(package: Path) -> list[str]:
    """The files of more than LINES lines."""
    return [
        f"{name}: {count}"
        for name, file in modules(package).items()
        if (count := len(file.read_text(encoding="utf-8").splitlines())) > LINES
    ]


@pytest.mark.parametrize("module", ["workers", "pool_actors", "tasks"])
def test_workers_load_nothing_that_takes_long_and_is_not_theirs(module: str) -> None:
    """Every process of an actor or task loads it again: scikit-learn took a third of their start."""
    program = f"import sys, rambo_ray.cluster.{module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in loaded
    assert {"sklearn", "scipy.stats", "scipy.cluster", "matplotlib", "pandas"}.isdisjoint(loaded)


def test_only_the_cluster_imports_ray() -> None:
    assert importing_ray(PACKAGE) == []
    assert any(name == "ray" for name in imported("", PACKAGE / "cluster" / "session.py"))


def test_nothing_imports_in_a_circle() -> None:
    graph = import_graph(PACKAGE)
    assert len(graph) > 50 and sum(map(len, graph.values())) > 200
    assert cycle(graph) == []
    assert cycle(between_packages(graph)) == []


def test_no_file_is_long() -> None:
    assert too_long(PACKAGE) == []


def written(folder: Path, **files: str) -> Path:
    """A package of these files; __ in a name stands for a slash."""
    package = folder / "made"
    for name, content in files.items():
        file = package / f"{name.replace('__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        (file.parent / "__init__.py").touch()
        file.write_text(content)
    return package


@pytest.mark.parametrize(
    "content",
    [
        "import ray\n",
        "import ray.train.torch as t\n",
        "from ray import tune\n",
        "from ray.util.queue import Queue\n",
        "def f():\n    class C:\n        def g(self):\n            import os, ray\n",
        "try:\n    from ray.exceptions import RayError\nexcept ImportError:\n    pass\n",
    ],
)
def test_an_import_of_ray_is_found(content: str, tmp_path: Path) -> None:
    package = written(tmp_path, a__b__c=content, cluster__d=content, clusters=content)
    assert importing_ray(package) == ["made.a.b.c", "made.clusters"]


@pytest.mark.parametrize(
    "content", ["import raylib\n", "from made import ray\n", "'import ray'\n", "from . import ray\n"]
)
def test_other_names_are_not_ray(content: str, tmp_path: Path) -> None:
    assert importing_ray(written(tmp_path, a=content, ray="")) == []


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"a": "from made import b\n", "b": "import made.a\n"}, ["made.a", "made.b", "made.a"]),
        ({"a": "def f():\n    from made.b import g\n", "b": "from made.a import f\n"}, ["made.a", "made.b", "made.a"]),
        ({"p__a": "from . import b\n", "p__b": "from .a import f\n"}, ["made.p.a", "made.p.b", "made.p.a"]),
        ({"a": "import made.b\n", "b": "from .p import c\n", "p__c": "from ..a import f\n"},
         ["made.a", "made.b", "made.p.c", "made.a"]),
        ({"a": "from made import b, c\n", "b": "from made import c\n", "c": "import os\n"}, []),
    ],
)  # fmt: skip
def test_a_circle_of_modules_is_found(files: dict[str, str], found: list[str], tmp_path: Path) -> None:
    assert cycle(import_graph(written(tmp_path, **files))) == found


def test_a_circle_of_packages_is_found_where_modules_have_none(tmp_path: Path) -> None:
    files = {"p__a": "from made.q import a\n", "q__b": "from ..p import b\n"}
    graph = import_graph(written(tmp_path, **files, q__a="", p__b=""))
    assert cycle(graph) == []
    assert cycle(between_packages(graph)) == ["made.p", "made.q", "made.p"]


def test_a_long_file_is_found(tmp_path: Path) -> None:
    package = written(tmp_path, a__b="\n" * LINES, a__c="\n" * (LINES + 1))
    assert too_long(package) == [f"made.a.c: {LINES + 1}"]
