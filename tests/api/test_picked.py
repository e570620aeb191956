"""What a run picked, as tables, as text and as a notebook's page."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from rambo_ray import Picked, UserError
from rambo_ray.config.schema import Config
from rambo_ray.data.images import Images
from rambo_ray.data.vectors import Vectors

B = 30


@pytest.fixture
def picked(tmp_path: Path) -> Picked:
    ids = tuple(f'photos/<{row}> & "co".png' for row in range(B))
    pixels = np.random.default_rng(0).integers(0, 256, (B, 9, 7, 3)).astype(np.uint8)
    return Picked(
        ids=ids,
        indices=np.arange(B)[::-1] * 3,
        steps=np.repeat([0, 1, 2], 10),
        margins=np.linspace(0, 0.5, B, dtype=np.float32),
        scores=np.full(B, np.nan, dtype=np.float32),
        pool_margins=np.zeros(100, dtype=np.float32),
        metrics={"ranking": {"held_out_subsets": 0}, "u_hat_followed": False},
        config=Config(),
        folder=tmp_path,
        items=Images(pixels, ids),
    )


class TestTables:
    def test_the_columns_of_selection_parquet(self, picked: Picked, tmp_path: Path) -> None:
        table = pq.read_table(picked.to_parquet(tmp_path / "a.parquet"))
        assert table.column_names == ["id", "pool_index", "order", "step", "margin", "utility"]
        assert table["id"].to_pylist() == list(picked) and table["order"].to_pylist() == list(range(B))
        np.testing.assert_array_equal(table["pool_index"].to_numpy(), picked.indices)
        read = pyarrow.csv.read_csv(picked.to_csv(str(tmp_path / "a.csv")))
        assert read["id"].to_pylist() == list(picked.ids) and len(read) == len(picked) == B

    def test_a_data_frame(self, picked: Picked, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("pandas")
        frame = picked.to_pandas()
        assert frame["id"].tolist() == list(picked.ids) and frame["utility"].isna().all()
        monkeypatch.setitem(sys.modules, "pandas", None)
        with pytest.raises(UserError, match="pip install pandas, or take to_table"):
            picked.to_pandas()

    def test_nothing_is_written_where_nothing_can_be(self, picked: Picked, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="there is no folder .*no_such; make it"):
            picked.to_csv(tmp_path / "no_such" / "a.csv")
        assert list(tmp_path.iterdir()) == []


class TestShown:
    def test_a_notebook_s_page(self, picked: Picked) -> None:
        page = picked._repr_html_()
        assert page.count("<img ") == page.count("<figure ") == 24 and "30 picked" in page and "and 6 more" in page
        assert (
            "<script" not in page and "photos/<0>" not in page and "photos/&lt;0&gt; &amp; &quot;co&quot;.png" in page
        )

    def test_what_is_large_is_cut_short(self, picked: Picked, monkeypatch: pytest.MonkeyPatch) -> None:
        from rambo_ray.api import grid

        monkeypatch.setattr(grid, "MOST_BYTES", 3000)
        page = grid.page(picked, B)
        assert 0 < page.count("<img ") < 10 and "more; all of them in" in page

    def test_embeddings_have_no_pictures(self, picked: Picked) -> None:
        vectors = Vectors(np.ones((B, 3), dtype=np.float32), picked.ids)
        page = replace(picked, items=vectors)._repr_html_()
        assert "<img" not in page and page.count("<figure ") == 24

    def test_lines_elsewhere(self, picked: Picked, capsys: pytest.CaptureFixture[str]) -> None:
        picked.show(3)
        said = capsys.readouterr().out
        assert said.count("  margin ") == 3 and "and 27 more" in said and str(picked.report) in said
        assert str(picked).count("  margin ") == 5
        assert repr(picked) == f"<30 picked, by the margin filter, in {picked.folder}>"
        assert "Nothing was held out" in said and not picked.followed

    def test_in_a_kernel_it_is_the_page(self, picked: Picked, monkeypatch: pytest.MonkeyPatch) -> None:
        shown: list[Any] = []
        display = pytest.importorskip("IPython.display")
        monkeypatch.setattr("rambo_ray.api.picked._in_notebook", lambda: True)
        monkeypatch.setattr(display, "display", shown.append)
        picked.show(2)
        assert shown[0].data.count("<img ") == 2
