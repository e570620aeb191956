"""Which ids and classes are kept, byte for byte, and which are refused."""

from __future__ import annotations

import csv
import html
import io
import json
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.data import names
from rambo_ray.errors import UserError, one_line, plain
from rambo_ray.files import write_table


def is_kept(name: str) -> bool:
    try:
        names.check([name], "data.pool")
    except UserError:
        return False
    return True


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=30))
def test_text_is_kept_by_every_form(name: str) -> None:
    assert is_kept(name)
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([name, "x"])
    assert next(csv.reader(io.StringIO(out.getvalue(), newline=""))) == [name, "x"]
    assert pa.array([name], pa.string()).to_pylist() == [name]
    assert json.loads(json.dumps(name, ensure_ascii=False)) == name and html.unescape(html.escape(name)) == name
    assert len(f"{name}\n".splitlines()) == 1


@given(st.text(max_size=10), st.characters(categories=["Cc", "Cs", "Zl", "Zp"]), st.text(max_size=10))
def test_what_ends_a_line_or_is_no_text_is_refused_in_a_line(before: str, letter: str, after: str) -> None:
    with pytest.raises(UserError) as refused:
        names.check(["good.png", before + letter + after], "data.pool")
    line = one_line(refused.value)
    assert line.startswith("data.pool: 1 of 2 ids cannot be kept (the first: '") and len(line.splitlines()) == 1


def test_the_length_of_a_path() -> None:
    assert is_kept("a" * names.LONGEST) and not is_kept("a" * (names.LONGEST + 1))
    names.check([], "data.pool")


def test_two_unicode_forms_stay_two(tmp_path: Path) -> None:
    ids = [unicodedata.normalize(form, "\u00e9.png") for form in ("NFC", "NFD")]
    names.check(ids, "data.pool")
    write_table(pa.table({"id": ids}), tmp_path / "selection.parquet")
    assert pq.read_table(tmp_path / "selection.parquet")["id"].to_pylist() == ids and ids[0] != ids[1]


def test_bytes_are_shown_as_they_are_and_endless_text_is_cut() -> None:
    assert plain("a\udcff\n\x1b[31m\u2028\ud800\u4e2d") == r"a\xff\n\x1b[31m\u2028\ud800" + "\u4e2d"
    assert len(one_line("x" * 10**6)) < 2100 and one_line("short") == "short"
