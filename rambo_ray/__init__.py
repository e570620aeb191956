"""RAMBO: one-round active learning by learning to rank subsets, on Ray.

`rambo_ray.main` is the main job, `rambo_ray.rambo` the method (Fig. 2 of the paper) in one function;
the modules beside it are named after the paper's nouns and know nothing of Ray, except those in
`rambo_ray.cluster`.
"""

__version__ = "0.1.0"
