"""Definition 5: utilities for subsets that were never trained on.

A subset drawn from S_i lies, in the embedding phi, somewhere between S_i and S_{i+1}, whose
utilities are known; its own is interpolated by its distances to the two. The paper's "u_i" and
"u_{i+1}" are the measured acc_i and acc_{i+1}.
"""

from __future__ import annotations

import torch
from torch import Tensor


def alpha(distance_i: Tensor, distance_next: Tensor) -> Tensor:
    """alpha of Definition 5, [G]: the weight of u_i, d_{i+1} / (d_{i+1} + d_i).

    A subset that lies on S_i gets 1, one that lies on S_{i+1} gets 0; where both distances are 0
    the two sets cannot be told apart and it is 0.5.
    """
    total = distance_i + distance_next
    safe = torch.where(total > 0, total, torch.ones_like(total))
    return torch.where(total > 0, distance_next / safe, torch.full_like(total, 0.5))


def interpolate(phi: Tensor, phi_i: Tensor, phi_next: Tensor, utility_i: float, utility_next: float) -> Tensor:
    """Utilities of G subsets, [G], from embeddings phi [G, q] and those of S_i and S_{i+1}, [q] each.

    Distances are Euclidean. Every value lies between `utility_i` and `utility_next`.
    """
    weight = alpha((phi - phi_i).norm(dim=-1), (phi - phi_next).norm(dim=-1))
    return weight * utility_i + (1 - weight) * utility_next
