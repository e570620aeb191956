"""Seconds of the greedy loop over a whole pool, and what caching encodings is worth.

    python benchmarks/acquisition.py [--pool 60000] [--budget 1000] [--batch-size 50] [--margin-pool 2000] [--json]

The pool is synthetic: margins and u_hat encodings of `--pool` images, as the one forward pass of f
and u_hat's extractor leave them. Timed is everything after that: ranking by margin, and all tau_2
steps of partition, scores and choice, on one thread. Growth: twice the margin pool M, twice the
budget (hence tau_2), ten times S_0, each against the first row. `ratio` is seconds per step of the obvious
version, which encodes S_j joined with every candidate batch, over those of the package, on a small
case where both must pick the same images.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial

import numpy as np
import torch

from rambo_ray import seeds
from rambo_ray.acquisition.greedy import JoinedSets, Selection, acquire, candidates, score_batches
from rambo_ray.config.schema import AcquisitionConfig
from rambo_ray.utility_model.network import Architecture, UtilityModel, initialise

FEATURES, LABELED = 784, 200
SMALL = {"pool": 3000, "budget": 60, "batch_size": 20, "margin_pool": 200}


def u_hat() -> UtilityModel:
    """A u_hat of the default widths on vectors, float64 as in a run."""
    made = initialise(Architecture("vector", (FEATURES,), 8, 64, 128, 32, 0.0, "ranknet"), seed=0).double().eval()
    made.deviation.fill_(0.2)
    made.spread.fill_(0.1)
    return made


def encode(model: UtilityModel, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model.encode(torch.from_numpy(images)).numpy()


def greedy(
    model: UtilityModel,
    margins: np.ndarray,
    encodings: np.ndarray,
    labeled: np.ndarray,
    budget: int,
    batch_size: int,
    margin_pool: int,
) -> tuple[float, Selection]:
    """Seconds of ranking and of all steps, given the encodings [N, D] of the pool; and what was picked."""
    ask = AcquisitionConfig(budget=budget, batch_size=batch_size, margin_pool=margin_pool)
    began = time.perf_counter()
    held = encodings[candidates(margins, ask)]
    judge = JoinedSets(labeled, held, partial(score_batches, model, held))
    selection = acquire(margins, judge, ask, seed=0)
    return time.perf_counter() - began, selection


def obvious(
    model: UtilityModel,
    margins: np.ndarray,
    pool: np.ndarray,
    labeled: np.ndarray,
    budget: int,
    batch_size: int,
    margin_pool: int,
) -> tuple[float, list[int]]:
    """Fig. 2, lines 20 to 26, as they read: u_hat of every joined set from its images."""
    began = time.perf_counter()
    acquired: list[int] = []
    for step in range(budget // batch_size):
        left = [i for i in np.argsort(margins, kind="stable").tolist() if i not in acquired][:margin_pool]
        order = [left[i] for i in seeds.generator(0, "partition", step).permutation(len(left))]
        batches = [order[i : i + batch_size] for i in range(0, len(order) - batch_size + 1, batch_size)]
        scores = []
        for batch in batches:
            pooled = encode(model, np.concatenate([labeled, pool[acquired], pool[batch]])).mean(axis=0, keepdims=True)
            with torch.no_grad():
                scores.append(float(model.score(model.embed(torch.from_numpy(pooled)))))
        acquired += batches[int(np.argmax(scores))]
    return time.perf_counter() - began, acquired


def main() -> int:
    """Print the table; exit code 1 where the two versions pick different images."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in (("pool", 60_000), ("budget", 1000), ("batch-size", 50), ("margin-pool", 2000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, rng = u_hat(), np.random.default_rng(0)
    margins, encodings = rng.random(arguments.pool), np.abs(rng.standard_normal((arguments.pool, 64)))

    print(f"pool of {arguments.pool} images, one thread")
    print(f"{'B':>6} {'b':>4} {'M':>6} {'|S_0|':>6} {'seconds':>8} {'ms per step':>12}")
    rows = []
    b, m = arguments.batch_size, arguments.margin_pool
    for budget, pool_m, size in (
        (arguments.budget, m, LABELED), (arguments.budget, 2 * m, LABELED),
        (2 * arguments.budget, m, LABELED), (arguments.budget, m, 10 * LABELED),
    ):  # fmt: skip
        seconds = min(
            greedy(model, margins, encodings, np.resize(encodings, (size, encodings.shape[1])), budget, b, pool_m)[0]
            for _ in range(5)
        )
        rows.append({"budget": budget, "margin_pool": pool_m, "labeled": size, "seconds": seconds})
        print(f"{budget:>6} {b:>4} {pool_m:>6} {size:>6} {seconds:>8.3f} {1e3 * seconds * b / budget:>12.2f}")

    pool, labeled = rng.standard_normal((SMALL["pool"], FEATURES)), rng.standard_normal((LABELED, FEATURES))
    few = margins[: SMALL["pool"]]
    case = {key: SMALL[key] for key in ("budget", "batch_size", "margin_pool")}
    encoded = encode(model, pool)
    fast_s, selection = min(
        (greedy(model, few, encoded, encode(model, labeled), **case) for _ in range(5)),
        key=lambda found: found[0],
    )
    slow_s, acquired = obvious(model, few, pool, labeled, **case)
    same, ratio = set(acquired) == set(selection.pool_index.tolist()), slow_s / fast_s
    print(f"B = {case['budget']}, M = {case['margin_pool']}: every joined set encoded {slow_s:.2f} s, cached "
          f"{fast_s:.4f} s, ratio {ratio:.0f}; {'the same' if same else 'OTHER'} images")  # fmt: skip
    if arguments.json:
        print(json.dumps({"benchmark": "acquisition", "ratio": ratio, "rows": rows, "same": same}))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
