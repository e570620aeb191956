"""f's pass over the pool, as a run makes it, and what its parts cost: normalising, moving, the size of a chunk.

Pools larger than the packed images hold repeat them: the same work, and margins that nobody looks at.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from gpu.problems import CLASSIFIER, Problem, load, pictures, repeated
from gpu.record import Section
from gpu.timing import peak_mb, timed
from rambo_ray.classifier import prediction, training

SMALL = prediction.CHUNK  # images of a chunk on a CPU, against what the package takes on the device


def measure(section: Section) -> None:
    """60 000 and 1 000 000 MNIST images, then 60 000 CIFAR-10 images, in a CPU's chunks and in the device's."""
    small, large = (200, 400) if section.smoke else (60_000, 1_000_000)
    for name, counts in (("mnist", (small, large)), ("cifar10", (small,))):
        problem = load(section, name, 60, 60)
        settings = problem.settings(section.device)
        quick = replace(settings, max_epochs=2)
        model = training.train(problem.labeled.inputs, problem.labeled.labels, quick, 0, section.device).model
        pixels, _ = pictures(section, name, 200 if section.smoke else 2000)
        own = prediction.chunk_size(settings, torch.device(section.device))
        prediction.predict(model, pixels[: 2 * SMALL], settings, section.device)
        _chunks(section, problem, model, settings, pixels[:2000])
        per_image: dict[int, float] = {}
        for count in counts:
            pool = repeated(pixels, count)
            for chunk in dict.fromkeys((own, SMALL)) if count == small else (own,):
                expected = per_image.get(chunk, 0.0) * count
                if section.fits(1.1 * expected, f"{name}: {count} images in chunks of {chunk}"):
                    seconds = _pass(section, name, model, settings, pool, chunk)
                    per_image[chunk] = seconds / count


@contextmanager
def _chunks_of(count: int) -> Iterator[None]:
    """Predictions in chunks of so many images."""
    before = prediction.chunk_size
    prediction.chunk_size = lambda settings, device: count
    try:
        yield
    finally:
        prediction.chunk_size = before


def _pass(section: Section, name: str, model: Any, settings: Any, pool: np.ndarray, chunk: int) -> float:
    with _chunks_of(chunk):
        ((logits, _), peak), seconds = timed(
            lambda: peak_mb(lambda: prediction.predict(model, pool, settings, section.device), section.device),
            section.device,
        )
        began = time.perf_counter()
        prediction.margins(logits)
        margins_s = time.perf_counter() - began
    section.add("passes", {"classifier": CLASSIFIER[name], "precision": settings.precision, "images": len(pool),
                           "chunk": chunk, "seconds": seconds, "images_per_s": len(pool) / seconds,
                           "margins_s": margins_s, "peak_mb": peak})  # fmt: skip
    return seconds


def _chunks(section: Section, problem: Problem, model: Any, settings: Any, pixels: np.ndarray) -> None:
    """What a chunk's parts cost per image, and whether larger chunks give other logits."""
    images, normalise_s = timed(lambda: training.prepare(pixels, settings), "cpu")
    where = torch.device(section.device)
    on_device, move_s = timed(lambda: images.to(where), section.device)
    found: dict[str, Any] = {"classifier": settings.classifier, "normalise_us": 1e6 * normalise_s / len(pixels),
                             "move_us": 1e6 * move_s / len(pixels)}  # fmt: skip
    logits = []
    for chunk in (SMALL, prediction.chunk_size(settings, where)):
        with _chunks_of(chunk):
            (own, _), seconds = timed(
                lambda: prediction.predict(model, on_device, settings, section.device), section.device
            )
        found[f"forward_us_chunks_of_{chunk}"] = 1e6 * seconds / len(pixels)
        logits.append(own)
    found["largest_difference"] = float(np.abs(logits[0] - logits[1]).max())
    found["margins_difference"] = float(np.abs(prediction.margins(logits[0]) - prediction.margins(logits[1])).max())
    section.add("parts", found)
