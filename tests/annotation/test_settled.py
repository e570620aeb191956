"""One answer per image: majority against brute force, and all that is wrong said at once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rambo_ray.annotation import record, request
from rambo_ray.annotation.entries import NONE_OF_THESE, Entry
from rambo_ray.annotation.request import Request
from rambo_ray.annotation.settled import AnswersError, Settled, settle
from rambo_ray.errors import UserError

from .runs import finished

IDS = [f"p/{i}.png" for i in range(6)]


@pytest.fixture
def asked(tmp_path: Path) -> Request:
    return request.read(finished(tmp_path / "run", IDS))


def said(name: str, *labels: str, by: str = "", is_id: bool = True, rejected: bool = False) -> Entry:
    return Entry((name,), labels, f"row {name}", annotator=by, is_id=is_id, rejected=rejected)


votes = st.dictionaries(
    st.tuples(st.sampled_from(IDS), st.sampled_from(["mia", "ben", "eva", "tom"])),
    st.sampled_from(["cat", "dog", "Owl", NONE_OF_THESE]),
    min_size=1,
)


@given(votes, st.randoms(), st.sampled_from([None, "first", "last", "mia"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_majority_wins_and_ties_are_left_out(
    asked: Request, given_votes: dict[tuple[str, str], str], random: object, resolve: str | None
) -> None:
    order = list(given_votes.items())
    random.shuffle(order)  # type: ignore[attr-defined]
    if resolve == "mia" and not any(who == "mia" for (_, who), _ in order):
        resolve = None
    outcome = settle(asked, [said(name, label, by=who) for (name, who), label in order], resolve=resolve)
    expected, tied = {}, []
    for name in IDS:
        labels = [label for (n, _), label in order if n == name]
        best = [label for label, count in Counter(labels).items() if count == max(Counter(labels).values())]
        own = given_votes.get((name, "mia"))
        if len(best) > 1 and resolve == "first":
            best = [next(label for label in labels if label in best)]
        elif len(best) > 1 and resolve == "last":
            best = [next(label for label in reversed(labels) if label in best)]
        elif len(best) > 1 and resolve == "mia" and own in best:
            best = [own]  # type: ignore[list-item]
        if len(best) > 1:
            tied.append(name)
        elif best:
            expected[name] = None if best[0] == NONE_OF_THESE else best[0]
    assert {a.id: a.label for a in outcome.answers} == expected
    assert list(expected) == [a.id for a in outcome.answers]  # in the order picked
    assert list(outcome.tied) == tied
    assert set(outcome.unanswered) == set(IDS) - expected.keys() - set(tied)


def test_everything_wrong_is_said_at_once_and_by_name(asked: Request) -> None:
    entries = [
        said("p/0.png", "Cat"),
        said("p/1.png", "Cat"),
        said("p/2.png", "bird"),
        said("p/3.png", "cat", "dog"),
        said("p/4.png", "cat", by="mia"),
        said("p/4.png", "dog", by="mia"),
        said("17", "cat"),
        said("q/0.png", "cat", is_id=False),
    ]
    with pytest.raises(AnswersError) as error:
        settle(asked, entries)
    strangers, classes, conflicts = error.value.lines
    assert "2 answers of images that the run did not ask for: '17', 'q/0.png'" in strangers
    assert "3 answers by names of no class of the run: 'Cat' 2 times (did you mean 'cat'?), 'bird' 1 time" in classes
    assert "2 images with two answers at once: 'p/3.png' is 'cat' and 'dog'" in conflicts
    assert "'p/4.png' is 'cat' and 'dog' by mia" in conflicts
    assert "\n" not in str(error.value) and "and 2 more" in str(error.value)


def test_of_many_wrong_ones_twenty_are_named(asked: Request) -> None:
    with pytest.raises(AnswersError) as error:
        settle(asked, [said(f"x{i}", "cat") for i in range(25)] + [said("p/0.png", f"c{i}") for i in range(25)])
    strangers, classes, conflicts = error.value.lines
    assert "'x19' and 5 more" in strangers and "'x20'" not in strangers
    assert "and 5 more; the classes are 'cat', 'dog', 'Owl'" in classes and "'c0' and 'c1'" in conflicts


def test_the_tool_s_numbers_and_the_order_of_rows_mean_nothing(tmp_path: Path) -> None:
    asked = request.read(finished(tmp_path / "run", ["2", "1", "3"]))
    outcome = settle(asked, [said("3", "cat"), said("1", "dog"), said("2", "Owl")])
    assert [(a.id, a.label) for a in outcome.answers] == [("2", "Owl"), ("1", "dog"), ("3", "cat")]


def test_names_may_be_meant_otherwise(asked: Request) -> None:
    entries = [
        said("p/0.png", "Cat"),
        said("p/1.png", "junk"),
        said("p/2.png", " dog "),
        said("p/3.png", rejected=True),
    ]
    outcome = settle(asked, entries, renames={"Cat": "cat", "junk": NONE_OF_THESE})
    assert [a.label for a in outcome.answers] == ["cat", None, "dog", None]
    with pytest.raises(UserError, match=r"--rename Cat=catt: no class 'catt'; did you mean 'cat'\?"):
        settle(asked, entries, renames={"Cat": "catt"})


def test_others_images_can_be_passed_over(asked: Request) -> None:
    outcome = settle(asked, [said("other", "whatever"), said("p/0.png", "cat")], skip_unknown=True)
    assert [a.id for a in outcome.answers] == ["p/0.png"]
    assert outcome.remarks == ("1 answer of images that the run did not ask for: 'other': passed over",)


@pytest.mark.parametrize(
    ("entries", "said_of_it"),
    [
        ([], "none of the 6"),
        ([said("p/0.png")], "none of the 6"),
        ([said("p/0.png", "cat", rejected=True)], "two answers"),
    ],
)
def test_nothing_to_take_is_refused(entries: list[Entry], said_of_it: str, asked: Request) -> None:
    with pytest.raises(AnswersError, match=said_of_it):
        settle(asked, entries)


def test_a_class_called_none_of_these_is_a_class(tmp_path: Path) -> None:
    asked = request.read(finished(tmp_path / "run", ["a", "b"], classes=["x", NONE_OF_THESE]))
    outcome = settle(asked, [said("a", NONE_OF_THESE), said("b", rejected=True)])
    assert [a.label for a in outcome.answers] == [NONE_OF_THESE, None]


def test_alike_twice_is_counted_once(asked: Request) -> None:
    outcome = settle(asked, [said("p/0.png", "cat"), said("p/0.png", "cat")])
    assert len(outcome.answers) == 1 and outcome.remarks == ("1 answer given twice alike, counted once",)


def test_a_resolve_must_mean_somebody(asked: Request) -> None:
    with pytest.raises(UserError, match=r"--resolve miaa: .* did you mean 'mia'"):
        settle(asked, [said("p/0.png", "cat", by="mia")], resolve="miaa")


class TestAnnotations:
    """annotations.parquet."""

    def test_what_is_written_is_read_back_in_the_order_picked(self, asked: Request) -> None:
        assert record.read(asked) == ()
        answers = (Settled("p/1.png", "cat", ("mia", "ben")), Settled("p/4.png", None, ("",)))
        record.write(asked, answers[::-1])
        assert record.read(asked) == answers

    def test_files_add_up_and_contradict_only_on_purpose(self, asked: Request) -> None:
        earlier = (Settled("p/1.png", "cat", ("mia",)), Settled("p/2.png", None, ("mia",)))
        fresh = (Settled("p/0.png", "dog", ("ben",)), Settled("p/1.png", "cat", ("ben",)))
        assert [a.id for a in record.joined(asked, earlier, fresh)] == ["p/0.png", "p/1.png", "p/2.png"]
        changed = (Settled("p/2.png", "cat", ("ben",)),)
        with pytest.raises(UserError, match=r"otherwise of 1 of the images \('p/2.png'\).*--replace"):
            record.joined(asked, earlier, changed)
        assert record.joined(asked, earlier, changed, replace=True)[1] == changed[0]

    def test_another_run_s_file_is_refused(self, asked: Request, tmp_path: Path) -> None:
        other = request.read(finished(tmp_path / "other", ["x"], classes=["a", "b"]))
        (asked.folder / "annotations.parquet").write_bytes(record.write(other, [Settled("x", "a", ())]).read_bytes())
        with pytest.raises(UserError, match=r"does not belong to this run \('x'\)"):
            record.read(asked)
        (asked.folder / "annotations.parquet").write_bytes(b"PAR1")
        with pytest.raises(UserError, match="not a file of rambo labels"):
            record.read(asked)


def test_those_left_out_are_named(asked: Request) -> None:
    entries = [said("p/0.png", "cat", by="mia"), said("p/0.png", "dog", by="ben")]
    outcome = settle(asked, entries)
    assert outcome.tied == ("p/0.png",) and not outcome.answers
    assert any("left out" in line and "--resolve first, last or ANNOTATOR" in line for line in outcome.remarks)
    assert settle(asked, entries, resolve="ben").answers[0].label == "dog"
