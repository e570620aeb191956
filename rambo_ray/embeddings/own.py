"""Features of a user's own: any callable from pixels uint8 [n, H, W, C] to numbers [n, F].

Nobody has made their units alike, so they are brought to one scale as embeddings that are data
(`rambo_ray.embeddings.given`), and fewer of them than `classifier.components` are no error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rambo_ray.embeddings.networks import BATCH, NETWORKS
from rambo_ray.errors import UserError
from rambo_ray.own.names import RAISED, find, in_one_line, loaded

KEY = "classifier.embedding"

_widths: dict[tuple[str, str, tuple[int, ...]], int] = {}


def is_own(embedding: str) -> bool:
    """Whether an embedding is none of this package's networks."""
    return embedding not in NETWORKS


def known(name: str) -> tuple[str, bytes]:
    """The digest of the callable's source, and itself where it was given in Python. Raises UserError as `find`."""
    own = find(name, KEY, NETWORKS, "features")
    return own.digest, own.pickled


class OwnFeatures(nn.Module):
    """The callable as the frozen networks are called: uint8 [n, H, W, C] in, float32 [n, F] out, always n = BATCH."""

    def __init__(self, name: str, pickled: bytes) -> None:
        super().__init__()
        self.name = name
        self.function = loaded(name, pickled, KEY, NETWORKS, "features")

    def forward(self, pixels: Tensor) -> Tensor:
        try:
            found: Any = self.function(pixels.cpu().numpy())
        except RAISED as error:  # what it raises is not said anywhere
            raise UserError(
                f"{KEY}={self.name}: on {tuple(pixels.shape)} it raised {in_one_line(error)}; it must take pixels "
                "uint8 [n, H, W, C]"
            ) from error
        if isinstance(found, Tensor):
            found = found.detach().cpu().float().numpy()
        found = np.asarray(found)
        if found.dtype.kind not in "fiu" or found.ndim != 2 or len(found) != len(pixels):
            raise UserError(
                f"{KEY}={self.name}: of {len(pixels)} images it made {found.dtype} {found.shape}; must be numbers "
                f"[{len(pixels)}, F], a row for each"
            )
        if not np.isfinite(found).all():
            raise UserError(f"{KEY}={self.name}: it made numbers that are not finite; correct its scale")
        return torch.tensor(found.astype(np.float32), device=pixels.device)


def width(name: str, pixels: np.ndarray) -> int:
    """F, found by asking for those of the first of pixels [N, H, W, C]. Raises UserError where there are none."""
    digest, pickled = known(name)
    key = (name, digest, pixels.shape[1:])
    if key not in _widths:
        some = torch.tensor(pixels[np.arange(BATCH) % len(pixels)])
        with torch.inference_mode():
            _widths[key] = int(OwnFeatures(name, pickled)(some).shape[1])
    return _widths[key]
