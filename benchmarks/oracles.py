"""The slow versions that benchmarks compare with: the oracles of the package's own tests, loaded from their files."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

TESTS = Path(__file__).resolve().parents[1] / "tests"


def load(file: str) -> ModuleType:
    """The module in a file below tests/, which is no package; the path is that from there."""
    path = TESTS / file
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where a dataclass looks for the module that defines it
    spec.loader.exec_module(module)
    return module
