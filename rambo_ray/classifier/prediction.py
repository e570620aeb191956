"""What a trained f says about images: logits, embeddings, scores and margins (Section 4, Eq. 1).

Images are predicted in chunks of CHUNK, on a GPU in larger ones, the last one filled up, so that every
matrix product has the same shape and an image's bits do not depend on its company.

Letters: n images of a chunk, N of a set, C channels, H x W pixels, K classes, E embedding units.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import log_softmax
from torch import Tensor

from rambo_ray.classifier import mnist_steps, probabilities, training
from rambo_ray.classifier.networks import Classifier
from rambo_ray.classifier.training import Device, TrainingSettings
from rambo_ray.errors import RunError
from rambo_ray.numerics import LINE_BYTES

# Images per forward pass outside training: large enough for the matrix products, small enough
# that an activation stays in the cache, and a multiple of the rows that a product takes at a time:
# with a rest of two, MKL's common branch (MKL_CBWR=COMPATIBLE) rounds those otherwise.
CHUNK = 48

# On a GPU as many as fill it and divide `tasks.POOL_CHUNK`, so that no task's last chunk is mostly filled up: the
# most with which an activation of WIDEST numbers per pixel, in float32, stays within ACTIVATION_BYTES.
GPU_CHUNKS = tuple(CHUNK * times for times in (85, 17, 5, 1))
WIDEST, ACTIVATION_BYTES = 64, 10**9


@dataclass(frozen=True)
class Scores:
    """How a classifier does on labelled images: fractions in [0, 1], and the loss in nats.

    soft_accuracy is the mean probability of the true class, val_loss the mean cross-entropy.
    """

    accuracy: float
    soft_accuracy: float
    val_loss: float


def predict(
    model: Classifier, images: np.ndarray | Tensor, settings: TrainingSettings, device: Device = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 [N, K] and embeddings float32 [N, E] of a trained classifier.

    images are pixels uint8 [N, H, W, C], normalised chunk by chunk so that a large pool never is
    in memory as floats, or, for heads, embeddings float32 [N, D], or what `prepare` made of either.
    `model` is in eval mode and on `device`.
    Same bits for an image wherever in whatever split of the pool it is, for one machine type and
    number of threads; of a network whose first layer is a matrix product with rows that are no multiple
    of 16 bytes, only in splits at multiples of the chunk.
    """
    device = torch.device(device)
    chunk = chunk_size(settings, device)
    parts: list[tuple[Tensor, Tensor]] = []
    outputs, autocast = model.outputs, training.autocast(device, settings)
    if mnist_steps.applies(model, settings.precision, device, settings.kernels):
        outputs, autocast = mnist_steps.Outputs(model, chunk, settings.precision), nullcontext()
    with torch.inference_mode(), training.cuda_kernels(device, settings), autocast:
        # At least one chunk: the arrays of no images need K and E columns too.
        for first in range(0, max(len(images), 1), chunk):
            part = images[first : first + chunk]
            x = part.to(device) if isinstance(part, Tensor) else training.prepare(part, settings, device)
            if x.data_ptr() % LINE_BYTES:  # a chunk of prepared images; elsewhere products may round otherwise
                x = x.clone(memory_format=torch.preserve_format)
            held = len(x)
            if held < chunk:
                x = torch.cat([x, x.new_zeros((chunk - held, *x.shape[1:]))]).contiguous(
                    memory_format=training.memory_format(settings)
                )
            logits, embeddings = outputs(x)
            parts.append((logits[:held].float().cpu(), embeddings[:held].float().cpu()))
    all_logits, all_embeddings = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return all_logits, all_embeddings


def chunk_size(settings: TrainingSettings, device: torch.device) -> int:
    """Images of a forward pass on such a device, which depends on the images' size but not on their number."""
    if device.type != "cuda":
        return CHUNK
    _, height, width = settings.image_shape
    size = 4 * WIDEST * height * width
    return next((chunk for chunk in GPU_CHUNKS if chunk * size <= ACTIVATION_BYTES), CHUNK)


def evaluate(model: Classifier, images: np.ndarray | Tensor, labels: np.ndarray, settings: TrainingSettings) -> Scores:
    """Accuracy, soft accuracy and loss on labelled images, S_val or test; labels are int64 [N].

    This is u(subset) when the images are S_val (Eq. 1, read as an accuracy). Raises ValueError
    for no images, RunError for a classifier whose logits are not finite.
    """
    device = next(model.parameters()).device
    logits, _ = predict(model, images, settings, device)
    return scores(logits, labels)


def scores(logits: np.ndarray, labels: np.ndarray) -> Scores:
    """What logits [N, K] say about labels int64 [N]; raises as `evaluate`."""
    if len(labels) == 0 or len(labels) != len(logits):
        raise ValueError(f"labels: {len(labels)} for {len(logits)} images; one each is needed, at least one")
    log_p = log_softmax(_finite(logits).astype(np.float64), axis=1)
    true = log_p[np.arange(len(labels)), labels]
    return Scores(
        accuracy=float((logits.argmax(axis=1) == labels).mean()),
        soft_accuracy=float(np.exp(true).mean()),
        val_loss=float(-true.mean()),
    )


def margins(logits: np.ndarray) -> np.ndarray:
    """Margins of f, float32 [N] in [0, 1], of logits [N, K]; see `probabilities.margins`.

    Raises ValueError for fewer than two classes, RunError for logits that are not finite.
    """
    return probabilities.margins(_finite(logits)).astype(np.float32)


def _finite(logits: np.ndarray) -> np.ndarray:
    if not np.isfinite(logits).all():
        raise RunError("logits that are not finite: f's training diverged; lower classifier.learning_rate")
    return logits
