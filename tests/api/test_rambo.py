"""What can be wrong with a call of Rambo is said in a line, before Ray or anything heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rambo_ray
from rambo_ray import Rambo, UserError
from rambo_ray.data import held

X = np.random.default_rng(0).random((40, 8, 8))
Y = np.arange(40) % 4
LABELED, VALIDATION, POOL = (X[:10], Y[:10]), (X[10:20], Y[10:20]), X[20:]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"budget": 0}, "acquisition.budget=0"),
        ({"budget": "500"}, "acquisition.budget='500'"),
        (
            {"overrides": {"acquisition.bugdet": 5}},
            "acquisition.bugdet: unknown key; did you mean 'acquisition.budget'?",
        ),
        ({"budget": 5, "overrides": {"acquisition.budget": 6}}, "also given as an argument, with 5; give it once"),
        ({"config": "digist"}, "did you mean 'digits'?"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_a_configuration_that_cannot_be(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        Rambo(**keys)
    assert words in str(caught.value) and "\n" not in str(caught.value) and isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("given", "keys", "words"),
    [
        ((X[:10], VALIDATION, POOL), {}, "labeled: a ndarray; give (X, y)"),
        ((LABELED, None, POOL), {}, "validation: not given; give it, or set the override data.validation_share"),
        ((LABELED, VALIDATION, None), {}, "pool: not given"),
        ((None, VALIDATION, POOL), {}, "labeled: not given"),
        ((LABELED, (X[10:20], Y[:9]), POOL), {}, "10 images or embeddings, but 9 labels"),
        ((LABELED, VALIDATION, 16 * POOL), {}, "must be in [0, 1]"),
        ((LABELED, VALIDATION, POOL[:, :7]), {}, "7"),
        ((LABELED, VALIDATION, X[5:]), {}, "are also in data.labeled"),
        ((LABELED, VALIDATION, POOL), {"ids": ["a"]}, "20 images or embeddings, but 1 ids"),
        ((LABELED, VALIDATION, "no/such/folder"), {}, "data.pool=no/such/folder: no such file or folder"),
        ((LABELED, VALIDATION, "no/such/folder"), {"ids": ["a"]}, "ids: pool is a path"),
        ((LABELED, (X[10:20], Y[10:20] + 1), POOL), {}, "class '4' is not among"),
        ((LABELED, VALIDATION, POOL), {"class_names": ["a", "b"]}, "label 3 is beyond the 2 class_names"),
    ],
)
def test_data_that_cannot_be(given: Any, keys: Any, words: str, tmp_path: Path) -> None:
    before = dict(held._held)
    with pytest.raises(UserError) as caught:
        Rambo(budget=5, output=tmp_path / "run", quiet=True).select(*given, **keys)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists() and held._held == before


@pytest.mark.parametrize(
    ("call", "keys", "words"),
    [
        ("plan", {"folds": -1}, "folds=-1: must not be negative"),
        ("backtest", {"folds": 1}, "folds=1: must be 2 or more"),
        ("backtest", {"methods": ["bagde"]}, "did you mean 'badge'?"),
        ("backtest", {"ids": ["a"]}, "20 images or embeddings, but 1 ids"),
    ],
)
def test_what_cannot_be_planned_or_backtested(call: str, keys: dict[str, Any], words: str, tmp_path: Path) -> None:
    before = dict(held._held)
    with pytest.raises(UserError) as caught:
        getattr(Rambo(budget=5, quiet=True), call)(LABELED, VALIDATION, POOL, **keys)
    assert words in str(caught.value) and "\n" not in str(caught.value) and held._held == before


def test_the_package_s_names() -> None:
    assert set(rambo_ray.__all__) <= set(dir(rambo_ray))
    for name in rambo_ray.__all__:
        assert getattr(rambo_ray, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'rambo_x'"):
        _ = rambo_ray.rambo_x  # type: ignore[attr-defined]


def test_importing_the_package_is_light() -> None:
    code = "import sys, rambo_ray; print([name for name in ('torch', 'ray', 'numpy') if name in sys.modules])"
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": root, "PATH": ""}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
