"""POT's solvers against the builtin ones, on real images."""

from __future__ import annotations

import numpy as np
import pytest

from rambo_ray import otdd
from rambo_ray.config import loading
from rambo_ray.otdd import ConvergenceError


def problem(digits, n: int = 40):
    features, labels = digits
    return features[:200], labels[:200], features[200:290], labels[200:290], np.arange(n) * 3


@pytest.mark.parametrize("method", otdd.METHODS)
@pytest.mark.parametrize("debiased", [True, False])
def test_sinkhorn_ends_where_the_builtin_does(digits, method: str, debiased: bool) -> None:
    *data, subset = problem(digits)
    terms = {"method": method, "debiased": debiased, "entreg": 0.5, "min_class_count": 1}
    ours = otdd.Transport(*data, solver="converged", **terms).distance(subset)
    pots = otdd.Transport(*data, solver="sinkhorn", **terms).distance(subset)
    assert pots == pytest.approx(ours, rel=1e-6)


def test_less_entropy_is_nearer_to_none(digits) -> None:
    *data, subset = problem(digits)
    exact = otdd.Transport(*data, solver="emd").distance(subset)
    away = [
        abs(otdd.Transport(*data, solver="sinkhorn", entreg=eps, debiased=False).distance(subset) - exact)
        for eps in (4.0, 1.0, 0.4)
    ]
    assert away == sorted(away, reverse=True)


def test_too_few_updates_are_an_error(digits) -> None:
    *data, subset = problem(digits)
    transport = otdd.Transport(*data, solver="sinkhorn", max_iterations=3)
    with pytest.raises(ConvergenceError, match="sinkhorn solver: weights are .* after max_iterations=3 updates; raise"):
        transport.distance(subset)


@pytest.mark.parametrize("solver", otdd.SOLVERS)
def test_each_is_a_value_of_the_key(solver: str) -> None:
    assert loading.load(None, [f"utility_samples.otdd_solver={solver}"]).utility_samples.otdd_solver == solver
