"""Whose image is it: ids, copies and paths, and that nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.annotation.names import Names, copy_stem
from rambo_ray.errors import UserError

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
paths = st.lists(st.text("ab7", min_size=1, max_size=3), min_size=1, max_size=3).map(lambda p: "/".join(p) + ".png")


@given(st.lists(names, unique=True, min_size=1, max_size=8), st.sampled_from(["", ".png", ".JPG"]))
def test_ids_and_copies_are_found_whatever_they_are_called(ids: list[str], suffix: str) -> None:
    known = Names(ids)
    assert known.found(ids) == ids
    copies = [copy_stem(i, name) + suffix for i, name in enumerate(ids)]
    assert len(set(copies)) == len(ids) and all(len(copy) < 100 and "/" not in copy for copy in copies)
    assert known.found(copies) == ids
    assert known.found([f"/data/upload/3/0f1e2d3c-{copy}" for copy in copies]) == ids
    assert known.found([f"https://x.org/a%20b/{copy}?v=1" for copy in copies]) == ids


@given(
    st.lists(paths, unique=True, min_size=1, max_size=6),
    st.lists(paths, max_size=4),
    st.sampled_from(["/home/me/p/", "s3://b/p/"]),
)
def test_what_stands_before_an_id_is_the_same_for_all(ids: list[str], others: list[str], before: str) -> None:
    """A path is its own id's or nobody's, with other images of the pool in the file, too."""
    given_names = [before + name for name in [*ids, *others]]
    expected = [name if name in ids else None for name in [*ids, *others]]
    try:
        assert Names(ids).found(given_names) == expected
    except UserError as error:  # as many of the file end with an id when read otherwise
        assert "ways" in str(error)


@pytest.mark.parametrize(
    "name",
    [
        "/data/local-files/?d=photos/pool/cat/7%20a.png",
        "/data/local-files/?d=photos/pool/cat/7 a.png",
        "https://example.org/pool/cat/7%20a.png",
        "s3://bucket/pool/cat/7%20a.png?X-Sign=1",
        "C:\\photos\\cat\\7 a.png",
        "pool/cat/7 a.png",
        "/data/upload/1/cat/0a1b2c3d-7 a.png",
    ],
)
def test_addresses_end_with_an_id(name: str) -> None:
    assert Names(["cat/7 a.png", "b.png"]).found([name]) == ["cat/7 a.png"]


def test_an_image_of_the_pool_that_nobody_asked_for_is_not_taken_for_one() -> None:
    known = Names(["7.png", "cat/8.png"])
    assert known.found(["/p/7.png", "/p/cat/8.png", "/p/cat/7.png"]) == ["7.png", "cat/8.png", None]
    assert known.found(["00000-7-0123456789.png", "17", "7", ""]) == [None] * 4


def test_two_ways_to_read_are_refused() -> None:
    with pytest.raises(UserError, match="2 ways"):
        Names(["b/7.png", "7.png"]).found(["/a/b/7.png"])
