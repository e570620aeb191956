"""Seconds per subset of the dataset distance, beside the slow version in tests/otdd, written from its definition.

    python benchmarks/otdd.py [--data DIR] [--json]

Uses FashionMNIST (784 features, 1000 validation images) from DIR or RAMBO_DATA, a folder with
fashion_mnist/train-*.parquet, else scikit-learn's digits (64 features, 300 images). One process,
one thread, a couple of minutes. What a set of subsets shares (validation statistics, its label
distances, its self term) is not counted on either side. `ratio` is the geometric mean, over the
reference solver's rows, of oracle seconds over fast seconds: both do the same updates there and
agree to rounding. The oracle's converged rows stop after a fixed number of passes, long before the
fixed point, and are lower bounds.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when numpy loads
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import json
import sys
import time

import numpy as np
import oracles
from images import add_data_option, first_rows

from rambo_ray import otdd

oracle = oracles.load("otdd/reference_otdd.py")

_SIZES = (50, 200)
_REPEATS = 9
_ORACLE_PASSES = 200


def load(data: str | None) -> tuple[str, np.ndarray, np.ndarray, int]:
    """Name, features in [0, 1], labels, and how many of the first rows are for validation."""
    if not data:
        from sklearn.datasets import load_digits

        digits = load_digits()
        order = np.random.default_rng(0).permutation(len(digits.target))
        return "digits", digits.data[order] / 16, digits.target[order], 300
    pixels, labels = first_rows(data, "fashion_mnist", 2000)
    return "fashion_mnist", pixels.reshape(len(pixels), -1) / 255, labels, 1000


def fast(pool, validation, subsets, method, solver):
    """Seconds to set up and for the median subset, and the first subset's distance."""
    began = time.perf_counter()
    transport = otdd.Transport(*pool, *validation, method=method, solver=solver)
    transport.distance(np.arange(len(pool[0])))  # fills every lazy part
    set_up, seconds = time.perf_counter() - began, []
    for subset in subsets:
        began = time.perf_counter()
        transport.distance(subset)
        seconds.append(time.perf_counter() - began)
    return set_up, float(np.median(seconds)), transport.distance(subsets[0])


def slow(pool, validation, subset, method, cache):
    """Per solver: the oracle's seconds for one subset and its distance."""
    x, x_labels = oracle.cleaned(pool[0][subset], pool[1][subset])
    y, y_labels = oracle.cleaned(*validation)
    if "w_bb" not in cache:
        oracle.label_distances(x[:2], np.zeros(2, int), y, y_labels, oracle.Plan(method=method), cache)
    began = time.perf_counter()
    blocks = oracle.label_distances(x, x_labels, y, y_labels, oracle.Plan(method=method), cache)
    shared = time.perf_counter() - began
    found = {}
    for solver in ("reference", "converged"):
        plan = oracle.Plan(method=method, solver=solver, debiased=False, max_iterations=_ORACLE_PASSES)
        began = time.perf_counter()
        oracle.given_label_distances(x, x_labels, y, y_labels, blocks, plan)
        seconds = shared + time.perf_counter() - began
        plan = oracle.Plan(method=method, solver=solver, max_iterations=_ORACLE_PASSES)
        value = oracle.given_label_distances(x, x_labels, y, y_labels, blocks, plan)
        found[solver] = seconds, value
    return found


def main() -> int:
    """Print the table, and with --json one last line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_option(parser, "fashion_mnist")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    name, features, labels, m = load(arguments.data)
    validation, pool = (features[:m], labels[:m]), (features[m : m + 400], labels[m : m + 400])
    rng = np.random.default_rng(1)
    subsets = {n: [rng.choice(len(pool[0]), n, replace=False) for _ in range(_REPEATS)] for n in _SIZES}
    print(f"{name}: {features.shape[1]} features, {m} validation images, one thread, {_REPEATS} subsets each")
    print(
        f"{'method':9} {'solver':10} {'n':>4} {'set up s':>9} {'fast s':>9} {'oracle s':>9} {'ratio':>8}  "
        "rel. difference"
    )
    rows = []
    for method in otdd.METHODS:
        cache: dict = {}
        for n in _SIZES:
            by_oracle = slow(pool, validation, subsets[n][0], method, cache)
            for solver, (oracle_s, expected) in by_oracle.items():
                set_up, fast_s, value = fast(pool, validation, subsets[n], method, solver)
                row = dict(
                    method=method,
                    solver=solver,
                    n=n,
                    set_up_s=set_up,
                    fast_s=fast_s,
                    oracle_s=oracle_s,
                    ratio=oracle_s / fast_s,
                    difference=abs(value / expected - 1),
                )
                rows.append(row)
                bound = ">" if solver == "converged" else " "
                print(
                    f"{method:9} {solver:10} {n:4} {set_up:9.2f} {fast_s:9.4f} {bound}{oracle_s:8.2f} "
                    f"{bound}{row['ratio']:7.0f}  {row['difference']:.1e}",
                    flush=True,
                )
    same_work = [row for row in rows if row["solver"] == "reference"]
    ratio = float(np.exp(np.mean([np.log(row["ratio"]) for row in same_work])))
    print(f"ratio {ratio:.0f} (reference solver, geometric mean)")
    if arguments.json:
        print(json.dumps({"benchmark": "otdd", "data": name, "ratio": ratio, "rows": rows}))
    return 0 if all(row["difference"] < 1e-8 for row in same_work) else 1


if __name__ == "__main__":
    sys.exit(main())
