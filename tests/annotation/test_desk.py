"""Who is shown which image, and what becomes of what they say."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.annotation import answers
from rambo_ray.annotation.answers import Answer
from rambo_ray.annotation.desk import LEASE_S, Desk, Outcome, Refused, Share
from rambo_ray.errors import UserError

CLASSES = ("cat", "dog")
MIA, BEN = "mia", "ben"


class Time:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def date(self) -> str:
        """The time as an answer has it."""
        when = datetime(2026, 11, 27, tzinfo=timezone.utc) + timedelta(seconds=self.seconds)
        return when.isoformat(timespec="milliseconds")


class Made:
    """A desk of `count` images, its clock and what it recorded."""

    def __init__(self, count: int = 6, share: Share = "split", said: list[Answer] | None = None) -> None:
        self.ids = [f"{position}.png" for position in range(count)]
        self.time, self.log = Time(), list(said or [])
        self.desk = Desk(self.ids, CLASSES, share, self.log.append, tuple(self.log), self.time, self.time.date)

    def more(self, who: str, page: str, want: int = 3, held: tuple[int, ...] = (), skipped: bool = False) -> list[int]:
        """What is handed out anew."""
        return self.desk.hand_out(who, page, held, want, skipped=skipped)[0]

    def say(self, who: str, page: str, position: int, label: str | None = "cat", **what: bool) -> Outcome:
        """An answer."""
        return self.desk.answer(who, page, position, self.ids[position], label=label, **what)

    def undo(self, who: str, page: str, position: int) -> Outcome:
        """An answer taken back."""
        return self.desk.undo(who, page, position, self.ids[position])


def test_images_come_in_order_and_no_two_pages_hold_the_same() -> None:
    made = Made()
    assert made.more(MIA, "a") == [0, 1, 2]
    assert made.more(BEN, "b", 2) == [3, 4]
    assert made.more(MIA, "second page of mia") == [5]
    assert made.more(MIA, "a", 9, (0, 1, 2)) == []


def test_a_page_that_is_silent_loses_what_it_holds_and_one_that_is_heard_of_keeps_it() -> None:
    made = Made(4)
    assert made.more(MIA, "a", 2) == [0, 1]
    made.time.seconds = LEASE_S - 1
    assert made.desk.hand_out(MIA, "a", [0, 1], 0) == ([], [])
    made.time.seconds = 2 * LEASE_S - 2
    assert made.more(BEN, "b", 9) == [2, 3]
    made.time.seconds = 2 * LEASE_S
    assert made.more(BEN, "b", 9, (2, 3)) == [0, 1]
    assert made.desk.hand_out(MIA, "a", [0, 1], 9) == ([], [0, 1])
    assert made.say(MIA, "a", 0) == Outcome(False, BEN)
    assert made.say(BEN, "b", 0) == Outcome(True)
    assert [(a.annotator, a.id) for a in made.log] == [(BEN, "0.png")]


def test_an_expired_lease_that_nobody_took_is_still_good() -> None:
    made = Made()
    made.more(MIA, "a")
    made.time.seconds = 100 * LEASE_S
    assert made.say(MIA, "a", 1) == Outcome(True)


def test_a_closed_page_gives_back_what_it_held() -> None:
    made = Made(3)
    made.more(MIA, "a")
    made.desk.release("a")
    assert made.more(BEN, "b") == [0, 1, 2]


def test_what_a_page_no_longer_names_is_free() -> None:
    made = Made(3)
    made.more(MIA, "a")
    made.more(MIA, "a", 0, (1,))
    assert made.more(BEN, "b") == [0, 2]


def test_an_answer_twice_is_one_and_another_one_is_not_taken() -> None:
    made = Made()
    assert made.say(MIA, "a", 0) == made.say(MIA, "a", 0) == Outcome(True)
    assert made.say(MIA, "a", 0, "dog") == Outcome(False, MIA)
    assert made.say(BEN, "b", 0, "cat") == Outcome(False, MIA)
    assert [a.label for a in made.log] == ["cat"]


def test_undo_gives_the_image_back_to_its_page_alone() -> None:
    made = Made(2)
    made.more(MIA, "a", 1)
    made.say(MIA, "a", 0)
    assert made.undo(MIA, "a", 0) == made.undo(MIA, "a", 0) == Outcome(True)
    assert [a.undo for a in made.log] == [False, True]  # the second undo found nothing
    assert made.more(BEN, "b") == [1]
    assert made.say(MIA, "a", 0, None, rejected=True) == Outcome(True)
    assert answers.standing(made.log) == [Answer("0.png", None, MIA, made.log[-1].at, rejected=True)]
    assert made.desk.standing(MIA, "a").done == 1


def test_a_skipped_image_goes_to_others_and_comes_again_when_asked_for() -> None:
    made = Made(2)
    made.more(MIA, "a", 2)
    made.say(MIA, "a", 0, None, skipped=True)
    made.say(MIA, "a", 1)
    assert made.more(MIA, "a") == []
    assert made.desk.standing(MIA, "a").skipped == 1
    assert made.more(MIA, "a", 9, skipped=True) == [0]
    assert made.more(BEN, "b") == []
    made.desk.release("a")
    assert made.more(BEN, "b") == [0]
    made.say(BEN, "b", 0, "dog")
    assert made.undo(MIA, "a", 0) == Outcome(False, BEN)
    standing = made.desk.standing(MIA, "a")
    assert (standing.done, standing.own, standing.skipped) == (2, 1, 0)
    assert standing.annotators == {MIA: 1, BEN: 1}


def test_a_skip_may_become_an_answer() -> None:
    made = Made()
    made.say(MIA, "a", 0, None, skipped=True)
    assert made.say(MIA, "a", 0, "dog") == Outcome(True)
    assert made.desk.history(MIA) == [0]
    assert made.desk.standing(MIA, "a").skipped == 0


def test_where_all_see_all_nobody_waits_for_anybody() -> None:
    made = Made(2, "all")
    assert made.more(MIA, "a") == made.more(BEN, "b") == [0, 1]
    assert made.say(MIA, "a", 0, "cat") == made.say(BEN, "b", 0, "dog") == Outcome(True)
    assert made.more(MIA, "a") == [1]
    standing = made.desk.standing(BEN, "b")
    assert (standing.total, standing.done, standing.elsewhere) == (2, 1, 0)
    assert made.desk.standing("", "").done == 1  # of the images, by anybody


def test_it_goes_on_where_it_stopped() -> None:
    made = Made(5)
    made.more(MIA, "a", 3)
    made.say(MIA, "a", 0)
    made.say(MIA, "a", 1, None, rejected=True)
    made.say(MIA, "a", 2, "dog")
    made.undo(MIA, "a", 1)
    again = Made(5, said=made.log)
    assert again.more(BEN, "new") == [1, 3, 4]
    assert again.desk.history(MIA) == [0, 2]
    assert again.desk.standing(MIA, "x").own == 2


def test_an_answer_that_cannot_be_kept_changes_nothing() -> None:
    def full(_: Answer) -> None:
        raise OSError("No space left on device")

    desk = Desk(["a"], CLASSES, "split", full)
    with pytest.raises(OSError, match="No space"):
        desk.answer(MIA, "page", 0, "a", label="cat")
    assert desk.standing(MIA, "page").done == 0
    assert desk.hand_out(MIA, "page", [], 1)[0] == [0]


@pytest.mark.parametrize(
    ("position", "name", "label", "annotator", "words"),
    [
        (0, "9.png", "cat", MIA, "not of this selection"),
        (-1, "5.png", "cat", MIA, "not of this selection"),
        (6, "6.png", "cat", MIA, "not of this selection"),
        (0, "../../etc/passwd", "cat", MIA, "not of this selection"),
        (0, "0.png", "cta", MIA, "did you mean 'cat'"),
        (0, "0.png", "Cat", MIA, "no such class"),
        (0, "0.png", None, MIA, "exactly one"),
        (0, "0.png", "cat", "", "name"),
        (0, "0.png", "cat", " mia", "name"),
        (0, "0.png", "cat", "m\nia", "name"),
        (0, "0.png", "cat", "m" * 61, "name"),
    ],
)
def test_what_does_not_belong_here_is_refused(
    position: int, name: str, label: str | None, annotator: str, words: str
) -> None:
    made = Made()
    with pytest.raises(Refused, match=words):
        made.desk.answer(annotator, "page", position, name, label=label)
    assert made.log == []


@pytest.mark.parametrize(("answer", "words"), [(Answer("x", "cat"), "'x'"), (Answer("0.png", "owl"), "'owl'")])
def test_answers_of_another_selection_are_refused_at_the_door(answer: Answer, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Made(said=[answer])


def test_the_rate_leaves_pauses_out_and_the_time_left_counts_who_is_there() -> None:
    made = Made(100)
    for position in range(11):  # one every 3 s, with a coffee after the fifth
        made.say(MIA, "a", position)
        made.time.seconds += 3 if position != 4 else 600
    standing = made.desk.standing(MIA, "a")
    assert standing.per_hour == pytest.approx(1200)
    assert standing.left_s == pytest.approx(89 * 3)
    for position in range(11, 21):  # another, three times as fast
        made.say(BEN, "b", position)
        made.time.seconds += 1
    assert made.desk.standing(BEN, "b").per_hour == pytest.approx(3600)
    assert made.desk.standing(BEN, "b").left_s == pytest.approx(79 / (1 + 1 / 3))
    made.time.seconds += 1000
    assert made.desk.standing(BEN, "b").left_s == pytest.approx(79)  # mia has left


def test_there_is_no_rate_of_a_few() -> None:
    made = Made()
    for position in range(4):
        made.say(MIA, "a", position)
    assert made.desk.standing(MIA, "a").per_hour is None
    assert made.desk.standing(MIA, "a").left_s is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["more", "say", "none", "skip", "undo", "wait", "close", "restart"]),
        st.sampled_from([("mia", "a"), ("mia", "b"), ("ben", "c"), ("eve", "d")]),
        st.integers(0, 4),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_people_do_each_image_has_at_most_one_answer(steps: list[tuple[str, tuple[str, str], int]]) -> None:
    made = Made(5)
    held: dict[str, list[int]] = {page: [] for page in "abcd"}
    for what, (who, page), position in steps:
        if what == "more":
            found, lost = made.desk.hand_out(who, page, held[page], 2)
            held[page] = [p for p in held[page] if p not in lost] + found
            others = {p for other in "abcd" if other != page for p in held[other]}
            fresh = made.time.seconds == 0.0
            assert not fresh or others.isdisjoint(found)  # no lease has ended
        elif what == "wait":
            made.time.seconds += LEASE_S / 2
        elif what == "close":
            made.desk.release(page)
            held[page] = []
        elif what == "restart":
            made = Made(5, said=made.log)
            made.time.seconds = 1.0  # leases are gone
        elif what == "undo":
            if made.undo(who, page, position).saved and position not in held[page]:
                held[page].append(position)
        else:
            said = {"say": ("cat", {}), "none": (None, {"rejected": True}), "skip": (None, {"skipped": True})}[what]
            made.say(who, page, position, said[0], **said[1])  # type: ignore[arg-type]
            held[page] = [p for p in held[page] if p != position]
        unanswered = [p for p in range(5) if not made.desk.answered(p)]
        stranger = made.more("a stranger", "stranger", 9)
        assert stranger == sorted(stranger) and set(stranger) <= set(unanswered)  # in order, whatever was taken back
        made.desk.release("stranger")
        assert made.more("z", "z", 9) == stranger  # given back whole
        made.desk.release("z")
        given = [a.id for a in answers.standing(made.log) if a.given]
        assert len(given) == len(set(given))
        assert made.desk.standing(who, page).done == len(given)
        assert sum(made.desk.standing(who, page).annotators.values()) == len(given)
