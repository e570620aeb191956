"""Random numbers depend on (seed, stage, index) and on nothing else."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray import seeds

ANY_SEED = st.integers(0, 2**64)
STAGE = st.sampled_from(sorted(seeds.STAGES))
INDEX = st.lists(st.integers(0, 2**32 - 1), max_size=3)


def test_numbers_of_stages_are_distinct_and_frozen() -> None:
    # Renumbering a stage would silently change every run: this list may only be appended to.
    assert list(seeds.STAGES.items())[:12] == [
        ("split", 0),
        ("pairs", 1),
        ("nested_sets", 2),
        ("retraining", 3),
        ("interpolation", 4),
        ("utility_model", 5),
        ("partition", 6),
        ("base_classifier", 7),
        ("final_classifier", 8),
        ("bilevel_split", 9),
        ("baseline", 10),
        ("held_out", 11),
    ]
    assert len(set(seeds.STAGES.values())) == len(seeds.STAGES)


@given(ANY_SEED, STAGE, INDEX)
def test_order_of_drawing_does_not_matter(seed: int, stage: str, index: list[int]) -> None:
    first = seeds.generator(seed, stage, *index).integers(0, 2**63, 4).tolist()
    seeds.generator(seed, "split").random(100)
    np.random.seed(1)
    torch.manual_seed(1)
    assert seeds.generator(seed, stage, *index).integers(0, 2**63, 4).tolist() == first


@given(ANY_SEED, STAGE, INDEX)
def test_integer_fits_a_torch_generator(seed: int, stage: str, index: list[int]) -> None:
    value = seeds.integer(seed, stage, *index)
    assert 0 <= value < 2**63
    assert torch.Generator().manual_seed(value).initial_seed() == value


def test_seed_stage_and_index_all_count() -> None:
    numbers = {
        seeds.integer(seed, stage, *index)
        for seed in range(4)
        for stage in seeds.STAGES
        for index in [(), (0,), (1,), (0, 0), (0, 1), (1, 0)]
    }
    assert len(numbers) == 4 * len(seeds.STAGES) * 6


def test_unknown_stage_is_refused() -> None:
    with pytest.raises(KeyError):
        seeds.generator(0, "pair")


def test_global_generators_are_left_alone() -> None:
    np.random.seed(5)
    torch.manual_seed(5)
    expected = np.random.random(3).tolist(), torch.rand(3).tolist()
    np.random.seed(5)
    torch.manual_seed(5)
    seeds.generator(0, "pairs", 1).random(10)
    seeds.integer(0, "pairs", 1)
    assert (np.random.random(3).tolist(), torch.rand(3).tolist()) == expected


@given(st.text(max_size=20))
def test_index_of_content(content: str) -> None:
    index = seeds.index_of(content)
    assert index == seeds.index_of(content.encode())
    assert index == int(hashlib.sha256(content.encode()).hexdigest()[:8], 16)
    assert 0 <= index < 2**32
