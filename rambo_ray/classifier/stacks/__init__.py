"""Many classifiers trained at once on one device: for GPUs, which one small network leaves idle.

`training` is the way in and trains a stack by the rule of `rambo_ray.classifier.training`: on a CPU in step, with
the network of `networks` in batched matrix products; on a GPU by `on_gpu`, with that of `batched`, made of `layers`,
on batches of a `schedule`, all random numbers from `draws`.
"""

from rambo_ray.classifier.stacks.networks import STACKED
from rambo_ray.classifier.stacks.training import Result, batches_per_epoch, models_that_fit, train_stack

__all__ = ["STACKED", "Result", "batches_per_epoch", "models_that_fit", "train_stack"]
