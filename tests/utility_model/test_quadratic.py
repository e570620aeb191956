"""The quadratic u_hat against planted ones, closed forms, another's ridge and finite differences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from rambo_ray import seeds
from rambo_ray.utility_model import quadratic
from rambo_ray.utility_model.quadratic import CROSS_VALIDATION, QuadraticInput, QuadraticModel

F = 4


def planted(pairs: int = 60, noise: float = 0.0, seed: int = 0) -> tuple[QuadraticInput, dict[str, np.ndarray | float]]:
    """Rounds in pairs of one size and fold, worth what a quadratic says, and that quadratic."""
    generator = np.random.default_rng(seed)
    truth = {"w": generator.normal(size=F), "a": -np.abs(generator.normal(size=F)), "e": 0.3, "c": 0.5, "fold": 0.07}
    sizes = np.repeat(generator.integers(5, 60, pairs), 2).astype(float)
    folds = np.repeat(np.arange(pairs) % 2, 2).astype(float)
    means = generator.normal(size=(2 * pairs, F)) * 0.6
    shape = means @ truth["w"] + means**2 @ truth["a"]
    utilities = truth["c"] + truth["fold"] * folds + truth["e"] * np.log(sizes) + np.sqrt(sizes) * shape
    utilities = utilities + noise * generator.normal(size=2 * pairs)
    return QuadraticInput(means, sizes, folds, utilities, np.ones(2 * pairs), seed), truth


def model(seed: int = 0) -> QuadraticModel:
    generator = np.random.default_rng(seed)
    root = generator.normal(size=(2 * F, 2 * F))
    return QuadraticModel(
        w=generator.normal(size=F), a=generator.normal(size=F), covariance=root @ root.T * 0.01, log_size=0.2,
        offsets=(0.4, 0.6), ridge=0.1, explained=0.5,
    )  # fmt: skip


class TestFit:
    def test_finds_a_planted_quadratic(self) -> None:
        task, truth = planted()
        found = quadratic.fit(task).model()
        assert found.ridge == min(quadratic.RIDGES) and found.explained > 0.9999
        assert np.allclose(found.w, truth["w"], atol=2e-3) and np.allclose(found.a, truth["a"], atol=2e-3)
        assert found.log_size == pytest.approx(truth["e"], abs=2e-3)
        assert found.offsets == (pytest.approx(0.5, abs=1e-2), pytest.approx(0.57, abs=1e-2))
        score = found.score(task.means, task.sizes)
        assert np.allclose(score - task.utilities, 0.035 - 0.07 * task.folds, atol=1e-2)  # but for the folds' offsets

    @pytest.mark.parametrize("weighted", [False, True])
    def test_solves_another_s_ridge(self, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """scikit-learn has no columns free of the ridge: they are projected out of all others beforehand."""
        task, _ = planted(noise=0.5)
        weights = np.random.default_rng(1).uniform(0.5, 2, len(task.utilities)) if weighted else task.weights
        monkeypatch.setattr(quadratic, "RIDGES", (0.03,))
        found = quadratic.fit(replace(task, weights=weights)).model()
        free = np.column_stack([np.ones(len(weights)), np.log(task.sizes), task.folds])
        shape = np.concatenate([task.means, task.means**2], axis=1) * np.sqrt(task.sizes)[:, None]
        scale = shape.std(axis=0)
        root = np.sqrt(weights / weights.sum())[:, None]
        projected = np.linalg.qr(root * free)[0]

        def out(columns: np.ndarray) -> np.ndarray:
            return columns - projected @ (projected.T @ columns)

        ridge = Ridge(alpha=0.03, fit_intercept=False, solver="cholesky")
        ridge.fit(out(root * shape / scale), out(root[:, 0] * task.utilities))
        assert np.allclose(np.concatenate([found.w, found.a]), ridge.coef_ / scale, rtol=1e-5, atol=1e-8)

    def test_weights_count_samples(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(quadratic, "RIDGES", (0.01,))
        task, _ = planted(20, noise=0.3)
        ignored = np.where(np.arange(40) < 30, 1.0, 0.0)
        wrong = np.where(ignored > 0, task.utilities, 100.0)
        one = quadratic.fit(replace(task, utilities=wrong, weights=ignored)).model()
        other = quadratic.fit(replace(task, weights=ignored)).model()
        # What has no weight has no say, however wrong it is.
        assert np.allclose(one.w, other.w) and np.allclose(one.a, other.a) and one.explained == other.explained

    def test_the_scale_of_a_number_does_not_matter(self) -> None:
        task, _ = planted(noise=0.3)
        unit = np.array([1.0, 10.0, 0.1, 3.0])
        found, scaled = (quadratic.fit(replace(task, means=task.means * u)).model() for u in (np.ones(F), unit))
        assert np.allclose(scaled.w * unit, found.w, rtol=1e-6) and np.allclose(scaled.a * unit**2, found.a, rtol=1e-6)

    def test_a_number_that_is_the_same_for_all_sets_stays_out(self) -> None:
        task, _ = planted(noise=0.1)
        means = task.means.copy()
        means[:, 2] = 0.0
        found = quadratic.fit(replace(task, means=means)).model()
        assert found.w[2] == found.a[2] == 0.0 and np.isfinite(found.covariance).all()

    def test_the_covariance_is_the_posterior_s(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of a Gaussian prior with the ridge's precision and noise of the cross-validated error's variance."""
        task, _ = planted(noise=0.4)
        monkeypatch.setattr(quadratic, "RIDGES", (0.02,))
        found = quadratic.fit(task).model()
        count = len(task.utilities)
        free = np.column_stack([np.ones(count), np.log(task.sizes), task.folds])
        shape = np.concatenate([task.means, task.means**2], axis=1) * np.sqrt(task.sizes)[:, None]
        noise = (1 - found.explained) * task.utilities.var()
        prior = count * 0.02 / noise * shape.std(axis=0) ** 2  # precision of each coefficient
        design = np.concatenate([free, shape], axis=1)
        precision = design.T @ design / noise + np.diag([0, 0, 0, *prior])
        assert np.allclose(found.covariance, np.linalg.inv(precision)[3:, 3:], rtol=1e-4)
        assert (np.linalg.eigvalsh(found.covariance) > 0).all()

    def test_the_error_that_it_claims_is_about_the_error_that_it_makes(self) -> None:
        inside = []
        for seed in range(40):
            task, truth = planted(40, noise=1.0, seed=seed)
            found = quadratic.fit(task).model()
            off = np.concatenate([found.w - truth["w"], found.a - truth["a"]])
            inside.append(np.abs(off) < 2 * np.sqrt(np.diag(found.covariance)))
        assert 0.85 < np.mean(inside) <= 1.0

    def test_shuffled_utilities_explain_nothing(self) -> None:
        task, _ = planted(100, noise=0.2)
        honest = quadratic.fit(task).model().explained
        generator = np.random.default_rng(3)
        shuffled = [
            quadratic.fit(replace(task, utilities=generator.permutation(task.utilities))).model().explained
            for _ in range(10)
        ]
        assert honest > 0.9 and np.mean(shuffled) < 0.02 and max(shuffled) < 0.1

    def test_utilities_that_are_all_the_same(self) -> None:
        task, _ = planted(10)
        found = quadratic.fit(replace(task, utilities=np.full(20, 0.5))).model()
        assert found.explained == 0.0 or abs(found.explained) < 1
        assert np.allclose(found.w, 0, atol=1e-6) and np.isfinite(found.covariance).all()

    def test_one_half_alone_will_do(self) -> None:
        task, _ = planted(30, noise=0.1)
        found = quadratic.fit(replace(task, folds=np.zeros(60))).model()
        assert np.isfinite([*found.w, *found.a, found.log_size, *found.offsets]).all()

    def test_pairs_stay_together_in_the_cross_validation(self, monkeypatch: pytest.MonkeyPatch) -> None:
        task, _ = planted(23)
        seen: list[np.ndarray] = []

        def spied(free: np.ndarray, shape: np.ndarray, of: QuadraticInput, part: np.ndarray, ridge: float) -> float:
            seen.append(part)
            return 1.0

        monkeypatch.setattr(quadratic, "_left_out", spied)
        quadratic.fit(task)
        part = seen[0]
        assert len(part) == 46 and (part[::2] == part[1::2]).all() and set(part) == set(range(CROSS_VALIDATION))
        assert np.ptp(np.bincount(part)) <= 2 and (part != np.repeat(np.arange(23) % CROSS_VALIDATION, 2)).any()

    def test_follows_its_seed(self) -> None:
        task, _ = planted(noise=0.5)
        one, again, other = (quadratic.fit(replace(task, seed=seed)).model() for seed in (0, 0, 1))
        assert one.explained == again.explained != other.explained

    @pytest.mark.parametrize("pairs", [0, 4])
    def test_too_few_pairs(self, pairs: int) -> None:
        with pytest.raises(ValueError, match=f"num_pairs={pairs}: the quadratic u_hat is fitted to at least 5 pairs"):
            quadratic.check(2 * pairs)
        quadratic.check(10)


class TestCautious:
    def test_without_caution_is_the_score(self) -> None:
        means, sizes = np.random.default_rng(0).normal(size=(9, F)), np.arange(5.0, 14.0)
        assert np.allclose(model().cautious(means, sizes, np.zeros(F), 0.0), model().score(means, sizes), rtol=1e-12)

    def test_takes_standard_errors_of_what_is_said_beyond_the_reference(self) -> None:
        made, reference = model(), np.full(F, 0.3)
        mean, size = np.array([[1.0, -0.5, 0.2, 0.7]]), np.array([9.0])
        moved = np.concatenate([mean[0] - reference, mean[0] ** 2 - reference**2])
        error = np.sqrt(moved @ made.covariance @ moved)
        expected = made.score(mean, size) - 2.5 * 3.0 * error
        assert made.cautious(mean, size, reference, 2.5) == pytest.approx(expected)
        # Nothing is uncertain of the reference itself.
        assert made.cautious(reference[None], size, reference, 2.5) == pytest.approx(made.score(reference[None], size))

    def test_with_enough_caution_the_reference_is_the_best(self) -> None:
        made, reference = model(), np.full(F, 0.1)
        means = np.concatenate([np.random.default_rng(1).normal(size=(50, F)), reference[None]])
        scores = made.cautious(means, np.full(51, 20.0), reference, 1e3)
        assert scores.argmax() == 50

    @settings(max_examples=30)
    @given(st.integers(0, 50), st.floats(0, 6))
    def test_the_slope_is_that_of_finite_differences(self, seed: int, caution: float) -> None:
        generator, made = np.random.default_rng(seed), model(seed)
        reference, mean = generator.normal(size=F), generator.normal(size=F)
        images = generator.normal(size=(6, F))
        step = 1e-5
        size = np.array([1.0])  # in units without sqrt|T|

        def at(where: np.ndarray) -> float:
            return float(made.cautious(where[None], size, reference, caution)[0])

        by_hand = np.array([(at(mean + step * d) - at(mean - step * d)) / (2 * step) for d in images])
        assert np.allclose(made.slope(mean, images, reference, caution), by_hand, rtol=1e-4, atol=1e-5)

    def test_at_the_reference_the_slope_is_that_of_the_score(self) -> None:
        made, reference = model(), np.array([0.5, -0.5, 0.0, 1.0])
        images = np.eye(F)
        found = made.slope(reference, images, reference, caution=4.0)
        assert np.allclose(found, made.w + 2 * made.a * reference) and np.isfinite(found).all()


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    found = quadratic.fit(planted(20, noise=0.1)[0]).model()
    quadratic.save(found, tmp_path, {"inputs": ["a", "b"]})
    again = quadratic.load(tmp_path)
    for name, value in vars(found).items():
        assert np.array_equal(getattr(again, name), value), name
    means, sizes = np.ones((2, F)), np.array([3.0, 4.0])
    assert np.array_equal(again.score(means, sizes), found.score(means, sizes))
    assert np.array_equal(
        again.slope(means[0], means, means[0] * 2, 1.0), found.slope(means[0], means, means[0] * 2, 1.0)
    )


def test_the_cross_validation_s_parts_are_of_a_stage_of_their_own() -> None:
    assert seeds.STAGES["quadratic"] == 18
