"""Embeddings that came with the data: how they are brought to the scale that a head on them expects.

Nobody knows whose numbers they are: each of the D is divided by its own standard deviation, so that no unit and no
single large number decides; then they are turned into principal components, at most `classifier.components` of
them (`rambo_ray.embeddings.reduce`). A turn alone changes nothing for a penalised linear head; it makes it faster to
solve for. The components' variances add up to their number, but to TOTAL at most: a head's logits are sums over them,
so that `classifier.l2` means about the same for 128 numbers as for 1000, as it does for images.

All of it is fitted, without labels, to S_0, S_val, what was rejected and the pool; a test set is only mapped.
"""

from __future__ import annotations

import json
import math

import numpy as np

from rambo_ray.config.schema import ClassifierConfig
from rambo_ray.data.problem import Inputs, Problem, Revealed
from rambo_ray.embeddings import reduce

# Part of the identity of f's training: raise it when the same vectors would become other numbers.
RULE = 1

TOTAL = 128.0  # the number of components that images have unless classifier.components says otherwise


def kept(classifier: ClassifierConfig, problem: Problem) -> int:
    """How many numbers f sees of a vector of D: no more than components, nor than there can be."""
    count = len(problem.labeled) + len(problem.validation) + problem.num_left
    return min(problem.shape[0], classifier.components, max(count - 1, 1))


def identity(classifier: ClassifierConfig, problem: Problem) -> str:
    """JSON of what these numbers depend on beside S_0 and S_val."""
    return json.dumps(["given", RULE, kept(classifier, problem), problem.pool_fingerprint])


def inputs(classifier: ClassifierConfig, problem: Problem, revealed: Revealed | None) -> Inputs:
    """What f sees of a problem of vectors: float32 [., `kept`]. Raises UserError where all vectors are the same."""
    raw = Inputs.as_given(problem, revealed)
    parts: list[np.ndarray] = [raw.labeled, raw.validation, raw.rejected, raw.pool]
    count = kept(classifier, problem)
    reduction = reduce.fit(parts, count, standardised=True).times(math.sqrt(min(TOTAL / count, 1.0)))
    labeled, validation, rejected, pool = map(reduction, parts)
    return Inputs(labeled, validation, rejected, pool, None if raw.test is None else reduction(raw.test))
