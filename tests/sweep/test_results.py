"""What trials come to: means, paired differences, the sentence, the tables and the page."""

from __future__ import annotations

import csv
import itertools
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.sweep import plots as sweep_plots
from rambo_ray.sweep import report as sweep_report
from rambo_ray.sweep import results as sweep_results
from rambo_ray.sweep.results import TrialRow, summarise

pytestmark = pytest.mark.usefixtures("coarse_figures")

KEY = "utility_model.lambda_ot"
NAN = float("nan")


def row(
    point: int, seed: int, objective: float, status: Literal["finished", "stopped", "failed"] = "finished", **more: Any
) -> TrialRow:
    done = status == "finished"
    value = objective if done else NAN
    fields = {
        "values": {KEY: [0, 0.1, 10.0][point % 3]},
        "simulated_accuracy": value,
        "simulated_gain": value,
        "ranking_accuracy": value,
        "kendall_tau": value,
        "oracle_accuracy": NAN,
        "oracle_test_accuracy": NAN,
        "epochs": 3,
        "seconds": 1.5,
        "error": "ValueError: <b>bad</b>" if status == "failed" else "",
        **more,
    }
    return TrialRow(point=point, seed=seed, status=status, objective=value, **fields)


CLEAR = [row(p, s, [0.5, 0.6, 0.9][p] + 0.1 * s) for p in range(3) for s in range(4)]  # seeds far apart, points steady
NOISY = [row(0, 0, 0.5), row(0, 1, 0.7), row(1, 0, 0.7), row(1, 1, 0.55)]


class TestSummarise:
    def test_mean_and_standard_error(self) -> None:
        first = summarise(CLEAR, [KEY]).points[0]
        assert first.mean["objective"] == pytest.approx(0.65)
        assert first.error["objective"] == pytest.approx(np.std([0.5, 0.6, 0.7, 0.8], ddof=1) / 2)

    def test_differences_are_taken_seed_by_seed(self) -> None:
        summary = summarise(CLEAR, [KEY])
        assert summary.best is not None and summary.best.point == 2
        assert [(d.point, d.wins, d.seeds, d.clear) for d in summary.differences] == [(0, 4, 4, True), (1, 4, 4, True)]
        for d, expected in zip(summary.differences, (0.4, 0.3), strict=True):
            assert (d.mean, d.low, d.high) == pytest.approx((expected,) * 3)
        assert "all exceed the noise" in summary.sentence

    def test_the_interval_is_students(self) -> None:
        (difference,) = summarise(NOISY, [KEY]).differences
        # Differences 0.2 and -0.15: mean 0.025, standard error 0.175, and t = 12.706 with one degree of freedom.
        assert difference.mean == pytest.approx(0.025)
        assert difference.high - 0.025 == pytest.approx(0.025 - difference.low)
        assert difference.high - 0.025 == pytest.approx(12.7062 * 0.175, rel=1e-5)
        assert not difference.clear

    def test_three_seeds_that_agree_in_sign_are_not_enough(self) -> None:
        leads = (0.0065, 0.0266, 0.0272)
        rows = [row(0, s, 0.5) for s in range(3)] + [row(1, s, 0.5 + lead) for s, lead in enumerate(leads)]
        (difference,) = summarise(rows, [KEY]).differences
        assert difference.wins == 3 and difference.low < 0 and not difference.clear

    def test_noise_is_called_noise(self) -> None:
        assert "do not exceed the noise" in summarise(NOISY, [KEY]).sentence

    def test_one_seed_says_nothing_about_noise(self) -> None:
        summary = summarise([row(0, 0, 0.5), row(1, 0, 0.7)], [KEY])
        assert "cannot be said from one seed" in summary.sentence
        assert math.isnan(summary.differences[0].low) and not summary.differences[0].clear

    @given(st.permutations(range(len(CLEAR))))
    def test_the_order_of_the_rows_does_not_matter(self, order: list[int]) -> None:
        assert summarise([CLEAR[i] for i in order], [KEY]).differences == summarise(CLEAR, [KEY]).differences

    def test_a_point_with_failed_seeds_cannot_win(self) -> None:
        rows = [row(0, 0, 0.5), row(0, 1, 0.5), row(1, 0, 0.9), row(1, 1, NAN, "failed"), row(2, 0, NAN, "stopped")]
        summary = summarise(rows, [KEY])
        assert summary.best is not None and summary.best.point == 0
        assert [(p.finished, p.stopped, p.failed) for p in summary.points] == [(2, 0, 0), (1, 0, 1), (0, 1, 0)]
        assert [(d.point, d.seeds) for d in summary.differences] == [(1, 1)]

    def test_nothing_finished(self) -> None:
        summary = summarise([row(0, 0, NAN, "failed")], [KEY])
        assert summary.best is None and "No point of 1 finished" in summary.sentence
        assert "1 failed" in sweep_results.table(summary, [KEY], oracle=False)

    def test_a_single_point_is_compared_with_nothing(self) -> None:
        assert "nothing to compare" in summarise([row(0, 0, 0.5)], [KEY]).sentence


class TestTables:
    def test_round_trip(self, tmp_path: Path) -> None:
        rows = [*CLEAR, row(2, 9, NAN, "failed")]
        sweep_results.write_tables(rows, [KEY], tmp_path, oracle=False)
        table = pq.read_table(tmp_path / "sweep.parquet")
        assert table[KEY].to_pylist() == [r.values[KEY] for r in rows]
        assert table["objective"].to_pylist()[:3] == [0.5, 0.6, 0.7]
        assert table["status"].to_pylist()[-1] == "failed" and "bad" in table["error"].to_pylist()[-1]
        assert set(table["oracle"].to_pylist()) == {False}
        with (tmp_path / "sweep.csv").open() as file:
            assert len(list(csv.DictReader(file))) == len(rows)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["sweep.csv", "sweep.parquet"]

    def test_oracle_is_marked(self, tmp_path: Path) -> None:
        sweep_results.write_tables(CLEAR, [KEY], tmp_path, oracle=True)
        table = pq.read_table(tmp_path / "sweep.parquet")
        assert table.schema.metadata[b"rambo_ray.oracle"] == b"true" and set(table["oracle"].to_pylist()) == {True}

    def test_text_table_marks_the_best_only(self) -> None:
        lines = sweep_results.table(summarise(CLEAR, [KEY]), [KEY], oracle=False).splitlines()
        assert [line.startswith("*") for line in lines] == [False, False, False, True]

    def test_long_tables_keep_the_best(self) -> None:
        rows = [row(p, 0, p / 100, values={KEY: float(p)}) for p in range(30)]
        text = sweep_results.table(summarise(rows, [KEY]), [KEY], oracle=False)
        assert "the 20 best of 30 points" in text and len(text.splitlines()) == 22
        assert "0.2900" in text and "0.0900" not in text


class TestAxis:
    def test_zero_stands_left_of_a_logarithmic_axis(self) -> None:
        on = sweep_plots.axis([1.0, 0, 0.01, 100.0])
        assert on.places[100.0] - on.places[1.0] == pytest.approx(on.places[1.0] - on.places[0.01])
        assert on.places[0] < on.places[0.01]
        assert [name for _, name in on.ticks] == ["0", "0.01", "1", "100"]

    def test_near_values_stand_linearly(self) -> None:
        assert sweep_plots.axis([25, 50, 100]).places == {25: 25.0, 50: 50.0, 100: 100.0}

    def test_names_stand_side_by_side(self) -> None:
        assert sweep_plots.axis(["cg", "unroll", "cg", None]).places == {"cg": 0.0, "unroll": 1.0, None: 2.0}


class TestPage:
    def page(self, rows: list[TrialRow], keys: list[str], banner: str = "") -> tuple[dict[str, bytes], str]:
        summary = summarise(rows, keys)
        plots = sweep_report.pictures(rows, summary, keys)
        return plots, sweep_report.render(rows, summary, keys, plots, "seed: 0", "how it came about", banner)

    def test_holds_every_point_every_plot_and_nothing_from_outside(self) -> None:
        plots, page = self.page([*CLEAR, row(2, 9, NAN, "failed")], [KEY])
        assert list(plots) == [f"by_{KEY}"] and plots[f"by_{KEY}"].startswith(b"\x89PNG")
        assert page.count("<tr") == 1 + 3 + 1 + 1 and page.count("data:image/png") == 1
        assert "how it came about" in page and "http://" not in page and "https://" not in page
        assert "&lt;b&gt;bad&lt;/b&gt;" in page and "<b>bad" not in page

    def test_the_oracle_is_on_top(self) -> None:
        _, page = self.page(CLEAR, [KEY], banner="ORACLE: labels of the pool")
        assert page.index("ORACLE: labels") < page.index("<h1>") and "<title>ORACLE" in page
        assert "ORACLE" not in self.page(CLEAR, [KEY])[1]

    def test_two_keys_on_a_grid_are_a_heat_map_and_three_are_lines(self) -> None:
        keys = ["a", "b", "c"]
        grid = list(itertools.product([1, 2, 3], [0.1, 10.0]))
        two = [row(i, 0, 0.1 * i, values=dict(zip("ab", v, strict=True))) for i, v in enumerate(grid)]
        assert list(self.page(two, keys[:2])[0]) == ["by_a", "by_b", "heat_map"]
        three = [row(i, 0, 0.1 * i, values={**dict(zip("ab", v, strict=True)), "c": "x"}) for i, v in enumerate(grid)]
        assert list(self.page(three, keys)[0]) == ["by_a", "by_b", "by_c", "parallel_coordinates"]
        drawn = [row(i, 0, 0.1 * i, values={"a": i, "b": i * i}) for i in range(6)]
        assert list(self.page(drawn, keys[:2])[0]) == ["by_a", "by_b", "parallel_coordinates"]

    def test_without_a_finished_trial_there_is_a_page_and_no_plot(self) -> None:
        plots, page = self.page([row(0, 0, NAN, "failed")], [KEY])
        assert plots == {} and "no trial finished" in page
