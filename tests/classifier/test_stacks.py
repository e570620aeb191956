"""Stacked training against the single-model path: the same models, several at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rambo_ray.classifier import prediction, stacks, training
from rambo_ray.classifier.networks import build
from rambo_ray.classifier.stacks import STACKED, batches_per_epoch, models_that_fit, train_stack
from rambo_ray.classifier.stacks.networks import Layers, Windows, as_matrix, stacked_state
from rambo_ray.classifier.training import TrainingSettings
from rambo_ray.config.schema import ClassifierConfig
from rambo_ray.data.problem import LabeledArrays
from rambo_ray.errors import UserError
from rambo_ray.utility_samples.measuring import MeasurementSettings, Retrainer, groups
from rambo_ray.utility_samples.sampling import UtilitySample

SHAPES = {"mnist_net": (1, 8, 8), "resnet18": (3, 8, 8)}


def settings_for(name: str, **changes: object) -> TrainingSettings:
    channels = SHAPES[name][0]
    config = ClassifierConfig.model_validate({"name": name, "precision": "float32"})
    settings = TrainingSettings.from_config(
        config, mean=(0.5,) * channels, std=(0.3,) * channels, image_shape=SHAPES[name], num_classes=10
    )
    return replace(settings, **changes)  # type: ignore[arg-type]


def images_for(name: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Images that can be learnt: each class brightens its own two pixels."""
    channels, height, width = SHAPES[name]
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, n)
    pixels = rng.integers(0, 120, (n, height, width, channels))
    pixels.reshape(n, height * width, channels)[np.arange(n)[:, None], np.stack([labels, labels + 40], 1)] += 130
    return pixels.astype(np.uint8), labels.astype(np.int64)


def subsets_of(sizes: list[int], n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [np.sort(rng.choice(n, size, replace=False)) for size in sizes]


class TestNetworks:
    @pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (1, 2), (1, 1)])
    def test_windows_times_kernels_are_a_convolution(self, kernel: int, stride: int) -> None:
        torch.manual_seed(0)
        x = torch.randn(2, 7, 9, 3, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(5, 3, kernel, kernel, dtype=torch.float64)
        got = Windows.apply(x, kernel, stride) @ as_matrix(weight)
        want = F.conv2d(x.permute(0, 3, 1, 2), weight, stride=stride).permute(0, 2, 3, 1)
        torch.testing.assert_close(got, want)
        assert torch.autograd.gradcheck(lambda x: Windows.apply(x, kernel, stride), x)

    @pytest.mark.parametrize("name", STACKED)
    def test_gradients_are_the_single_networks(self, name: str) -> None:
        """Two models in train mode, the second with rows that are not images: they must not count.

        In double precision, where no CPU's rounding is near the tolerance, nor turns a ReLU off.
        """
        settings = settings_for(name)
        torch.manual_seed(0)
        models = [build(name, settings.image_shape, 10).double().train() for _ in range(2)]
        before = stacked_state(models)
        state = {key: value.clone() for key, value in before.items()}
        for key, _ in models[0].named_parameters():
            state[key].requires_grad_()
        x, y = torch.randn(2, 6, *SHAPES[name]).double(), torch.randint(0, 10, (2, 6))
        real = torch.ones(2, 6).double()
        real[1, 4:] = 0
        ones = tuple(torch.ones(2, 6, units) for units, _ in STACKED[name].dropout)
        logits = STACKED[name].logits(Layers(state, real, True), x.permute(0, 1, 3, 4, 2), ones)
        (F.cross_entropy(logits[0], y[0]) + F.cross_entropy(logits[1, :4], y[1, :4])).backward()
        for g, (model, rows) in enumerate(zip(models, (6, 4), strict=True)):
            model.train(name != "mnist_net")  # its dropout is part of its forward; masks of 1 above
            alone = model(x[g, :rows])
            torch.testing.assert_close(logits[g, :rows], alone, atol=1e-9, rtol=1e-9)
            F.cross_entropy(alone, y[g, :rows]).backward()
            for key, parameter in model.named_parameters():
                want = as_matrix(parameter.grad)  # type: ignore[arg-type]
                got = state[key].grad[g]  # type: ignore[index]
                torch.testing.assert_close(got, want, atol=1e-9 * float(want.abs().max()), rtol=1e-6, msg=key)
            for key, value in model.state_dict().items():
                if ".running_" in key:
                    torch.testing.assert_close(state[key][g], value, atol=1e-12, rtol=1e-9)
                    assert not torch.equal(state[key][g], before[key][g])

    @pytest.mark.parametrize("name", STACKED)
    @torch.no_grad()
    def test_in_single_precision_logits_are_off_by_rounding_only(self, name: str) -> None:
        """A sum of n products is off by at most about sqrt(n) eps times its size, however a CPU groups it.

        What such errors in every layer do to the logits, of which batch normalisation makes many
        times as much, is tried in double precision; no machine decides the tolerance.
        """
        settings = settings_for(name)
        torch.manual_seed(0)
        models = [build(name, settings.image_shape, 10).train(name != "mnist_net") for _ in range(2)]
        x = torch.randn(2, 6, *SHAPES[name])
        ones = tuple(torch.ones(2, 6, units) for units, _ in STACKED[name].dropout)
        state = stacked_state(models)
        logits = STACKED[name].logits(Layers(state, torch.ones(2, 6), True), x.permute(0, 1, 3, 4, 2), ones)

        def rounded(layer: nn.Module, _: object, y: torch.Tensor) -> torch.Tensor:
            terms = layer.weight[0].numel()
            return y + torch.finfo(torch.float32).eps * terms**0.5 * y.abs().max() * torch.randn_like(y)

        for g, model in enumerate(models):
            exact = model.double()(x[g].double())
            layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
            hooks = [layer.register_forward_hook(rounded) for layer in layers]
            allowed = max(float((model(x[g].double()) - exact).abs().max()) for _ in range(5))
            for hook in hooks:
                hook.remove()
            assert allowed < 0.02 * float(exact.abs().max())
            assert float((logits[g].double() - exact).abs().max()) < allowed


@pytest.mark.usefixtures("double")
class TestTrainingExactly:
    def test_a_stack_is_its_models_one_by_one(self) -> None:
        """Same draws, same epochs; models of several sizes, which leave the stack at different times."""
        settings = settings_for("mnist_net", stop_accuracy=0.6)
        pixels, labels = images_for("mnist_net", 120)
        x = training.prepare(pixels, settings).double()
        subsets, seeds = subsets_of([41, 45, 52, 60], 120), [3, 1, 4, 15]
        results = train_stack(x, labels, x[:30], settings, seeds, subsets)
        alone = [training.train(x, labels, settings, s, positions=p) for s, p in zip(seeds, subsets, strict=True)]
        assert [(r.epochs, r.images_seen, r.train_accuracy) for r in results] == [
            (t.epochs, t.images_seen, t.train_accuracy) for t in alone
        ]
        assert len({r.epochs for r in results}) > 2
        for result, trained in zip(results, alone, strict=True):
            logits, _ = prediction.predict(trained.model, x[:30], settings)
            np.testing.assert_allclose(result.logits, logits, atol=1e-4)

    def test_a_stack_of_batch_normalised_networks(self) -> None:
        settings = settings_for("resnet18", max_epochs=2, batch_size=8)
        pixels, labels = images_for("resnet18", 24)
        x = training.prepare(pixels, settings).double()
        subsets = subsets_of([11, 16], 24)  # 11: the last batch has three rows that are images
        results = train_stack(x, labels, x, settings, [0, 1], subsets)
        for seed, (result, subset) in enumerate(zip(results, subsets, strict=True)):
            trained = training.train(x, labels, settings, seed, positions=subset)
            logits, _ = prediction.predict(trained.model, x, settings)
            np.testing.assert_allclose(result.logits, logits, atol=1e-4)
            assert (result.epochs, result.train_accuracy) == (trained.epochs, trained.train_accuracy)


class TestTraining:
    def test_a_model_does_not_depend_on_its_company(self) -> None:
        settings = settings_for("mnist_net", max_epochs=4)
        pixels, labels = images_for("mnist_net", 80)
        x = training.prepare(pixels, settings)
        subsets = subsets_of([25, 30, 40], 80)
        together = train_stack(x, labels, x, settings, [7, 8, 9], subsets)
        alone = train_stack(x, labels, x, settings, [9], subsets[2:])
        np.testing.assert_allclose(together[2].logits, alone[0].logits, atol=1e-4)
        again = train_stack(x, labels, x, settings, [7, 8, 9], subsets)
        assert all(np.array_equal(a.logits, b.logits) for a, b in zip(together, again, strict=True))

    def test_global_generator_is_left_alone(self) -> None:
        settings = settings_for("mnist_net", max_epochs=1)
        pixels, labels = images_for("mnist_net", 20)
        x = training.prepare(pixels, settings)
        torch.manual_seed(5)
        before = torch.get_rng_state()
        train_stack(x, labels, x, settings, [0], subsets_of([10], 20))
        assert torch.equal(torch.get_rng_state(), before)

    def test_what_cannot_go_in_step_goes_one_after_the_other(self) -> None:
        settings = settings_for("mnist_net", max_epochs=2)
        pixels, labels = images_for("mnist_net", 60)
        x = training.prepare(pixels, settings)
        subsets = subsets_of([21, 20, 40, 9], 60)
        found = train_stack(x, labels, x, settings, [0, 1, 2, 3], subsets)
        for places in ([0, 2], [1, 3]):
            own = train_stack(x, labels, x, settings, places, [subsets[g] for g in places])
            for g, alone in zip(places, own, strict=True):
                assert np.array_equal(found[g].logits, alone.logits)
                assert found[g].images_seen == 2 * len(subsets[g])

    def test_refuses_what_cannot_train(self) -> None:
        settings = settings_for("mnist_net")
        pixels, labels = images_for("mnist_net", 60)
        x = training.prepare(pixels, settings)
        with pytest.raises(ValueError, match="one each"):
            train_stack(x, labels, x, settings, [0], subsets_of([20, 21], 60))
        with pytest.raises(UserError, match="batch normalisation needs 2"):
            batches_per_epoch(1, settings_for("resnet18"))

    @pytest.mark.parametrize("name", STACKED)
    def test_more_room_holds_more_models(self, name: str) -> None:
        settings = settings_for(name)
        weights = sum(p.nbytes for p in build(name, settings.image_shape, 10).parameters())
        assert models_that_fit(settings, 1.0) == 1
        assert 2 <= models_that_fit(settings, 1e10) <= 1e10 / (4 * weights)
        assert models_that_fit(settings, 4e10) == pytest.approx(4 * models_that_fit(settings, 1e10), rel=0.05)


def sample(indices: list[int]) -> UtilitySample:
    return UtilitySample(str(indices), pair_id=0, iteration=-1, kind="retrained", indices=tuple(indices))


def samples_of_all_sizes() -> list[UtilitySample]:
    rng = np.random.default_rng(0)
    return [sample(sorted(rng.choice(100, n, replace=False).tolist())) for n in rng.integers(5, 90, 40)]


class TestGroups:
    def test_each_subset_once_and_in_step(self) -> None:
        settings = settings_for("mnist_net")
        samples = samples_of_all_sizes()
        found = groups([*samples, *samples[:7]], settings, 4)
        assert sorted(s.sample_id for g in found for s in g) == sorted(s.sample_id for s in samples)
        assert all(len(g) <= 4 and len({batches_per_epoch(s.size, settings) for s in g}) == 1 for g in found)
        assert any(len(g) == 4 for g in found)

    def test_for_a_gpu_groups_are_full_and_of_about_one_size(self) -> None:
        settings = settings_for("mnist_net")
        samples = samples_of_all_sizes()
        found = groups([*samples, *samples[:7]], settings, 16, in_step=False)
        assert sorted(s.sample_id for g in found for s in g) == sorted(s.sample_id for s in samples)
        assert [len(g) for g in found] == [16, 16, 8]
        batches = [batches_per_epoch(s.size, settings) for g in found for s in g]
        assert batches == sorted(batches)

    def test_networks_without_a_stack_go_alone(self) -> None:
        settings = replace(settings_for("mnist_net"), classifier="my.module:factory")
        assert [len(g) for g in groups([sample([1, 2]), sample([3, 4])], settings, 8)] == [1, 1]


@pytest.mark.parametrize("at_once", [2, 5])
def test_measured_in_stacks_or_alone(at_once: int) -> None:
    settings = settings_for("mnist_net", max_epochs=3)
    pixels, labels = images_for("mnist_net", 100)
    data = LabeledArrays(pixels[:60], labels[:60]), LabeledArrays(pixels[60:], labels[60:])
    measuring = MeasurementSettings(settings, 0, 2, "gaussian", "converged", 0.1)
    retrainer = Retrainer(*data, measuring, "cpu")
    subsets = [tuple(map(int, subset)) for subset in subsets_of([22, 25, 31], 60)]
    alone = [retrainer.measure(subset) for subset in subsets]
    stacked = retrainer.measure_group([(subset, -1) for subset in subsets], at_once)
    for a, b in zip(alone, stacked, strict=True):
        assert (a.epochs, a.images_seen, a.otdd) == (b.epochs, b.images_seen, b.otdd)
        assert b.soft_accuracy == pytest.approx(a.soft_accuracy, abs=1e-4)
        assert b.val_loss_std == pytest.approx(a.val_loss_std, abs=1e-4)
        assert b.accuracy == pytest.approx(a.accuracy, abs=0.03)


def test_otdds_in_a_thread_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a GPU trains meanwhile; which of them belongs to which set must not depend on who is first."""
    settings = settings_for("mnist_net", max_epochs=1)
    pixels, labels = images_for("mnist_net", 100)
    data = LabeledArrays(pixels[:60], labels[:60]), LabeledArrays(pixels[60:], labels[60:])
    retrainer = Retrainer(*data, MeasurementSettings(settings, 0, 1, "gaussian", "converged", 0.1), "cpu")
    subsets = [(tuple(map(int, subset)), -1) for subset in subsets_of([22, 25, 31, 21], 60)]
    expected = [found.otdd for found in retrainer.measure_group(subsets, 2)]
    monkeypatch.setattr(retrainer, "device", "cuda")
    monkeypatch.setattr(stacks, "train_stack", lambda *arguments: train_stack(*arguments[:-1], "cpu"))
    assert [found.otdd for found in retrainer.measure_group(subsets, 2)] == expected
