"""Selection strategies to compare RAMBO with, all for one round: no label arrives between picks.

Each is a function of the same three arguments, a `Strategy`: what may be looked at (`StrategyInputs`), the
budget B, and a generator. It returns B distinct positions in the pool in the order picked. They know
nothing of Ray or torch; each module names its paper.

`STRATEGIES` has them by name; `min_margin`, which asks for more classifiers than f, is apart. `NESTED`
names those whose picks for a smaller budget are the first picks of a larger one, given generators of the
same seed: one selection serves all budgets.
"""

from rambo_ray.acquisition.baselines import (
    badge,
    cluster_margin,
    coreset,
    glister,
    probcover,
    random,
    typiclust,
    uncertainty,
    uncertainty_herding,
)
from rambo_ray.acquisition.baselines.inputs import Strategy, StrategyInputs

STRATEGIES: dict[str, Strategy] = {
    "random": random.random,
    "margin": uncertainty.margin,
    "entropy": uncertainty.entropy,
    "least_confidence": uncertainty.least_confidence,
    "badge": badge.badge,
    "coreset": coreset.coreset,
    "glister": glister.glister,
    "cluster_margin": cluster_margin.cluster_margin,
    "typiclust": typiclust.typiclust,
    "probcover": probcover.probcover,
    "uncertainty_herding": uncertainty_herding.uncertainty_herding,
}
NESTED: frozenset[str] = frozenset(STRATEGIES) - {"typiclust"}

__all__ = ["NESTED", "STRATEGIES", "StrategyInputs", "Strategy"]
