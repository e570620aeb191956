"""Linear heads per second, beside scikit-learn's LogisticRegression fitted to the same subsets one by one.

    python benchmarks/heads.py [--data DIR] [--device cuda] [--sizes 100 500 2000] [--components 128] [--json]

One thread on a CPU. Both minimise the same function, and the package's minimum is exact but for float64's
rounding; "gap" is how much higher scikit-learn's is at `--tolerance` (its own default is 1e-4). Images are
CIFAR-10's from DIR (or RAMBO_DATA), embedded first, else 10 clusters whose spectrum falls as that of embeddings.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from typing import Any

import numpy as np
import torch
from images import add_data_option, first_rows
from sklearn.linear_model import LogisticRegression

from rambo_ray.classifier import logistic
from rambo_ray.config.loading import load
from rambo_ray.config.schema import ClassifierConfig
from rambo_ray.embeddings import networks, reduce, weights

AT_HAND, CLASSES, ALONE = 4000, 10, 10


def embeddings(data: str | None, components: int) -> tuple[str, np.ndarray, np.ndarray]:
    """Name, float32 [N, D], labels int64 [N]."""
    if data:
        pixels, labels = first_rows(data, "cifar10", AT_HAND)
        source = weights.source(load(None, ["classifier.name=linear"]))
        features = networks.features(source.build(source.state()), pixels)
        return "cifar10", reduce.fit([features], components)(features), labels
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, AT_HAND)
    spread = 3 / np.sqrt(1 + np.arange(components))
    x = (rng.normal(size=(CLASSES, components))[labels] + rng.normal(size=(AT_HAND, components))) * spread
    return "clusters", (x / np.sqrt((x**2).mean())).astype(np.float32), labels


def objective(w: np.ndarray, x: np.ndarray, labels: np.ndarray, l2: float) -> float:
    """The mean cross-entropy and l2 / 2 times the squared weights, for w [K, D + 1]."""
    log_p = torch.log_softmax(torch.tensor(x.astype(np.float64) @ w[:, :-1].T + w[:, -1]), 1).numpy()
    return float(-log_p[np.arange(len(labels)), labels].mean() + l2 / 2 * (w**2).sum())


def main() -> None:
    """Print the table, and with --json one last line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_data_option(parser, "cifar10")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 500, 2000], help="images of a subset")
    parser.add_argument("--components", type=int, default=128, help="D")
    parser.add_argument("--l2", type=float, default=ClassifierConfig.model_fields["l2"].default)
    parser.add_argument("--models", type=int, default=60, help="subsets of each size")
    parser.add_argument("--tolerance", type=float, default=1e-6, help="scikit-learn's")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    name, x, labels = embeddings(arguments.data, arguments.components)
    tensor, targets = torch.tensor(x, device=arguments.device), torch.tensor(labels, device=arguments.device)
    with_bias = np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1).astype(np.float64)
    warnings.simplefilter("ignore")  # scikit-learn's, on its way to its tolerance
    print(f"{name}, D = {arguments.components}, K = {CLASSES}, l2 = {arguments.l2:g}, {arguments.device}")
    print(f"{'images':>7} {'models/s':>9} {'scikit-learn':>13} {'ratio':>6} {'gap':>8}")
    rows: list[dict[str, Any]] = []
    for size in arguments.sizes:
        rng = np.random.default_rng(size)
        subsets = [rng.choice(len(x), size, replace=False) for _ in range(arguments.models)]
        logistic.fit_heads(tensor, targets, subsets, CLASSES, arguments.l2)
        began = time.perf_counter()
        found = logistic.fit_heads(tensor, targets, subsets, CLASSES, arguments.l2)[0].cpu().numpy()
        rate = len(subsets) / (time.perf_counter() - began)
        seconds, gap = 0.0, 0.0
        for subset, ours in list(zip(subsets, found, strict=True))[:ALONE]:
            model = LogisticRegression(
                C=1 / (size * arguments.l2), fit_intercept=False, max_iter=1000, tol=arguments.tolerance
            )
            began = time.perf_counter()
            model.fit(with_bias[subset], labels[subset])
            seconds += time.perf_counter() - began
            theirs = np.zeros_like(ours)
            theirs[model.classes_] = model.coef_
            if len(model.classes_) == CLASSES:  # it has no outputs for classes that are absent
                of_both = [objective(w, x[subset], labels[subset], arguments.l2) for w in (theirs, ours)]
                gap = max(gap, of_both[0] - of_both[1])
        single = min(ALONE, len(subsets)) / seconds
        rows.append({"images": size, "rate": rate, "scikit_learn": single, "ratio": rate / single, "gap": gap})
        print(f"{size:>7} {rate:>9.1f} {single:>13.1f} {rate / single:>6.1f} {gap:>8.1e}", flush=True)
    if arguments.json:
        print(json.dumps({"benchmark": "heads", "ratio": min(row["ratio"] for row in rows), "rows": rows}))


if __name__ == "__main__":
    main()
