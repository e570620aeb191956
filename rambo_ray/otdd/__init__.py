"""Optimal transport dataset distance (OTDD) of labelled subsets to a validation set.

How far two labelled datasets are apart, when moving a sample costs both its change of features
and its change of class. The definition has four steps, and each has one home:

1. distances between classes: `label_distances`;
2. cost between samples: `transport` (arguments are checked in `inputs`);
3. potentials of the regularised problem: `sinkhorn` (fixed schedule), `newton` (fixed point), or
   `pot` (POT's Sinkhorn, and its simplex without regularisation);
4. the debiased value: `transport`, with the validation set's part in `self_term`.

`microsoft` has the same distance by the program of its authors, where that is installed.
"""

from .inputs import METHODS, SOLVERS
from .newton import ConvergenceError
from .transport import Transport, distances

# Part of every sample's identity: raise it when the same sets would be at another distance.
RULE = 1

__all__ = ["METHODS", "SOLVERS", "ConvergenceError", "RULE", "Transport", "distances"]
