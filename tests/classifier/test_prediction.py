"""What a trained f says: scores, margins, and bits that do not depend on what else is predicted or where it lies."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rambo_ray.classifier import networks, prediction, training
from rambo_ray.classifier.prediction import CHUNK, chunk_size, evaluate, margins, predict
from rambo_ray.classifier.training import (
    prepare,
    train,
)
from rambo_ray.cluster import tasks
from rambo_ray.errors import RunError

from .reference_training import normalised
from .small_settings import read_only_digits, settings_of


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    return read_only_digits()


def test_scores_are_what_torch_says(digits: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, labels = digits[0][:130], digits[1][:130]
    settings = settings_of(max_epochs=2)
    model = train(pixels, labels, settings, seed=0).model
    scores = evaluate(model, pixels, labels, settings)
    with torch.no_grad():
        logits, y = model(normalised(pixels, settings)), torch.tensor(labels)
    assert scores.accuracy == (logits.argmax(1) == y).double().mean().item()
    p = torch.softmax(logits, 1)[torch.arange(130), y]
    assert scores.soft_accuracy == pytest.approx(p.mean().item(), abs=1e-5)
    assert scores.val_loss == pytest.approx(torch.nn.functional.cross_entropy(logits, y).item(), abs=1e-5)


@pytest.mark.parametrize("name", ["mnist_net", "resnet18"])
def test_bits_do_not_depend_on_the_company(digits: tuple[np.ndarray, np.ndarray], name: str) -> None:
    pixels, labels = digits
    settings = settings_of(classifier=name, max_epochs=1)
    model = train(pixels[:40], labels[:40], settings, seed=0).model
    logits, embeddings = predict(model, pixels[:173], settings)
    assert logits.shape == (173, 10)
    assert logits.dtype == embeddings.dtype == np.float32
    for split in ((0, 1, 8, 60, 173), (0, 172, 173)):
        parts = [predict(model, pixels[a:b], settings) for a, b in zip(split, split[1:], strict=False)]
        assert np.array_equal(np.concatenate([part[0] for part in parts]), logits)
        assert np.array_equal(np.concatenate([part[1] for part in parts]), embeddings)
    assert np.array_equal(predict(model, prepare(pixels[:173], settings), settings)[0], logits)
    backwards = predict(model, pixels[:173][::-1], settings)[0]
    assert np.array_equal(backwards[::-1], logits)
    empty_logits, empty_embeddings = predict(model, pixels[:0], settings)
    assert empty_logits.shape == (0, 10)
    assert empty_embeddings.shape == (0, embeddings.shape[1])


def test_bits_do_not_depend_on_where_images_lie_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of unaligned operands may be rounded otherwise (MKL on AMD): a chunk of 7x7 images begins anywhere."""
    rng = np.random.default_rng(0)
    (tmp_path / "rambo_own_flat.py").write_text(
        "from torch import nn\n"
        "def flat(image_shape, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(49, num_classes))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = settings_of(classifier="rambo_own_flat:flat", image_shape=(1, 7, 7))
    pixels = rng.integers(0, 256, (230, 7, 7, 1), dtype=np.uint8)
    with training.seeded(3, torch.device("cpu")):
        model = networks.build(settings.classifier, settings.image_shape, settings.num_classes).eval()
    prepared = prepare(pixels, settings)
    assert any(prepared[first:].data_ptr() % 64 for first in range(0, 230, 50))
    assert prepare(pixels, settings).data_ptr() % 64 == 0
    for ours, theirs in zip(predict(model, pixels, settings), predict(model, prepared, settings), strict=True):
        assert np.array_equal(ours, theirs)
    sys.modules.pop("rambo_own_flat")


def test_a_gpus_chunks_are_larger_and_divide_a_tasks_images() -> None:
    """Of a size that depends on the images' own alone, so that an image's bits do not depend on its company."""
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    sizes = {side: chunk_size(settings_of(image_shape=(3, side, side)), gpu) for side in (8, 28, 32, 64, 1024)}
    assert sizes == {8: 4080, 28: 4080, 32: 816, 64: 816, 1024: 48}
    assert all(tasks.POOL_CHUNK % size == 0 for size in sizes.values())
    assert chunk_size(settings_of(image_shape=(3, 32, 32)), cpu) == CHUNK == 48


@pytest.mark.parametrize("chunk", [240, 816])
def test_a_larger_chunk_says_the_same(
    digits: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    settings = settings_of(max_epochs=1)
    model = train(digits[0][:40], digits[1][:40], settings, seed=0).model
    logits, _ = predict(model, digits[0][:900], settings)
    monkeypatch.setattr(prediction, "chunk_size", lambda *_: chunk)
    larger, _ = predict(model, digits[0][:900], settings)
    np.testing.assert_allclose(larger, logits, atol=1e-4)
    assert np.array_equal(predict(model, digits[0][700:900], settings)[0], larger[700:])


def test_margins_in_closed_form() -> None:
    p = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [1 / 3, 1 / 3, 1 / 3]])
    assert margins(np.log(p).astype(np.float32)) == pytest.approx([0.2, 0.4, 0.0], abs=1e-6)
    two = np.array([[0.0, 3.0], [1000.0, -1000.0]], np.float32)
    assert margins(two) == pytest.approx([math.tanh(1.5), 1.0])
    assert margins(two).dtype == np.float32
    assert margins(np.zeros((0, 3), np.float32)).shape == (0,)


def test_margins_refuse_what_has_none() -> None:
    with pytest.raises(ValueError, match="at least two classes"):
        margins(np.zeros((4, 1), np.float32))
    with pytest.raises(RunError, match="lower classifier.learning_rate"):
        margins(np.array([[0.0, np.nan]], np.float32))
