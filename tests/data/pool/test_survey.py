"""Parts and what is kept of them, against all rows in memory, in any order and division."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rambo_ray.data.images import Format
from rambo_ray.data.pool import survey as surveys
from rambo_ray.data.pool.files import PoolFile, PoolFiles
from rambo_ray.data.pool.parts import MARGINS, Parts, features_schema, mark
from rambo_ray.data.pool.survey import Survey, draw, natural, survey
from rambo_ray.errors import UserError

from .test_files import LIKE


def pool_of(*sizes: int) -> PoolFiles:
    files = tuple(PoolFile(Path(f"/nowhere/{i}"), (size,), f"key{i}") for i, size in enumerate(sizes))
    return PoolFiles(files, "image", "id", LIKE[1], Format(like=LIKE))


def digest(content: int) -> bytes:
    return hashlib.blake2b(str(content).encode(), digest_size=16).digest()


def table(
    places: list[tuple[int, int]], contents: list[int], margins: list[float], names: list[str] | None = None,
    errors: list[str | None] | None = None,
) -> pa.Table:  # fmt: skip
    names = [f"p{file}-{row}" for file, row in places] if names is None else names
    digests = [digest(content) for content in contents]
    return pa.table(
        {
            "file": [f"key{file}" for file, _ in places],
            "row": [row for _, row in places],
            "id": names,
            "digest": pa.array(digests, pa.binary(16)),
            "mark": pa.array([mark(*pair) for pair in zip(digests, names, strict=True)], pa.uint64()),
            "error": pa.array(errors or [None] * len(places), pa.string()),
            "unlike": [False] * len(places),
            "margin": pa.array(margins, pa.float32()),
        }
    )


def written(folder: Path, whole: pa.Table, division: list[int], order: np.random.Generator | None = None) -> Parts:
    """The rows of a table as parts that end at these rows, in order or mixed."""
    parts = Parts(folder, MARGINS)
    if order is not None:
        whole = whole.take(pa.array(order.permutation(len(whole))))
    for first, last in zip([0, *division], [*division, len(whole)], strict=True):
        if last > first:
            parts.write(whole.slice(first, last - first))
    return parts


def example(count: int, seed: int = 0) -> tuple[PoolFiles, pa.Table]:
    """Images of two files, some of which are copies, with margins that often are equal."""
    generator = np.random.default_rng(seed)
    contents = generator.integers(0, max(count * 3 // 4, 1), count).tolist()
    levels = generator.integers(0, 6, max(count, 1)) / 8
    places = [(0, i) for i in range(count // 3)] + [(1, i) for i in range(count - count // 3)]
    return pool_of(count // 3, count - count // 3), table(places, contents, [levels[c] for c in contents])


def slowly(pool: PoolFiles, whole: pa.Table, count: int) -> list[tuple[float, bytes, str]]:
    """The candidates by their definition: sorted by margin, content and id, the first of each content."""
    rows = sorted(
        (row["margin"], row["digest"], natural(row["id"])) for row in whole.to_pylist() if row["error"] is None
    )
    kept: dict[bytes, tuple[float, bytes, str]] = {}
    for margin, content, name in rows:
        kept.setdefault(content, (margin, content, name[1]))
    return list(kept.values())[:count]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 30), st.integers(0, 2**32), st.lists(st.integers(0, 60), max_size=4))
def test_candidates_are_the_smallest_margins_whatever_the_parts(
    tmp_path_factory: pytest.TempPathFactory, count: int, candidates: int, seed: int, ends: list[int]
) -> None:
    pool, whole = example(count, seed)
    generator = np.random.default_rng(seed)
    parts = written(tmp_path_factory.mktemp("parts"), whole, sorted(min(end, count) for end in ends), generator)
    found = survey(pool, parts, candidates, {})
    expected = slowly(pool, whole, candidates)
    assert list(
        zip(found.candidates.margins.tolist(), found.candidates.digests, found.candidates.ids, strict=True)
    ) == (expected)
    ids = dict(zip(whole.column("id").to_pylist(), range(count), strict=True))
    assert found.candidates.positions.tolist() == [ids[name] for _, _, name in expected]
    assert found.count == count == found.histogram.sum()
    assert found.copies == count - len(set(whole.column("digest").to_pylist()))


def test_order_division_and_files_change_nothing_but_positions(tmp_path: Path) -> None:
    pool, whole = example(200)
    found = survey(pool, written(tmp_path / "a", whole, []), 40, {})
    again = survey(pool, written(tmp_path / "b", whole, [3, 90, 120], np.random.default_rng(1)), 40, {})
    assert_same(found, again)
    np.testing.assert_array_equal(found.candidates.positions, again.candidates.positions)
    # The same images in one file, the last first.
    names, contents = whole.column("id").to_pylist()[::-1], whole.column("digest").to_pylist()[::-1]
    moved = whole.take(pa.array(np.arange(200)[::-1]))
    moved = moved.set_column(0, "file", pa.array(["key0"] * 200)).set_column(1, "row", pa.array(np.arange(200)))
    assert moved.column("id").to_pylist() == names and moved.column("digest").to_pylist() == contents
    assert_same(found, survey(pool_of(200), written(tmp_path / "c", moved, [50]), 40, {}))


def assert_same(one: Survey, other: Survey) -> None:
    assert one.candidates.ids == other.candidates.ids and one.sample.ids == other.sample.ids
    np.testing.assert_array_equal(one.candidates.margins, other.candidates.margins)
    assert one.fingerprint == other.fingerprint and one.copies == other.copies
    assert one.kept.ids == other.kept.ids
    np.testing.assert_array_equal(one.sampled, other.sampled)


def test_another_image_or_id_has_another_fingerprint(tmp_path: Path) -> None:
    pool, prints = pool_of(2), set()
    for number, (contents, names) in enumerate((([1, 2], ["a", "b"]), ([1, 3], ["a", "b"]), ([1, 2], ["b", "a"]))):
        rows = table([(0, 0), (0, 1)], contents, [0.1, 0.2], names)
        prints.add(survey(pool, written(tmp_path / str(number), rows, []), 2, {}).fingerprint)
    assert len(prints) == 3


def test_a_pass_goes_on_with_the_rows_that_no_part_has(tmp_path: Path) -> None:
    pool, whole = example(30)
    parts = written(tmp_path, whole.slice(0, 12), [5])
    missing = parts.missing(pool)
    assert np.flatnonzero(missing["key0"]).tolist() == []
    assert np.flatnonzero(missing["key1"]).tolist() == list(range(2, 20))
    next(tmp_path.glob("part-*.parquet")).write_bytes(b"cut off")
    assert sum(mask.sum() for mask in parts.missing(pool).values()) > 18


def test_rows_that_two_parts_hold_count_once(tmp_path: Path) -> None:
    pool, whole = example(30)
    parts = written(tmp_path, whole, [10])
    parts.write(whole.slice(5, 10))  # a task that was tried again, in other company
    assert survey(pool, parts, 30, {}).count == 30


def test_parts_of_other_files_do_not_count(tmp_path: Path) -> None:
    pool, whole = example(30)
    parts = written(tmp_path, whole, [])
    parts.write(table([(7, 0)], [999], [0.0]))
    assert survey(pool, parts, 5, {}).count == 30


def test_images_that_cannot_be_read_are_all_counted_and_the_first_named(tmp_path: Path) -> None:
    rows = table(
        [(0, i) for i in range(9)], list(range(9)), [0.5] * 9, errors=[None, *(f"row {i}" for i in range(1, 9))]
    )
    parts = written(tmp_path, rows, [4])
    with pytest.raises(UserError, match=r"8 of its 9 images cannot be used: row 1; row 2; .*and 3 more"):
        survey(pool_of(9), parts, 3, {})
    found = survey(pool_of(9), parts, 3, {}, "skip")
    assert (found.count, found.skipped, found.candidates.ids) == (1, 8, ("p0-0",))


def test_an_image_of_s_0_in_the_pool_is_refused(tmp_path: Path) -> None:
    pool, whole = example(30)
    parts = written(tmp_path, whole, [])
    taken = whole.column("digest")[4].as_py()
    with pytest.raises(UserError, match=r"of its images are also in data.validation \(first: 'p"):
        survey(pool, parts, 5, {taken: "validation"})
    assert survey(pool, parts, 5, {digest(-1): "labeled"}).count == 30


def test_kept_holds_candidates_first_and_the_sample_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surveys, "SAMPLE", 20)
    pool, whole = example(200)
    found = survey(pool, written(tmp_path, whole, [77]), 30, {})
    assert found.kept.ids[:30] == found.candidates.ids
    assert (np.diff(found.kept.margins) >= 0).all()
    assert {found.kept.ids[place] for place in found.sampled} == set(found.sample.ids)
    assert len(set(found.kept.digests)) == len(found.kept)


def test_copies_are_counted_in_several_passes_as_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, whole = example(300)
    parts = written(tmp_path, whole, [100])
    once = survey(pool, parts, 5, {}).copies
    monkeypatch.setattr(surveys, "SORTED_AT_ONCE", 37)
    assert survey(pool, parts, 5, {}).copies == once > 0


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_a_draw_by_content_is_the_same_in_any_order(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder, generator = tmp_path_factory.mktemp("features"), np.random.default_rng(seed)
    pool, whole = example(120)
    values = np.random.default_rng(3).random((200, 4), dtype=np.float32)
    contents = whole.column("digest").to_pylist()
    number = {content: i for i, content in enumerate(dict.fromkeys(contents))}
    rows = values[[number[content] for content in contents]]
    whole = whole.drop_columns(["margin"]).append_column(
        "features", pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), 4)
    )
    parts = Parts(folder, features_schema(4))
    order = generator.permutation(120)
    for first in range(0, 120, 40):
        parts.write(whole.take(pa.array(order[first : first + 40])))
    drawn = draw(pool, parts, 1000, "features")
    np.testing.assert_array_equal(drawn, values[[number[content] for content in sorted(number)]])
    some = draw(pool, parts, 30, "features")
    assert 10 <= len(some) <= 55
    np.testing.assert_array_equal(some, drawn[: len(some)])
