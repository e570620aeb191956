"""A plan with mock rounds: drawn anew by evidence, named by all they depend on, put into a fit's input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rambo_ray.classifier import settings
from rambo_ray.config import loading
from rambo_ray.data import datasets
from rambo_ray.data.problem import NONE, Problem
from rambo_ray.errors import UserError
from rambo_ray.pipeline import plan
from rambo_ray.pipeline.plan import Measured, Plan, fit_input, mean_evidence
from rambo_ray.pipeline.prepared import prepared_key
from rambo_ray.utility_model.fitting import FitInput
from rambo_ray.utility_model.quadratic import QuadraticInput
from rambo_ray.utility_samples.sampling import Measurement, UtilitySample

SMOKE = Path(__file__).parents[2] / "jobs" / "configs" / "digits_smoke.yaml"
NETWORK = "utility_model.architecture=network"
BOTH = [NETWORK, "utility_samples.source=both", "utility_model.features=pixels"]


def made(*overrides: str) -> tuple[Plan, Problem]:
    config = loading.load(SMOKE, overrides)
    problem, _ = datasets.load(config.data, config.seed)
    return plan.make(config, problem), problem


def ids(samples: tuple[UtilitySample, ...] | list[UtilitySample]) -> list[str]:
    return [sample.sample_id for sample in samples]


def evidence_for(todo: Plan, seed: int = 0, numbers: int = 5) -> np.ndarray:
    assert todo.mock_pool is not None
    return np.random.default_rng(seed).normal(size=(len(todo.mock_pool.labels), numbers))


class TestMake:
    def test_mock_rounds_alone(self) -> None:
        todo, problem = made()
        assert (len(todo.rounds), len(todo.held_out)) == (12, 4)
        assert todo.offline == todo.nested_sets == todo.interpolation == () and todo.kind == "evidence"
        assert todo.mock_pool is not None and todo.mock_pool.k == len(problem.labeled)
        assert max(s.size for s in todo.rounds) < min(s.size for s in todo.held_out)
        assert {s.fold for s in todo.retrained} == {0, 1} and set(ids(todo.retrained)) == set(ids(todo.all_samples))

    def test_both_kinds(self) -> None:
        todo, _ = made(*BOTH)
        paper, _ = made("method=paper", "utility_samples.utility=soft_accuracy")
        assert ids(todo.offline) == ids(paper.offline) and ids(todo.nested_sets) == ids(paper.nested_sets)
        pair_ids = [s.pair_id for s in (*todo.offline, *todo.rounds)]
        assert sorted(pair_ids) == sorted([*range(12)] * 2), "no two pairs share a number"
        assert [s.fold for s in todo.held_out] == [-1] * 4 + [0, 1, 0, 1]

    def test_what_was_rejected_plays(self) -> None:
        todo, problem = made("data.scenario=off_target")
        assert todo.mock_pool is not None and problem.rejected is not None
        assert (todo.mock_pool.labels == NONE).sum() == len(problem.rejected)

    @pytest.mark.parametrize(
        ("overrides", "line"),
        [
            (["utility_samples.max_round=50"], "utility_samples.max_round=50: must be below 50"),
            (["utility_samples.min_round=40", "utility_samples.max_round=35"], "min_round=40: must not exceed"),
            (["utility_samples.num_pairs=4"], "num_pairs=4: the quadratic u_hat is fitted to at least 5 pairs"),
            (["utility_samples.evidence_folds=101"], "evidence_folds=101: must not exceed the 100 images of S_val"),
        ],
    )
    def test_what_cannot_be_played(self, overrides: list[str], line: str) -> None:
        with pytest.raises(UserError, match=line):
            made(*overrides)

    def test_without_samples_nothing_is_played(self) -> None:
        todo = made()[0].without_samples()
        assert todo.all_samples == [] and todo.mock_pool is None


class TestEvidence:
    def test_draws_other_rounds_of_the_same_sizes_and_halves(self) -> None:
        todo, _ = made()
        drawn = todo.with_evidence(evidence_for(todo))
        for before, after in zip((*todo.rounds, *todo.held_out), (*drawn.rounds, *drawn.held_out), strict=True):
            assert (before.size, before.fold, before.pair_id) == (after.size, after.fold, after.pair_id)
        assert set(ids(todo.rounds)) != set(ids(drawn.rounds))
        again = todo.with_evidence(evidence_for(todo))
        assert ids(again.all_samples) == ids(drawn.all_samples) != ids(todo.with_evidence(evidence_for(todo, 1)).rounds)

    def test_leaves_subsets_alone(self) -> None:
        todo, _ = made(*BOTH)
        drawn = todo.with_evidence(evidence_for(todo))
        assert (drawn.offline, drawn.nested_sets) == (todo.offline, todo.nested_sets)
        assert drawn.held_out[:4] == todo.held_out[:4] and len(drawn.held_out) == 8
        paper, _ = made("method=paper")
        assert paper.with_evidence(evidence_for(todo)) is paper


class TestIdentity:
    def test_the_rounds_of_another_device_s_precision_are_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        todo, _ = made()
        assert todo.on("cpu") is todo
        other = "bfloat16" if todo.training.precision == "float32" else "float32"
        monkeypatch.setattr(settings, "choose_precision", lambda *_: other)
        there = todo.on("cuda")
        assert not set(ids(there.all_samples)) & set(ids(todo.all_samples))
        assert [s.indices for s in there.rounds] == [s.indices for s in todo.rounds]
        # Whether the device or the evidence is known first does not matter.
        items = evidence_for(todo)
        assert ids(there.with_evidence(items).all_samples) == ids(todo.with_evidence(items).on("cuda").all_samples)
        monkeypatch.undo()
        assert ids(there.on("cpu").all_samples) == ids(todo.all_samples)

    def test_a_round_with_its_otdd_is_another(self) -> None:
        """Where u_hat has no use for the OTDD it is not measured, and such a round cannot stand in for one that has."""
        quadratic, network, unweighted = (
            made(*overrides)[0] for overrides in ([], [NETWORK], [NETWORK, "utility_model.lambda_ot=0.0"])
        )
        assert not quadratic.measuring.round_otdd and network.measuring.round_otdd
        assert ids(quadratic.rounds) == ids(unweighted.rounds)
        assert not set(ids(quadratic.rounds)) & set(ids(network.rounds))

    def test_a_subset_is_the_same_whether_or_not_rounds_are_played(self) -> None:
        assert ids(made(*BOTH)[0].offline) == ids(made("method=paper")[0].offline)

    @pytest.mark.parametrize(
        ("overrides", "shared"),
        [
            (["acquisition.margin_pool=50"], True),
            (["acquisition.caution=0.0"], True),
            ([NETWORK], False),  # another input of the fit, and the rounds' OTDD
            (["utility_samples.evidence_folds=3"], False),
        ],
    )
    def test_what_is_prepared_once(self, overrides: list[str], shared: bool) -> None:
        one, other = loading.load(SMOKE), loading.load(SMOKE, overrides)
        assert (prepared_key(one) == prepared_key(other)) is shared

    def test_a_weight_of_the_otdd_is_prepared_once_where_it_is_measured_anyway(self) -> None:
        without = "utility_model.lambda_ot=0.0"
        for overrides, shared in ((["method=paper"], True), ([NETWORK], False)):
            keys = [prepared_key(loading.load(SMOKE, more)) for more in (overrides, [*overrides, without])]
            assert (keys[0] == keys[1]) is shared


def measured(todo: Plan) -> Measured:
    """Made-up measurements: a set's utility is a function of its number in the plan."""

    def one(number: int, sample: UtilitySample) -> UtilitySample:
        found = Measurement(*[(number * 37 % 100) / 100] * 3, 0.0, 0.0, 0.0, 1.0 + number, 1, 1, 0.1)
        return sample.measured(found, "soft_accuracy")

    counter = iter(range(10_000))
    return Measured(*(tuple(one(next(counter), s) for s in part) for part in todo.parts))


class TestFitInput:
    def test_a_round_is_its_purchase_s_mean_evidence(self) -> None:
        todo, _ = made()
        assert todo.mock_pool is not None
        items = evidence_for(todo)
        todo = todo.with_evidence(items)
        found = measured(todo)
        task = fit_input(todo.config, found, items.astype(np.float32), todo.mock_pool)
        assert isinstance(task, QuadraticInput) and task.means.shape == (12, 5)
        for i, sample in enumerate(found.rounds):
            bought = np.array(sample.indices[40:]) - 40
            assert np.allclose(task.means[i], items[bought].mean(axis=0), atol=1e-6)
            assert (task.sizes[i], task.folds[i], task.utilities[i]) == (len(bought), sample.fold, sample.utility)

    def test_mean_evidence_is_in_double_precision(self) -> None:
        items = np.float32([[1.0], [1e-8], [1e-8]])
        assert mean_evidence([(0, 1, 2)], items)[0, 0] == pytest.approx((1 + 2e-8) / 3, rel=1e-13)

    def test_the_network_ranks_pairs_and_with_all_what_is_comparable(self) -> None:
        todo, _ = made(NETWORK, "utility_samples.num_pairs=20")
        assert todo.mock_pool is not None
        items = evidence_for(todo).astype(np.float32)
        found = measured(todo)
        pairs, every = (
            fit_input(loading.load(SMOKE, [NETWORK, f"utility_model.fit_on={on}"]), found, items, todo.mock_pool)
            for on in ("pairs", "all")
        )
        assert isinstance(pairs, FitInput) and isinstance(every, FitInput)
        assert len(pairs.offline.first) == 20 and pairs.nested_sets == () and pairs.interpolation == ()
        more = list(zip(every.offline.first[20:], every.offline.second[20:], strict=True))
        by_set = {tuple(todo.mock_pool.bought(s).tolist()): s for s in found.rounds}
        expected = {
            frozenset((a, b))
            for a in by_set
            for b in by_set
            if a < b and by_set[a].fold == by_set[b].fold and by_set[a].pair_id != by_set[b].pair_id
            and max(len(a), len(b)) <= 1.1 * min(len(a), len(b))
        }  # fmt: skip
        assert more and {frozenset(pair) for pair in more} == expected and len(more) == len(expected)

    def test_with_pixels_a_round_is_S_0_too(self) -> None:
        todo, problem = made(NETWORK, "utility_model.features=pixels")
        images = np.zeros((140, 3), dtype=np.float32)
        task = fit_input(todo.config, measured(todo), images, todo.mock_pool)
        assert isinstance(task, FitInput) and set(range(len(problem.labeled))) <= set(task.offline.first[0])

    def test_of_the_paper_s_plan_nothing_has_changed(self) -> None:
        todo, _ = made("method=paper")
        task = fit_input(todo.config, measured(todo), np.zeros((40, 3), dtype=np.float32))
        assert isinstance(task, FitInput)
        assert task.offline.first == tuple(s.indices for s in todo.offline[::2]) and len(task.nested_sets) == 3
        assert replace(task, seed=1).seed == 1
