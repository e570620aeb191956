"""The fit of u_hat: it learns what there is to learn, and the same bits however it is run."""

from __future__ import annotations

import copy
import functools
import io
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from rambo_ray.utility_model import fitting, network, ranking
from rambo_ray.utility_model.fitting import LAMBDA_RANGE, FitResult, fit
from rambo_ray.utility_model.interpolation import interpolate
from rambo_ray.utility_model.network import Architecture, UtilityModel, membership, standardisation
from rambo_ray.utility_model.objective import Objective, Pairs, TargetScale, ranking_accuracy, split_by_length
from rambo_ray.utility_model.sharding import Group

from .group_of_threads import run_workers
from .small_fits import States, assert_same_bits, bytes_of, draw_pairs, pairs_of, pretraining_task, task_of, whole_fit


class TestLearns:
    K = 60

    def bright(self, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Noisy 8x8 images, each dark, medium or bright; which of them is what a set is worth."""
        generator = np.random.default_rng(seed)
        level = generator.integers(-1, 2, self.K).astype(np.float64)
        images = level[:, None, None, None] + 0.1 * generator.normal(size=(self.K, 1, 8, 8))
        return images.astype(np.float32), level

    def direction(self, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Features of which one direction is the worth and the rest is noise."""
        generator = np.random.default_rng(seed)
        level, along = generator.integers(-1, 2, self.K).astype(np.float64), generator.normal(size=16)
        inputs = level[:, None] * along / np.linalg.norm(along) * 2 + 0.1 * generator.normal(size=(self.K, 16))
        return inputs.astype(np.float32), level

    def held_out(self, fitted: FitResult, inputs: np.ndarray, value: np.ndarray) -> float:
        """Ranking accuracy on sets of 30 to 44 images; D_tr's have at most 17 or so, D_val's 29."""
        of = pairs_of(draw_pairs(500, self.K, 30, 45, np.random.default_rng(99)), value)
        scores = [ranking.set_scores(fitted.model(), inputs, subsets) for subsets in (of.first, of.second)]
        return ranking_accuracy(np.stack(scores, axis=1), of.utility)

    @staticmethod
    @functools.cache
    def learnt(kind: str, lambda_ot: float) -> tuple[np.ndarray, np.ndarray, Pairs, FitResult]:
        """Inputs, their worth, pairs of sets that tell it, and the fit to these."""
        inputs, value = getattr(TestLearns(), kind)()
        offline = pairs_of(draw_pairs(300, TestLearns.K, 6, 30, np.random.default_rng(1)), value)
        return inputs, value, offline, fit(task_of(inputs, offline, lambda_ot=lambda_ot))

    @pytest.mark.parametrize("lambda_ot", [0.0, 1.0])
    @pytest.mark.parametrize("kind", ["bright", "direction"])
    def test_longer_sets_are_ranked(self, kind: str, lambda_ot: float) -> None:
        inputs, value, _, fitted = self.learnt(kind, lambda_ot)
        assert self.held_out(fitted, inputs, value) > 0.95
        assert min(m["outer_loss"] for m in fitted.history) < math.log(2) - 0.25
        assert fitted.history[-1]["val_ranking_accuracy"] > 0.85

    def test_from_utilities_that_say_nothing_nothing_is_learnt(self) -> None:
        inputs, value = self.bright()
        drawn = draw_pairs(300, self.K, 6, 30, np.random.default_rng(1))
        noise = replace(pairs_of(drawn, value), utility=np.random.default_rng(2).normal(size=(300, 2)))
        fitted = fit(task_of(inputs, noise, lambda_ot=0.0))
        assert abs(self.held_out(fitted, inputs, value) - 0.5) < 0.3
        assert min(m["outer_loss"] for m in fitted.history) > math.log(2) - 0.05

    @pytest.mark.parametrize("keys", [{"bilevel": False}, {"objective": "regression"}])
    def test_the_ablations_learn_it_too(self, keys: dict[str, Any]) -> None:
        inputs, value = self.bright()
        offline = pairs_of(draw_pairs(300, self.K, 6, 30, np.random.default_rng(1)), value)
        assert self.held_out(fit(task_of(inputs, offline, **keys)), inputs, value) > 0.85

    def test_otdd_is_learnt_in_units_of_its_mean(self) -> None:
        inputs, _, offline, fitted = self.learnt("bright", 1.0)
        model = fitted.model()
        with torch.no_grad():
            pooled = membership(offline.first, self.K) @ model.encode(torch.from_numpy(inputs))
            predicted = model.ot(model.embed(pooled)).numpy() * fitted.scale.ot
        assert fitted.scale.ot == pytest.approx(offline.otdd.mean())
        assert np.corrcoef(predicted, offline.otdd[:, 0])[0, 1] > 0.8


class TestSameBits:
    def test_whatever_the_global_generators_are(self) -> None:
        other, _ = whole_fit()  # begins with these at 2
        torch.manual_seed(1)
        np.random.seed(1)
        before = torch.get_rng_state()
        one = fit(pretraining_task())
        assert torch.equal(torch.get_rng_state(), before)
        assert_same_bits(one, other)

    @pytest.mark.parametrize("vector", [False, True])
    def test_wherever_the_images_lie_in_memory(self, vector: bool) -> None:
        # A worker of Ray reads them from shared memory, this process from its own.
        task = pretraining_task(extractor_width=10)  # narrow products are the ones that it shows in
        images = task.images.reshape(16, -1) if vector else task.images
        found = []
        for offset in (0, 8, 16):
            memory = np.empty(images.nbytes + 128, dtype=np.uint8)
            begin = -memory.ctypes.data % 64 + offset
            moved = memory[begin : begin + images.nbytes].view(np.float32).reshape(images.shape)
            moved[...] = images
            assert moved.ctypes.data % 64 == offset
            found.append(fit(replace(task, images=moved)))
        assert_same_bits(found[0], found[1])
        assert_same_bits(found[0], found[2])

    def test_another_seed_gives_another_fit(self) -> None:
        one, other = whole_fit()[0], fit(pretraining_task(seed=4))
        assert not np.array_equal(one.weights["set_hidden.weight"], other.weights["set_hidden.weight"])

    def test_dropout_is_seeded_by_step(self) -> None:
        wet, dry = fit(pretraining_task(dropout=0.5)), whole_fit(dropout=0.0)[0]
        assert_same_bits(wet, fit(pretraining_task(dropout=0.5)))
        assert wet.history != dry.history

    @pytest.mark.parametrize("keys", [{}, {"bilevel": False}, {"hypergradient": "unroll", "dropout": 0.4}])
    def test_resumed_from_any_state(self, keys: dict[str, Any]) -> None:
        task, (whole, states) = pretraining_task(**keys), whole_fit(**keys)
        assert_same_bits(whole, fit(task))  # reporting changes nothing
        assert len(states.written) == 3 * 3
        for position, written in enumerate(states.written):
            state = torch.load(io.BytesIO(written), weights_only=True)
            rest = States()
            assert_same_bits(whole, fit(task, resume_from=state, report=rest))
            assert rest.metrics == states.metrics[position + 1 :]

    def test_a_kept_state_is_not_changed_by_what_comes_after_it(self) -> None:
        task, (whole, states) = pretraining_task(), whole_fit()
        for state, written in zip(states.live, states.written, strict=True):
            assert bytes_of(state) == written
        for state, written in zip(states.live[::4], states.written[::4], strict=True):
            assert_same_bits(whole, fit(task, resume_from=state))
            assert bytes_of(state) == written  # nor by resuming from it

    @pytest.mark.parametrize(("shards", "size"), [(2, 2), (4, 2), (3, 3)])
    def test_any_number_of_workers(self, shards: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
        # Threads share torch's global generator, which each step seeds: the emulated workers get copies of
        # the weights that were drawn while nothing else ran. Without dropout nothing else draws from it.
        task = pretraining_task(shards=shards, dropout=0.0)
        drawn: dict[int, UtilityModel] = {}

        def initialise(architecture: Architecture, seed: int) -> UtilityModel:
            if seed not in drawn:
                drawn[seed] = network.initialise(architecture, seed)
            return copy.deepcopy(drawn[seed])

        monkeypatch.setattr(fitting, "initialise", initialise)
        alone = fit(task)
        for other in run_workers(size, shards, lambda group: fit(task, group=group)):
            assert_same_bits(alone, other)

    def test_the_number_of_shards_changes_roundings_only(self) -> None:
        results = [fit(pretraining_task(shards=shards, outer_epochs=1, dropout=0.0)) for shards in (1, 2, 5)]
        for other in results[1:]:
            for name, weight in results[0].weights.items():
                assert np.allclose(weight, other.weights[name], atol=1e-4), name


class TestPretraining:
    def test_an_iteration_goes_on_from_the_best_of_the_one_before(self) -> None:
        # A high rate makes the loss on D_val rise again, so that the best epoch is not the last.
        fitted, states = whole_fit(inner_learning_rate=0.03, outer_epochs=5)
        early = 0
        for i in range(3):
            losses = [m["outer_loss"] for m in states.metrics[5 * i : 5 * i + 5]]
            best, last = int(np.argmin(losses)), states.live[5 * i + 4]
            early += best < 4
            for mine, kept in zip(last["variables"], last["best"], strict=True):
                assert torch.equal(mine, kept)
            if best < 4:
                for mine, at_best in zip(last["variables"], states.live[5 * i + best]["variables"], strict=True):
                    assert torch.equal(mine, at_best)
            assert [m["iteration"] for m in states.metrics[5 * i : 5 * i + 5]] == [i - 1] * 5
        assert early
        names = [name for name, _ in fitted.model().named_parameters()]
        for name, weight in zip(names, states.live[-1]["variables"], strict=False):
            assert np.array_equal(fitted.weights[name], weight.numpy())

    def test_utilities_are_interpolated_with_the_phi_of_that_moment(self) -> None:
        task, (fitted, states) = pretraining_task(), whole_fit()
        assert len(fitted.interpolated) == 2
        for i in range(2):
            model = UtilityModel(fitted.architecture).eval()
            names = [name for name, _ in model.named_parameters()]
            weights = dict(zip(names, states.live[3 * i + 2]["variables"], strict=False))
            model.load_state_dict({**model.state_dict(), **weights})
            model.spread.fill_(float(fitted.weights["spread"]))
            of = task.interpolation[i]
            with torch.no_grad():
                encodings = model.encode(torch.from_numpy(task.images))

                def phi(subset: tuple[int, ...], model: UtilityModel = model, all_of: Any = encodings) -> torch.Tensor:
                    return model.embed(all_of[list(subset)].mean(dim=0), *standardisation(all_of))

                ends = phi(task.nested_sets[i]), phi(task.nested_sets[i + 1])
                for p in range(len(of)):
                    for member, subset in enumerate((of.first[p], of.second[p])):
                        u = interpolate(phi(subset)[None], *ends, *task.nested_utilities[i : i + 2]).item()
                        assert fitted.interpolated[i][p, member] == pytest.approx(u, abs=1e-5)
            assert np.ptp(fitted.interpolated[i]) > 0

    def test_final_weights_have_the_least_outer_loss_of_the_last_iteration(self) -> None:
        keys = {"inner_learning_rate": 0.03, "outer_epochs": 5}
        task, (fitted, _) = pretraining_task(**keys), whole_fit(**keys)
        model = fitted.model()
        known = [p.with_utility(u) for p, u in zip(task.interpolation, fitted.interpolated, strict=True)]
        pairs = Pairs.join([task.offline, *known])
        longer = pairs.take(split_by_length(pairs.sizes)[1])
        inputs = model.prepare(torch.from_numpy(task.images))
        scale, group = TargetScale.of(task.offline), Group(task.config.shards)
        loss = Objective(model, inputs, 16, longer, scale, task.config.lambda_ot, group)
        least = min(m["outer_loss"] for m in fitted.history if m["iteration"] == 1)
        assert float(loss([p.detach() for p in model.parameters()])) == pytest.approx(least, rel=1e-5)

    def test_result_knows_the_standardisation_of_its_weights(self) -> None:
        task, model = pretraining_task(), whole_fit()[0].model()
        with torch.no_grad():
            mean, deviation = standardisation(model.encode(torch.from_numpy(task.images)))
        assert torch.allclose(model.mean, mean) and torch.allclose(model.deviation, deviation)
        assert float(model.spread) == pytest.approx(network.spread(task.offline.sizes, 16))
        assert not model.training

    def test_history_has_a_line_for_every_epoch(self) -> None:
        history = whole_fit()[0].history
        assert [(m["iteration"], m["epoch"]) for m in history] == [(i, e) for i in (-1, 0, 1) for e in range(3)]
        for metrics in history:
            assert 0 <= metrics["train_ranking_accuracy"] <= 1 and 0 <= metrics["val_ranking_accuracy"] <= 1
            assert math.isfinite(metrics["inner_loss"]) and math.isfinite(metrics["outer_loss"])


class TestLambda:
    def test_every_estimator_moves_it_its_own_way(self) -> None:
        start = math.log(1e-3)
        found = {}
        for name in ("unroll", "cg", "neumann", "fixed_point"):
            lambdas = whole_fit(hypergradient=name)[0].lambdas
            assert any(abs(lam - start) > 0.01 for lam in lambdas.values()), name
            assert all(math.isfinite(lam) for lam in lambdas.values()), name
            found[name] = tuple(lambdas.values())
        assert len({found["unroll"], found["cg"], found["neumann"]}) == 3

    def test_stays_in_its_range(self) -> None:
        lambdas = fit(pretraining_task(outer_learning_rate=50.0)).lambdas
        # The range's ends are rounded to float32 by the tensors they clamp.
        assert all(LAMBDA_RANGE[0] - 1e-5 <= lam <= LAMBDA_RANGE[1] + 1e-5 for lam in lambdas.values())

    def test_without_bilevel_it_stays_where_it_was(self) -> None:
        lambdas = fit(pretraining_task(bilevel=False, weight_decay=0.01)).lambdas
        assert list(lambdas.values()) == pytest.approx([math.log(0.01)] * len(lambdas))
        assert set(lambdas) == {name for name, _ in whole_fit()[0].model().named_parameters()}


class TestRefusals:
    def test_equal_sizes_cannot_be_split_by_length(self) -> None:
        generator = np.random.default_rng(0)
        offline = pairs_of(draw_pairs(6, 16, 5, 6, generator), generator.normal(size=16))
        inputs = generator.normal(size=(16, 4)).astype(np.float32)
        with pytest.raises(ValueError, match="bilevel=false") as caught:
            fit(task_of(inputs, offline))
        assert "\n" not in str(caught.value)
        assert len(fit(task_of(inputs, offline, bilevel=False, outer_epochs=2)).history) == 2

    def test_inputs_that_are_not_finite_end_in_one_line(self) -> None:
        task = pretraining_task()
        task.images[0] = np.nan
        with pytest.raises(ValueError, match="loss of u_hat on D_val was never finite") as caught:
            fit(task)
        assert "\n" not in str(caught.value) and "utility_model.inner_learning_rate" in str(caught.value)
