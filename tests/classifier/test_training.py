"""Training by the paper's rule: against a slow loop, and what must never change a result."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rambo_ray.classifier import kernels, mnist_steps, training
from rambo_ray.classifier.networks import MnistNet
from rambo_ray.classifier.prediction import evaluate, predict
from rambo_ray.classifier.training import (
    Trained,
    TrainingSettings,
    batch_bounds,
    choose_kernels,
    choose_precision,
    from_arrays,
    prepare,
    to_arrays,
    train,
)
from rambo_ray.config.schema import ClassifierConfig
from rambo_ray.errors import UserError

from .reference_training import PlainMnistNet, normalised, train_plainly
from .small_settings import read_only_digits, settings_of


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    return read_only_digits()


def digest(trained: Trained) -> str:
    arrays = to_arrays(trained)
    content = b"".join(arrays[key].tobytes() for key in sorted(arrays) if key != "seconds")
    return hashlib.sha256(content).hexdigest()


def test_settings_identity_is_canonical_and_complete() -> None:
    settings = settings_of()
    content = json.loads(settings.identity())
    assert content["mean"] == [0.1307]
    assert content["precision"] == "float32"
    assert settings.identity() == settings_of().identity()
    for change in (
        {"batch_size": 21},
        {"precision": "bfloat16"},
        {"classifier": "resnet18"},
        {"std": (1.0,)},
        {"learning_rate": 1e-2},
        {"stop_accuracy": 0.9},
        {"max_epochs": 9},
        {"num_classes": 9},
    ):
        assert replace(settings, **change).identity() != settings.identity()


def test_settings_needs_one_mean_per_channel() -> None:
    with pytest.raises(UserError, match="one value per channel"):
        TrainingSettings.from_config(ClassifierConfig(), mean=(0.5,), std=(0.5,), image_shape=(3, 8, 8), num_classes=2)


def test_precision_is_chosen_where_it_will_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_precision("float32", "cpu", "resnet18") == "float32"
    assert choose_precision("bfloat16", "cpu", "mnist_net") == "bfloat16"
    for supported in (False, True):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda s=supported: s, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
        best = "bfloat16" if supported else "float32"
        assert choose_precision("auto", "cpu", "resnet18") == best
        for compiled, tiles in ((object(), True), (object(), False), (None, False)):
            monkeypatch.setattr(kernels, "library", lambda c=compiled: c)
            monkeypatch.setattr(kernels, "tiles", lambda t=tiles: t)
            expected = "bfloat16" if tiles else "float32" if compiled else best
            assert choose_precision("auto", "cpu", "mnist_net") == expected
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert choose_precision("auto", "cpu", "mnist_net") == "float32"


def test_compiled_kernels_can_be_turned_off(
    digits: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, labels = digits
    auto, off = (settings_of(max_epochs=1, kernels=kernels_) for kernels_ in ("auto", "off"))
    assert auto.identity() == off.identity(), "they change rounding only"
    assert choose_kernels("mnist_net", "float32", "cpu", "off") == "torch"

    def called(*arguments: object) -> int:
        raise AssertionError("a compiled kernel was called")

    monkeypatch.setattr(kernels, "call", called)
    trained = train(pixels[:40], labels[:40], off, seed=3)
    evaluate(trained.model, pixels[:40], labels[:40], off)
    if kernels.library() is not None:
        with pytest.raises(AssertionError, match="a compiled kernel was called"):
            train(pixels[:40], labels[:40], auto, seed=3)


def test_any_x86_is_float32_in_torch_and_another_identity() -> None:
    config = ClassifierConfig()
    keys = {"mean": (0.5,), "std": (0.5,), "image_shape": (1, 8, 8), "num_classes": 10}
    machine, any_x86 = (
        TrainingSettings.from_config(config, **keys, reproducible=how)  # type: ignore[arg-type]
        for how in ("machine", "any_x86")
    )
    assert (any_x86.precision, any_x86.kernels) == ("float32", "off")
    assert any_x86.on("cpu", "auto") == any_x86
    assert replace(machine, precision="float32").identity() != any_x86.identity()
    assert "reproducible" not in machine.identity(), "samples measured before there was a choice stay valid"


def test_prepare_is_torchvisions_normalisation(digits: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, _ = digits
    torch.testing.assert_close(prepare(pixels[:9], settings_of()), normalised(pixels[:9], settings_of()))
    colour = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    settings = settings_of(image_shape=(3, 6, 5), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    torch.testing.assert_close(prepare(colour, settings), normalised(colour, settings))
    with pytest.raises(ValueError, match="expected uint8"):
        prepare(colour.transpose(0, 3, 1, 2), settings)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("n", [20, 47, 61])
def test_fast_loop_is_the_slow_loop(digits: tuple[np.ndarray, np.ndarray], n: int) -> None:
    """Same seed, same batches, same dropout: the same network but for rounding.

    With autograd, which every other network and device has; test_mnist_steps.py holds the
    written-out step against it.
    """
    pixels, labels = digits[0][:n], digits[1][:n]
    settings = settings_of(max_epochs=4)
    fast = train(pixels, labels, settings, seed=5)
    plain, accuracies = train_plainly(lambda: PlainMnistNet((1, 8, 8), 10), pixels, labels, settings, seed=5)
    assert fast.epochs == len(accuracies)
    assert fast.train_accuracy == accuracies[-1]
    ours, theirs = fast.model.state_dict(), plain.state_dict()
    assert list(ours) == list(theirs)
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key], rtol=1e-3, atol=2e-4)


@pytest.mark.usefixtures("double")
def test_stops_after_the_first_epoch_that_reaches_the_accuracy(
    digits: tuple[np.ndarray, np.ndarray],
) -> None:
    pixels, labels = digits[0][:60], digits[1][:60]
    never = settings_of(stop_accuracy=1.0, max_epochs=12)
    _, accuracies = train_plainly(lambda: PlainMnistNet((1, 8, 8), 10), pixels, labels, never, seed=3)
    assert len(set(accuracies)) > 5
    for target in (accuracies[0], accuracies[4], sorted(accuracies)[-2]):
        first = next(epoch for epoch, value in enumerate(accuracies, 1) if value >= target)
        trained = train(pixels, labels, replace(never, stop_accuracy=target), seed=3)
        assert (trained.epochs, trained.images_seen) == (first, first * 60)
        assert trained.train_accuracy == accuracies[first - 1]
    assert train(pixels, labels, replace(never, max_epochs=2), seed=3).epochs == 2


def test_running_accuracy_is_counted_as_scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A net that answers right on a scripted share of each epoch: 0.5, 0.75, 0.99, 1."""

    class Scripted(MnistNet):
        calls = 0

        def outputs(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            share = (0.5, 0.75, 0.99, 1.0)[Scripted.calls // 5]
            Scripted.calls += 1
            right = torch.arange(len(x)) < round(share * len(x) - (share == 0.99 and Scripted.calls % 5 > 1))
            logits = torch.zeros(len(x), 10)
            logits[right, 3] = 1
            logits[~right, 4] = 1
            return logits + 0 * self.fc2.bias, logits

    monkeypatch.setitem(training.NETWORKS, "scripted", Scripted)
    monkeypatch.setattr("rambo_ray.classifier.networks.NETWORKS", training.NETWORKS)
    pixels, labels = np.zeros((500, 8, 8, 1), np.uint8), np.full(500, 3)
    trained = train(pixels, labels, settings_of(classifier="scripted", batch_size=100), seed=0)
    assert trained.epochs == 4
    assert Scripted.calls == 20
    Scripted.calls = 0
    settings = settings_of(classifier="scripted", batch_size=100, stop_accuracy=0.982)
    assert train(pixels, labels, settings, seed=0).epochs == 3


def test_seed_alone_decides(digits: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, labels = digits[0][:47], digits[1][:47]
    settings = settings_of(max_epochs=3)
    first = digest(train(pixels, labels, settings, seed=11))
    torch.manual_seed(99)
    torch.rand(17)
    state = torch.random.get_rng_state()
    assert digest(train(pixels, labels, settings, seed=11)) == first
    assert torch.equal(torch.random.get_rng_state(), state)
    assert digest(train(pixels, labels, settings, seed=12)) != first
    assert digest(train(pixels, labels, settings, seed=2**63 - 1)) != first


def test_prepared_positions_are_the_subset(digits: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, labels = digits
    settings = settings_of(max_epochs=2)
    positions = np.sort(np.random.default_rng(0).choice(200, 33, replace=False))
    expected = digest(train(pixels[positions], labels[positions], settings, seed=1))
    prepared = prepare(pixels[:200], settings)
    before = prepared.clone()
    assert digest(train(prepared, labels[:200], settings, seed=1, positions=positions)) == expected
    assert digest(train(pixels, labels, settings, seed=1, positions=positions)) == expected
    assert torch.equal(prepared, before)


@pytest.mark.filterwarnings("error")
def test_read_only_inputs_stay_as_they_are(digits: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, labels = digits[0][:40], digits[1][:40].copy()
    labels.setflags(write=False)
    positions = np.arange(25)
    positions.setflags(write=False)
    sums = [hashlib.sha256(array.tobytes()).digest() for array in (pixels, labels, positions)]
    settings = settings_of(max_epochs=2)
    trained = train(pixels, labels, settings, seed=0, positions=positions)
    train(pixels, labels, settings, seed=0)
    evaluate(trained.model, pixels, labels, settings)
    from_arrays(to_arrays(trained), settings)
    assert sums == [hashlib.sha256(array.tobytes()).digest() for array in (pixels, labels, positions)]


def test_batches() -> None:
    assert batch_bounds(45, 20) == [(0, 20), (20, 40), (40, 45)]
    assert batch_bounds(41, 20) == [(0, 20), (20, 40), (40, 41)]
    assert batch_bounds(41, 20, 2) == [(0, 20), (20, 41)]
    assert batch_bounds(40, 20, 2) == [(0, 20), (20, 40)]
    assert batch_bounds(1, 20) == [(0, 1)]
    assert batch_bounds(3, 2, 2) == [(0, 3)]
    for n, batch_size in ((1, 20), (5, 1)):
        with pytest.raises(UserError, match="batch normalisation needs 2 images"):
            batch_bounds(n, batch_size, 2)


def test_one_image(digits: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, labels = digits[0][:21], digits[1][:21]
    assert train(pixels[:1], labels[:1], settings_of(), seed=0).train_accuracy == 1
    assert train(pixels, labels, settings_of(max_epochs=1), seed=0).images_seen == 21
    resnet = settings_of(classifier="resnet18", max_epochs=1)
    # On 8x8 images the last block sees one pixel: a batch of one would have no variance at all.
    trained = train(pixels, labels, resnet, seed=0)
    assert trained.images_seen == 21
    assert int(trained.model.norm1.num_batches_tracked) == 1
    with pytest.raises(UserError, match="batch normalisation"):
        train(pixels[:1], labels[:1], resnet, seed=0)


def test_wrong_subsets_are_one_line(digits: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, labels = digits
    with pytest.raises(ValueError, match="at least one"):
        train(pixels[:0], labels[:0], settings_of(), seed=0)
    with pytest.raises(ValueError, match="one each"):
        train(pixels[:5], labels[:4], settings_of(), seed=0)
    with pytest.raises(ValueError, match=r"not within 0\.\.4"):
        train(pixels[:50], labels[:50], settings_of(num_classes=5), seed=0)


def test_digits_are_learnt(digits: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, labels = digits
    settings = settings_of()
    prepared = prepare(pixels, settings)
    trained = train(prepared, labels, settings, seed=0, positions=np.arange(100))
    assert trained.train_accuracy >= 0.99 or trained.epochs == 100
    assert not trained.model.training
    scores = evaluate(trained.model, prepared[100:], labels[100:], settings)
    assert scores.accuracy > 0.8
    assert 0.5 < scores.soft_accuracy < scores.accuracy + 0.05


def test_arrays_carry_a_trained_classifier(digits: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, labels = digits[0][:30], digits[1][:30]
    for name in ("mnist_net", "resnet18"):
        settings = settings_of(classifier=name, max_epochs=1)
        trained = train(pixels, labels, settings, seed=0)
        arrays = to_arrays(trained)
        assert all(isinstance(value, np.ndarray) for value in arrays.values())
        for value in arrays.values():
            value.setflags(write=False)
        state = torch.random.get_rng_state()
        again = from_arrays(arrays, settings)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert digest(again) == digest(trained)
        assert again.seconds == trained.seconds
        for ours, theirs in zip(*(predict(x.model, pixels, settings) for x in (again, trained)), strict=True):
            assert np.array_equal(ours, theirs)


def test_bfloat16_trains_float32_weights(digits: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, labels = digits[0][:30], digits[1][:30]
    settings = settings_of(precision="bfloat16", max_epochs=3)
    trained = train(pixels, labels, settings, seed=0)
    assert all(weight.dtype == torch.float32 for weight in trained.model.parameters())
    assert evaluate(trained.model, pixels, labels, settings).accuracy > 0.2


def test_images_held_in_bfloat16_are_what_autocast_makes_of_them(
    digits: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, labels = digits[0][:40], digits[1][:40]
    monkeypatch.setattr(mnist_steps, "applies", lambda *_: False)
    settings = settings_of(precision="bfloat16", max_epochs=2)
    held = train(pixels, labels, settings, 0)
    monkeypatch.setattr(training, "image_type", lambda settings: torch.float32)
    assert digest(train(pixels, labels, settings, 0)) == digest(held)


def test_own_network_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    (tmp_path / "rambo_own_linear.py").write_text(
        "from torch import nn\n"
        "def linear(image_shape, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, num_classes))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    pixels, labels = digits
    settings = settings_of(classifier="rambo_own_linear:linear", max_epochs=20, learning_rate=1e-2)
    trained = train(pixels[:101], labels[:101], settings, seed=0)
    assert evaluate(trained.model, pixels[200:], labels[200:], settings).accuracy > 0.6
    assert predict(trained.model, pixels[:3], settings)[1].shape == (3, 64)
    sys.modules.pop("rambo_own_linear")
