"""YAML within its limits means what it means; beyond them it ends where it passes them."""

from __future__ import annotations

import contextlib
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.config import safe_yaml

TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_dumped_is_read_back(value: object) -> None:
    assert safe_yaml.parsed(yaml.dump(value, Dumper=safe_yaml.Dumper, allow_unicode=True)) == value


def test_aliases_mean_what_they_stand_for() -> None:
    text = "base: &b {x: [1, 2], y: &y 3}\nagain: *b\nlist: [*y, *y, *b]"
    assert safe_yaml.parsed(text) == yaml.safe_load(text)


def test_the_limits_themselves() -> None:
    deep = safe_yaml.MOST_DEEP
    assert safe_yaml.parsed("[" * (deep - 1) + "1" + "]" * (deep - 1)) is not None
    with pytest.raises(ValueError, match=f"more than {deep} levels deep"):
        safe_yaml.parsed("[" * deep + "1" + "]" * deep)
    half = safe_yaml.MOST_VALUES // 2
    listed = f"a: &a [{','.join('1' * (half - 10))}]\n"
    assert safe_yaml.parsed(listed + "b: *a") is not None
    with pytest.raises(ValueError, match=r"more than 10,000 values"):
        safe_yaml.parsed(listed + "b: *a\nc: *a")
    with pytest.raises(ValueError, match="must be at most"):
        safe_yaml.parsed("#" * (safe_yaml.MOST_BYTES + 1))


@pytest.mark.parametrize("text", ["&a [*a]", "a: &a {b: *a}", "&a {? *a : 1}", "*nobody", "!!python/tuple [1]", "\x00"])
def test_what_is_no_data_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        safe_yaml.parsed(text)
    assert "\n" not in str(refused.value)


def test_the_worst_that_is_read_takes_no_time() -> None:
    """Of one processor's time, that other work on the machine does not count."""
    for text in ("".join(f"k{i}: {i}\n" for i in range(4_900)), "a: " + "{a: " * 20_000, "x" * safe_yaml.MOST_BYTES):
        began = time.process_time()
        with contextlib.suppress(ValueError):
            safe_yaml.parsed(text)
        assert time.process_time() - began < 3
