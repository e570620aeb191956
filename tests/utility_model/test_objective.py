"""The sharded objective against an oracle that follows Definitions 2 to 4 pair by pair, image by image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rambo_ray.config.schema import UtilityModelConfig
from rambo_ray.utility_model.network import Architecture, UtilityModel, initialise
from rambo_ray.utility_model.objective import Objective, Pairs, TargetScale, ranking_accuracy, split_by_length
from rambo_ray.utility_model.sharding import Group

from .group_of_threads import run_workers

K = 9
Loss = Callable[[Sequence[Tensor]], Tensor]


def architecture(objective: Literal["ranknet", "regression"] = "ranknet") -> Architecture:
    return Architecture("vector", (4,), 2, 5, 3, 4, 0.0, objective)


def images(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(K, 4))


def pairs(count: int = 7, seed: int = 0) -> Pairs:
    """Pairs of different sizes; one of them ties."""
    generator = np.random.default_rng(seed)
    sizes = [2 + i % 5 for i in range(count)]
    members = [tuple(tuple(sorted(generator.choice(K, d, replace=False).tolist())) for d in sizes) for _ in range(2)]
    utility = generator.uniform(0.3, 0.9, (count, 2))
    utility[1] = utility[1, 0]
    return Pairs(members[0], members[1], utility, generator.uniform(1, 9, (count, 2)))


def weights_of(model: UtilityModel) -> list[Tensor]:
    return [p.detach().clone().requires_grad_() for p in model.parameters()]


def model_of(objective: Literal["ranknet", "regression"], dtype: torch.dtype = torch.float64) -> UtilityModel:
    model = initialise(architecture(objective), seed=3).to(dtype)
    model.spread.fill_(0.4)
    return model.eval()


def oracle(model: UtilityModel, of: Pairs, scale: TargetScale, lambda_ot: float) -> Loss:
    """Definition 4's mean over pairs, without a batch, a membership matrix or a shard."""
    names = [name for name, _ in model.named_parameters()]
    data, root_c = torch.as_tensor(images()), float(model.spread)

    def loss(weights: Sequence[Tensor]) -> Tensor:
        w = dict(zip(names, weights, strict=True))

        def fc(name: str, x: Tensor) -> Tensor:
            return w[f"{name}.weight"] @ x + w[f"{name}.bias"]

        def encode(image: Tensor) -> Tensor:
            return fc("extractor.output", torch.relu(fc("extractor.hidden", image)))

        def head(name: str, phi: Tensor) -> Tensor:
            return fc(f"{name}.2", torch.relu(fc(f"{name}.0", phi)))[0]

        everything = [encode(image) for image in data]
        centre = sum(everything) / K
        variance = sum((e - centre) ** 2 for e in everything) / (K - 1)
        unit = (variance + 1e-6) ** 0.5 * root_c

        def phi(subset: tuple[int, ...]) -> Tensor:
            pooled = sum(encode(data[i]) for i in subset) / len(subset)
            z = (pooled - centre) / unit
            return 1 / (1 + torch.exp(-fc("set_output", torch.relu(fc("set_hidden", z)))))

        result = torch.zeros((), dtype=torch.float64)
        for p in range(len(of)):
            phis = phi(of.first[p]), phi(of.second[p])
            u = [float(v) for v in of.utility[p]]
            if model.architecture.objective == "ranknet":
                score = [w["score_head.weight"][0] @ f for f in phis]
                p_12 = 1 / (1 + torch.exp(score[1] - score[0]))
                wanted = 1.0 if u[0] > u[1] else 0.0 if u[0] < u[1] else 0.5
                value = -wanted * torch.log(p_12) - (1 - wanted) * torch.log(1 - p_12)
            else:
                standard = [(v - scale.utility_mean) / scale.utility_deviation for v in u]
                value = sum((head("score_head", f) - v) ** 2 for f, v in zip(phis, standard, strict=True)) / 2
            if lambda_ot:
                guess = [head("ot_head", f) for f in phis]
                ot = [float(v) / scale.ot for v in of.otdd[p]]
                zero = torch.zeros((), dtype=torch.float64)
                squares = 0.5 * (guess[0] - ot[0]) ** 2 + 0.5 * (guess[1] - ot[1]) ** 2
                value = value + lambda_ot * (squares - torch.minimum(guess[0], zero) - torch.minimum(guess[1], zero))
            result = result + value
        return result / len(of)

    return loss


def objective(
    model: UtilityModel,
    of: Pairs,
    scale: TargetScale,
    lambda_ot: float,
    group: Group,
    dtype: torch.dtype = torch.float64,
) -> Objective:
    return Objective(model, model.prepare(torch.as_tensor(images(), dtype=dtype)), K, of, scale, lambda_ot, group)


def derivatives(loss: Loss, weights: Sequence[Tensor]) -> list[Tensor]:
    """Value, gradient, and the product of the Hessian with one fixed vector."""
    value = loss(weights)
    gradient = torch.autograd.grad(value, weights, create_graph=True, materialize_grads=True)
    generator = torch.Generator().manual_seed(1)
    vector = [torch.randn(w.shape, generator=generator, dtype=torch.float64).to(w) for w in weights]
    along = torch.stack([(g * v).sum() for g, v in zip(gradient, vector, strict=True)]).sum()
    product = torch.autograd.grad(along, weights, materialize_grads=True)
    return [value.detach(), *(g.detach() for g in gradient), *product]


class TestAgainstTheOracle:
    @pytest.mark.parametrize("shards", [1, 2, 3])
    @pytest.mark.parametrize("lambda_ot", [0.0, 0.7])
    @pytest.mark.parametrize("kind", ["ranknet", "regression"])
    def test_value_gradient_and_hessian_product(
        self, kind: Literal["ranknet", "regression"], lambda_ot: float, shards: int
    ) -> None:
        model, of = model_of(kind), pairs()
        scale = TargetScale.of(pairs(20, seed=1))
        expected = derivatives(oracle(model, of, scale, lambda_ot), weights_of(model))
        found = derivatives(objective(model, of, scale, lambda_ot, Group(shards)), weights_of(model))
        for a, b in zip(expected, found, strict=True):
            assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)
        assert expected[1].abs().max() > 1e-6 and expected[1 + len(list(model.parameters()))].abs().max() > 1e-6

    def test_negative_ot_predictions_pay(self) -> None:
        model, of = model_of("ranknet"), pairs()
        with torch.no_grad():
            model.ot_head[2].bias.fill_(-3.0)  # type: ignore[index,union-attr,operator]
        scale = TargetScale.of(of)
        mine = float(objective(model, of, scale, 1.0, Group(2))(weights_of(model)).detach())
        assert mine == pytest.approx(float(oracle(model, of, scale, 1.0)(weights_of(model)).detach()), rel=1e-12)

    @pytest.mark.parametrize("count", [1, 2])
    def test_fewer_pairs_than_shards(self, count: int) -> None:
        model, of, scale = model_of("ranknet"), pairs(count=2).take(np.arange(count)), TargetScale.of(pairs())
        expected = derivatives(oracle(model, of, scale, 1.0), weights_of(model))
        found = derivatives(objective(model, of, scale, 1.0, Group(3)), weights_of(model))
        for a, b in zip(expected, found, strict=True):
            assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)

    def test_the_model_s_own_weights_do_not_count(self) -> None:
        model, of, scale = model_of("ranknet"), pairs(), TargetScale.of(pairs())
        weights, loss = weights_of(model), objective(model, of, scale, 1.0, Group())
        before = loss(weights).detach()
        with torch.no_grad():
            for p in model.parameters():
                p.zero_()
        assert torch.equal(loss(weights).detach(), before)

    def test_without_ot_the_ot_head_has_no_gradient(self) -> None:
        model = model_of("ranknet")
        weights, names = weights_of(model), [name for name, _ in model.named_parameters()]
        loss = objective(model, pairs(), TargetScale.of(pairs()), 0.0, Group())(weights)
        gradient = torch.autograd.grad(loss, weights, materialize_grads=True)
        for name, g in zip(names, gradient, strict=True):
            assert bool(g.any()) != name.startswith("ot_head")


class TestSeveralWorkers:
    # Every worker needs a model of its own: `functional_call` puts the weights into the module while
    # it runs, so threads that shared one would compute with each other's weights.
    @pytest.mark.parametrize("kind", ["ranknet", "regression"])
    @pytest.mark.parametrize(("shards", "size"), [(2, 2), (4, 2), (3, 3)])
    def test_every_worker_has_the_bits_of_one(
        self, shards: int, size: int, kind: Literal["ranknet", "regression"]
    ) -> None:
        # float32, as in a fit: there a sum in another order would show.
        of, scale = pairs(11), TargetScale.of(pairs())
        models = iter([model_of(kind, torch.float32) for _ in range(size + 1)])

        def work(group: Group) -> list[Tensor]:
            model = next(models)
            return derivatives(objective(model, of, scale, 1.0, group, torch.float32), weights_of(model))

        alone = work(Group(shards))
        assert alone[1].abs().max() > 0
        for mine in run_workers(size, shards, work):
            assert all(torch.equal(a, b) for a, b in zip(alone, mine, strict=True))

    @pytest.mark.parametrize(("shards", "size"), [(2, 2), (3, 3)])
    def test_at_the_sizes_of_a_fit(self, shards: int, size: int) -> None:
        # Wide enough for vectorised kernels; 61 and 41 are odd, so that shards start at uneven addresses.
        k, count, generator = 61, 41, np.random.default_rng(0)
        inputs = torch.as_tensor(generator.normal(size=(k, 1, 8, 8)), dtype=torch.float32)
        subsets = [
            tuple(tuple(generator.choice(k, 2 + i, replace=False).tolist()) for i in range(count)) for _ in range(2)
        ]
        of = Pairs(subsets[0], subsets[1], generator.uniform(size=(count, 2)), generator.uniform(1, 9, (count, 2)))
        architecture = Architecture.from_config(UtilityModelConfig(), (1, 8, 8))
        models = iter([initialise(architecture, 1) for _ in range(size + 1)])

        def work(group: Group) -> list[Tensor]:
            model = next(models).eval()
            loss = Objective(model, model.prepare(inputs), k, of, TargetScale.of(of), 1.0, group)
            return derivatives(loss, weights_of(model))

        alone = work(Group(shards))
        for mine in run_workers(size, shards, work):
            assert all(torch.equal(a, b) for a, b in zip(alone, mine, strict=True))


class TestPairs:
    def test_take_and_join_keep_rows_together(self) -> None:
        one, other = pairs(5, seed=0), pairs(4, seed=1)
        both = Pairs.join([one, other])
        assert len(both) == 9 and both.sizes.tolist() == [*one.sizes, *other.sizes]
        some = both.take(np.array([6, 0]))
        assert some.first == (other.first[1], one.first[0]) and some.second == (other.second[1], one.second[0])
        assert some.utility.tolist() == [other.utility[1].tolist(), one.utility[0].tolist()]
        assert some.otdd.tolist() == [other.otdd[1].tolist(), one.otdd[0].tolist()]

    def test_with_utility_changes_nothing_else(self) -> None:
        one, new = pairs(), np.zeros((7, 2))
        other = one.with_utility(new)
        assert other.utility is new and (other.first, other.second, other.otdd) == (one.first, one.second, one.otdd)


class TestScale:
    def test_is_mean_and_deviation_of_the_offline_pairs(self) -> None:
        of = pairs()
        scale = TargetScale.of(of)
        assert scale.ot == pytest.approx(of.otdd.sum() / 14)
        assert scale.utility_mean == pytest.approx(of.utility.sum() / 14)
        assert scale.utility_deviation == pytest.approx(math.sqrt(np.mean((of.utility - scale.utility_mean) ** 2)))

    def test_constant_columns_divide_by_one(self) -> None:
        of = Pairs(pairs().first, pairs().second, np.full((7, 2), 0.5), np.zeros((7, 2)))
        assert TargetScale.of(of) == TargetScale(1.0, 0.5, 1.0)


class TestSplitByLength:
    @given(st.lists(st.integers(1, 30), min_size=2, max_size=40).filter(lambda sizes: len(set(sizes)) > 1))
    def test_every_pair_is_in_one_half_and_longer_is_longer(self, sizes: list[int]) -> None:
        shorter, longer = split_by_length(np.array(sizes))
        assert sorted([*shorter.tolist(), *longer.tolist()]) == list(range(len(sizes)))
        assert len(shorter) and len(longer)
        assert max(sizes[i] for i in shorter) < min(sizes[i] for i in longer)

    @given(st.sets(st.integers(1, 1000), min_size=2, max_size=30))
    def test_distinct_sizes_split_in_half(self, sizes: set[int]) -> None:
        shorter, longer = split_by_length(np.array(list(sizes)))
        assert len(shorter) - len(longer) in (0, 1)

    def test_where_most_are_longest_the_shorter_ones_are_d_tr(self) -> None:
        shorter, longer = split_by_length(np.array([5, 3, 5, 5, 5]))
        assert shorter.tolist() == [1] and longer.tolist() == [0, 2, 3, 4]

    def test_equal_sizes_are_refused_with_the_remedy(self) -> None:
        with pytest.raises(ValueError) as caught:
            split_by_length(np.array([7, 7, 7]))
        line = str(caught.value)
        assert "\n" not in line and "3 pairs" in line and "7 images" in line
        assert "utility_samples.min_size" in line and "utility_model.bilevel=false" in line


class TestRankingAccuracy:
    UTILITIES = np.array([[0.9, 0.1], [0.1, 0.9], [0.5, 0.4], [0.3, 0.3]])

    def test_right_wrong_and_even(self) -> None:
        scores = np.array([[2.0, 1.0], [2.0, 1.0], [1.0, 1.0], [5.0, 1.0]])  # right, wrong, half; a tie is not asked
        assert ranking_accuracy(scores, self.UTILITIES) == pytest.approx(0.5)

    def test_only_the_order_counts(self) -> None:
        assert ranking_accuracy(-np.exp(-5 * self.UTILITIES), self.UTILITIES) == 1.0
        assert ranking_accuracy(-self.UTILITIES, self.UTILITIES) == 0.0

    def test_where_all_tie_there_is_no_number(self) -> None:
        assert math.isnan(ranking_accuracy(np.zeros((2, 2)), np.full((2, 2), 0.5)))
