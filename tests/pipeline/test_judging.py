"""How u_hat is judged on held-out sets, when it is followed, and which candidates a configuration asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

from rambo_ray.acquisition.candidates import FILTER
from rambo_ray.config import loading
from rambo_ray.config.schema import AcquisitionConfig
from rambo_ray.pipeline import judging
from rambo_ray.pipeline.judging import PoolEvidence
from rambo_ray.utility_model.evidence import EvidenceScale
from rambo_ray.utility_model.network import Architecture, initialise
from rambo_ray.utility_model.quadratic import QuadraticModel
from rambo_ray.utility_model.ranking import RankingQuality, set_scores
from rambo_ray.utility_samples import mock_rounds, sampling
from rambo_ray.utility_samples.mock_rounds import MockPool
from rambo_ray.utility_samples.sampling import Measurement, UtilitySample

K, V, F = 6, 30, 3
POOL = MockPool.of(K, np.arange(V) % 3, 0, 0)


def measured(samples: list[UtilitySample]) -> list[UtilitySample]:
    return [
        s.measured(Measurement(*[i / 100] * 3, 0.0, 0.0, 0.0, 1.0, 1, 1, 0.1), "accuracy")
        for i, s in enumerate(samples)
    ]


def quadratic() -> QuadraticModel:
    generator = np.random.default_rng(0)
    return QuadraticModel(generator.normal(size=F), generator.normal(size=F), np.eye(2 * F), 0.3, (0.0, 0.1), 0.1, 0.5)


class TestHeldOut:
    def test_the_quadratic_scores_a_round_s_purchase(self) -> None:
        samples = measured(mock_rounds.held_out(8, (9, 11), POOL, None, 0, "who"))
        items = np.random.default_rng(1).normal(size=(V, F)).astype(np.float32)
        found = judging.held_out(samples, quadratic(), items, POOL, of_evidence=True)
        for sample, score, size in zip(samples, found.scores, found.sizes, strict=True):
            bought = items[np.array(sample.indices[K:]) - K].astype(float)
            expected = quadratic().score(bought.mean(axis=0)[None], np.array([float(len(bought))]))
            assert score == pytest.approx(expected[0]) and size == len(bought)
        assert found.utilities.tolist() == [s.utility for s in samples]
        assert set(found.groups) == {(fold, K + size) for fold in (0, 1) for size in (9, 11)}

    @pytest.mark.parametrize("of_evidence", [True, False])
    def test_the_network_scores_what_it_was_fitted_to(self, of_evidence: bool) -> None:
        model = initialise(Architecture("vector", (F,), 2, 8, 5, 4, 0.0, "ranknet"), seed=1).eval()
        samples = measured(mock_rounds.held_out(4, (9, 11), POOL, None, 0, "who"))
        images = np.random.default_rng(1).normal(size=(V if of_evidence else K + V, F)).astype(np.float32)
        found = judging.held_out(samples, model, images, POOL, of_evidence)
        subsets = [tuple(i - K for i in s.indices[K:]) if of_evidence else s.indices for s in samples]
        assert np.array_equal(found.scores, set_scores(model, images, subsets))

    def test_subsets_and_rounds_are_not_compared_with_each_other(self) -> None:
        model = initialise(Architecture("vector", (F,), 2, 8, 5, 4, 0.0, "ranknet"), seed=1).eval()
        subsets = sampling.held_out_samples(3, K, 0, "who")
        samples = measured([*subsets, *mock_rounds.held_out(4, (9, 11), POOL, None, 0, "who")])
        found = judging.held_out(samples, model, np.zeros((K + V, F), dtype=np.float32), POOL, False)
        assert len({group for group in found.groups if group[0] == -1}) == 1  # type: ignore[index]
        assert len(set(found.groups)) == 5

    def test_of_nothing(self) -> None:
        found = judging.held_out([], quadratic(), np.zeros((V, F), dtype=np.float32), POOL, True).quality()
        assert found.subsets == 0 and math.isnan(found.pairwise_accuracy)


def quality(accuracy: float, subsets: int = 40, most: float = 0.6) -> RankingQuality:
    return RankingQuality(accuracy, 0.0, subsets, 10, chance=(0.4, most))


class TestFollowsFilter:
    @pytest.mark.parametrize(
        ("found", "follows"),
        [
            (quality(0.61), False),
            (quality(0.6), True),  # no better than chance can be
            (quality(0.5), True),
            (quality(0.2), True),
            (quality(math.nan), True),  # all held-out rounds are worth the same
            (RankingQuality(math.nan, math.nan, 1, 10), True),
            (RankingQuality(math.nan, math.nan, 0, 0), False),  # nobody asked
        ],
    )
    def test_a_u_hat_at_chance_is_not_followed(self, found: RankingQuality, follows: bool) -> None:
        assert judging.follows_filter(loading.load(None), found) is follows

    def test_the_paper_s_u_hat_always_is(self) -> None:
        for accuracy in (0.9, 0.5, 0.1, math.nan):
            assert not judging.follows_filter(loading.load(None, ["method=paper"]), quality(accuracy))


class Flat:
    """A judge that knows no direction."""

    def slopes(self, rows: np.ndarray) -> np.ndarray:
        return np.zeros(len(rows))

    def scores(self, batches: np.ndarray) -> np.ndarray:
        return np.zeros(len(batches))

    def acquired(self, batch: np.ndarray) -> None:
        pass


class TestGenerator:
    @pytest.mark.parametrize(
        ("candidates", "kinds", "asked"),
        [
            ("partition", {"partition"}, 0),
            ("tilted", {FILTER, "tilted at 0.5", "tilted at 2"}, 0),
            ("strategies", {"a", "b"}, 1),
            ("mixed", {"partition", FILTER, "tilted at 0.5", "tilted at 2", "a", "b"}, 1),
        ],
    )
    def test_families_by_name(self, candidates: str, kinds: set[str], asked: int) -> None:
        """Other strategies are asked, which costs, only where they have a say, and once for all steps."""
        calls: list[int] = []

        def orders() -> Mapping[str, np.ndarray]:
            calls.append(1)
            return {"a": np.arange(20), "b": np.arange(20)[::-1]}

        ask = AcquisitionConfig.model_validate(
            {"candidates": candidates, "temperatures": [0.5, 2.0], "draws": 2, "budget": 8, "batch_size": 4}
        )
        generate = judging.generator(ask, Flat(), orders)
        for step in range(2):
            found = generate(np.arange(20), 4, np.random.default_rng(step))
            assert set(found.kinds) == kinds
        assert len(calls) == asked


class TestPoolEvidence:
    def test_compared_by_hand(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(judging, "COMPARED", 10)
        scale = EvidenceScale(1.0, 1.0, np.array([1.0, 2.0]), np.array([2.0, 4.0]))
        numbers = np.random.default_rng(0).normal(size=(100, 2))
        asked: list[int] = []

        def of(positions: np.ndarray) -> PoolEvidence:
            asked.extend(positions.tolist())
            return PoolEvidence(numbers[positions], scale)

        picked, filtered = np.array([5, 3, 8]), np.arange(50)[::-1]
        found = judging.compared(picked, filtered, np.arange(100), of)
        own = numbers * [2, 4] + [1, 2]
        assert np.allclose(found.picked, own[picked].mean(axis=0))
        every = np.linspace(0, 49, 10).round().astype(int)
        assert np.allclose(found.filtered, own[filtered[every]].mean(axis=0))
        assert np.allclose(found.pool, own[np.linspace(0, 99, 10).round().astype(int)].mean(axis=0))
        assert len(asked) == len(set(asked)) <= 23  # nobody is asked of twice

    def test_takes_rows_and_gives_posteriors_back(self) -> None:
        scale = EvidenceScale(1.0, 1.0, np.array([0.5, 0.5, 9.0]), np.array([0.1, 0.1, 2.0]))
        made = PoolEvidence(np.array([[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]]), scale)
        assert np.allclose(made.posterior(2), [[0.6, 0.4], [0.5, 0.5]])
        assert np.array_equal(made.take(np.array([1])).numbers, made.numbers[1:])
