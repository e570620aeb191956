"""RAMBO: one-round active learning by learning to rank subsets, on Ray.

`Rambo` picks from Python, see `rambo_ray.api`. `rambo_ray.rambo` is the method (Fig. 2 of the paper) in one function.
What its stages compute is in packages named after the paper's nouns, which know nothing of Ray; how they are spread
over a cluster is in `rambo_ray.cluster`, the commands in `rambo_ray.cli`.
"""

import importlib

__version__ = "0.1.0"
__all__ = ["Backtested", "Cost", "Picked", "Rambo", "RunError", "UserError", "register_strategy"]

# Loaded when they are asked for: torch and Ray take seconds, and `rambo --help` needs neither.
_LAZY = {
    "Backtested": "rambo_ray.api.backtested",
    "Cost": "rambo_ray.api.cost",
    "Picked": "rambo_ray.api.picked",
    "Rambo": "rambo_ray.api.rambo",
    "RunError": "rambo_ray.errors",
    "UserError": "rambo_ray.errors",
    "register_strategy": "rambo_ray.benchmark.experiment",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'rambo_ray' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
