"""Seconds and memory of fitting u_hat at the paper's size, and what encoding each image once is worth.

    python benchmarks/utility_model.py [--data DIR] [--pairs 500] [--threads 2] [--json]

k = 200 labelled images, `--pairs` offline pairs of random subsets, tau_1 = 3 pretraining iterations
with 50 interpolated pairs each, and otherwise the package's defaults: the whole fit, in this
process. Images are FashionMNIST from DIR (or RAMBO_DATA), else noise of that size: the seconds do
not depend on them. `ratio` is seconds of one gradient of the loss by the obvious version below,
which encodes the images of every set of every pair, over seconds of the package's, on the same 40
pairs and with equal gradients (the slow version would take a minute on all of them).
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from images import add_data_option, first_rows
from torch import Tensor

from rambo_ray import seeds
from rambo_ray.config.schema import UtilityModelConfig
from rambo_ray.utility_model import losses
from rambo_ray.utility_model.fitting import FitInput, fit
from rambo_ray.utility_model.network import Architecture, UtilityModel, initialise, spread, standardisation
from rambo_ray.utility_model.objective import Objective, Pairs, TargetScale
from rambo_ray.utility_model.sharding import Group

K, TAU_1, INTERPOLATED, COMPARED = 200, 3, 50, 40


def load(data: str | None) -> tuple[str, np.ndarray]:
    """Name and normalised pixels float32 [K, 1, 28, 28]."""
    if not data:
        return "noise", np.random.default_rng(0).standard_normal((K, 1, 28, 28), dtype=np.float32)
    pixels, _ = first_rows(data, "fashion_mnist", K)
    return "fashion_mnist", ((pixels.transpose(0, 3, 1, 2) / 255 - 0.2860) / 0.3530).astype(np.float32)


def pairs(count: int, k: int, known: bool, rng: np.random.Generator) -> Pairs:
    """Pairs of random subsets of k images, 20 to k - 1 images each."""
    sizes = rng.integers(20, k, count)
    first, second = (tuple(tuple(np.sort(rng.choice(k, d, replace=False)).tolist()) for d in sizes) for _ in range(2))
    utility = rng.random((count, 2)) if known else np.full((count, 2), np.nan)
    return Pairs(first, second, utility, 1 + rng.random((count, 2)))


def whole_fit(images: np.ndarray, num_pairs: int) -> tuple[float, int]:
    """Seconds of the whole fit, and its outer epochs."""
    rng = np.random.default_rng(0)
    sizes = [K // 4 * (i + 1) for i in range(TAU_1 + 1)]
    task = FitInput(
        images=images,
        offline=pairs(num_pairs, K, True, rng),
        nested_sets=tuple(tuple(range(size)) for size in sizes),
        nested_utilities=(0.5, 0.6, 0.65, 0.7),
        interpolation=tuple(pairs(INTERPOLATED, size, False, rng) for size in sizes[:TAU_1]),
        config=UtilityModelConfig(),
        seed=0,
    )
    began = time.perf_counter()
    result = fit(task)
    return time.perf_counter() - began, len(result.history)


def obvious_loss(model: UtilityModel, images: Tensor, of: Pairs, scale: TargetScale, lambda_ot: float) -> Tensor:
    """Definition 4 as it reads: every set is encoded by itself."""
    mean, deviation = standardisation(model.encode(images))
    targets = losses.targets(*torch.as_tensor(of.utility).unbind(1))
    total = torch.zeros(())
    for p, sets in enumerate(zip(of.first, of.second, strict=True)):
        pooled = [model.encode(images[list(subset)]).mean(dim=0, keepdim=True) for subset in sets]
        phi = [model.embed(x, mean, deviation) for x in pooled]
        loss = losses.ranking(model.score(phi[0]), model.score(phi[1]), targets[p : p + 1].float())
        otdd = (torch.as_tensor(of.otdd[p : p + 1]) / scale.ot).float().unbind(1)
        total = total + (loss + lambda_ot * losses.ot_distance(model.ot(phi[0]), model.ot(phi[1]), *otdd)).sum()
    return total / len(of)


def one_gradient(images: np.ndarray) -> tuple[float, float, float]:
    """Seconds of a gradient on COMPARED pairs, slow and fast, and their largest relative difference."""
    config = UtilityModelConfig()
    of = pairs(COMPARED, K, True, np.random.default_rng(1))
    model = initialise(Architecture.from_config(config, images.shape[1:]), seeds.integer(0, "utility_model", 0)).eval()
    model.spread.fill_(spread(of.sizes, K))
    x, scale = torch.from_numpy(images), TargetScale.of(of)
    weights = list(model.parameters())
    objective = Objective(model, model.prepare(x), K, of, scale, config.lambda_ot, Group(config.shards))

    def gradient(loss: Callable[[], Tensor], times: int) -> tuple[float, list[Tensor]]:
        spent = []
        for _ in range(times):
            began = time.perf_counter()
            found = torch.autograd.grad(loss(), weights)
            spent.append(time.perf_counter() - began)
        return min(spent), list(found)

    fast_s, fast = gradient(lambda: objective(weights), 7)
    slow_s, slow = gradient(lambda: obvious_loss(model, x, of, scale, config.lambda_ot), 2)
    differences = [(a - b).abs().max() / b.abs().max().clamp(min=1e-8) for a, b in zip(fast, slow, strict=True)]
    return slow_s, fast_s, float(max(differences))


def main() -> int:
    """Print the figures; exit code 1 where the two gradients differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_data_option(parser, "fashion_mnist")
    parser.add_argument("--pairs", type=int, default=500, help="offline pairs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    name, images = load(arguments.data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    fit_s, epochs = whole_fit(images, arguments.pairs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{name}: k = {K}, {arguments.pairs} pairs + {TAU_1} x {INTERPOLATED} interpolated, {epochs} outer epochs, "
          f"{arguments.threads} threads")  # fmt: skip
    print(f"whole fit {fit_s:.1f} s; peak memory {peak} MB, {before} MB of it before the fit")
    slow_s, fast_s, difference = one_gradient(images)
    ratio = slow_s / fast_s
    print(f"one gradient on {COMPARED} pairs: set by set {slow_s:.2f} s, each image once {fast_s:.4f} s, ratio "
          f"{ratio:.0f}; relative difference {difference:.1e}")  # fmt: skip
    if arguments.json:
        print(json.dumps({
            "benchmark": "utility_model", "ratio": ratio, "fit_s": fit_s, "pairs": arguments.pairs,
            "peak_mb": peak, "before_mb": before, "difference": difference,
        }))  # fmt: skip
    return 0 if difference < 1e-3 else 1


if __name__ == "__main__":
    sys.exit(main())
