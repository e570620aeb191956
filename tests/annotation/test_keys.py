"""Which key answers which class."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.annotation.keys import MOST, keys


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["cat", "dog"], "12"),
        ([f"c{i}" for i in range(12)], "123456789abc"),
        (list("0123456789"), "0123456789"),  # whoever sees a 3 presses 3
        ([str(i) for i in range(12)], "0123456789ab"),
        (["2", "cat", "1"], "231"),
        (list("ABC"), "abc"),
        (["a", "A", "cat"], "aA1"),
        (list(string.ascii_uppercase), string.ascii_lowercase),  # 26 letters are no list to type in
        (["-", "é", "x"], "12x"),
    ],
)
def test_keys(classes: list[str], expected: str) -> None:
    assert keys(classes) == list(expected)


def test_many_names_are_typed() -> None:
    assert keys([f"c{i}" for i in range(MOST + 1)]) is None
    assert keys([*string.ascii_lowercase, "other"]) is None


@given(st.lists(st.text(max_size=3), min_size=2, max_size=MOST, unique=True))
def test_each_class_has_one_key_of_its_own(classes: list[str]) -> None:
    found = keys(classes)
    assert found is not None and len(set(found)) == len(classes)
    assert all(len(key) == 1 and key in string.ascii_letters + string.digits for key in found)
