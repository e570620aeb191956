"""Heads as classifiers: trained, asked and named like any other, on embeddings instead of pixels."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from rambo_ray.classifier import heads, prediction, training
from rambo_ray.classifier.networks import NETWORKS, LinearHead, build
from rambo_ray.classifier.training import TrainingSettings
from rambo_ray.config import loading
from rambo_ray.config.schema import HEADS, ClassifierConfig
from rambo_ray.errors import UserError

from .small_settings import settings_of

WIDTH = 20


def of_head(name: str, **changes: object) -> TrainingSettings:
    """A head's settings for embeddings of WIDTH numbers and 4 classes."""
    settings = TrainingSettings.from_config(
        ClassifierConfig(name=name), mean=(0.5,), std=(0.25,), image_shape=(WIDTH, 1, 1), num_classes=4, embedding="e"
    )
    return replace(settings, **changes)  # type: ignore[arg-type]


def embeddings(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Four clusters, float32 [count, WIDTH] that may not be written, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    x = (np.random.default_rng(0).normal(size=(4, WIDTH))[labels] + rng.normal(size=(count, WIDTH))).astype(np.float32)
    x.setflags(write=False)
    return x, labels


def test_the_heads_are_networks() -> None:
    assert set(NETWORKS) > HEADS
    for name in HEADS:
        with training.seeded(0, torch.device("cpu")):
            head = build(name, (WIDTH, 1, 1), 4).eval()
        x = torch.tensor(embeddings(3)[0])
        logits, embedding = head.outputs(x)
        assert logits.shape == (3, 4)
        assert torch.equal(embedding, x) if name == "linear" else embedding.shape == (3, 128) and embedding.min() >= 0


@pytest.mark.parametrize("name", sorted(HEADS))
def test_a_head_learns_and_travels_as_arrays(name: str) -> None:
    settings = of_head(name)
    x, labels = embeddings(200)
    trained = training.train(x, labels, settings, seed=3)
    again = training.train(training.prepare(x, settings), labels, settings, seed=3, positions=np.arange(200))
    there = training.from_arrays(training.to_arrays(trained), settings)
    test, test_labels = embeddings(500, seed=1)
    logits = prediction.predict(trained.model, test, settings)[0]
    for other in (again, there):
        np.testing.assert_array_equal(prediction.predict(other.model, test, settings)[0], logits)
    assert prediction.scores(logits, test_labels).accuracy > 0.9
    assert trained.train_accuracy > 0.9 and trained.images_seen == 200 * trained.epochs > 0
    assert not trained.model.training and logits.dtype == np.float32


@pytest.mark.parametrize("name", sorted(HEADS))
def test_an_embeddings_bits_do_not_depend_on_its_company(name: str) -> None:
    settings = of_head(name)
    model = training.train(*embeddings(50), settings, seed=0).model
    x = embeddings(130, seed=1)[0]
    logits, embedding = prediction.predict(model, x, settings)
    shifted = prediction.predict(model, x[7:], settings)
    prepared = prediction.predict(model, training.prepare(x, settings), settings)
    np.testing.assert_array_equal(shifted[0], logits[7:])
    np.testing.assert_array_equal(prepared[0], logits)
    np.testing.assert_array_equal(shifted[1], embedding[7:])
    assert prediction.predict(model, x[:0], settings)[0].shape == (0, 4)


def test_a_linear_head_has_no_seed_and_an_mlp_one() -> None:
    x, labels = embeddings(60)
    for name, alike in (("linear", True), ("mlp", False)):
        first, second = (training.train(x, labels, of_head(name), seed).model for seed in (1, 2))
        pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) is alike


def test_training_a_head_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    for name in HEADS:
        training.train(*embeddings(20), of_head(name), seed=0)
    LinearHead.of(torch.zeros(4, WIDTH + 1, dtype=torch.float64))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_group_has_the_bits_of_heads_trained_alone() -> None:
    settings = of_head("linear")
    x, labels = embeddings(120)
    test = embeddings(70, seed=1)[0]
    prepared, evaluated = training.prepare(x, settings), training.prepare(test, settings)
    rng = np.random.default_rng(0)
    subsets = [np.sort(rng.choice(120, size, replace=False)) for size in (10, 60, 60, 120)]
    results = heads.train_group(prepared, labels, evaluated, settings, [1, 2, 3, 4], subsets)
    for result, subset in zip(results, subsets, strict=True):
        alone = training.train(prepared, labels, settings, seed=9, positions=subset)
        np.testing.assert_array_equal(result.logits, prediction.predict(alone.model, test, settings)[0])
        assert (result.epochs, result.images_seen) == (alone.epochs, alone.images_seen)
    assert heads.train_group(prepared, labels, evaluated, settings, [], []) == []


def test_logits_of_a_batch() -> None:
    """How a GPU asks all heads at once, against one by one."""
    weights = torch.randn(3, 4, WIDTH + 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.tensor(embeddings(50)[0])
    batched = heads.logits_of_all(weights, x)
    for one, logits in zip(weights, batched, strict=True):
        assert torch.allclose(LinearHead.of(one)(x), logits, atol=1e-5)


def test_only_embeddings_fit_a_head() -> None:
    x, labels = embeddings(10)
    for wrong in (x.astype(np.float64), x[:, :5], np.zeros((10, 8, 8, 1), np.uint8)):
        with pytest.raises(ValueError, match=rf"^embeddings: .* expected float32 \(N, {WIDTH}\)"):
            training.train(wrong, labels, of_head("linear"), seed=0)


def test_what_a_head_is_known_by() -> None:
    """What the embeddings are, and what its own rule looks at."""
    linear, mlp = (json.loads(of_head(name).identity()) for name in ("linear", "mlp"))
    common = {"rule", "classifier", "embedding", "image_shape", "num_classes", "precision"}
    assert set(linear) == common | {"l2"}
    assert set(mlp) == common | {"learning_rate", "batch_size", "stop_accuracy", "max_epochs"}
    assert linear["embedding"] == mlp["embedding"] == "e"


@pytest.mark.parametrize("name", ["mnist_net", "resnet18", "my.module:net"])
def test_what_other_classifiers_are_known_by_is_as_before_there_were_heads(name: str) -> None:
    expected = (
        f'{{"batch_size":20,"classifier":"{name}","image_shape":[1,8,8],"learning_rate":0.001,"max_epochs":100,'
        '"mean":[0.1307],"num_classes":10,"precision":"float32","rule":1,"std":[0.3081],"stop_accuracy":0.99}'
    )
    assert settings_of(classifier=name).identity() == expected
    assert settings_of(classifier=name, l2=3.0, embedding="e").identity() == expected
    any_x86 = settings_of(classifier=name, reproducible="any_x86").identity()
    assert any_x86 == expected.replace('"rule"', '"reproducible":"any_x86","rule"')


def test_benchmark_runs_of_other_classifiers_do_not_look_at_the_keys_of_heads() -> None:
    keys = {"classifier.l2", "classifier.embedding", "classifier.embedding_size", "classifier.components"}
    for name in ("mnist_net", "resnet18"):
        kept = {key for key in loading.relevant(loading.parse({"classifier": {"name": name}})) if "classifier." in key}
        assert kept == {
            f"classifier.{key}"
            for key in ("name", "learning_rate", "batch_size", "stop_accuracy", "max_epochs", "precision")
        }
    for name in HEADS:
        kept = set(loading.relevant(loading.parse({"classifier": {"name": name}})))
        assert keys < kept and "classifier.embedding_cache" not in kept
    assert all(loading.needs_retraining(key) for key in keys)
    assert not loading.needs_retraining("classifier.embedding_cache")


def test_heads_compute_in_float32_everywhere() -> None:
    for name in HEADS:
        settings = of_head(name)
        assert settings.on("cpu", "bfloat16").precision == settings.on("cpu", "auto").precision == "float32"
        with pytest.raises(UserError, match=rf"^classifier.precision=bfloat16: classifier.name={name} computes in"):
            loading.parse({"classifier": {"name": name, "precision": "bfloat16"}})
