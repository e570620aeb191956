"""The two judges of candidate batches, against sets made one by one and against finite differences."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rambo_ray.acquisition import greedy
from rambo_ray.acquisition.candidates import FILTER, tilted
from rambo_ray.acquisition.greedy import JoinedSets, MeanEvidence, acquire, score_batches
from rambo_ray.config.schema import AcquisitionConfig
from rambo_ray.utility_model.network import Architecture, UtilityModel, initialise
from rambo_ray.utility_model.quadratic import QuadraticModel

F = 3


def asked(budget: int = 8, b: int = 2, m: int = 20, caution: float = 0.0) -> AcquisitionConfig:
    return AcquisitionConfig(budget=budget, batch_size=b, margin_pool=m, caution=caution)


def quadratic(seed: int = 0, uncertain: float = 0.01) -> QuadraticModel:
    generator = np.random.default_rng(seed)
    root = generator.normal(size=(2 * F, 2 * F))
    return QuadraticModel(generator.normal(size=F), generator.normal(size=F), uncertain * root @ root.T, 0.2,
                          (0.4, 0.6), 0.1, 0.5)  # fmt: skip


def evidence(count: int = 40, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, F))


class TestMeanEvidence:
    @settings(max_examples=25)
    @given(st.integers(0, 100), st.floats(0, 4), st.integers(1, 4))
    def test_scores_are_those_of_the_sets_that_would_be_acquired(self, seed: int, caution: float, b: int) -> None:
        images, model = evidence(), quadratic(seed)
        judge = MeanEvidence(model, images, asked(b=b, caution=caution))
        order = np.random.default_rng(seed).permutation(40)
        acquired: list[int] = []
        for step in range(3):
            left = order[step * b :]
            batches = left[: len(left) // b * b].reshape(-1, b)
            found = judge.scores(batches)
            for batch, score in zip(batches, found, strict=True):
                joined = images[[*acquired, *batch]]
                size = np.array([float(len(joined))])
                by_hand = model.cautious(joined.mean(axis=0)[None], size, images[:20].mean(axis=0), caution)
                assert score == pytest.approx(by_hand[0], rel=1e-9, abs=1e-9)
            judge.acquired(batches[0])
            acquired += batches[0].tolist()

    def test_slopes_are_those_of_a_small_share_of_each_image(self) -> None:
        images, model = evidence(), quadratic()
        judge = MeanEvidence(model, images, asked(caution=1.5))
        reference = images[:20].mean(axis=0)
        step = 1e-6
        for acquired in ((), (0, 5, 7, 9)):
            if acquired:
                judge.acquired(np.array(acquired))
            mean = images[list(acquired)].mean(axis=0) if acquired else reference
            found = judge.slopes(np.arange(40))

            def at(where: np.ndarray) -> float:
                return float(model.cautious(where[None], np.ones(1), reference, 1.5)[0])

            if acquired:
                by_hand = [(at(mean + step * x) - at(mean - step * x)) / (2 * step) for x in images]
                assert np.allclose(found, by_hand, rtol=1e-4, atol=1e-5)
            else:  # where nothing is uncertain yet
                assert np.allclose(found, images @ (model.w + 2 * model.a * mean))

    def test_the_reference_is_what_the_filter_picks(self) -> None:
        images = evidence()
        images[20:] += 100  # beyond the M smallest margins: never to be seen
        judge = MeanEvidence(quadratic(), images, asked(m=20))
        assert np.allclose(judge.reference, images[:20].mean(axis=0))

    def test_a_selection_is_that_of_a_loop_by_hand(self) -> None:
        """Of the batches that a tilted family offers in each step, the one of the best joined set."""
        ask = asked(budget=7, b=3, m=15, caution=0.7)
        margins = np.random.default_rng(8).random(40).astype(np.float32)
        ranked = np.argsort(margins, kind="stable")[:22]
        images, model = evidence()[ranked], quadratic(5)
        judge = MeanEvidence(model, images, ask)
        offered: list[tuple[np.ndarray, tuple[str, ...]]] = []
        made = tilted(judge, (0.3, 1.0), 3)

        def generate(rows: np.ndarray, b: int, generator: np.random.Generator) -> greedy.CandidateGenerator:
            offered.append(made(rows, b, generator))
            return offered[-1]

        found = acquire(margins, judge, ask, 4, generate)
        acquired: list[int] = []
        for step, (batches, kinds) in enumerate(offered):
            assert not set(batches.ravel()) & set(acquired)
            scores = [
                float(model.cautious(images[[*acquired, *batch]].mean(axis=0)[None],
                                     np.array([float(len(acquired) + len(batch))]), images[:15].mean(axis=0), 0.7)[0])
                for batch in batches.tolist()
            ]  # fmt: skip
            best = int(np.argmax(scores))
            assert found.kinds[step] == kinds[best] and np.allclose(found.step_scores[step], scores)
            assert found.pool_index[found.step == step].tolist() == ranked[np.sort(batches[best])].tolist()
            acquired += batches[best].tolist()
        assert len(acquired) == 7 and np.allclose(found.utility[-1], found.step_scores[-1].max())

    def test_one_that_knows_nothing_begins_with_the_filter_s_batch(self) -> None:
        """With caution enough, whatever lies off the reference has too much to prove.

        In later steps a tilted batch may be what leads back to the reference.
        """
        ask = asked(budget=30, b=10, m=60, caution=50.0)
        images = evidence(400)
        judge = MeanEvidence(quadratic(2, uncertain=1.0), images, ask)
        found = acquire(np.linspace(0, 1, 400), judge, ask, 0, tilted(judge, (0.1, 0.2), 4))
        assert found.kinds[0] == FILTER


def network() -> UtilityModel:
    made = initialise(Architecture("vector", (6,), 2, 8, 5, 4, 0.0, "ranknet"), seed=1).double().eval()
    made.deviation.fill_(0.2)
    made.spread.fill_(0.1)
    return made


def encoded(net: UtilityModel, count: int, seed: int) -> np.ndarray:
    with torch.no_grad():
        return net.encode(torch.from_numpy(np.random.default_rng(seed).normal(size=(count, 6)))).numpy()


class TestJoinedSets:
    @pytest.mark.parametrize("labeled", [0, 5])
    def test_slopes_are_those_of_finite_differences(self, labeled: int) -> None:
        """How the score of S_j's mean encoding grows towards an image's; of no S_j, from the images' own mean."""
        net = network()
        own, pool = encoded(net, labeled, 2), encoded(net, 12, 3)
        judge = JoinedSets(own, pool, partial(score_batches, net, pool), net)
        rows = np.array([0, 3, 4, 11])
        for step in range(2):
            if step:
                judge.acquired(np.array([1, 2]))
            known = np.concatenate([own, pool[[1, 2]]]) if step else own
            mean = known.mean(axis=0) if len(known) else pool[rows].mean(axis=0)
            h = 1e-5

            def at(where: np.ndarray) -> float:
                with torch.no_grad():
                    return net.score(net.embed(torch.from_numpy(where[None]))).item()

            by_hand = [(at(mean + h * x) - at(mean - h * x)) / (2 * h) for x in pool[rows]]
            assert np.allclose(judge.slopes(rows), by_hand, rtol=1e-4, atol=1e-7)

    def test_asking_for_slopes_changes_nothing(self) -> None:
        net = network().float()
        before = {name: value.clone() for name, value in net.state_dict().items()}
        pool = encoded(network(), 12, 3)
        judge = JoinedSets(pool[:2], pool, partial(score_batches, network(), pool), net)
        judge.slopes(np.arange(5))
        assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())
        assert all(parameter.grad is None for parameter in net.parameters()) and net.training is False

    def test_without_S_0_the_batches_stand_alone(self) -> None:
        net = network()
        pool = encoded(net, 12, 3)
        judge = JoinedSets(pool[:0], pool, partial(score_batches, net, pool), net)
        (found,) = judge.scores(np.array([[2, 7]]))
        with torch.no_grad():
            assert found == pytest.approx(
                net.score(net.embed(torch.from_numpy(pool[[2, 7]].mean(axis=0)[None]))).item()
            )
