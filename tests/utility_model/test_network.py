"""The set network: its layers against plain operations, its invariances, and that it is not dead."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from rambo_ray.config.schema import UtilityModelConfig
from rambo_ray.utility_model.network import (
    Architecture,
    PixelExtractor,
    UtilityModel,
    VectorExtractor,
    initialise,
    load,
    membership,
    save,
    spread,
    standardisation,
)

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 9, 11), (3, 30, 13), (1, 15, 31)]


def architecture(*shape: int, objective: str = "ranknet", **keys: object) -> Architecture:
    config = UtilityModelConfig(objective=objective, **keys)  # type: ignore[arg-type]
    return Architecture.from_config(config, shape)


def pictures(count: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randn((count, *shape), generator=torch.Generator().manual_seed(seed))


def fitted(*shape: int, k: int = 60, objective: str = "ranknet") -> tuple[UtilityModel, Tensor]:
    """A model at its initial weights that knows the standardisation of k images, and these images."""
    model = initialise(architecture(*shape, objective=objective), seed=0).eval()
    images = pictures(k, *shape)
    with torch.no_grad():
        for buffer, value in zip((model.mean, model.deviation), standardisation(model.encode(images)), strict=True):
            buffer.copy_(value)
    model.spread.fill_(spread(range(20, k), k))
    return model, images


class TestPixelExtractor:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_equals_the_printed_list_of_layers(self, shape: tuple[int, int, int]) -> None:
        extractor = initialise(architecture(*shape), seed=1).extractor.double().eval()
        assert isinstance(extractor, PixelExtractor)
        images = pictures(5, *shape).double()
        x = F.conv2d(images, extractor.conv.weight, extractor.conv.bias, padding=2)  # 1
        x = F.relu(F.max_pool2d(x, 2))  # 2, 3; 4 is dropout, off here
        x = F.relu(F.max_pool2d(x, 2))  # 5, 6
        x = F.relu(F.linear(x.flatten(1), extractor.hidden.weight, extractor.hidden.bias))  # 7, 8; 9 is dropout
        expected = F.relu(F.linear(x, extractor.output.weight, extractor.output.bias))  # 10, 11
        found = extractor(extractor.prepare(images))
        assert found.shape == (5, 64) and expected.abs().max() > 0
        assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("shape", SHAPES[:3])
    def test_gradients_equal_those_of_the_printed_list(self, shape: tuple[int, int, int]) -> None:
        extractor = initialise(architecture(*shape), seed=1).extractor.double().eval()
        assert isinstance(extractor, PixelExtractor)
        images, weights = pictures(5, *shape).double(), list(extractor.parameters())
        x = F.conv2d(images, extractor.conv.weight, extractor.conv.bias, padding=2)
        x = F.relu(F.max_pool2d(F.relu(F.max_pool2d(x, 2)), 2)).flatten(1)
        printed = F.relu(extractor.output(F.relu(extractor.hidden(x)))).square().sum()
        mine = extractor(extractor.prepare(images)).square().sum()
        for a, b in zip(torch.autograd.grad(printed, weights), torch.autograd.grad(mine, weights), strict=True):
            assert a.abs().max() > 0 and torch.allclose(a, b, rtol=1e-9, atol=1e-11)

    def test_an_image_s_encoding_does_not_depend_on_the_others(self) -> None:
        model, images = fitted(1, 8, 8)
        with torch.no_grad():
            assert torch.allclose(model.encode(images)[7:9], model.encode(images[7:9]), atol=1e-6)

    def test_dropout_takes_whole_channels_and_only_while_fitting(self) -> None:
        model = initialise(architecture(1, 8, 8, dropout=0.5, channels=6, extractor_width=4), seed=0)
        extractor = model.extractor
        assert isinstance(extractor, PixelExtractor)
        seen: list[Tensor] = []
        extractor.hidden.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].view(-1, 6, 4)))
        images = pictures(300, 1, 8, 8)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model.eval().encode(images)
            model.train().encode(images)
        quiet, dropped = seen
        for one, other in zip(quiet.flatten(0, 1), dropped.flatten(0, 1), strict=True):
            assert not other.any() or torch.allclose(other, 2 * one)  # scaled by 1 / (1 - dropout)
        alive = quiet.flatten(0, 1).any(dim=1)
        share = float((~dropped.flatten(0, 1)[alive].any(dim=1)).float().mean())
        assert abs(share - 0.5) < 5 * 0.5 / math.sqrt(int(alive.sum()))


def test_vector_extractor_is_fc_relu_fc() -> None:
    extractor = initialise(architecture(7), seed=0).extractor
    assert isinstance(extractor, VectorExtractor)
    x = pictures(3, 7)
    hidden = (x @ extractor.hidden.weight.T + extractor.hidden.bias).clamp(min=0)
    expected = hidden @ extractor.output.weight.T + extractor.output.bias
    assert torch.allclose(extractor(extractor.prepare(x)), expected, atol=1e-6)
    assert (expected < 0).any()  # no ReLU at the end (B.1.2)


class TestSets:
    @pytest.mark.parametrize("objective", ["ranknet", "regression"])
    def test_phi_and_heads_are_the_printed_layers(self, objective: str) -> None:
        model, images = fitted(6, objective=objective)
        model = model.double()
        with torch.no_grad():
            pooled = model.encode(images.double())[:9].mean(dim=0, keepdim=True)
            z = (pooled - model.mean) / (model.deviation * model.spread)
            x = F.relu(F.linear(z, model.set_hidden.weight, model.set_hidden.bias))
            phi = 1 / (1 + torch.exp(-F.linear(x, model.set_output.weight, model.set_output.bias)))
            score, ot = model(pooled, of_sets=True)
            assert torch.allclose(model.embed(pooled), phi, rtol=1e-12)
            first, _, second = model.ot_head
            assert torch.allclose(ot, second(F.relu(first(phi))).squeeze(-1), rtol=1e-12)
            if objective == "ranknet":
                assert torch.allclose(score, phi @ model.score_head.weight[0], rtol=1e-12)
            else:
                first, _, second = model.score_head
                assert torch.allclose(score, second(F.relu(first(phi))).squeeze(-1), rtol=1e-12)

    @given(st.permutations(range(12)))
    def test_order_within_a_set_does_not_matter(self, order: list[int]) -> None:
        assert torch.equal(membership([order[:5]], 12), membership([sorted(order[:5])], 12))

    def test_renumbering_the_images_does_not_matter(self) -> None:
        model, images = fitted(1, 8, 8)
        model, images = model.double(), images.double()
        order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
        place = torch.argsort(order)
        subset = [3, 14, 15, 59]
        with torch.no_grad():
            one = membership([subset], 60).double() @ model.encode(images)
            other = membership([place[subset].tolist()], 60).double() @ model.encode(images[order])
            assert torch.allclose(model.score(model.embed(one)), model.score(model.embed(other)), rtol=1e-10)

    @given(st.lists(st.sets(st.integers(0, 14), min_size=1), min_size=1, max_size=5))
    def test_membership_means(self, subsets: list[set[int]]) -> None:
        x = pictures(15, 3)
        pooled = membership([sorted(s) for s in subsets], 15) @ x
        for subset, row in zip(subsets, pooled, strict=True):
            assert torch.allclose(row, torch.stack([x[i] for i in subset]).mean(dim=0), atol=1e-5)

    @pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (16,)])
    def test_sets_get_different_scores_from_the_first(self, shape: tuple[int, ...]) -> None:
        # As printed, without standardisation, the sigmoid leaves all sets the same score.
        model, images = fitted(*shape)
        generator = np.random.default_rng(0)
        subsets = [generator.choice(60, 30, replace=False).tolist() for _ in range(200)]
        with torch.no_grad():
            pooled = membership(subsets, 60) @ model.encode(images)
            phi = model.embed(pooled)
            scores = model.score(phi)
            exact = model.double().score(model.embed(pooled.double()))
        rounding = float((scores.double() - exact).abs().max())
        assert float(scores.std()) > 1e4 * rounding
        assert float(scores.std()) > 0.01
        assert float(phi.std(dim=0).median()) > 0.02 and float(phi.min()) > 0.02 and float(phi.max()) < 0.98

    def test_standardised_sets_have_unit_variance(self) -> None:
        model, images = fitted(1, 8, 8)
        generator = np.random.default_rng(1)
        subsets = [generator.choice(60, d, replace=False).tolist() for d in range(20, 60) for _ in range(50)]
        with torch.no_grad():
            z = membership(subsets, 60) @ model.encode(images)
            z = (z - model.mean) / (model.deviation * model.spread)
        alive = model.deviation > 2e-3
        assert int(alive.sum()) > 20
        assert torch.allclose(z[:, alive].var(dim=0), torch.ones(int(alive.sum())), atol=0.2)


class TestStandardisation:
    def test_mean_and_deviation_over_images(self) -> None:
        x = pictures(50, 4).double() * 3 + 1
        mean, deviation = standardisation(x)
        assert torch.allclose(mean, x.mean(dim=0))
        assert deviation.tolist() == pytest.approx(np.sqrt(x.numpy().var(axis=0, ddof=1) + 1e-6).tolist())

    def test_a_dead_feature_stays_zero(self) -> None:
        x = torch.zeros(10, 2)
        mean, deviation = standardisation(x)
        assert (mean.tolist(), deviation.tolist()) == ([0.0, 0.0], pytest.approx([1e-3, 1e-3]))
        assert ((x[:3].mean(dim=0) - mean) / deviation).tolist() == [0.0, 0.0]

    @pytest.mark.parametrize(("size", "k"), [(1, 10), (5, 10), (30, 40)])
    def test_spread_is_the_deviation_of_a_random_subset_s_mean(self, size: int, k: int) -> None:
        generator = np.random.default_rng(0)
        values = generator.exponential(size=k)
        means = [values[generator.permutation(k)[:size]].mean() for _ in range(20000)]
        expected = spread([size], k) * values.std(ddof=1)
        assert np.std(means) == pytest.approx(expected, rel=0.03)

    def test_spread_of_several_sizes_averages_variances(self) -> None:
        assert spread([2, 5], 10) ** 2 == pytest.approx(((1 / 2 - 1 / 10) + (1 / 5 - 1 / 10)) / 2)
        assert spread([10], 10) > 0  # all of S_0 has no variance, and still nothing divides by zero


class TestInitialise:
    def test_follows_from_the_seed_alone(self) -> None:
        def weights(seed: int) -> list[float]:
            parameters = initialise(architecture(1, 8, 8), seed).parameters()
            return torch.cat([p.detach().flatten() for p in parameters]).tolist()

        torch.manual_seed(1)
        first = weights(7)
        torch.rand(11)
        assert weights(7) == first != weights(8)

    def test_the_global_generator_is_left_as_it_was(self) -> None:
        torch.manual_seed(1)
        expected = torch.rand(3).tolist()
        torch.manual_seed(1)
        initialise(architecture(5), 3)
        assert torch.rand(3).tolist() == expected


class TestFiles:
    @pytest.mark.parametrize("shape", [(1, 8, 8), (5,)])
    @pytest.mark.parametrize("objective", ["ranknet", "regression"])
    def test_round_trip(self, tmp_path: Path, shape: tuple[int, ...], objective: str) -> None:
        model, images = fitted(*shape, objective=objective)
        save(model, tmp_path, {"ot_scale": 2.5, "lambdas": {"a": -1.0}})
        assert sorted(p.name for p in tmp_path.iterdir()) == ["utility_model.json", "utility_model.safetensors"]
        again, content = load(tmp_path)
        assert again.architecture == model.architecture and not again.training
        assert content["ot_scale"] == 2.5 and content["lambdas"] == {"a": -1.0}
        assert json.loads((tmp_path / "utility_model.json").read_text()) == content
        assert again.state_dict().keys() == model.state_dict().keys()
        with torch.no_grad():
            scores = [m.score(m.embed(m.encode(images)[:5])).tolist() for m in (model, again)]
        assert scores[0] == scores[1] and len(set(scores[0])) == 5

    def test_architecture_of_a_configuration(self) -> None:
        config = UtilityModelConfig(channels=3, extractor_width=10, phi_width=11, head_width=12, dropout=0.2)
        made = Architecture.from_config(config, (3, 32, 32))
        assert made == Architecture("pixels", (3, 32, 32), 3, 10, 11, 12, 0.2, "ranknet")
        assert Architecture.from_config(config, [512]).features == "vector"
