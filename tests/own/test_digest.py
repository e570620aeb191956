"""By what a user's code is known: every change that could train another network shows, nothing else does."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torchvision.models import resnet18

from rambo_ray.own.digest import digest, is_library, version

NETS = """
import torch
from torch import nn
from own_digest_pkg import blocks
from own_digest_pkg.blocks import Block

WIDTH = 8
UNUSED = 1

class Base(nn.Module):
    depth = 2

class Net(Base):
    def __init__(self, shape, classes):
        super().__init__()
        self.block = Block(WIDTH)
        self.more = blocks.other()

    @staticmethod
    def helped():
        return helper()

def helper():
    return 3

def beside():
    return 4

def make(shape, classes, dropout=0.5):
    return Net(shape, classes)

def of_width(width):
    def factory(shape, classes):
        return width
    return factory
"""
BLOCKS = """
class Block:
    def __init__(self, width): self.width = width

def other():
    return 5
"""


def package(folder: Path, nets: str = NETS, blocks: str = BLOCKS) -> ModuleType:
    """The package with these two files, freshly imported; its name is the same wherever it lies."""
    where = folder / "own_digest_pkg"
    where.mkdir(parents=True)
    for name, text in (("__init__", ""), ("nets", nets), ("blocks", blocks)):
        (where / f"{name}.py").write_text(text)
    for name in [name for name in sys.modules if name.startswith("own_digest_pkg")]:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    try:
        import own_digest_pkg.nets  # type: ignore[import-not-found]

        return own_digest_pkg.nets  # type: ignore[no-any-return]
    finally:
        sys.path.remove(str(folder))


@pytest.fixture(autouse=True)
def _forgotten() -> Any:
    yield
    for name in [name for name in sys.modules if name.startswith("own_digest_pkg")]:
        del sys.modules[name]


class TestWhatChanges:
    @pytest.mark.parametrize(
        ("file", "old", "new"),
        [
            ("nets", "WIDTH = 8", "WIDTH = 9"),
            ("nets", "dropout=0.5", "dropout=0.4"),
            ("nets", "depth = 2", "depth = 3"),
            ("nets", "return 3", "return 33"),
            ("nets", "self.more = blocks.other()", "self.more = None"),
            ("blocks", "self.width = width", "self.width = 2 * width"),
            ("blocks", "return 5", "return 6"),
        ],
    )
    def test_what_the_factory_leads_to(self, tmp_path: Path, file: str, old: str, new: str) -> None:
        before = digest(package(tmp_path / "a").make)
        files = {"nets": NETS, "blocks": BLOCKS}
        assert old in files[file]
        files[file] = files[file].replace(old, new)
        assert digest(package(tmp_path / "b", **files).make) != before

    @pytest.mark.parametrize(("old", "new"), [("UNUSED = 1", "UNUSED = 2"), ("return 4", "return 44")])
    def test_what_it_does_not_name_is_nothing_to_it(self, tmp_path: Path, old: str, new: str) -> None:
        before = digest(package(tmp_path / "a").make)
        assert digest(package(tmp_path / "b", NETS.replace(old, new)).make) == before

    def test_what_a_closure_holds_and_what_a_partial_binds(self, tmp_path: Path) -> None:
        nets = package(tmp_path)
        assert digest(nets.of_width(3)) != digest(nets.of_width(4))
        assert digest(nets.of_width(3)) == digest(nets.of_width(3))
        one, two, three = (functools.partial(nets.make, dropout=rate) for rate in (0.1, 0.2, 0.1))
        assert digest(one) != digest(two) and digest(one) == digest(three) and digest(one) != digest(nets.make)

    def test_arrays_in_a_closure(self) -> None:
        def held(array: np.ndarray) -> Any:
            return lambda: array

        zeros, ones = np.zeros(3), np.ones(3)
        assert digest(held(zeros)) == digest(held(zeros.copy())) != digest(held(ones))

    def test_a_method_is_known_by_its_object_too(self) -> None:
        class Scaled:
            def __init__(self, factor: float) -> None:
                self.factor = factor

            def __call__(self, x: float) -> float:
                return self.factor * x

        assert digest(Scaled(2.0)) == digest(Scaled(2.0)) != digest(Scaled(3.0))
        assert digest(Scaled(2.0).__call__) == digest(Scaled(2.0).__call__) != digest(Scaled(3.0).__call__)


class TestLibraries:
    def test_they_are_known_by_their_version(self) -> None:
        assert is_library("torch.nn") and is_library("numpy") and is_library("json") and is_library("torchvision")
        assert not is_library("rambo_ray.own") and not is_library("__main__") and not is_library(__name__)
        assert version("numpy") == np.__version__
        assert digest(resnet18) == digest(resnet18)

    def test_an_estimator_by_its_settings(self) -> None:
        known = digest(LogisticRegression(C=0.5))
        assert known == digest(LogisticRegression(C=0.5)) != digest(LogisticRegression(C=0.6))
        fitted = LogisticRegression(C=0.5).fit([[0.0], [1.0]], [0, 1])
        assert digest(fitted) == known  # what it has learned is thrown away before each fit

    def test_a_pipeline_by_that_of_its_steps(self) -> None:
        one, two, three = (make_pipeline(StandardScaler(), LogisticRegression(C=c)) for c in (1.0, 2.0, 1.0))
        assert digest(one) == digest(three) != digest(two)


def test_it_is_the_same_in_every_process(tmp_path: Path) -> None:
    (tmp_path / "own_digest_once.py").write_text(
        "NAMES = {'b', 'a', 'c'}\n"
        "def make(shape, classes, options={'x': 1, 'y': (2, 3)}):\n    return NAMES, [helper(i) for i in range(3)]\n"
        "def helper(i):\n    return i\n"
    )
    code = "import own_digest_once as m; from rambo_ray.own.digest import digest; print(digest(m.make))"
    root = str(Path(__file__).parents[2])
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": f"{tmp_path}:{root}", "PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1 and len(said.pop().strip()) == 16
