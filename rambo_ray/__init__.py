"""RAMBO: one-round active learning by learning to rank subsets, on Ray.

`rambo_ray.rambo` is the method (Fig. 2 of the paper) in one function. What its stages compute is in
packages named after the paper's nouns, which know nothing of Ray; how they are spread over a cluster is
in `rambo_ray.cluster`, the commands in `rambo_ray.cli`.
"""

__version__ = "0.1.0"
