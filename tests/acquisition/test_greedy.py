"""Greedy-Margin against a brute-force reading of Fig. 2, lines 15 to 26."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray import seeds
from rambo_ray.acquisition import candidates, greedy
from rambo_ray.acquisition.candidates import Candidates
from rambo_ray.acquisition.greedy import JoinedSets, Selection, acquire, score_batches, smallest_margins
from rambo_ray.config.schema import AcquisitionConfig
from rambo_ray.utility_model.network import Architecture, UtilityModel, initialise

Score = Callable[[np.ndarray, int, np.ndarray], np.ndarray]


def model() -> UtilityModel:
    made = initialise(Architecture("vector", (6,), 2, 8, 5, 4, 0.0, "ranknet"), seed=1).double().eval()
    made.deviation.fill_(0.2)
    made.spread.fill_(0.1)
    return made


def images(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 6))


def encode(of: UtilityModel, inputs: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return of.encode(torch.from_numpy(inputs)).numpy()


def run(
    margins: np.ndarray, budget: int, b: int, m: int, seed: int = 0, score: Score | None = None, **keys: Any
) -> Selection:
    """`acquire` as a run calls it, on the pool of `images`; `score` replaces u_hat."""
    net, pool, labeled = model(), images(len(margins), 1), images(5, 2)
    ask = wanted(budget, b, m)
    encoded, own = encode(net, pool[greedy.candidates(margins, ask)]), encode(net, labeled)
    judge = JoinedSets(own, encoded, score or partial(score_batches, net, encoded), net)
    return acquire(margins, judge, ask, seed, **keys)


def wanted(budget: int, b: int, m: int) -> AcquisitionConfig:
    """What is to be acquired; tests may ask for what a configuration would refuse."""
    return AcquisitionConfig.model_construct(budget=budget, batch_size=b, margin_pool=m)


def brute_force(
    margins: np.ndarray, budget: int, b: int, m: int, seed: int
) -> tuple[list[int], list[int], list[list[float]]]:
    """Pool positions acquired, the step of each, and every step's scores; each set encoded from scratch."""
    net, pool, labeled = model(), images(len(margins), 1), images(5, 2)
    unlabeled, acquired, steps, scores = list(range(len(margins))), [], [], []
    step = 0
    while len(acquired) < budget:
        size = min(b, budget - len(acquired))
        by_margin = sorted(unlabeled, key=lambda i: (margins[i], i))[:m]  # line 22
        # Line 23, with the package's generator for this step: it permutes R in the order of its margins.
        order = [by_margin[i] for i in seeds.generator(seed, "partition", step).permutation(len(by_margin))]
        batches = [order[i * size : (i + 1) * size] for i in range(len(order) // size)]
        of_step = []
        for batch in batches:  # line 24
            members = np.concatenate([labeled, pool[acquired], pool[batch]])
            with torch.no_grad():
                pooled = net.encode(torch.from_numpy(members)).mean(dim=0, keepdim=True)
                of_step.append(net.score(net.embed(pooled)).item())
        best = sorted(batches[of_step.index(max(of_step))], key=lambda i: (margins[i], i))
        acquired += best  # lines 25 and 26
        unlabeled = [i for i in unlabeled if i not in best]
        steps += [step] * size
        scores.append(of_step)
        step += 1
    return acquired, steps, scores


class TestAgainstBruteForce:
    # b divides B; it does not; fewer than M are left; all of the pool; one batch only; M = b: no choice.
    @pytest.mark.parametrize(
        ("count", "budget", "b", "m"),
        [(30, 12, 4, 12), (30, 10, 4, 9), (20, 14, 3, 15), (17, 17, 5, 9), (23, 7, 7, 23), (30, 9, 3, 3)],
    )
    @pytest.mark.parametrize("seed", [0, 1])
    def test_same_selection_and_scores(self, count: int, budget: int, b: int, m: int, seed: int) -> None:
        # Few levels, so that margins tie.
        margins = np.random.default_rng(seed).integers(0, 6, count).astype(np.float32) / 6
        acquired, steps, scores = brute_force(margins, budget, b, m, seed)
        found = run(margins, budget, b, m, seed)
        assert found.pool_index.tolist() == acquired
        assert found.step.tolist() == steps
        assert [len(s) for s in found.step_scores] == [len(s) for s in scores]
        for mine, expected in zip(found.step_scores, scores, strict=True):
            assert mine == pytest.approx(expected, abs=1e-9)
        assert found.utility.tolist() == pytest.approx([max(scores[j]) for j in steps], abs=1e-6)
        assert found.margin.tolist() == margins[acquired].tolist()

    def test_seeds_differ(self) -> None:
        margins = np.random.default_rng(0).random(40)
        zero, one = (run(margins, 12, 4, 20, seed=seed).pool_index.tolist() for seed in (0, 1))
        assert zero != one

    def test_u_hat_decides_among_the_batches(self) -> None:
        # With u_hat turned round another batch is best: the scores are not decoration.
        net, margins = model(), np.random.default_rng(0).random(40)
        encoded = encode(net, images(40, 1)[smallest_margins(margins, 12 + 20)])

        def worst(current: np.ndarray, size: int, batches: np.ndarray) -> np.ndarray:
            return -score_batches(net, encoded, current, size, batches)

        forward, backward = run(margins, 12, 4, 20), run(margins, 12, 4, 20, score=worst)
        assert set(forward.pool_index[:4].tolist()) != set(backward.pool_index[:4].tolist())


@st.composite
def settings(draw: st.DrawFn) -> tuple[int, int, int, int]:
    count = draw(st.integers(1, 60))
    budget = draw(st.integers(1, count))
    b = draw(st.integers(1, budget))
    return count, budget, b, draw(st.integers(b, 80))


class TestInvariants:
    @given(settings(), st.integers(0, 2**32))
    def test_of_any_selection(self, drawn: tuple[int, int, int, int], seed: int) -> None:
        count, budget, b, m = drawn
        margins = np.random.default_rng(seed).random(count).astype(np.float32)
        asked: list[tuple[int, tuple[int, ...]]] = []

        def score(current: np.ndarray, size: int, batches: np.ndarray) -> np.ndarray:
            asked.append((size, batches.shape))
            assert current.shape == (8,)
            assert len(np.unique(batches)) == batches.size  # disjoint, and nobody is offered twice
            assert batches.max() < min(count, m + budget)
            return np.random.default_rng(len(asked)).random(len(batches))

        found = run(margins, budget, b, m, seed, score)
        assert len(found.pool_index) == budget == len(set(found.pool_index.tolist()))
        assert set(found.pool_index.tolist()) <= set(smallest_margins(margins, m + budget).tolist())
        sizes = greedy.step_sizes(budget, b)
        assert np.bincount(found.step).tolist() == sizes
        assert found.margin.tolist() == margins[found.pool_index].tolist()
        # What a step costs depends on M and b alone, never on how much has been acquired.
        acquired = 0
        for size, (have, shape) in zip(sizes, asked, strict=True):
            assert have == 5 + acquired
            assert shape == (min(m, count - acquired) // size, size)
            acquired += size

    def test_a_bought_batch_joins_the_labelled_sum(self) -> None:
        sums: list[np.ndarray] = []

        def score(current: np.ndarray, size: int, batches: np.ndarray) -> np.ndarray:
            sums.append(current.copy())
            return np.zeros(len(batches))

        found = run(np.linspace(0, 1, 12), 6, 2, 6, score=score)
        net = model()
        own, pool = encode(net, images(5, 2)), encode(net, images(12, 1))
        for j, current in enumerate(sums):
            acquired = found.pool_index[found.step < j]
            assert np.allclose(current, own.sum(axis=0) + pool[acquired].sum(axis=0), rtol=1e-12)

    def test_equal_scores_go_to_the_first_batch(self) -> None:
        offered: list[np.ndarray] = []

        def score(current: np.ndarray, size: int, batches: np.ndarray) -> np.ndarray:
            offered.append(batches)
            return np.array([1.0, 2.0, 2.0, 2.0][: len(batches)])

        found = run(np.linspace(0, 1, 16), 4, 4, 16, score=score)
        assert found.pool_index.tolist() == sorted(offered[0][1].tolist())

    def test_a_generator_of_one_s_own(self) -> None:
        def neighbours(rows: np.ndarray, b: int, generator: np.random.Generator) -> Candidates:
            count = len(rows) // b
            return Candidates(rows[: count * b].reshape(-1, b), tuple(f"from {b * i}" for i in range(count)))

        margins = np.arange(12)[::-1] / 12
        found = run(
            margins, 6, 3, 6, score=lambda current, size, batches: batches[:, 0].astype(float), generate=neighbours
        )
        # Positions by margin: 0..5 are offered, 3..5 win; then 0..2 and 6..8, the latter win.
        assert found.pool_index.tolist() == [8, 7, 6, 5, 4, 3]
        assert [s.tolist() for s in found.step_scores] == [[0.0, 3.0], [0.0, 6.0]]
        assert found.kinds == ("from 3", "from 3")


class TestRefusals:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_scores_that_are_not_finite(self, bad: float) -> None:
        def score(current: np.ndarray, size: int, batches: np.ndarray) -> np.ndarray:
            return np.where(np.arange(len(batches)) == 1, bad, 0.0)

        with pytest.raises(ValueError, match="step 0: 1 scores of batches are not finite"):
            run(np.linspace(0, 1, 12), 6, 2, 6, score=score)

    def test_a_budget_beyond_the_pool(self) -> None:
        with pytest.raises(ValueError, match="budget=9: exceeds the pool's 8 images"):
            run(np.zeros(8), 9, 2, 4)

    def test_a_generator_without_batches(self) -> None:
        with pytest.raises(ValueError, match="step 0: no batch of 2 images in 6 candidates"):
            run(np.zeros(12), 6, 2, 6, generate=lambda rows, b, generator: Candidates(np.zeros((0, b), dtype=int), ()))


class TestScoreBatches:
    @pytest.mark.parametrize("b", [1, 3])
    def test_equals_embedding_the_joined_set(self, b: int) -> None:
        net, labeled, pool = model(), images(7, 3), images(12, 4)
        batches = np.random.default_rng(0).permutation(12)[: 12 // b * b].reshape(-1, b)
        found = score_batches(net, encode(net, pool), encode(net, labeled).sum(axis=0), 7, batches)
        for batch, score in zip(batches, found, strict=True):
            joined = torch.from_numpy(np.concatenate([labeled, pool[batch]]))
            with torch.no_grad():
                expected = net.score(net.embed(net.encode(joined).mean(dim=0, keepdim=True))).item()
            assert score == pytest.approx(expected, abs=1e-12)
        assert found.dtype == np.float64 and len(set(found.tolist())) == len(batches)

    def test_a_score_does_not_depend_on_the_other_batches_of_its_chunks(self) -> None:
        # So tasks that score a chunk each give the bits of one that scores all.
        net, encoded = model(), encode(model(), images(90, 4))
        batches, current = np.random.default_rng(1).permutation(90)[:88].reshape(44, 2), np.arange(8.0)
        whole = score_batches(net, encoded, current, 10, batches)
        parts = [
            score_batches(net, encoded, current, 10, batches[part]) for part in greedy.in_chunks(44, greedy.SCORE_CHUNK)
        ]
        assert np.array_equal(np.concatenate(parts), whole)

    def test_float32_encodings_are_added_in_float64(self) -> None:
        net, encoded = model(), encode(model(), images(9, 4)).astype(np.float32)
        found = score_batches(net, encoded, np.full(8, 1e6), 1000, np.arange(9).reshape(3, 3))
        exact = score_batches(net, encoded.astype(np.float64), np.full(8, 1e6), 1000, np.arange(9).reshape(3, 3))
        assert found.tolist() == exact.tolist()


class TestParts:
    @given(st.integers(1, 500), st.integers(1, 100))
    def test_step_sizes(self, budget: int, b: int) -> None:
        sizes = greedy.step_sizes(budget, b)
        assert sum(sizes) == budget and len(sizes) == -(-budget // b)
        assert set(sizes[:-1]) <= {b} and 1 <= sizes[-1] <= b

    @given(st.lists(st.integers(0, 4), max_size=30), st.integers(0, 40))
    def test_smallest_margins(self, levels: list[int], count: int) -> None:
        expected = sorted(range(len(levels)), key=lambda i: (levels[i], i))[:count]
        assert smallest_margins(np.array(levels, dtype=np.float32), count).tolist() == expected

    @given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 2**32))
    def test_random_partition(self, count: int, b: int, seed: int) -> None:
        rows = np.arange(100, 100 + count)
        batches = candidates.random_partition(rows, b, np.random.default_rng(seed))
        assert batches.shape == (count // b, b)
        assert len(set(batches.ravel().tolist())) == batches.size and set(batches.ravel()) <= set(rows)
        assert rows.tolist() == list(range(100, 100 + count))  # not shuffled in place

    def test_random_partition_favours_nobody(self) -> None:
        # Of 10 candidates 9 are dealt: every one is equally likely in every place.
        generator, places = np.random.default_rng(0), np.zeros((10, 9))
        for _ in range(4000):
            for place, who in enumerate(candidates.random_partition(np.arange(10), 3, generator).ravel()):
                places[who, place] += 1
        assert np.abs(places / 4000 - 0.1).max() < 5 * np.sqrt(0.1 * 0.9 / 4000)

    @given(st.integers(0, 300), st.integers(1, 64))
    def test_chunks_cover_everything_once(self, count: int, chunk: int) -> None:
        covered = [i for part in greedy.in_chunks(count, chunk) for i in range(part.start, part.stop)]
        assert covered == list(range(count))
        assert all(part.stop - part.start <= chunk for part in greedy.in_chunks(count, chunk))
