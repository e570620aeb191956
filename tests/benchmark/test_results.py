"""What runs come to: tables and headlines in numbers worked out by hand, plots and pages that show them."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rambo_ray.benchmark import plots as benchmark_plots
from rambo_ray.benchmark import report as benchmark_report
from rambo_ray.benchmark import results as benchmark_results
from rambo_ray.benchmark.experiment import Along, Experiment, Method, Panel
from rambo_ray.benchmark.results import Results, gather
from rambo_ray.benchmark.runs import BenchmarkRun, Failure
from rambo_ray.config import loading
from rambo_ray.config.schema import Config

pytestmark = pytest.mark.usefixtures("coarse_figures")

NAN = math.nan
CONTROL = "margin_m_random"
NAMES = ("random", CONTROL, "rambo")


def run(method: str, budget: int, seed: int, accuracy: float, test: float = NAN) -> BenchmarkRun:
    fits = method.startswith("rambo")
    return BenchmarkRun(
        f"{method} {budget} {seed}", "digits", method, budget, seed, accuracy, test, 0.1, 0.1,
        0.625 if fits else NAN, 0.25 if fits else NAN, 2.5, 1.5 if fits else 0.0, 60.0 if fits else 0.0, 4.0, 9,
    )  # fmt: skip


def experiment(
    budgets: tuple[int, ...] = (10, 20), seeds: tuple[int, ...] = (0, 1), panels: int = 1, **keys: object
) -> Experiment:
    made = tuple(
        Panel(
            f"panel {i}",
            loading.with_values(Config(), {"data.num_labeled": 100 * (i + 1)}),
            "redrawn",
            {20: {"rambo": (83.1, 0.1)}} if i == 0 else {},
            {"offline": 50},
            seeds,
        )
        for i in range(panels)
    )
    methods = tuple(Method(name, name, {}) for name in NAMES)
    given = Experiment("own", "A title", "a <note>", made, methods, budgets, seeds, CONTROL, None)
    return replace(given, **keys)  # type: ignore[arg-type]


def results(of: Experiment, worth: dict[str, float], skip: tuple[tuple[str, int, int], ...] = ()) -> Results:
    """Every run at worth + seed / 100 + budget / 1000, the test accuracy 0.01 below; `skip` are not finished."""
    ids, finished = {}, {}
    for panel in of.panels:
        for method in of.methods:
            for budget in of.budgets:
                for seed in of.seeds:
                    value = worth[method.name] + seed / 100 + budget / 1000
                    made = run(method.name, budget, seed, value, value - 0.01)
                    ids[panel.name, method.name, budget, seed] = made.run_id
                    if (method.name, budget, seed) not in skip:
                        finished[made.run_id] = made
    return gather(of, ids, finished)


WORTH = {"random": 0.5, CONTROL: 0.6, "rambo": 0.63}


def test_differences_are_paired_and_averaged_over_budgets() -> None:
    found = results(experiment(), WORTH)
    panel = found.experiment.panels[0]
    assert found.over_budgets(panel, "rambo", "accuracy") == pytest.approx({0: 0.645, 1: 0.655})
    d = found.lead(panel, "rambo", CONTROL, "accuracy")
    # The same at every seed: the spread of seeds, a point, cancels.
    assert d.mean == pytest.approx(0.03) and d.low == pytest.approx(0.03) and (d.wins, d.seeds) == (2, 2)


def test_a_seed_that_misses_a_budget_does_not_count() -> None:
    found = results(experiment(), WORTH, skip=(("rambo", 20, 1),))
    panel = found.experiment.panels[0]
    assert set(found.over_budgets(panel, "rambo", "accuracy")) == {0}
    assert found.values(panel, "rambo", 20, "accuracy") == pytest.approx({0: 0.65})


def test_the_table() -> None:
    found = results(experiment(), WORTH)
    panel = found.experiment.panels[0]
    head, rows = benchmark_results.header(found, panel, "accuracy"), benchmark_results.table(found, panel, "accuracy")
    assert head == [
        "method", "B=10", "B=20", "paper, B=20", "- random", "95 % t", "95 % bootstrap", "ahead",
        f"- {CONTROL}", "95 % t", "95 % bootstrap", "ahead", "seeds",
    ]  # fmt: skip
    assert rows[0] == [
        "random", "51.5 ± 0.5", "52.5 ± 0.5", "", "", "", "", "", "-10.00", "-10.00 to -10.00", "-10.00 to -10.00",
        "0/2", "2",
    ]  # fmt: skip
    assert rows[2][:5] == ["rambo", "64.5 ± 0.5", "65.5 ± 0.5", "83.1 ± 0.1", "+13.00"]
    assert rows[2][8:] == ["+3.00", "+3.00 to +3.00", "+3.00 to +3.00", "2/2", "2"]
    # The paper's figures are accuracies on S_val: they do not stand beside those on test.
    assert "paper, B=20" not in benchmark_results.header(found, panel, "test_accuracy")
    assert benchmark_results.table(found, panel, "test_accuracy")[2][1] == "63.5 ± 0.5"


def test_the_headline_says_whether_it_exceeds_the_noise() -> None:
    (clear,) = benchmark_results.headline(results(experiment(), WORTH))
    assert clear.startswith(f"panel 0: rambo on test against {CONTROL} +3.00 points")
    assert clear.count("ahead in 2 of 2 seeds: beyond the noise over seeds") == 2 and "against random +13.00" in clear
    noisy = results(experiment(), WORTH)
    worse = {
        key: replace(c, test_accuracy=c.test_accuracy - 0.05) if key[1] == "rambo" and key[3] == 1 else c
        for key, c in noisy.runs.items()
    }
    (sentence,) = benchmark_results.headline(Results(noisy.experiment, worse))
    assert "ahead in 1 of 2 seeds: within the noise over seeds" in sentence
    (single,) = benchmark_results.headline(results(experiment(seeds=(0,)), WORTH))
    assert "one seed says nothing about noise" in single
    assert benchmark_results.headline(results(experiment(), WORTH, skip=_all())) == []


def test_standing_sorts_the_others_by_the_lead_and_its_noise() -> None:
    found = results(experiment(), {"random": 0.5, CONTROL: 0.66, "rambo": 0.63})
    panel = found.experiment.panels[0]
    assert benchmark_results.standing(found, panel, "test_accuracy") == [
        "rambo on test, paired by seed, 95 % each: beyond the noise ahead of random (+13.00); "
        f"beyond the noise behind {CONTROL} (-3.00)."
    ]
    noisy = {
        key: replace(c, accuracy=c.accuracy - 0.05) if key[1] == "random" and key[3] == 1 else c
        for key, c in found.runs.items()
    }
    (sentence,) = benchmark_results.standing(Results(found.experiment, noisy), panel, "accuracy")
    assert sentence.startswith("rambo on S_val") and "within the noise of random (+15.50); beyond" in sentence
    assert benchmark_results.remarks(found, panel)[2:] == benchmark_results.rankings(found, panel)


def test_one_seed_or_no_other_method_has_no_standing() -> None:
    alone = experiment(seeds=(0,))
    assert benchmark_results.standing(results(alone, WORTH), alone.panels[0], "accuracy") == []
    single = experiment(methods=(Method("rambo", "rambo", {}),))
    assert benchmark_results.standing(results(single, WORTH), single.panels[0], "accuracy") == []


def _all() -> tuple[tuple[str, int, int], ...]:
    return tuple((name, budget, seed) for name in NAMES for budget in (10, 20) for seed in (0, 1))


def test_times_and_rankings() -> None:
    found = results(experiment(), WORTH)
    panel = found.experiment.panels[0]
    assert benchmark_results.times(found, panel) == [
        ["random", "", "2.5", "", "4.0"], [CONTROL, "", "2.5", "", "4.0"], ["rambo", "60", "2.5", "1.5", "4.0"]
    ]  # fmt: skip
    (sentence,) = benchmark_results.rankings(found, panel)
    assert sentence == (
        "rambo puts 0.62 ± 0.00 of held-out pairs of subsets in the right order (chance 0.50), "
        "Kendall tau +0.25 ± 0.00."
    )


def test_files_hold_a_row_per_finished_run(tmp_path: Path) -> None:
    found = results(experiment(panels=2), WORTH, skip=(("rambo", 20, 1),))
    benchmark_results.write_runs(found, tmp_path)
    rows = pq.read_table(tmp_path / "cells.parquet").to_pylist()
    assert len(rows) == 2 * (12 - 1) and {r["panel"] for r in rows} == {"panel 0", "panel 1"}
    assert rows[0]["method"] == "random" and rows[0]["accuracy"] == pytest.approx(0.51)
    with open(tmp_path / "cells.csv") as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cells.csv", "cells.parquet"]


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.images, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attributes)["src"])

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_shows_everything_and_loads_nothing() -> None:
    made = experiment(panels=2, along=Along(key="data.num_labeled", label="k"))
    found = results(made, WORTH, skip=(("rambo", 20, 1),))
    plots = benchmark_report.pictures(found)
    assert set(plots) == {
        f"{group}_{kind}" for group in ("panel_0", "panel_1") for kind in ("test", "val", "test_leads", "val_leads")
    } | {"along_test", "along_val"}  # fmt: skip
    assert all(png.startswith(b"\x89PNG") for png in plots.values())
    text = benchmark_report.render(found, plots, [Failure("panel 1, rambo, B=20", "<boom>")], 2, "python jobs/x")
    page = _Page(text)
    assert len(page.images) == 10 and all(str(src).startswith("data:image/png") for src in page.images)
    said = ("A title", "a <note>", "<boom>", "22 runs are finished, 2 are not", "1 of them failed", "python jobs/x")
    for part in said:
        assert part in page.text, part
    assert "<boom>" not in text and "oracle" not in page.text


def test_one_budget_makes_rows_instead_of_curves() -> None:
    found = results(experiment(budgets=(20,)), WORTH)
    panel = found.experiment.panels[0]
    assert benchmark_plots.curves(found, panel, "accuracy") == benchmark_plots.bars(found, panel, "accuracy")
    assert benchmark_plots.curves(found, panel, "accuracy") != benchmark_plots.curves(found, panel, "test_accuracy")


def test_nothing_finished_makes_a_page_without_plots() -> None:
    found = results(experiment(), WORTH, skip=_all())
    assert benchmark_report.pictures(found) == {} and found.metrics() == []
    assert "No run is finished." in benchmark_report.render(found, {}, [], 12, "x")
    assert benchmark_report.markdown(found, "x").startswith("# A title")


def test_markdown_tables_have_as_many_cells_in_every_row() -> None:
    found = results(experiment(), WORTH)
    tables = [line for line in benchmark_report.markdown(found, "x").splitlines() if line.startswith("|")]
    assert len(tables) == 5 + 5 + 5
    assert {line.count("|") for line in tables[:5]} == {13} and "| rambo | 63.5 ± 0.5 |" in "\n".join(tables)


def test_without_a_test_split_there_is_only_s_val() -> None:
    found = results(experiment(), WORTH)
    runs = {key: replace(c, test_accuracy=NAN) for key, c in found.runs.items()}
    bare = Results(found.experiment, runs)
    assert bare.metrics() == ["accuracy"] and "on S_val" in benchmark_results.headline(bare)[0]
