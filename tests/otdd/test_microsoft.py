"""The adapter to Microsoft's otdd: with that package where it is installed, and with one that looks like it."""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import Any

import numpy as np
import pytest
import torch

from rambo_ray import otdd
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data import datasets
from rambo_ray.errors import UserError
from rambo_ray.otdd import microsoft
from rambo_ray.otdd.microsoft import MicrosoftTransport
from rambo_ray.pipeline import plan
from rambo_ray.utility_samples.measuring import MeasurementSettings


def otdd_is_there() -> bool:
    """Whether the package is there; a module of the same name, such as a benchmark of ours, is not it."""
    try:
        return importlib.util.find_spec("otdd.pytorch.distance") is not None
    except ModuleNotFoundError:
        return False


ABSENT = "Microsoft's otdd is not installed: it is on no package index"


@pytest.mark.skipif(not otdd_is_there(), reason=ABSENT)
@pytest.mark.parametrize("method", otdd.METHODS)
def test_values_are_those_of_the_builtin_reference_solver(digits, method: str) -> None:
    features, labels = digits
    data = (features[:300], labels[:300], features[300:420], labels[300:420])
    theirs = MicrosoftTransport(*data, method=method)
    ours = otdd.Transport(*data, method=method, solver="reference", min_class_count=2)
    for seed in range(3):
        subset = np.random.default_rng(seed).choice(300, 60 + seed, replace=False)
        assert theirs.distance(subset) == pytest.approx(ours.distance(subset), rel=1e-6)


class DatasetDistance:
    """Has the attributes that the adapter fills, and computes the distance by the builtin's definition of it."""

    made: list[DatasetDistance] = []

    def __init__(self, D1: Any, D2: Any, **terms: Any) -> None:
        self.terms, self.pairs = terms, (D1.tensors, D2.tensors)
        self._pwlabel_stats_2: Any = None
        self.Means, self.Covs = [None, None], [None, None]
        DatasetDistance.made.append(self)

    def distance(self, maxsamples: int) -> torch.Tensor:
        (x, y), (val_x, val_y) = self.pairs
        assert maxsamples >= max(len(x), len(val_x)), "nothing is left out at random"
        assert torch.equal(self.X1, x) and torch.equal(self.X2, val_x) and torch.equal(self.Y1, y)
        classes = int(y.max()) + 1
        assert torch.equal(torch.unique(y), torch.arange(classes)) and torch.equal(self.Y2, val_y + classes)
        assert self.terms["precision"] == "double" and x.dtype == torch.float64
        symmetric = torch.eye(3, dtype=torch.float64)
        values, _ = symmetric.symeig(eigenvectors=True)  # type: ignore[operator]
        assert values.tolist() == [1, 1, 1]
        if self.terms["inner_ot_method"] == "gaussian_approx":
            for mean, covariance, a, b in zip(self.Means, self.Covs, (x, val_x), (y, val_y), strict=True):
                for number in range(int(b.max()) + 1):
                    own = a[b == number].numpy()
                    assert np.allclose(mean[number], own.mean(0)) and np.allclose(covariance[number], np.cov(own.T))
        self._pwlabel_stats_2 = self._pwlabel_stats_2 or {"dlabs": len(DatasetDistance.made)}
        method = {"gaussian_approx": "gaussian", "exact": "exact"}[self.terms["inner_ot_method"]]
        made = otdd.Transport(
            x.numpy(), y.numpy(), val_x.numpy(), val_y.numpy(), method=method, solver="reference",
            entreg=self.terms["entreg"], min_class_count=self.terms["min_labelcount"],
        )  # fmt: skip
        return torch.tensor(made.distance(np.arange(len(x))), dtype=torch.float64)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that looks like Microsoft's."""
    DatasetDistance.made = []
    for name in ("otdd", "otdd.pytorch", "otdd.pytorch.distance"):
        module = types.ModuleType(name)
        module.__spec__ = importlib.util.spec_from_loader(name, None)
        module.__path__ = []
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["otdd.pytorch.distance"].DatasetDistance = DatasetDistance  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", otdd.METHODS)
def test_it_is_handed_what_it_expects(installed: None, digits, method: str) -> None:
    features, labels = digits
    data = (features[:200], labels[:200], features[200:290], labels[200:290])
    names = np.array(list("qwertyuiop"))[labels]  # labels of any kind, in another order than their numbers
    theirs = MicrosoftTransport(data[0], names[:200], data[2], names[200:290], method=method, entreg=0.3)
    ours = otdd.Transport(*data, method=method, entreg=0.3, solver="reference", min_class_count=2)
    for subset in (np.arange(60), np.arange(100, 137), np.array([*range(30), 150])):
        assert theirs.distance(subset) == pytest.approx(ours.distance(subset), rel=1e-10)
    assert [made._pwlabel_stats_2["dlabs"] for made in DatasetDistance.made] == [1, 1, 1], "once for the validation set"
    before, solver = torch.random.get_rng_state(), torch.Tensor.__dict__.get("symeig")
    theirs.distance(np.arange(60))
    assert torch.equal(torch.random.get_rng_state(), before) and torch.Tensor.__dict__.get("symeig") is solver


def test_a_subset_without_a_class_of_two(installed: None) -> None:
    points = np.arange(12.0).reshape(6, 2)
    transport = MicrosoftTransport(points, [0, 1, 2, 0, 1, 2], points, [0, 0, 0, 1, 1, 1])
    with pytest.raises(UserError, match="no class has min_class_count=2 samples"):
        transport.distance([0, 1, 2])


class TestAtTheDoor:
    @pytest.mark.skipif(otdd_is_there(), reason="Microsoft's otdd is installed")
    def test_absent(self) -> None:
        config = loading.load(None, ["method=paper", "utility_samples.otdd_backend=microsoft"])
        with pytest.raises(UserError) as error:
            plan.make(config, datasets.load(config.data, 0)[0])
        assert str(error.value) == (
            "utility_samples.otdd_backend=microsoft: Microsoft's otdd is not installed; pip install "
            "git+https://github.com/microsoft/otdd, or set utility_samples.otdd_backend=builtin"
        )

    @pytest.mark.skipif(otdd_is_there(), reason="Microsoft's otdd is installed")
    def test_it_is_not_asked_for_where_no_distance_is_computed(self) -> None:
        config = loading.load(None, ["utility_samples.otdd_backend=microsoft", "acquisition.budget=50"])
        assert plan.make(config, datasets.load(config.data, 0)[0]).measuring.otdd_backend == "microsoft"

    def test_one_that_runs(self, installed: None) -> None:
        for method in otdd.METHODS:
            microsoft.check(method)

    def test_one_that_does_not(self, installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: Any, **__: Any) -> None:
            raise ImportError("cannot import name 'Munkres'\nfrom somewhere")

        monkeypatch.setattr(sys.modules["otdd.pytorch.distance"], "DatasetDistance", broken)
        with pytest.raises(UserError) as error:
            microsoft.check("gaussian")
        assert "does not run (ImportError: cannot import name 'Munkres' from somewhere); repair it" in str(error.value)

    def test_another_package_of_that_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module = types.ModuleType("otdd")
        module.__path__ = []
        monkeypatch.setitem(sys.modules, "otdd", module)
        with pytest.raises(UserError, match="Microsoft's otdd is not installed"):
            microsoft.check("gaussian")


class TestIdentity:
    def settings(self, *overrides: str) -> MeasurementSettings:
        config = loading.load(None, ["method=paper", *overrides])
        problem, _ = datasets.load(config.data, 0)
        return MeasurementSettings.from_config(config, plan.training_settings(config, problem))

    def test_the_backend_is_in_it_only_where_it_is_not_the_builtin(self) -> None:
        known, other = self.settings(), self.settings("utility_samples.otdd_backend=microsoft")
        assert '["gaussian", "converged", 0.1]' in known.identity("x")
        assert '["gaussian", "microsoft", 0.1]' in other.identity("x")

    def test_nor_does_it_name_other_runs(self) -> None:
        assert "utility_samples.otdd_backend" not in loading.relevant(Config())
        other = loading.load(None, ["utility_samples.otdd_backend=microsoft"])
        assert loading.relevant(other)["utility_samples.otdd_backend"] == "microsoft"
