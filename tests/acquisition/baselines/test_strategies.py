"""What holds for every strategy, whatever it looks for; and what inputs is refused."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st

from rambo_ray.acquisition.baselines import NESTED, STRATEGIES, StrategyInputs
from rambo_ray.acquisition.baselines.inputs import check_budget, residuals
from rambo_ray.classifier.prediction import margins as margins_of_training
from rambo_ray.classifier.probabilities import margins, probabilities

from .drawn_inputs import inputs, of_pool, permuted

every = pytest.mark.parametrize("name", sorted(STRATEGIES))


def pick(name: str, given: StrategyInputs, budget: int, seed: int = 0) -> np.ndarray:
    """A selection, checked for what any selection must be."""
    picked = STRATEGIES[name](given, budget, np.random.default_rng(seed))
    assert isinstance(picked, np.ndarray) and picked.dtype == np.int64 and picked.shape == (budget,)
    assert len(set(picked.tolist())) == budget
    assert budget == 0 or 0 <= picked.min() <= picked.max() < len(given)
    return picked


@st.composite
def drawn(draw: st.DrawFn) -> tuple[StrategyInputs, int, int]:
    """StrategyInputs, budget and seed; embeddings on a coarse grid, so that images coincide."""
    n = draw(st.integers(1, 40))
    made = inputs(
        n,
        k=draw(st.integers(0, 6)),
        v=draw(st.integers(1, 5)),
        classes=draw(st.integers(2, 4)),
        width=draw(st.integers(1, 5)),
        seed=draw(st.integers(0, 1000)),
    )
    if draw(st.booleans()):
        names = [field.name for field in fields(made) if "labels" not in field.name]
        made = replace(made, **{name: np.round(getattr(made, name)) for name in names})
    return made, draw(st.integers(0, n)), draw(st.integers(0, 2**32))


@every
class TestOfAnySelection:
    @how(max_examples=30)
    @given(drawn())
    def test_distinct_positions_the_same_for_a_seed(self, name: str, case: tuple[StrategyInputs, int, int]) -> None:
        given, budget, seed = case
        before = {field.name: getattr(given, field.name).copy() for field in fields(given)}
        picked = pick(name, given, budget, seed)
        assert pick(name, given, budget, seed).tolist() == picked.tolist()
        for key, array in before.items():
            assert (getattr(given, key) == array).all(), f"{key} was written to"

    @how(max_examples=30)
    @given(drawn())
    def test_a_smaller_budget_is_a_prefix(self, name: str, case: tuple[StrategyInputs, int, int]) -> None:
        given, budget, seed = case
        whole = pick(name, given, len(given), seed)
        assert sorted(whole.tolist()) == list(range(len(given)))
        if name in NESTED:
            assert pick(name, given, budget, seed).tolist() == whole[:budget].tolist()

    @pytest.mark.parametrize("k", [0, 3])
    @pytest.mark.parametrize("value", [0.0, 1.0, -2.5, 1e18])
    def test_images_that_all_coincide(self, name: str, k: int, value: float) -> None:
        given = of_pool(np.full((30, 4), value), labeled=np.full((k, 4), value))
        for budget in (0, 1, 7, 30):
            pick(name, given, budget)

    def test_one_image_and_none(self, name: str) -> None:
        assert pick(name, inputs(1), 1).tolist() == [0]
        assert pick(name, inputs(0), 0).tolist() == []

    @pytest.mark.parametrize("k", [0, 4])
    def test_logits_far_from_zero(self, name: str, k: int) -> None:
        given = inputs(25, k=k)
        given = replace(given, logits=given.logits * 1e30, validation_logits=given.validation_logits * 1e30)
        pick(name, given, 25)

    def test_budgets_out_of_range(self, name: str) -> None:
        with pytest.raises(ValueError, match="budget=6: exceeds the pool's 5 images"):
            pick(name, inputs(5), 6)
        with pytest.raises(ValueError, match="budget=-1: must not be negative"):
            pick(name, inputs(5), -1)


class TestOrderOfThePool:
    # Those that draw nothing from the generator, and CoreSet, which does not with images to start from.
    @pytest.mark.parametrize("name", ["margin", "entropy", "least_confidence", "coreset", "glister"])
    def test_does_not_matter(self, name: str) -> None:
        given, order = inputs(40, k=3), np.random.default_rng(5).permutation(40)
        assert order[pick(name, permuted(given, order), 15)].tolist() == pick(name, given, 15).tolist()

    @pytest.mark.parametrize("name", ["random", "badge", "cluster_margin", "probcover"])
    def test_the_generator_matters(self, name: str) -> None:
        given = inputs(200)
        assert len({tuple(pick(name, given, 60, seed).tolist()) for seed in range(4)}) > 1

    def test_random_favours_nobody(self) -> None:
        often = np.zeros(10)
        for seed in range(3000):
            often[pick("random", inputs(10), 3, seed)] += 1
        assert np.abs(often / 3000 - 0.3).max() < 5 * np.sqrt(0.3 * 0.7 / 3000)


class TestEvidence:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("name", [f.name for f in fields(StrategyInputs) if "labels" not in f.name])
    def test_values_that_are_not_finite(self, name: str, bad: float) -> None:
        array = getattr(inputs(6), name).copy()
        array[2, 1] = bad
        with pytest.raises(ValueError, match=f"^{name}: 1 of {array.size} values are not finite$"):
            replace(inputs(6), **{name: array})

    @pytest.mark.parametrize(
        "name",
        ["embeddings", "labeled_embeddings", "labeled_logits", "validation_embeddings", "validation_logits"],
    )
    def test_shapes_that_do_not_fit(self, name: str) -> None:
        array = getattr(inputs(6), name)
        for other in (array[:-1], array[:, :-1], array[:, 0]):
            with pytest.raises(ValueError, match=r"^\w+: shape .* (fits the other arrays|axes are needed)$"):
                replace(inputs(6), **{name: other})

    @pytest.mark.parametrize("name", ["labels", "validation_labels"])
    def test_labels(self, name: str) -> None:
        array = getattr(inputs(6), name)
        for bad in (array + 3, array - 3, array.astype(np.float64)):
            with pytest.raises(ValueError, match=f"^{name}: .* labels must be integers in 0..2$"):
                replace(inputs(6), **{name: bad})

    def test_one_class(self) -> None:
        with pytest.raises(ValueError, match=r"logits: shape \(3, 1\); at least two classes"):
            inputs(3, classes=1)


class TestParts:
    def test_probabilities(self) -> None:
        found = probabilities(np.array([[0.0, np.log(3.0)], [1e30, -1e30]], dtype=np.float64))
        assert found == pytest.approx(np.array([[0.25, 0.75], [1.0, 0.0]]))

    def test_residuals_of_a_confident_image(self) -> None:
        # 1 - p_max is 0 in float64 here, and the gradient must not be.
        found = residuals(np.array([[50.0, 0.0, 0.0]]), np.array([0]))[0]
        assert found == pytest.approx(np.exp(-50) * np.array([-2, 1, 1]), rel=1e-12, abs=0)

    def test_margins_are_those_of_training(self) -> None:
        logits = inputs(50, classes=5).logits
        assert margins(logits).astype(np.float32).tolist() == margins_of_training(logits).tolist()

    def test_check_budget(self) -> None:
        check_budget(0, 0)
        check_budget(3, 3)
