"""What the page says of the choice as a whole: its classes, pairs that are close, the map, what was left out."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.cli.commands import COMMANDS
from rambo_ray.data.images import Images
from rambo_ray.data.vectors import LabeledVectors, Vectors
from rambo_ray.report import balance, listing, near_copies, next_steps, pool_map
from rambo_ray.report.content import ReportContent
from rambo_ray.report.words import things, worded
from rambo_ray.utility_model.evidence import ComparedEvidence

from .made_content import HOSTILE, make_content, page
from .made_rounds import make_rounds_content

pytestmark = pytest.mark.usefixtures("coarse_figures")


@pytest.fixture(scope="module")
def content() -> ReportContent:
    return make_content()


def of_vectors(content: ReportContent) -> ReportContent:
    """The same with embeddings in place of pictures."""
    problem = content.problem

    def vectors(count: int, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).normal(0, 1, (count, 12)).astype(np.float32)

    labeled, validation = (
        LabeledVectors(vectors(len(part), seed), part.ids, part.labels)
        for seed, part in enumerate((problem.labeled, problem.validation))
    )
    pool = Vectors(vectors(len(problem.pool), 2), problem.pool.ids)
    config = content.config.model_copy(
        update={"classifier": content.config.classifier.model_copy(update={"name": "linear"})}
    )
    made = replace(problem, labeled=labeled, validation=validation, pool=pool, mean=(), std=())
    return replace(content, problem=made, config=config, metrics={**content.metrics, "content": "embeddings"})


class TestBalance:
    def test_by_the_second_opinions(self) -> None:
        content = make_rounds_content()
        picked, filtered, pool = (
            [0.5, 0.3, 0.2, 1, 2, 3, 0.4],
            [0.4, 0.4, 0.2, 1, 2, 3, 0.3],
            [0.3, 0.3, 0.4, 1, 2, 3, 0.1],
        )
        compared = ComparedEvidence(*map(np.array, (picked, filtered, pool)))
        found = balance.shares(replace(content, compared=compared))
        assert found is not None and found.errs == (0.4, 0.3, 0.1)
        rows = balance.rows(found)
        labels = content.problem.labeled.labels
        assert [row.bar.name for row in rows] == [*content.problem.class_names, "f errs"]
        assert [row.bar.value for row in rows] == ["50.0 %", "30.0 %", "20.0 %", "40.0 %"]
        assert [row.bar.second for row in rows] == ["30.0 %", "30.0 %", "40.0 %", "10.0 %"]
        assert [row.filtered for row in rows] == ["40.0 %", "40.0 %", "20.0 %", "30.0 %"]
        assert [row.labeled for row in rows[:3]] == [f"{100 * (labels == c).mean():.1f} %" for c in range(3)]
        assert (rows[0].bar.length, rows[0].bar.mark, rows[-1].labeled) == (100.0, 60.0, "")
        assert balance.sentence(found) == (
            "Compared with the pool there are more of boot (50.0 % instead of 30.0 %); "
            "fewer of dress (20.0 % instead of 40.0 %)."
        )

    def test_by_f_where_there_are_no_second_opinions(self, content: ReportContent) -> None:
        view = content.view
        assert view is not None
        found = balance.shares(replace(content, compared=None))
        assert found is not None and found.filtered is None and found.errs is None
        rows = np.searchsorted(view.positions, content.selection.pool_index)
        assert found.picked == pytest.approx(view.probabilities[rows].mean(axis=0), abs=1e-6)
        assert found.pool.sum() == pytest.approx(1, abs=1e-5) and found.validation.sum() == pytest.approx(1)
        assert "By what f, trained on the labelled images alone" in page(replace(content, compared=None)).text

    def test_what_was_rejected_is_a_class_without_labels(self) -> None:
        found = balance.shares(make_rounds_content(rejected=True))
        assert found is not None and found.names[-1] == "none" and found.labeled[-1] == found.validation[-1] == 0

    def test_nobody_was_asked(self, content: ReportContent) -> None:
        bare = replace(content, compared=None, view=None)
        assert balance.shares(bare) is None
        text = page(bare).text
        assert not any(title in text for title in ("expected to be", "Close to each other", "margin filter left out"))

    def test_a_choice_like_the_pool(self, content: ReportContent) -> None:
        found = balance.shares(content)
        assert found is not None
        assert "about as the pool is" in balance.sentence(replace(found, picked=found.pool))

    def test_of_many_classes_the_largest(self) -> None:
        content = make_content(names=tuple(f"class {i}" for i in range(200)))
        found = balance.shares(content)
        assert found is not None and len(balance.rows(found)) == balance.MOST_ROWS


class TestNearCopies:
    @given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 9))
    def test_the_closest_pairs_are_those_of_all_pairs(self, count: int, most: int, seed: int) -> None:
        points = np.random.default_rng(seed).integers(0, 6, (count, 2)).astype(np.float64)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(near_copies, "_ROWS", 7)
            found, nearest = near_copies.closest(points, most)
        distances = np.linalg.norm(points[:, None] - points[None], axis=2)
        pairs = sorted((distances[i, j], i, j) for i in range(count) for j in range(i + 1, count))
        assert [d for _, _, d in found] == pytest.approx([d for d, _, _ in pairs[:most]], abs=1e-6)
        assert all(i < j and distances[i, j] == pytest.approx(d, abs=1e-6) for i, j, d in found)
        np.fill_diagonal(distances, np.inf)
        assert nearest == pytest.approx(distances.min(axis=1), abs=1e-6)

    def test_a_copy_is_the_first_pair_and_called_so(self, content: ReportContent) -> None:
        problem, view = content.problem, content.view
        assert view is not None and isinstance(problem.pool, Images)
        one, other = content.selection.pool_index[[4, 61]].tolist()
        pixels = problem.pool.pixels.copy()
        pixels[other] = pixels[one]
        embeddings = view.embeddings.copy()
        embeddings[view.rows(np.array([other]))] = embeddings[view.rows(np.array([one]))]
        twice = replace(
            content,
            problem=replace(problem, pool=Images(pixels, problem.pool.ids)),
            view=replace(view, embeddings=embeddings),
        )
        found = near_copies.near_copies(twice)
        assert found is not None and found.copies == 1 and found.near >= 2
        first = found.pairs[0]
        assert (first.orders, first.distance, first.copies) == ((4, 61), pytest.approx(0, abs=1e-3), True)
        assert first.first.source == first.second.source != found.pairs[1].first.source
        assert "1 of the picked images is the same as another" in page(twice).text
        assert "No two picked images are the same" in page(content).text

    def test_one_image_has_no_pair(self) -> None:
        assert near_copies.near_copies(make_content(budget=1, batch_size=1)) is None

    def test_images_that_are_all_the_same_to_f(self, content: ReportContent) -> None:
        assert content.view is not None
        flat = replace(content, view=replace(content.view, embeddings=np.zeros_like(content.view.embeddings)))
        found = near_copies.near_copies(flat)
        assert found is not None and found.near == found.count == 100
        page(flat)


class TestMap:
    def test_everything_is_on_it(self, content: ReportContent) -> None:
        found = pool_map.pool_map(content)
        assert found is not None and found.pool.count("M") == 2000 and found.labeled.count("M") == 40
        assert [dot.order for dot in found.dots] == list(range(100)) and not found.others
        assert [dot.id for dot in found.dots] == [content.problem.pool.ids[i] for i in content.selection.pool_index]
        assert all(0 <= dot.x <= found.width and 0 <= dot.y <= found.height for dot in found.dots)
        assert [name.text for name in found.names] == list(content.problem.class_names)
        assert 0 < found.share < 1

    def test_the_plane_is_that_of_the_largest_variance(self) -> None:
        generator = np.random.default_rng(1)
        points = generator.normal(0, 1, (300, 5)) * [9, 1, 0.1, 4, 0.1]
        found = pool_map.plane(points, [points, points[:0]])
        assert found is not None
        (flat, nothing), share = found
        centred = points - points.mean(axis=0)
        assert np.abs(np.corrcoef(flat[:, 0], centred[:, 0])[0, 1]) > 0.99
        assert np.abs(np.corrcoef(flat[:, 1], centred[:, 3])[0, 1]) > 0.99
        assert share == pytest.approx(flat.var(axis=0).sum() / points.var(axis=0).sum()) and nothing.shape == (0, 2)

    def test_embeddings_of_one_number_and_of_none_that_differ(self) -> None:
        found = pool_map.plane(np.arange(5.0)[:, None], [np.ones((2, 1))])
        assert found is not None and found[0][0].shape == (2, 2) and found[1] == pytest.approx(1)
        assert pool_map.plane(np.ones((5, 3)), []) is None
        assert pool_map.plane(np.ones((1, 3)), []) is None

    def test_of_many_picked_images_the_first_have_names(
        self, monkeypatch: pytest.MonkeyPatch, content: ReportContent
    ) -> None:
        monkeypatch.setattr(pool_map, "MOST_NAMED", 30)
        found = pool_map.pool_map(content)
        assert found is not None and len(found.dots) == 30 and found.others.count("M") == 70

    def test_names_are_inert(self) -> None:
        found = page(make_content(prefix=f'{HOSTILE}"', names=(HOSTILE, "b", "c")))
        assert HOSTILE in found.text and len(found.all("circle")) == 100


class TestListing:
    def test_a_row_for_each(self, content: ReportContent) -> None:
        rows = listing.rows(content)
        assert [row.order for row in rows] == list(range(100))
        assert rows[3].id == content.problem.pool.ids[content.selection.pool_index[3]]
        assert rows[3].margin == f"{content.selection.margin[3]:.3f}" and rows[3].guess in content.problem.class_names

    def test_no_number_is_a_dash(self, content: ReportContent) -> None:
        blank = replace(content.selection, utility=np.full_like(content.selection.utility, np.nan))
        assert {row.utility for row in listing.rows(replace(content, selection=blank, view=None))} == {"–"}

    def test_more_rows_than_fit(self, content: ReportContent, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(listing, "MOST_ROW_BYTES", 4000)
        shown = len(listing.rows(content))
        assert 10 < shown < 60 and f"The first {shown} of 100 picked images; all are in" in page(content).text

    def test_what_was_left_out(self, content: ReportContent) -> None:
        found = listing.removed(content)
        assert len(found) == 24 and [it.margin for it in found] == sorted(it.margin for it in found)
        assert found[0].margin >= np.sort(content.margins)[500] and found[0].source.startswith("data:image")
        assert "f is sure enough of 1,500 images" in page(content).text


@pytest.mark.parametrize("known", [True, False])
def test_commands_are_for_this_folder_and_can_be_typed(content: ReportContent, known: bool) -> None:
    content = content if known else replace(content, revealed=None)
    commands = [command for step in next_steps.steps(content) for command in step.commands]
    assert [command.split()[1] for command in commands] == ["label", "export", "labels", "labels", "run"]
    for command in commands:
        program, name, *arguments = shlex.split(command)
        assert program == "rambo" and "/home/me/my runs/first" in arguments
        COMMANDS[name].parser(f"{program} {name}").parse_intermixed_args(arguments)  # or a UserError
    last = COMMANDS["run"].parser("rambo run").parse_intermixed_args(shlex.split(commands[-1])[2:])
    assert (last.round, last.after, last.output) == (2, "/home/me/my runs/first", "/home/me/my runs/first_round_2")
    assert last.answers == ("revealed" if known else COMMANDS["run"].parser("").get_default("answers"))


def test_the_page_shows_every_command(content: ReportContent) -> None:
    text = page(content).text
    assert all(command in text for step in next_steps.steps(content) for command in step.commands)


def test_the_ranking_of_each_size() -> None:
    text = "".join(page(make_rounds_content()).text.split("\n"))
    assert "20 images70 %" in text and "25 images72 %" in text


def test_embeddings_have_names_instead_of_pictures(content: ReportContent) -> None:
    found = page(of_vectors(content))
    assert not [image for image in found.all("img") if "image" in (image["alt"] or "").split()[:2]]
    assert "embeddings of 12 numbers" in found.text and "Close to each other" in found.text
    assert content.problem.pool.ids[content.selection.pool_index[0]] in found.text


@pytest.mark.parametrize("strategy", [None, "badge"])
def test_embeddings_are_items_and_not_images(content: ReportContent, strategy: str | None) -> None:
    """Of whatever they are: the page does not call them images, but in ids, in the settings and where there is one."""
    made = of_vectors(make_content(prefix="thing "))
    if strategy is not None:
        made = replace(made, metrics={**made.metrics, "strategy": strategy})
    found = page(made)
    text = found.text[: found.text.index("To repeat this run")]
    assert not re.findall(r"[Ii]mages?\b", text[text.index("RAMBO ·") :])
    assert "100 items to annotate" in text and "of the pool's 2,000 items" in text
    for one in found.all("img"):
        assert "image" not in (one["alt"] or "")
    assert "on 1,000 items" in text and "Have the items labelled" in text


def test_our_words_and_no_others_change() -> None:
    assert worded("Images of an image; image/3.png, my.images:f, imagery", "items") == (
        "Items of an item; image/3.png, my.images:f, imagery"
    )
    assert worded("Images", "images") == "Images" and things({}) == "images"
