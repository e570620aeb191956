"""Seconds and memory of every selection strategy, and how far three of them are ahead of the obvious code.

    python benchmarks/baselines.py [--pool 60000] [--budget 1000] [--json]

The pool is synthetic: 10 classes of 10 Gaussian clusters each in 128 dimensions after a ReLU, as the
last hidden layer of a classifier would give, with 1000 validation and 500 labelled images. Each
strategy runs in a process of its own, on one thread. `MB` is the peak of that process, `of it before`
what it had reached when the inputs were made. `ratio` is seconds of the slow version in
tests/acquisition/baselines over seconds of the package's, on a pool of 2000 and a budget of 50, where both must
pick the same images. The slow versions keep nothing from pick to pick, form every gradient, and
(GLISTER) loop over images: the ratio says what that costs, not how other packages compare.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when numpy loads
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import json
import multiprocessing
import resource
import sys
import time

import numpy as np
import oracles

from rambo_ray.acquisition.baselines import STRATEGIES, StrategyInputs

CLASSES, WIDTH, CLUSTERS = 10, 128, 10
VALIDATION, LABELED = 1000, 500
oracle = oracles.load("acquisition/baselines/reference_baselines.py")
SLOW = {"badge": oracle.badge, "coreset": oracle.coreset, "glister": oracle.glister}
SLOW_POOL, SLOW_BUDGET = 2000, 50
REPEATS = 3


def synthetic(pool: int, seed: int = 0) -> StrategyInputs:
    """Clusters behind a ReLU, and a linear classifier that is right about most of them."""
    rng = np.random.default_rng(seed)
    count = pool + VALIDATION + LABELED
    of_class = rng.standard_normal((CLASSES, 1, WIDTH), dtype=np.float32)
    of_cluster = of_class + rng.standard_normal((CLASSES, CLUSTERS, WIDTH), dtype=np.float32)
    labels, cluster = rng.integers(CLASSES, size=count), rng.integers(CLUSTERS, size=count)
    embeddings = rng.standard_normal((count, WIDTH), dtype=np.float32)
    embeddings += of_cluster[labels, cluster]
    np.maximum(embeddings, 0, out=embeddings)
    means = np.stack([embeddings[:2000][labels[:2000] == c].mean(axis=0) for c in range(CLASSES)])
    weights = (means - means.mean(axis=0)) / 4
    logits = (embeddings - means.mean(axis=0)) @ weights.T
    of_pool, of_validation, of_labeled = slice(pool), slice(pool, pool + VALIDATION), slice(pool + VALIDATION, None)
    return StrategyInputs(
        logits[of_pool],
        embeddings[of_pool],
        embeddings[of_labeled],
        logits[of_labeled],
        labels[of_labeled],
        embeddings[of_validation],
        logits[of_validation],
        labels[of_validation],
    )


def peak() -> float:
    """Largest resident memory of this process so far, in MB of 10^6 bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measure(name: str, pool: int, budget: int) -> tuple[float, float, float]:
    """Seconds, peak MB and peak MB before, of one selection in this process."""
    inputs = synthetic(pool)
    before, began = peak(), time.perf_counter()
    picked = STRATEGIES[name](inputs, budget, np.random.default_rng(1))
    seconds = time.perf_counter() - began
    assert len(np.unique(picked)) == budget
    return seconds, peak(), before


def fastest(strategy, inputs: StrategyInputs, budget: int, repeats: int) -> tuple[float, list[int]]:
    """Seconds of the fastest of `repeats` selections, and what they picked."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        picked = strategy(inputs, budget, np.random.default_rng(1))
        seconds.append(time.perf_counter() - began)
    return min(seconds), np.asarray(picked).tolist()


def main() -> int:
    """Print the tables, and with --json one last line of JSON; 1 where a slow version picks otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pool", type=int, default=60000)
    parser.add_argument("--budget", type=int, default=1000)
    parser.add_argument("--only", nargs="+", choices=list(STRATEGIES), default=list(STRATEGIES))
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    print(f"pool {arguments.pool}, budget {arguments.budget}, {WIDTH} numbers, {CLASSES} classes, one thread")
    print(f"{'strategy':17} {'seconds':>8} {'MB':>6} {'of it before':>13}")
    rows, context = [], multiprocessing.get_context("spawn")
    for name in arguments.only:
        with context.Pool(1) as process:
            seconds, most, before = process.apply(measure, (name, arguments.pool, arguments.budget))
        rows.append(dict(strategy=name, seconds=seconds, peak_mb=most, inputs_mb=before))
        print(f"{name:17} {seconds:8.2f} {most:6.0f} {before:13.0f}", flush=True)
    print(f"\npool {SLOW_POOL}, budget {SLOW_BUDGET}, fastest of {REPEATS}")
    print(f"{'strategy':17} {'fast s':>8} {'slow s':>8} {'ratio':>6}  same picks")
    small, compared = synthetic(SLOW_POOL), []
    for name, slow in SLOW.items():
        slow_s, expected = fastest(slow, small, SLOW_BUDGET, 1)
        fast_s, picked = fastest(STRATEGIES[name], small, SLOW_BUDGET, REPEATS)
        same = picked == expected
        compared.append(dict(strategy=name, fast_s=fast_s, slow_s=slow_s, ratio=slow_s / fast_s, same=same))
        print(f"{name:17} {fast_s:8.4f} {slow_s:8.2f} {slow_s / fast_s:6.0f}  {'yes' if same else 'NO'}", flush=True)
    ratio = min(row["ratio"] for row in compared)
    print(f"ratio {ratio:.0f} (smallest)")
    if arguments.json:
        print(json.dumps({"benchmark": "baselines", "ratio": ratio, "rows": rows, "slow": compared}))
    return 0 if all(row["same"] for row in compared) else 1


if __name__ == "__main__":
    sys.exit(main())
