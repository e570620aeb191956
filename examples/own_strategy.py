"""A selection strategy of one's own in a benchmark: written in ten lines, registered, compared on digits.

    python examples/own_strategy.py

The same without a script, where the module can be imported: `methods: [random, margin, own_strategy:dense_margins]`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.neighbors import NearestNeighbors

from rambo_ray import register_strategy
from rambo_ray.acquisition.baselines import StrategyInputs
from rambo_ray.classifier.probabilities import margins
from rambo_ray.cli.main import main as rambo


def dense_margins(inputs: StrategyInputs, budget: int, generator: np.random.Generator) -> np.ndarray:
    """Small margins where the pool is dense: `budget` distinct positions in the pool, in the order picked."""
    near = NearestNeighbors(n_neighbors=6).fit(inputs.embeddings)
    distance = near.kneighbors(inputs.embeddings)[0][:, 1:].mean(axis=1)
    return np.argsort(margins(inputs.logits) * distance, kind="stable")[:budget]


def main(output: str = "runs/own_strategy") -> int:
    register_strategy("dense_margins", dense_margins)
    return rambo(["benchmark", "--experiment", str(Path(__file__).with_suffix(".yaml")), "--output", output])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
