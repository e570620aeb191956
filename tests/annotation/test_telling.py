"""Which ids say the class of their image, and what stands under the images then."""

from __future__ import annotations

import pytest

from rambo_ray.annotation.telling import captions, telling

CLASSES = ("cat", "Polar bear", "3", "B", "été")


@pytest.mark.parametrize(
    "one",
    ["cat/003.png", "train/CAT/1.png", "black_cat-3.jpg", "cat003.png", "polar-bear/1.png", "a/Polar bear 7.jpg",
     "polar_bear.png", "3/0001.png", "B/x.png", "b\\\\x.png", "\u00c9T\u00c9/1.png"],
)  # fmt: skip
def test_a_name_between_other_signs_says_it(one: str) -> None:
    assert telling([one], CLASSES) == [one]


@pytest.mark.parametrize(
    "one",
    ["category/1.png", "concat.png", "0003.png", "3.png", "17", "a1b2c3.png", "bear/polar.png", "b.png", "x/b_1.png"],
)
def test_what_is_met_by_chance_says_nothing(one: str) -> None:
    assert telling([one], CLASSES) == []


def test_all_ids_are_seen_or_none() -> None:
    ids = ["x/1.png", "cat/2.png", "x/3.png"]
    assert captions(ids, CLASSES, "auto") == captions(ids, CLASSES, "hide") == ["image 1", "image 2", "image 3"]
    assert captions(ids, CLASSES, "show") == ids
    assert captions(ids[:1], CLASSES, "auto") == ids[:1] and captions(ids[:1], CLASSES, "hide") == ["image 1"]
