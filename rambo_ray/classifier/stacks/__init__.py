"""Many classifiers trained at once on one device: for GPUs, which one small network leaves idle.

`networks` computes f for a whole stack in batched matrix products, `training` trains the stack by
the rule of `rambo_ray.classifier.training`.
"""

from rambo_ray.classifier.stacks.networks import STACKED
from rambo_ray.classifier.stacks.training import Result, batches_per_epoch, models_that_fit, train_stack

__all__ = ["STACKED", "Result", "batches_per_epoch", "models_that_fit", "train_stack"]
