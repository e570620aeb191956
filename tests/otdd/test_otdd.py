"""The fast dataset distance against closed forms, against its slow oracle, and at its edges."""

from __future__ import annotations

import subprocess
import sys
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from rambo_ray import otdd
from rambo_ray.errors import RunError, UserError
from rambo_ray.otdd import newton, sinkhorn

from . import reference_otdd as oracle


def problem(seed, sizes=(5, 3, 8), val_sizes=(6, 9), dimension=4, spread=1.0):
    """A pool, its labels, a validation set and its labels: Gaussian classes around random centres."""
    rng = np.random.default_rng(seed)

    def side(counts):
        labels = np.repeat(np.arange(len(counts)), counts)
        centres = rng.normal(size=(len(counts), dimension)) * 2
        return (centres[labels] + spread * rng.normal(size=(len(labels), dimension))), labels

    return *side(sizes), *side(val_sizes)


def one(x, x_labels, y, y_labels, **terms):
    return otdd.distances(x, x_labels, [np.arange(len(x))], y, y_labels, **terms)[0]


# Closed forms


def test_label_distance_is_the_gaussian_formula():
    x, x_labels, y, y_labels = problem(0, sizes=(30,), val_sizes=(25,), dimension=3)
    a, b = np.cov(x.T), np.cov(y.T)
    root = sqrtm(a)
    bures = np.trace(a + b - 2 * np.real(sqrtm(root @ b @ root)))
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + bures
    matrix = otdd.Transport(x, x_labels, y, y_labels).label_distances(np.arange(30))
    np.testing.assert_allclose(matrix, [[0, expected], [expected, 0]], rtol=1e-10)


@pytest.mark.parametrize("solver", otdd.SOLVERS)
@pytest.mark.parametrize("method", otdd.METHODS)
def test_point_masses(method, solver):
    """All samples at one place on each side: |x - y|^2 for features and labels, halved and added."""
    x, y = np.full((4, 3), 1.0), np.full((6, 3), 3.0)
    value = one(x, np.zeros(4), y, np.zeros(6), method=method, solver=solver)
    assert value == pytest.approx(12.0, rel=1e-12)


@pytest.mark.parametrize("solver", otdd.SOLVERS)
@pytest.mark.parametrize("method", otdd.METHODS)
def test_one_image_everywhere(method, solver):
    """A box of size 0 has no start temperature; classes and sets still coincide."""
    x, labels = np.ones((6, 3)), np.array([0, 0, 0, 1, 1, 1])
    transport = otdd.Transport(x, labels, x, labels, method=method, solver=solver)
    assert np.abs(transport.label_distances(np.arange(6))).max() < 1e-12
    assert transport.distance(np.arange(6)) == pytest.approx(0, abs=1e-12)


def test_emd_is_the_best_permutation():
    x, _, y, _ = problem(3, sizes=(6,), val_sizes=(6,))
    labels = np.array([0, 0, 1, 1, 2, 2])
    transport = otdd.Transport(x, labels, y, labels, solver="emd")
    w = transport.label_distances(np.arange(6))[:3, 3:]
    cost = (oracle.squared_distances(x, y) + w[np.ix_(labels, labels)]) / 2
    best = min(cost[np.arange(6), list(p)].mean() for p in permutations(range(6)))
    assert transport.distance(np.arange(6)) == pytest.approx(best, rel=1e-10)


def test_small_regularisation_approaches_no_regularisation():
    data = problem(4)
    emd = one(*data, solver="emd")
    off = [abs(one(*data, entreg=e) - emd) for e in (0.1, 0.01, 0.001)]
    assert off[0] > off[1] > off[2] and off[2] < 1e-3 * emd


def test_two_by_two_fixed_point():
    """Against the root of a quadratic: with weights 1/2 the plan is [[p, q], [q, p]]."""
    cost = np.array([[0.0, 1.0], [1.0, 0.0]])
    f, g = newton.converged(cost, 0.5, 1e-12, 100)
    expected = -0.5 * np.log((1 + np.exp(-2)) / 2)
    assert f.mean() + g.mean() == pytest.approx(expected, rel=1e-12)
    assert 2 * newton.converged_self(cost, 0.5, 1e-12, 100).mean() == pytest.approx(expected, rel=1e-10)


# The oracle

TERMS = [
    {},
    {"debiased": False},
    {"entreg": 2.0, "inner_entreg": 0.5},
    {"inner_debiased": True},
    {"lambda_x": 0.3, "lambda_y": 2.0},
    {"lambda_x": 0.0},
    {"lambda_y": 0.0},
]
# Strong regularisation keeps the oracle's plain iteration short; `test_newton_reaches_the_fixed_point`
# has the weak ones.
ENTREG = {"reference": 0.1, "converged": 5.0, "emd": 0.1, "sinkhorn": 5.0}
SHAPES = {
    "plain": dict(),
    "larger subset class": dict(sizes=(40, 2, 3), val_sizes=(3, 2)),
    "very uneven": dict(sizes=(2, 50, 9, 2), val_sizes=(30, 2, 4)),
    "one class each": dict(sizes=(5,), val_sizes=(7,)),
    "more samples than features": dict(sizes=(20, 20), val_sizes=(20, 20), dimension=1),
    "fewer samples than features": dict(dimension=60),
    "wide apart": dict(spread=20.0),
}


@pytest.mark.parametrize("terms", TERMS, ids=str)
@pytest.mark.parametrize("method", otdd.METHODS)
@pytest.mark.parametrize("solver", ["reference", "converged"])
def test_terms_agree_with_the_oracle(solver, method, terms):
    data = problem(10)
    terms = dict(entreg=ENTREG[solver]) | terms
    expected = oracle.distance(*data, oracle.Plan(method=method, solver=solver, **terms))
    assert one(*data, method=method, solver=solver, **terms) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", otdd.METHODS)
@pytest.mark.parametrize("solver", otdd.SOLVERS)
def test_shapes_agree_with_the_oracle(solver, method, shape):
    data = problem(11, **SHAPES[shape])
    terms = dict(method=method, solver=solver, entreg=ENTREG[solver])
    by_pot = solver == "sinkhorn"  # to the same fixed point, less far
    expected = oracle.distance(*data, oracle.Plan(**(terms | {"solver": "converged"} if by_pot else terms)))
    assert one(*data, **terms) == pytest.approx(expected, rel=1e-6 if by_pot else 1e-8)


@pytest.mark.parametrize("method", otdd.METHODS)
@pytest.mark.parametrize("solver", ["reference", "converged"])
def test_singletons_kept_on_request(solver, method):
    data = problem(12, sizes=(1, 4, 1), val_sizes=(1, 6))
    expected = oracle.distance(*data, oracle.Plan(method=method, solver=solver, entreg=2.0), min_class_count=1)
    value = one(*data, method=method, solver=solver, entreg=2.0, min_class_count=1)
    assert value == pytest.approx(expected, rel=1e-8)
    cleaned = oracle.distance(*data, oracle.Plan(method=method, solver=solver, entreg=2.0), min_class_count=2)
    assert one(*data, method=method, solver=solver, entreg=2.0) == pytest.approx(cleaned, rel=1e-8)


def test_subsets_of_a_pool_agree_with_the_oracle():
    x, x_labels, y, y_labels = problem(13, sizes=(20, 15, 30, 1), val_sizes=(10, 12, 9))
    rng = np.random.default_rng(0)
    subsets = [rng.choice(len(x), size, replace=False) for size in (5, 12, 40, 66)]
    plan = oracle.Plan(solver="reference")
    values = otdd.distances(x, x_labels, subsets, y, y_labels, solver="reference")
    expected = [oracle.distance(x[s], x_labels[s], y, y_labels, plan) for s in subsets]
    np.testing.assert_allclose(values, expected, rtol=1e-8)


def test_wide_pools_cross_several_schedules():
    """The validation self term over scales with different numbers of temperatures."""
    x, x_labels, y, y_labels = problem(14, sizes=(30, 30))
    x = x * np.geomspace(0.1, 300, len(x))[np.random.default_rng(0).permutation(len(x)), None]
    transport = otdd.Transport(x, x_labels, y, y_labels, solver="reference")
    order = np.argsort(np.abs(x).max(1))
    for start in range(0, 54, 6):
        subset = order[start : start + 6]
        expected = oracle.distance(x[subset], x_labels[subset], y, y_labels, oracle.Plan(solver="reference"))
        assert transport.distance(subset) == pytest.approx(expected, rel=1e-8)


# Invariances


@pytest.mark.parametrize("method", otdd.METHODS)
@pytest.mark.parametrize("solver", otdd.SOLVERS)
def test_order_and_history_do_not_change_a_bit(solver, method):
    x, x_labels, y, y_labels = problem(20, sizes=(200, 150, 250))
    rng = np.random.default_rng(1)
    subsets = [rng.choice(len(x), 30, replace=False) for _ in range(4)]
    terms = dict(method=method, solver=solver, entreg=ENTREG[solver])
    transport = otdd.Transport(x, x_labels, y, y_labels, **terms)
    forward = transport.distances(subsets)
    other = otdd.Transport(x, x_labels, y, y_labels, **terms)
    backward = other.distances([rng.permutation(s) for s in subsets[::-1]])[::-1]
    assert forward.tolist() == backward.tolist()


@pytest.mark.parametrize("method", otdd.METHODS)
@pytest.mark.parametrize("solver", otdd.SOLVERS)
def test_class_names_do_not_matter(solver, method):
    x, x_labels, y, y_labels = problem(21)
    renamed = np.array(["pear", "apple", "fig"])[x_labels]
    terms = dict(method=method, solver=solver, entreg=ENTREG[solver])
    value = one(x, x_labels, y, y_labels, **terms)
    assert one(x, renamed, y, 7 - y_labels, **terms) == pytest.approx(value, rel=1e-10)


def test_translation_far_away():
    x, x_labels, y, y_labels = problem(22)
    assert one(x + 1e4, x_labels, y + 1e4, y_labels) == pytest.approx(one(x, x_labels, y, y_labels), rel=1e-8)


@pytest.mark.parametrize("solver", otdd.SOLVERS)
def test_identical_sets_are_at_distance_zero(solver):
    x, labels, _, _ = problem(23)
    assert one(x, labels, x, labels, solver=solver) == pytest.approx(0, abs=1e-9)
    if solver != "emd":
        unbiased = dict(method="exact", inner_debiased=True, solver=solver)
        assert one(x, labels, x, labels, **unbiased) == pytest.approx(0, abs=1e-9)
        assert one(x, labels, x, labels, method="exact", solver=solver) > 0.01


def test_without_cache_and_in_other_types():
    x, x_labels, y, y_labels = problem(24, sizes=(300, 300))
    subset = np.arange(0, 600, 13)
    value = otdd.distances(x, x_labels, [subset], y, y_labels)[0]
    assert otdd.distances(x, x_labels, [subset], y, y_labels, cache_bytes=0)[0] == pytest.approx(value, rel=1e-12)
    single = otdd.distances(x.astype(np.float32), x_labels, [list(subset)], y.astype(np.float32), y_labels)[0]
    assert single == pytest.approx(value, rel=1e-5)
    pixels, val_pixels = (np.clip(z * 20 + 128, 0, 255).astype(np.uint8) for z in (x, y))
    bytes_value = otdd.distances(pixels, x_labels, [subset], val_pixels, y_labels, solver="reference", entreg=50)
    as_floats = (pixels.astype(float), x_labels, [subset], val_pixels.astype(float), y_labels)
    assert bytes_value == pytest.approx(otdd.distances(*as_floats, solver="reference", entreg=50), rel=1e-12)


counts = st.lists(st.integers(2, 6), min_size=1, max_size=4).map(tuple)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=counts,
    val_sizes=counts,
    spread=st.floats(0.05, 5),
    entreg=st.sampled_from([0.03, 0.1, 1.0]),
)
def test_converged_divergence_is_symmetric_and_bounded(seed, sizes, val_sizes, spread, entreg):
    x, x_labels, y, y_labels = problem(seed, sizes, val_sizes, spread=spread)
    value = one(x, x_labels, y, y_labels, entreg=entreg, lambda_y=0.0)
    assert value >= -1e-9
    assert one(y, y_labels, x, x_labels, entreg=entreg, lambda_y=0.0) == pytest.approx(value, rel=1e-7, abs=1e-9)
    entropic = one(x, x_labels, y, y_labels, entreg=entreg, debiased=False)
    emd = one(x, x_labels, y, y_labels, solver="emd")
    assert emd - 1e-9 <= entropic <= emd + entreg * np.log(len(x) * len(y))


# Solvers


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 30),
    m=st.integers(1, 30),
    size=st.sampled_from([1e-3, 1.0, 30.0, 1000.0]),
)
def test_newton_reaches_the_fixed_point(seed, n, m, size):
    """A full update of either potential moves nothing, and the plan has the right marginals."""
    cost = np.random.default_rng(seed).exponential(size, (n, m))
    f, g = newton.converged(cost, 0.1, 1e-8, 1000)
    log_a, log_b = np.full(n, -np.log(n)), np.full(m, -np.log(m))
    np.testing.assert_allclose(oracle.softmin(cost, log_b + g / 0.1, 0.1), f, atol=2e-8)
    np.testing.assert_allclose(oracle.softmin(cost.T, log_a + f / 0.1, 0.1), g, atol=2e-8)


def test_iteration_limit_is_an_error_not_a_value():
    data = problem(30, sizes=(20, 20), val_sizes=(30, 20))
    with pytest.raises(otdd.ConvergenceError, match="subset 0 of 1.*max_iterations=2.*raise") as caught:
        one(*data, entreg=0.01, max_iterations=2)
    assert isinstance(caught.value, RunError) and "\n" not in str(caught.value)
    with pytest.raises(otdd.ConvergenceError, match="max_iterations=1"):
        one(*data, solver="emd", max_iterations=1)
    with pytest.raises(otdd.ConvergenceError, match="self term"):
        newton.converged_self(oracle.squared_distances(data[0], data[0]), 10.0, 1e-9, 2)


def test_annealing_survives_underflow():
    """Kernels whose direct exponential is 0 everywhere take the guarded way to the same numbers."""
    cost = np.array([[5000.0, 9000.0], [7000.0, 5000.0], [9000.0, 6000.0]])
    weights = np.full((1, 3), 1 / 3), np.full((1, 2), 1 / 2)
    f, g = sinkhorn.annealed(cost[None], *weights, np.array([0.2]), 0.1)
    expected = oracle.annealed(cost, 0.2, 0.1)
    np.testing.assert_allclose(f[0], expected[0], rtol=1e-12)
    np.testing.assert_allclose(g[0], expected[1], rtol=1e-12)


@pytest.mark.parametrize("scale", [0.01, 0.1, 0.31, 0.7, 3.0, 33.0, 0.1**0.5, 2 * 0.1**0.5])
def test_schedule(scale):
    values, active = sinkhorn.temperatures(np.array([scale, 20.0]), 0.1)
    assert values[active[:, 0], 0].tolist() == pytest.approx(oracle.temperatures(scale, 0.1))


# Errors


def wrong(**changes):
    x, x_labels, y, y_labels = problem(40)
    arguments = dict(features=x, labels=x_labels, subsets=[[0, 1, 2, 3]], val_features=y, val_labels=y_labels)
    return otdd.distances(**{**arguments, **changes})


def not_a_number(rows, columns):
    x = np.zeros((rows, columns))
    x[3, 1] = np.nan
    return x


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(method="gausian"), "method='gausian'.*did you mean 'gaussian'"),
        (dict(solver="simplex"), "solver='simplex'.*allowed: converged, emd, reference, sinkhorn"),
        (dict(subsets=[[0, 1], [0, 1, 16]]), r"subset 1 of 2: subset position 16: .*0\.\.15"),
        (dict(subsets=[[-1, 1]]), "subset position -1"),
        (dict(subsets=[[4, 2, 4]]), "subset position 4 comes twice"),
        (dict(subsets=[[]]), "non-empty"),
        (dict(subsets=[[0.5, 1.0]]), "integer positions"),
        (dict(subsets=[[0, 5]]), "subset: no class has min_class_count=2"),
        (dict(val_labels=np.arange(15)), "val_labels: no class has min_class_count=2"),
        (dict(features=not_a_number(16, 4)), "features row 3 is not finite"),
        (dict(val_features=not_a_number(15, 4)), "val_features row 3 is not finite"),
        (dict(labels=[0, 1]), r"labels of shape \(2,\).*\(16,\)"),
        (dict(features=np.zeros((16, 2, 2))), "must be a matrix"),
        (dict(val_features=np.zeros((15, 3))), "val_features has 3 columns, features 4"),
        (dict(entreg=0.0), "entreg=0.0: must be positive"),
        (dict(lambda_y=-1.0), "lambda_y=-1.0"),
        (dict(tolerance=float("nan")), "tolerance=nan"),
        (dict(max_iterations=0), "max_iterations=0"),
        (dict(min_class_count=0), "min_class_count=0"),
    ],
)
def test_wrong_arguments(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        wrong(**changes)
    assert isinstance(caught.value, ValueError) and "\n" not in str(caught.value)


def test_import_is_light():
    """Neither Ray nor torch nor POT until a solver needs it."""
    code = (
        "import sys, rambo_ray.otdd; found = {'ray', 'torch', 'ot'} & set(sys.modules); sys.exit(', '.join(found) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
