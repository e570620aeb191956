"""The report's page: what it says, what it survives, and that it keeps to itself."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest

from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data.images import Images
from rambo_ray.data.problem import NONE
from rambo_ray.report import gallery, plots
from rambo_ray.report.content import ReportContent
from rambo_ray.report.page import key_figures, outcome, render
from rambo_ray.utility_model.ranking import HeldOut

from .made_content import Page, make_content, make_history, make_problem, make_selection, page, with_metrics

pytestmark = pytest.mark.usefixtures("coarse_figures")

NAN = float("nan")
MAX_BYTES = 3_000_000
HOSTILE = '<script>alert("1")</script>'


@pytest.fixture(scope="module")
def content() -> ReportContent:
    return make_content()


@pytest.fixture(scope="module")
def whole(content: ReportContent) -> Page:
    with pytest.MonkeyPatch.context() as patch:
        with_fine_figures(patch)
        return page(content)


def with_fine_figures(patch: pytest.MonkeyPatch) -> None:
    """Figures of the size that users get, for what is said of the bytes of a page."""
    patch.setattr(plots, "DPI", round(plots.SIZE_PIXELS[0] / plots.SIZE_INCHES[0]))


class TestPage:
    def test_outcome_and_figures(self, whole: Page) -> None:
        text = whole.text
        assert "100 images to annotate" in text
        assert "RAMBO picked 100 of the pool's 2,000 images" in text
        assert "0.774 → 0.810" in text
        assert "0.781 → 0.823" in text
        assert "+3.6 points" in text
        assert "71\u00a0%better than chance, which is 34 to 66\u00a0%" in "".join(text.split("\n"))

    def test_a_change_within_chance_is_called_so(self, content: ReportContent) -> None:
        close = {"validation": 0.79, "test": None}
        text = outcome(with_metrics(content, accuracy_before=close, accuracy_after={"validation": 0.80}))
        assert text.endswith(
            "validation images goes from 0.790 to 0.800, which 1,000 images cannot tell from no change."
        )
        assert "cannot tell" not in outcome(content)

    def test_picked_images_come_in_order(self, content: ReportContent, whole: Page) -> None:
        assert content.revealed is not None
        text = whole.text
        expected = ""
        for i in range(60):
            index = content.selection.pool_index[i]
            name = content.problem.class_names[content.revealed.pool_labels[index]]
            expected += f"{name}{content.problem.pool.ids[index]}margin {content.selection.margin[i]:.3f}\n"
        assert expected in text
        assert "The first 60 of 100, in the order picked; the other 40 are in selection.parquet" in text

    def test_small_images_are_drawn_by_whole_pixels(self, whole: Page) -> None:
        # The gallery's, nine pairs, and what was left out.
        assert len(whole.all("img", width="96", height="96")) == 60 + 2 * 9 + 24

    def test_every_plot_is_there(self, whole: Page) -> None:
        assert len(whole.all("figure")) == 7
        assert len(whole.all("img", width=str(plots.SIZE_PIXELS[0]))) == 7
        assert "Nothing to show" not in whole.text

    def test_same_content_gives_the_same_page(self, content: ReportContent) -> None:
        assert render(content) == render(make_content())

    def test_settings_that_differ_from_the_defaults_stand_out(self, content: ReportContent, whole: Page) -> None:
        changed = loading.differences(content.config, Config.model_validate({}))
        assert {"method", "acquisition.budget", "acquisition.batch_size", "output.report_images"} <= set(changed)
        assert len(whole.all("tr", **{"class": "changed"})) == len(changed)
        assert "acquisition.budget" in whole.text

    def test_forbids_what_it_does_not_need(self, whole: Page) -> None:
        policy = whole.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"] or ""
        assert policy.startswith("default-src 'none'") and "'unsafe-inline'" not in policy.partition("script-src")[2]


class TestStrings:
    def test_ids_classes_and_settings_are_inert(self) -> None:
        prefix = f'{HOSTILE}"><img src=x onerror=alert(2)>'
        content = make_content(prefix=prefix, names=(HOSTILE, "$x_{", "&amp;"))
        content = replace(content, manifest={HOSTILE: HOSTILE})
        content = with_metrics(content, cluster=HOSTILE, seconds={HOSTILE: 1.0})
        found = page(content)
        assert HOSTILE in found.text
        assert "&amp;" in found.text

    def test_long_names_keep_their_ends(self) -> None:
        content = make_content(prefix="folder/" * 400, names=("a" * 5000, "b" * 5000))
        found = page(replace(content, manifest={"classes": ["a" * 90_000]}))
        assert re.search(r"folder/fo…older/folder/\d{5}margin", found.text)
        assert "a" * 1000 not in found.text

    def test_other_scripts(self) -> None:
        assert "猫" in page(make_content(names=("猫", "собака"))).text


class TestSurvives:
    def test_unknown_labels(self, content: ReportContent) -> None:
        collect = content.metrics["collect"] | {"quarantined": [{"sample_id": "a"}, {"sample_id": "b"}]}
        own = with_metrics(replace(content, revealed=None), accuracy_after=None, collect=collect)
        found = page(own)
        assert "2 sets that killed every worker" in found.text
        assert (
            "û puts 71\u00a0% of pairs in the right order (chance: 34 to 66\u00a0%); the subset it ranks" in found.text
        )
        assert "Classes of the picked images" not in found.text
        assert "before annotation" in found.text

    def test_numbers_that_are_missing(self, content: ReportContent) -> None:
        ranking = {"held_out_pairwise_accuracy": NAN, "held_out_kendall_tau": None, "held_out_subsets": 20}
        unknown = with_metrics(
            content,
            accuracy_before={"validation": NAN, "test": None},
            accuracy_after={"validation": 0.8, "test": NAN},
            ranking=ranking,
            seconds={"u_hat": NAN, "acquisition": None},
            collect={"busy_fraction": NAN, "passes_per_second": None},
        )
        selection = replace(content.selection, margin=np.full_like(content.selection.margin, NAN))
        history = [dict.fromkeys(row, NAN) | {"iteration": row["iteration"]} for row in content.history]
        held_out = replace(content.held_out, scores=np.full_like(content.held_out.scores, NAN))
        samples = [replace(s, utility=NAN, measurement=None) for s in content.samples]
        unknown = replace(
            unknown,
            selection=selection,
            margins=np.full_like(content.margins, NAN),
            history=history,
            held_out=held_out,
            samples=samples,
        )
        found = page(unknown)
        assert found.text.count("Nothing to show") == 6
        assert "no two held-out subsets can be compared" in found.text

    def test_nothing_held_out_and_nothing_fitted(self, content: ReportContent) -> None:
        empty = replace(content, held_out=HeldOut(np.zeros(0), np.zeros(0), (), ()), history=(), samples=())
        ranking = {"held_out_pairwise_accuracy": NAN, "held_out_kendall_tau": NAN, "held_out_subsets": 0}
        found = page(with_metrics(empty, ranking=ranking, seconds={}))
        assert found.text.count("Nothing to show") == 5
        assert "fewer than two subsets were held out" in found.text

    def test_one_image(self) -> None:
        found = page(make_content(budget=1, batch_size=1))
        assert "1 image to annotate" in found.text
        assert "picked in one step" in found.text

    def test_one_candidate_and_one_epoch(self, content: ReportContent) -> None:
        selection = make_selection(content.margins, 20, 20, per_step=1)
        page(replace(content, selection=selection, history=content.history[:1], samples=content.samples[:1]))

    def test_a_short_last_step(self) -> None:
        page(make_content(budget=50, batch_size=20))

    def test_hundreds_of_steps(self) -> None:
        content = make_content(budget=600, batch_size=1, num_pool=1300)
        page(replace(content, history=make_history(100, 2)))

    def test_whole_pool_is_candidate(self) -> None:
        page(make_content(num_pool=300, budget=300, batch_size=30))

    def test_no_pictures_asked_for(self) -> None:
        assert "The picked images" not in page(make_content(report_images=0)).text

    @pytest.mark.parametrize("shape", [(28, 28, 1), (64, 40, 3), (1, 1, 1), (80, 500, 1), (90, 70, 3)])
    def test_shapes(self, shape: tuple[int, int, int]) -> None:
        content = make_content(shape=shape, num_pool=60, budget=20, batch_size=20, report_images=20)
        tiles = list(gallery.tiles(content.selection, content.problem, content.revealed, 20))
        assert len(tiles) == 20
        assert tiles[0].smooth == (max(shape) > gallery.PHOTO)
        assert abs(tiles[0].width / tiles[0].height - shape[1] / shape[0]) < 0.1 * shape[1] / shape[0]
        page(content)

    def test_more_pictures_than_fit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with_fine_figures(monkeypatch)
        content = make_content(num_pool=400, budget=400, batch_size=400, report_images=400)
        noise = np.random.default_rng(0).integers(0, 256, (400, 64, 64, 3), dtype=np.uint8)
        problem, _ = make_problem(400, (64, 64, 3), content.problem.class_names)
        noisy = replace(problem, pool=Images(noise, problem.pool.ids))
        found = page(replace(content, problem=noisy))
        shown = sum(", number " in (item.get("title") or "") for item in found.all("li"))
        assert 50 < shown < 400
        assert f"The first {shown} of 400" in found.text

    def test_many_classes(self) -> None:
        names = tuple(f"class {i}" for i in range(1000))
        found = page(make_content(names=names))
        assert f"{1000 - gallery.MOST_CLASSES} other classes" in found.text


class TestClassBars:
    def test_counts_and_expectation(self, content: ReportContent) -> None:
        assert content.revealed is not None
        bars = gallery.class_bars(content.selection, content.problem, content.revealed)
        labels = content.revealed.pool_labels
        counts = np.bincount(labels[content.selection.pool_index], minlength=3)
        assert [bar.value for bar in bars] == [str(count) for count in counts]
        expected = np.bincount(labels) / len(labels) * 100
        longest = max(counts.max(), expected.max())
        assert [bar.mark for bar in bars] == pytest.approx(100 * expected / longest, abs=0.01)

    def test_images_of_no_class(self, content: ReportContent) -> None:
        assert content.revealed is not None
        labels = content.revealed.pool_labels.copy()
        labels[content.selection.pool_index[:7]] = NONE
        revealed = replace(content.revealed, pool_labels=labels)
        bars = gallery.class_bars(content.selection, content.problem, revealed)
        assert (len(bars), bars[-1].name, bars[-1].value) == (4, gallery.NO_CLASS, "7")
        tiles = list(gallery.tiles(content.selection, content.problem, revealed, 8))
        assert [tile.class_name == gallery.NO_CLASS for tile in tiles] == [True] * 7 + [False]


class TestPlots:
    def test_thinning_keeps_the_ends(self) -> None:
        values = np.sort(np.random.default_rng(0).normal(size=1001))
        thin = plots.thinned(values, 7)
        assert len(thin) == 7
        assert (thin[0], thin[-1]) == (values[0], values[-1])
        assert plots.thinned(values, 2000) is values

    def test_are_as_large_as_the_page_says(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with_fine_figures(monkeypatch)
        with PIL.Image.open(io.BytesIO(plots.png(plots.blank(plots.SIZE_INCHES)))) as picture:
            assert picture.size == plots.SIZE_PIXELS

    def test_leave_no_trace(self, content: ReportContent) -> None:
        import matplotlib

        before = dict(matplotlib.rcParams)
        render(content)
        assert dict(matplotlib.rcParams) == before


class TestAnotherStrategy:
    """A run whose images another strategy picked: the same page without what concerns u_hat."""

    @pytest.fixture(scope="class")
    def other(self, content: ReportContent) -> ReportContent:
        known = ("accuracy_before", "accuracy_after", "sizes", "seconds", "cluster")
        metrics = {"strategy": "badge", **{key: content.metrics[key] for key in known}}
        metrics["sizes"] = {k: v for k, v in metrics["sizes"].items() if k != "num_pairs"}
        metrics["seconds"] = {k: v for k, v in metrics["seconds"].items() if k not in ("u_hat", "utility samples")}
        selection = replace(content.selection, step_scores=(), utility=np.full_like(content.selection.utility, np.nan))
        return replace(content, metrics=metrics, selection=selection, samples=(), history=(), held_out=None)

    def test_says_who_picked_and_shows_what_was_picked(self, other: ReportContent) -> None:
        found, html = page(other), render(other)
        assert outcome(other).startswith("badge picked 100 of the pool's 2,000 images")
        for name in ("images", "classes", "map", "near", "table", "next", "how", "run"):
            assert f'id="{name}"' in html and f'href="#{name}"' in html
        assert "By badge, from what f" in found.text and len(found.all("tr")) > 100
        assert "by badge" in key_figures(other)[0].reading

    def test_says_nothing_of_u_hat(self, other: ReportContent) -> None:
        html = render(other)
        shown = html[html.index("<header>") : html.index("To repeat this run")]  # the settings are all there
        assert "trust" not in shown and "utility</th>" not in shown and "The first step" not in shown
        assert "û" not in shown.replace("No û was fitted in this run.", "")
        names = [figure.name for figure in key_figures(other)]
        assert names == ["Images to annotate", "Test accuracy", "Validation accuracy"]
        assert "steered" not in key_figures(other)[2].reading
        glister = with_metrics(other, strategy="glister")
        assert "by which the choice was steered" in key_figures(glister)[2].reading
