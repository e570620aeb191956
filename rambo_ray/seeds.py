"""Random numbers that depend on what is drawn, never on when or where.

Every random decision of a run belongs to a named stage and has an index in it (pair 17, step 3,
the training of one subset). Its generator is made from (seed, stage, index) alone, so the result
is the same on one worker or a hundred, in any order, after any crash.
"""

from __future__ import annotations

import hashlib

import numpy as np

# A stage's number is part of every run's identity: append, never renumber.
STAGES = {
    "split": 0,
    "pairs": 1,
    "nested_sets": 2,
    "retraining": 3,
    "interpolation": 4,
    "utility_model": 5,
    "partition": 6,
    "base_classifier": 7,
    "final_classifier": 8,
    "bilevel_split": 9,
    "baseline": 10,
    "held_out": 11,
    "search": 12,
    "fold": 13,
    "scenario": 14,
    "halves": 15,
    "evidence": 16,
    "rounds": 17,
    "quadratic": 18,
    "null": 19,
    "backtest": 20,
}


def sequence(seed: int, stage: str, *index: int) -> np.random.SeedSequence:
    """The seed sequence of item `index` of `stage`; raises KeyError for a stage not listed."""
    return np.random.SeedSequence(seed, spawn_key=(STAGES[stage], *index))


def generator(seed: int, stage: str, *index: int) -> np.random.Generator:
    """A numpy generator for item `index` of `stage`."""
    return np.random.default_rng(sequence(seed, stage, *index))


def integer(seed: int, stage: str, *index: int) -> int:
    """A non-negative 63-bit integer for item `index` of `stage`, to seed a torch generator."""
    return int(sequence(seed, stage, *index).generate_state(1, np.uint64)[0] >> np.uint64(1))


def index_of(content: str | bytes) -> int:
    """A 32-bit index for something known by its content rather than by a number."""
    data = content.encode() if isinstance(content, str) else content
    return int.from_bytes(hashlib.sha256(data).digest()[:4], "big")
