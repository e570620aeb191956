"""Models per second of a stack on one device, beside the same models trained one by one.

    python benchmarks/stacks.py [--data DIR] [--device cuda] [--classifier mnist_net] [--stacks 8 32 128] [--json]

All subsets have `--size` images; both sides train by the package's rule and score S_val (1000
images). Stacks are for GPUs: on a CPU, where one small network fills a core, expect less than 1. Images are
FashionMNIST or CIFAR-10 from DIR (or RAMBO_DATA), else noise (then set --epochs).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from images import add_data_option, first_rows

from rambo_ray.classifier import prediction, stacks, training
from rambo_ray.classifier.training import TrainingSettings
from rambo_ray.config.schema import ClassifierConfig

VALIDATION, AT_HAND, ALONE = 1000, 4000, 4
SOURCES = {"mnist_net": ("fashion_mnist", (28, 28, 1)), "resnet18": ("cifar10", (32, 32, 3))}


def load(data: str | None, classifier: str) -> tuple[str, np.ndarray, np.ndarray]:
    """Name, pixels uint8 [N, H, W, C], labels int64 [N]."""
    name, shape = SOURCES[classifier]
    count = VALIDATION + AT_HAND
    if not data:
        rng = np.random.default_rng(0)
        return "noise", rng.integers(0, 256, (count, *shape), dtype=np.uint8), rng.integers(0, 10, count)
    return name, *first_rows(data, name, count)


def main() -> None:
    """Print the table, and with --json one last line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_data_option(parser, *(name for name, _ in SOURCES.values()))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--classifier", choices=sorted(SOURCES), default="mnist_net")
    parser.add_argument("--size", type=int, default=100, help="images of a subset")
    parser.add_argument("--stacks", type=int, nargs="+", default=[8, 32, 128], help="models at once")
    parser.add_argument("--epochs", type=int, help="at most so many epochs; default: the package's")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        torch.set_num_threads(1)
    name, pixels, labels = load(arguments.data, arguments.classifier)
    channels = pixels.shape[3]
    settings = TrainingSettings.from_config(
        ClassifierConfig.model_validate({"name": arguments.classifier}),
        mean=(0.5,) * channels, std=(0.25,) * channels, image_shape=(channels, *pixels.shape[1:3]), num_classes=10,
        device=arguments.device,
    )  # fmt: skip
    if arguments.epochs:
        settings = replace(settings, max_epochs=arguments.epochs)
    x = training.prepare(pixels, settings, arguments.device)
    val, val_labels = x[:VALIDATION], labels[:VALIDATION]
    rng = np.random.default_rng(0)
    most = max(arguments.stacks)
    subsets = [VALIDATION + np.sort(rng.choice(AT_HAND, arguments.size, replace=False)) for _ in range(most)]

    def alone(count: int) -> list[float]:
        found = []
        for seed, subset in enumerate(subsets[:count]):
            model = training.train(x, labels, settings, seed, arguments.device, subset).model
            found.append(prediction.evaluate(model, val, val_labels, settings).accuracy)
        return found

    def together(count: int) -> list[float]:
        results = stacks.train_stack(x, labels, val, settings, range(count), subsets[:count], arguments.device)
        return [prediction.scores(result.logits, val_labels).accuracy for result in results]

    def timed(call: Callable[[int], list[float]], count: int) -> tuple[float, float]:
        if arguments.device != "cpu":
            torch.cuda.synchronize()
        began = time.perf_counter()
        accuracy = call(count)
        return count / (time.perf_counter() - began), float(np.mean(accuracy))

    alone(1), together(2)  # kernels are made on first use
    print(f"{name}, {arguments.classifier}, {arguments.size} images a subset, {arguments.device}, {settings.precision}")
    print(f"{'models at once':>14} {'models/s':>9} {'ratio':>6} {'mean accuracy':>14}")
    single, accuracy = timed(alone, min(ALONE, most))
    print(f"{1:>14} {single:>9.2f} {1.0:>6.2f} {accuracy:>14.4f}")
    rows: list[dict[str, Any]] = []
    for count in arguments.stacks:
        rate, accuracy = timed(together, count)
        rows.append({"models": count, "rate": rate, "ratio": rate / single, "accuracy": accuracy})
        print(f"{count:>14} {rate:>9.2f} {rate / single:>6.2f} {accuracy:>14.4f}", flush=True)
    if arguments.json:
        print(json.dumps({"benchmark": "stacks", "ratio": max(row["ratio"] for row in rows), "rows": rows}))


if __name__ == "__main__":
    main()
