"""Principal components of a problem's features: the D numbers of an image that f sees.

They are fitted, without labels, to all images that a team has: S_0, S_val, what was rejected, and the pool, but
never to test images. All components are divided by one number, so that their mean variance is 1 and a penalty
means the same whatever the network; each keeps its share of the variance, since to divide it by its own would
raise noise to the level of what the network found worth telling.

Sums are made in float64 in fixed chunks on one thread, and a component's sign is that which makes its largest
entry positive: the same features give the same bits.

Letters: N images, F features, D components.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rambo_ray.errors import UserError
from rambo_ray.machines.begin import threads

CHUNK = 4096  # images, of which there is a copy in float64
ROUNDING = 1e-6  # of float32: features whose deviation is no larger, relative to their mean, do not change


@dataclass(frozen=True)
class Reduction:
    """The map features -> (features - mean) @ components: float64 [F] and [F, D].

    explained: the share of the variance that the components keep, in (0, 1].
    """

    mean: Tensor
    components: Tensor
    explained: float

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """float32 [N, D] of features float32 [N, F]."""
        with threads(1):  # whatever number of cores there is
            parts = [((x - self.mean) @ self.components).float() for x in _chunks([features])]
        kept = self.components.shape[1]
        return torch.cat(parts).numpy() if parts else np.zeros((0, kept), dtype=np.float32)

    def times(self, factor: float) -> Reduction:
        """The same with every number multiplied."""
        return replace(self, components=self.components * factor)


def fit(parts: Sequence[np.ndarray], components: int, standardised: bool = False) -> Reduction:
    """The first `components` principal components of the rows of all `parts`, float32 [., F].

    standardised: of features that are first divided by their own standard deviations, those that never change
    left out; for features whose units nobody has made alike.

    Raises ValueError for more components than features or for fewer than two rows, UserError where all rows are
    the same.
    """
    count, width = sum(map(len, parts)), parts[0].shape[1]
    if components > width or count < 2:
        raise ValueError(f"{components} components of {count} images with {width} features")
    with threads(1):  # whatever number of cores there is
        mean = torch.zeros(width, dtype=torch.float64)
        for x in _chunks(parts):
            mean += x.sum(0)
        mean /= count
        covariance = torch.zeros(width, width, dtype=torch.float64)
        for x in _chunks(parts):
            x -= mean
            covariance += x.T @ x
        covariance /= count
        deviation = torch.ones(width, dtype=torch.float64)
        if standardised:
            deviation = covariance.diagonal().sqrt()
            constant = deviation <= ROUNDING * mean.abs()
            covariance[constant] = 0.0
            covariance[:, constant] = 0.0
            deviation[constant] = 1.0
            covariance /= deviation[:, None] * deviation
        variances, vectors = torch.linalg.eigh(covariance)
        vectors /= deviation[:, None]
        if standardised:
            vectors[constant] = 0.0
    kept, vectors = variances[-components:].flip(0).clamp(min=0), vectors[:, -components:].flip(1)
    varying = kept[kept > ROUNDING * kept[0]] if standardised else kept
    scale = float(varying.mean().sqrt())
    if not scale > 0:
        what = "embeddings of the data" if standardised else "classifier.embedding"
        raise UserError(f"{what}: all images have the same features; is every image the same?")
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return Reduction(mean, vectors * torch.sign(largest) / scale, float(kept.sum() / variances.clamp(min=0).sum()))


def _chunks(parts: Sequence[np.ndarray]) -> Iterator[Tensor]:
    for part in parts:
        for first in range(0, len(part), CHUNK):
            yield torch.tensor(part[first : first + CHUNK], dtype=torch.float64)
