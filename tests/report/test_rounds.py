"""The page of a run with mock rounds: what it shows in place of the paper's plots, and what u_hat wants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rambo_ray.pipeline import judging
from rambo_ray.pipeline.judging import PoolEvidence
from rambo_ray.report import round_plots
from rambo_ray.report.wishes import MOST_ROWS, wishes
from rambo_ray.utility_model.evidence import EvidenceScale

from .made_content import HOSTILE, page, with_metrics
from .made_rounds import make_model, make_rounds_content

pytestmark = pytest.mark.usefixtures("coarse_figures")


def test_everything_is_there_and_nothing_of_the_papers() -> None:
    found = page(make_rounds_content())
    titles = ("Kinds of batches taken", "û on held-out mock rounds", "Mock rounds", "What û wants", "expected to be")
    assert all(title in found.text for title in titles)
    assert len(found.all("figure")) == 5 and "Nothing to show" not in found.text
    assert not any(title in found.text for title in ("Ranking while fitting", "Distance to the", "Losses", "S₀, S₁"))
    assert "On 16 held-out mock rounds of 20 to 25 images û puts 71\u00a0% of pairs in the right order" in found.text


def test_a_run_that_follows_the_filter_says_so_at_the_top() -> None:
    found = page(make_rounds_content(followed=False))
    assert found.text.count("so the run follows the margin filter") == 2  # the outcome, and how far to trust u_hat
    assert "goes from 0.774 to 0.810" in found.text
    assert len(found.all("figure")) == 3 and "Candidate batches" not in found.text
    assert "û's word was not taken" in found.text


def test_a_pool_of_unknown_labels_and_no_evidence() -> None:
    content = with_metrics(replace(make_rounds_content(), revealed=None, compared=None, view=None), accuracy_after=None)
    text = page(content).text
    assert "Classes of the picked images" not in text and "expected to be" not in text and "What û wants" in text


def test_rejected_images_are_a_class_of_their_own() -> None:
    assert "p(none)" in page(make_rounds_content(rejected=True)).text


def test_nothing_held_out() -> None:
    content = make_rounds_content()
    empty = replace(content.held_out, scores=np.zeros(0), utilities=np.zeros(0), groups=(), sizes=())
    ranking = {"held_out_subsets": 0}
    found = page(with_metrics(replace(content, held_out=empty, samples=()), ranking=ranking))
    assert found.text.count("Nothing to show") == 2


def test_names_of_any_script_and_intent() -> None:
    assert HOSTILE in page(make_rounds_content(names=(HOSTILE, "猫", "$x_{"))).text


class TestWishes:
    def test_bars_go_from_the_middle_and_lines_hold_them(self) -> None:
        model = replace(make_model(6), w=np.array([0.01, -0.02, 0, 0, 0, 0]), a=np.zeros(6))
        first, second, third, *_ = (wish.lean for wish in wishes(model, "abcdef", 400, fraction=True))
        error = 100 * np.sqrt(400 * 1e-7) * 1.96
        assert first.value == f"+20.0 ± {error:.1f}" and second.value.startswith("−40.0")
        assert (first.start, second.start + second.length) == (50.0, 50.0)
        assert second.length == pytest.approx(2 * first.length, abs=0.02)
        assert first.low < first.start + first.length < first.high <= 100 and second.low == 0
        assert (first.sure, third.sure, third.length) == (True, False, 0)

    def test_of_many_those_that_matter(self) -> None:
        model = make_model(1000)
        shown = [int(wish.name) for wish in wishes(model, [str(i) for i in range(1000)], 100, fraction=False)]
        size = np.abs(model.w) + np.abs(model.a)
        assert shown == sorted(np.argsort(-size)[:MOST_ROWS])


def test_evidence_is_compared_over_a_part_of_the_images_each_asked_for_once() -> None:
    numbers = np.arange(4000.0).reshape(2000, 2)
    scale = EvidenceScale(1.0, 1.0, mean=np.array([5.0, 0.0]), deviation=np.array([2.0, 1.0]))
    asked: list[np.ndarray] = []

    def evidence_of(positions: np.ndarray) -> PoolEvidence:
        asked.append(positions)
        return PoolEvidence(numbers[positions], scale)

    found = judging.compared(np.array([7, 3]), np.arange(7), np.arange(2000), evidence_of)
    assert len(asked) == 1 and len(np.unique(asked[0])) == len(asked[0]) <= judging.COMPARED + 7
    assert found.picked == pytest.approx([2 * 10 + 5, 11]) and found.filtered == pytest.approx([2 * 6 + 5, 7])
    assert found.pool == pytest.approx([2 * 1999 + 5, 2000], abs=4)


def test_groups_are_compared_within_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    content = make_rounds_content()
    shifted = content.held_out.utilities + np.array([group[0] for group in content.held_out.groups])
    pictures = [
        round_plots.held_out_groups(replace(content.held_out, utilities=u), "accuracy", True)
        for u in (content.held_out.utilities, shifted)
    ]
    assert pictures[0] == pictures[1] is not None
    constant = replace(content.held_out, utilities=np.zeros(16))
    assert round_plots.held_out_groups(constant, "accuracy", True) is None


def test_more_kinds_than_a_plot_has_room_for() -> None:
    assert round_plots.winners([f"strategy {i}" for i in range(40)], []) is None
    assert round_plots.winners([], ["margin filter"]) is None
