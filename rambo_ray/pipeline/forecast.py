"""What a run would cost, from one small probe on the machine that would run it.

The probe trains f on a few subsets of middling size (on a GPU also a small stack of one), computes
an OTDD, passes images through f and u_hat, and fits u_hat for two outer epochs.
Everything else follows by proportion, for trainings to `measuring.relative_cost`.

Letters: n images of a subset, N in the pool, as elsewhere.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rambo_ray import seeds
from rambo_ray.acquisition import greedy
from rambo_ray.classifier import prediction, training
from rambo_ray.classifier.training import Arrays
from rambo_ray.config.schema import Config
from rambo_ray.data.problem import LabeledArrays
from rambo_ray.embeddings.weights import ResNetWeights
from rambo_ray.progress import duration
from rambo_ray.report import tables
from rambo_ray.utility_model import features
from rambo_ray.utility_model.fitting import FitInput, fit
from rambo_ray.utility_model.network import UtilityModel
from rambo_ray.utility_model.objective import Pairs
from rambo_ray.utility_samples.measuring import MeasurementSettings, Retrainer, relative_cost, stack_size
from rambo_ray.utility_samples.mock_rounds import MockPool
from rambo_ray.utility_samples.sampling import UtilitySample

PROBE_IMAGES = 100  # the probed subsets have at most this many images
PROBE_TRAININGS = 5  # one would not do: epochs vary by a fifth from subset to subset
FORWARD_IMAGES = 512
TRAINER_START_S = 12.0  # Ray Train's controller and workers, before the first epoch
_MB = 1e6


@dataclass(frozen=True)
class Probe:
    """What one worker measured: seconds, images, epochs, bytes.

    training_s, epochs: of f on `size` images, means of `trainings`; stacked_s: of one f of a stack, where samples
    are trained in stacks, else the same; otdd_s: of that subset; forward_s, encode_s: per image
    through f and through u_hat; fit_epoch_s: one outer epoch on the offline pairs;
    worker_bytes: the largest the worker's process has been.
    """

    size: int
    trainings: int
    epochs: float
    training_s: float
    stacked_s: float
    otdd_s: float
    forward_s: float
    encode_s: float
    fit_epoch_s: float
    worker_bytes: int


@dataclass(frozen=True)
class Stage:
    """Expected cost of a stage: what it consists of, seconds of one worker, seconds on the clock."""

    name: str
    pieces: str
    worker_s: float
    wall_s: float


def probe(
    config: Config,
    measuring: MeasurementSettings,
    kind: features.Features,
    weights: ResNetWeights | None,
    samples: Sequence[UtilitySample],
    labeled: LabeledArrays,
    validation: LabeledArrays,
    device: str = "cpu",
    at_once: int = 1,
    pool: MockPool | None = None,
) -> Probe:
    """Measure a few of a run's `samples`, f alone and in a stack of `at_once`, and what else is needed.

    samples: the offline pairs, or the mock rounds of `pool`.
    """
    settings = measuring.training
    sizes = sorted(samples, key=lambda s: s.size)
    chosen = [s.indices for s in sizes if s.size <= PROBE_IMAGES][-PROBE_TRAININGS:] or [sizes[0].indices]
    subset = chosen[-1]
    retrainer = Retrainer(labeled, validation, measuring, device, pool)
    fold = samples[0].fold
    otdd_s = 0.0
    if fold < 0 or measuring.round_otdd:
        retrainer.otdd(subset, fold)  # prepares the judges' part of the transport problem
        began = time.perf_counter()
        retrainer.otdd(subset, fold)
        otdd_s = time.perf_counter() - began

    known = retrainer.labeled.labels

    def learned(indices: Sequence[int]) -> np.ndarray:
        return np.array([i for i in indices if i < len(known)])

    seed, short = seeds.integer(config.seed, "retraining"), replace(settings, max_epochs=1)
    # The first training is slower than the others will be.
    training.train(retrainer.images, known, short, seed, device, learned(subset))
    epochs, training_s = 0.0, 0.0
    for indices in chosen:
        began = time.perf_counter()
        trained = training.train(retrainer.images, known, settings, seed, device, learned(indices))
        prediction.evaluate(trained.model, retrainer.validation_images, validation.labels, settings)
        share = relative_cost(len(subset)) / relative_cost(len(indices)) / len(chosen)
        training_s += share * (time.perf_counter() - began)
        epochs += trained.epochs / len(chosen)
    stacked_s = training_s
    together = stack_size(settings, at_once)
    if together > 1:
        began = time.perf_counter()
        retrainer.measure_group([(subset, fold)] * together, together)
        stacked_s = (time.perf_counter() - began) / (together * measuring.repeats)

    pixels = np.resize(validation.inputs, (FORWARD_IMAGES, *validation.inputs.shape[1:]))
    began = time.perf_counter()
    prediction.predict(trained.model, pixels, settings, device)
    forward_s = (time.perf_counter() - began) / FORWARD_IMAGES

    fit_epoch_s, encode_s = 0.0, forward_s * (1 + config.utility_samples.evidence_folds)
    if kind != "evidence":
        arrays = training.to_arrays(trained)
        encoder = features.Encoder(kind, settings, config.utility_model, weights)
        images = encoder.encode(retrainer.labeled.inputs, arrays, device)
        task = _short_fit(config, samples, images)
        fit(task, device=device)  # a first fit is several times slower than its epochs will be
        began = time.perf_counter()
        fitted = fit(task, device=device)
        fit_epoch_s = (time.perf_counter() - began) / len(fitted.history)
        encode_s = _encoding(kind, config, measuring, weights, fitted.model(), pixels, arrays, device)
    return Probe(
        size=len(subset),
        trainings=len(chosen),
        epochs=epochs,
        training_s=training_s,
        stacked_s=stacked_s,
        otdd_s=otdd_s,
        forward_s=forward_s,
        encode_s=encode_s,
        fit_epoch_s=fit_epoch_s,
        worker_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    )


def _encoding(
    kind: features.Features,
    config: Config,
    measuring: MeasurementSettings,
    weights: ResNetWeights | None,
    model: UtilityModel,
    pixels: np.ndarray,
    arrays: Arrays,
    device: str,
) -> float:
    encoder = features.Encoder(kind, measuring.training, config.utility_model, weights, model)
    began = time.perf_counter()
    encoder.encode(pixels, arrays, device)
    return (time.perf_counter() - began) / len(pixels)


def _short_fit(config: Config, samples: Sequence[UtilitySample], images: np.ndarray) -> FitInput:
    """A fit on the offline pairs, an outer epoch an iteration, with drawn utilities: time does not depend on them."""
    drawn = np.random.default_rng(0).random((len(samples) // 2, 2))
    first, second = (tuple(s.indices for s in samples[i::2]) for i in (0, 1))
    pairs = Pairs(first, second, drawn, drawn + 1.0)
    k = len(images)
    nested_sets = (tuple(range(k // 2)), tuple(range(k)))
    none = Pairs((), (), np.zeros((0, 2)), np.zeros((0, 2)))
    short = config.utility_model.model_copy(update={"outer_epochs": 1})
    return FitInput(images, pairs, nested_sets, (0.5, 0.5), (none,), short, config.seed)


def stages(
    config: Config,
    measured: Probe,
    retrained: Sequence[UtilitySample],
    interpolated: int,
    iterations: int,
    k: int,
    num_pool: int,
    num_workers: int,
    revealed: bool,
    opinions: int = 0,
    num_validation: int = 0,
    embed_s: float = 0.0,
    num_test: int = 0,
    trainer: int = 1,
) -> list[Stage]:
    """Expected cost of each stage of a run on `num_workers` workers.

    retrained: all sets that f will be trained on; interpolated: how many get an OTDD only;
    iterations: tau_1; revealed: whether f is trained again on what was acquired; opinions: second opinions
    that are trained on S_0 and most of S_val's num_validation images; embed_s: of one worker to embed an image, where
    f is a head, of which there are as many and num_test more; trainer: Ray Train's workers that fit u_hat, 0 for none.
    """

    def training_of(n: int) -> float:
        return measured.training_s * relative_cost(n) / relative_cost(measured.size)

    def otdd_of(n: float) -> float:
        return measured.otdd_s * n / measured.size

    repeats = config.utility_samples.repeats
    in_stacks = measured.stacked_s / measured.training_s
    each = [repeats * in_stacks * training_of(s.size) + otdd_of(s.size) for s in retrained]
    samples_s = sum(each) + interpolated * otdd_of(k / 2)
    ask = config.acquisition
    epochs = config.utility_model.outer_epochs * (iterations + 1)
    fit_s = epochs * measured.fit_epoch_s
    candidates = greedy.candidate_count(num_pool, ask)
    margins_s, encode_s = num_pool * measured.forward_s, (candidates + k) * measured.encode_s
    base, final = training_of(k), training_of(k + ask.budget)
    found = []
    if embed_s:
        images = k + num_validation + num_pool + num_test
        found.append(Stage("embeddings", f"{images:,} images, once", images * embed_s, images * embed_s / num_workers))
    if opinions:
        size = k + round(num_validation * (1 - 1 / opinions))
        each_s = training_of(size)
        found.append(
            Stage("evidence", f"{opinions} trainings, {size:,} images", opinions * each_s,
                  -(-opinions // num_workers) * each_s)
        )  # fmt: skip
    found += [
        # At the end some workers wait for the last piece: half a largest one, on average.
        Stage("utility samples", f"{len(retrained) * repeats:,} trainings", samples_s,
              samples_s / num_workers + (0.5 * max(each) if num_workers > 1 else 0.0)),
        Stage("base classifier", f"1 training, {k:,} images", base, base),
        *_fit_stage(config, epochs, fit_s, trainer),
        Stage("margins of the pool", f"{num_pool:,} images", margins_s, margins_s / num_workers),
        Stage("acquisition", f"{candidates + k:,} images", encode_s, encode_s / num_workers),
    ]  # fmt: skip
    if revealed:
        found.append(Stage("final classifier", f"1 training, {k + ask.budget:,} images", final, final))
    return found


def _fit_stage(config: Config, epochs: int, fit_s: float, trainer: int) -> list[Stage]:
    if config.utility_model.architecture == "quadratic":  # a regression, over in a moment
        return []
    wall_s = fit_s / trainer + TRAINER_START_S if trainer else fit_s
    return [Stage("u_hat", f"{epochs} outer epochs", fit_s, wall_s)]


def table(
    found: Sequence[Stage],
    measured: Probe,
    device: str,
    num_workers: int,
    image_bytes: int,
    free_bytes: int | None = None,
) -> str:
    """The forecast as text. image_bytes: of all images, which the driver and Ray's object store hold once each.

    free_bytes: of memory on the one machine that does it all; None: on several, or nobody says.
    """
    unit = "GPU time" if device == "cuda" else "CPU time"
    lines = [["stage", "pieces", unit, "wall time"]]
    lines += [[s.name, s.pieces, duration(s.worker_s), duration(s.wall_s)] for s in found]
    lines.append(["total", "", duration(sum(s.worker_s for s in found)), duration(sum(s.wall_s for s in found))])
    memory = (
        f"memory: {measured.worker_bytes / _MB:,.0f} MB in each of {num_workers} workers; "
        f"{image_bytes / _MB:,.1f} MB of images in the driver and in Ray's object store"
    )
    needed = measured.worker_bytes * num_workers + 2 * image_bytes
    if free_bytes is not None and needed > free_bytes:
        memory += f"; that is more than the {free_bytes / _MB:,.0f} MB that are free here: lower cluster.num_workers"
    basis = (
        f"timed here: trainings on {measured.size} images, {measured.training_s:.1f} s and {measured.epochs:.0f} "
        f"epochs, the mean of {measured.trainings}; epochs vary from subset to subset and grow with hard images"
    )
    return "\n".join([tables.aligned(lines, left=2), memory, basis, "nothing was run or written"])
