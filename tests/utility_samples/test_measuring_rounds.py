"""What a mock round is worth, against trainings by hand: who teaches, who judges, alone or in a group."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from rambo_ray import seeds
from rambo_ray.classifier import prediction, training
from rambo_ray.classifier.stacks import batches_per_epoch
from rambo_ray.classifier.training import TrainingSettings
from rambo_ray.config.schema import ClassifierConfig
from rambo_ray.data.problem import LabeledArrays
from rambo_ray.otdd import Transport
from rambo_ray.utility_samples import mock_rounds
from rambo_ray.utility_samples.measuring import MeasurementSettings, Retrainer, groups
from rambo_ray.utility_samples.mock_rounds import MockPool
from rambo_ray.utility_samples.sampling import Measurement, UtilitySample

K, V, R, WIDTH, CLASSES = 12, 40, 9, 6, 3


def settings_of(name: str) -> TrainingSettings:
    shape = (WIDTH, 1, 1) if name == "linear" else (1, 8, 8)
    return TrainingSettings.from_config(
        ClassifierConfig(name=name, max_epochs=2, kernels="off", precision="float32" if name != "linear" else "auto"),
        mean=(0.5,), std=(0.25,), image_shape=shape, num_classes=CLASSES, embedding="e" if name == "linear" else "",
    )  # fmt: skip


def images(name: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    labels[:CLASSES] = range(CLASSES)
    if name == "linear":
        centres = np.random.default_rng(0).normal(size=(CLASSES, WIDTH))
        return (centres[labels] + rng.normal(size=(count, WIDTH))).astype(np.float32), labels
    return (labels[:, None, None, None] * 70 + rng.integers(0, 60, (count, 8, 8, 1))).astype(np.uint8), labels


def made(name: str, rejected: int = R, **measuring: Any) -> tuple[Retrainer, LabeledArrays, LabeledArrays, MockPool]:
    labeled, validation = LabeledArrays(*images(name, K, 1)), LabeledArrays(*images(name, V, 2))
    pool = MockPool.of(K, validation.labels, rejected, seed=0)
    settings = MeasurementSettings(settings_of(name), 7, 1, "gaussian", "converged", 0.1, **measuring)
    return Retrainer(labeled, validation, settings, "cpu", pool), labeled, validation, pool


def without_clock(found: Measurement) -> dict[str, Any]:
    """NaN as None, so that equal measurements are equal."""
    kept = {name: value for name, value in asdict(found).items() if name != "seconds"}
    return {name: None if value != value else value for name, value in kept.items()}


def rounds_of(pool: MockPool, count: int = 6) -> list[UtilitySample]:
    return mock_rounds.pairs(count, (5, 12), pool, None, 3, "who", 0)


@pytest.mark.parametrize("name", ["linear", "mnist_net"])
def test_f_learns_from_S_0_and_T_and_the_other_half_judges(name: str) -> None:
    retrainer, labeled, validation, pool = made(name)
    settings = retrainer.measuring.training
    for sample in rounds_of(pool)[::5]:
        bought = pool.bought(sample)
        bought = bought[bought < V]
        inputs = np.concatenate([labeled.inputs, validation.inputs[bought]])
        labels = np.concatenate([labeled.labels, validation.labels[bought]])
        content = seeds.index_of(np.asarray(sample.indices, dtype="<i8").tobytes())
        trained = training.train(inputs, labels, settings, seeds.integer(7, "retraining", content, 0))
        judges = [i for i in range(V) if pool.half[i] != sample.fold]
        expected = prediction.evaluate(trained.model, validation.inputs[judges], validation.labels[judges], settings)
        found = retrainer.measure(sample.indices, sample.fold)
        # The same images in another matrix: products may round otherwise.
        assert found.soft_accuracy == pytest.approx(expected.soft_accuracy, abs=1e-5)
        assert found.val_loss == pytest.approx(expected.val_loss, abs=1e-5)
        assert found.accuracy == pytest.approx(expected.accuracy, abs=1 / V + 1e-9)
        assert found.images_seen == trained.images_seen and np.isnan(found.otdd)
        other = retrainer.measure(sample.indices, 1 - sample.fold)
        assert other.soft_accuracy != found.soft_accuracy  # judged by those who played


def test_what_was_rejected_plays_and_teaches_nothing() -> None:
    retrainer, *_, pool = made("linear")
    rejected = np.flatnonzero((pool.half == 0) & (np.arange(V + R) >= V)) + K
    bought = np.flatnonzero((pool.half == 0) & (np.arange(V + R) < V))[:6] + K
    clean = (*range(K), *(int(i) for i in bought))
    found = [without_clock(retrainer.measure((*clean, *(int(i) for i in rejected[:count])), 0)) for count in range(4)]
    assert found[0] == found[1] == found[2] == found[3]
    # And yet they are rounds of their own, larger by what was wasted.
    ids = {
        mock_rounds._sample((*clean, *map(int, rejected[:count])), 0, pool, "who", 0).sample_id for count in range(4)
    }
    assert len(ids) == 4


@pytest.mark.parametrize("at_once", [2, 5, 64])
def test_heads_measured_together_have_the_bits_of_each_alone(at_once: int) -> None:
    retrainer, *_, pool = made("linear")
    subsets = [(sample.indices, sample.fold) for sample in rounds_of(pool, 20)]
    alone = [without_clock(retrainer.measure(*subset)) for subset in subsets]
    together = retrainer.measure_group(subsets, at_once)
    assert [without_clock(found) for found in together] == alone


def test_the_otdd_of_a_round_is_to_its_judges_and_of_what_teaches() -> None:
    retrainer, labeled, validation, pool = made("linear", round_otdd=True)
    sample = next(s for s in rounds_of(pool) if (pool.bought(s) >= V).any())
    judges = [i for i in range(V) if pool.half[i] != sample.fold]
    bought = [i for i in pool.bought(sample) if i < V]
    own = labeled.joined(validation.inputs[bought], validation.labels[bought])
    direct = Transport(
        own.inputs.astype(np.float64), own.labels, validation.inputs[judges].astype(np.float64),
        validation.labels[judges], method="gaussian", solver="converged", entreg=0.1, min_class_count=1,
    )  # fmt: skip
    found = retrainer.measure(sample.indices, sample.fold).otdd
    assert found == pytest.approx(direct.distance(np.arange(len(own.labels))), rel=1e-6) and found > 0
    assert retrainer.measure(sample.indices, 1 - sample.fold).otdd != pytest.approx(found, rel=1e-6)
    # A subset of S_0 is measured against all of S_val, with or without a mock pool.
    alone = Retrainer(labeled, validation, retrainer.measuring, "cpu")
    assert without_clock(alone.measure(range(8))) == without_clock(retrainer.measure(range(8)))


def test_stacks_are_of_rounds_with_as_many_batches_of_images_that_teach() -> None:
    """Members of a stack step together, so what counts is what they train on, not what they bought."""
    *_, pool = made("mnist_net")
    settings = replace(settings_of("mnist_net"), batch_size=5)
    samples = rounds_of(pool, 30)
    found = groups(samples, settings, 4, pool)
    assert sorted(s.sample_id for group in found for s in group) == sorted({s.sample_id for s in samples})

    def steps(sample: UtilitySample) -> int:
        return batches_per_epoch(sum(i < K + V for i in sample.indices), settings)

    assert all(len({steps(s) for s in group}) == 1 and len(group) <= 4 for group in found)
    by_size = {batches_per_epoch(s.size, settings) != steps(s) for s in samples}
    assert by_size == {True, False}, "some have rejected images enough to make a difference"


def test_stacks_of_rounds_measure_what_each_alone_does() -> None:
    retrainer, *_, pool = made("mnist_net")
    alike = max(groups(rounds_of(pool, 10), retrainer.measuring.training, 3, pool), key=len)
    subsets = [(sample.indices, sample.fold) for sample in alike]
    for one, other in zip(retrainer.measure_group(subsets, 3), (retrainer.measure(*s) for s in subsets), strict=True):
        assert (one.epochs, one.images_seen) == (other.epochs, other.images_seen)
        assert one.soft_accuracy == pytest.approx(other.soft_accuracy, abs=1e-4)


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_further_repeats_are_those_of_a_run_that_had_them_at_once(at_once: int) -> None:
    """To the last bit: in stacks, too, which must be the same whatever number of repeats there is."""
    retrainer, *_, pool = made("mnist_net")
    alike = max(groups(rounds_of(pool, 10), retrainer.measuring.training, 3, pool), key=len)
    subsets = [(sample.indices, sample.fold) for sample in alike]

    def trained(repeats: int, first: int) -> list[list[tuple[float, ...]]]:
        retrainer.measuring = replace(retrainer.measuring, repeats=repeats)
        found = retrainer.train_group(subsets, at_once, first)
        return [[(t.accuracy, t.soft_accuracy, t.val_loss, t.epochs) for t in own] for own, _ in found]

    whole, one, further = trained(3, 0), trained(1, 0), trained(3, 1)
    assert [len(own) for own in further] == [2] * len(subsets) and len(subsets) > 2
    assert [a + b for a, b in zip(one, further, strict=True)] == whole
    assert len({own[r] for own in whole for r in range(3)}) == 3 * len(subsets), "every training has its own seed"
