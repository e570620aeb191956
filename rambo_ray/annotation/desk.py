"""Who of several annotators is shown which image, and what becomes of what they say.

A page is a browser tab with an annotator before it; it holds the next few images, so that they are loaded before
they are shown. How images are shared:

- "split": each image goes to one annotator. What a page holds is leased to it: nobody else is given it until it is
  answered, or until nothing has been heard of the page for LEASE_S. An image that one annotator skipped goes to
  another, too.
- "all": everybody is shown every image; nothing is leased.

What was said is kept by image and annotator, so one image may have several answers in either way (the first round of
a file may have been "all"). Nothing here waits, reads a clock of its own or knows of a network.

B images by their position in the order picked, K classes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from rambo_ray.annotation.answers import Answer, now
from rambo_ray.errors import UserError, nearest

Share = Literal["split", "all"]
SHARES: tuple[Share, ...] = ("split", "all")

LEASE_S = 120.0
"""How long a page that says nothing keeps what it holds, in seconds; an open page is heard of more often."""

RECENT = 50
"""The latest answers of an annotator, of which the rate is made."""
PAUSE_S = 60.0
"""A longer gap between two answers is a pause, and not part of the rate."""
PRESENT_S = 300.0
"""An annotator who has answered within this time takes part in what is left."""


class Refused(ValueError):
    """What a page asks for is not there: another selection's image, no such class, nobody's name."""


@dataclass(frozen=True)
class Outcome:
    """What became of an answer.

    saved: whether it stands now, newly or from before; by: else the annotator whose the image is.
    """

    saved: bool
    by: str = ""


@dataclass(frozen=True)
class Standing:
    """How far the work is, as one annotator sees it.

    total: images; done: of them answered (by this annotator where everybody sees every image, else by anybody);
    own: answered by this annotator; skipped: passed over by this annotator and still without answer; elsewhere: free of
    an answer and held by other pages; per_hour: this annotator's rate, None before there is one; left_s: seconds until
    all is done at the rate of those present; annotators: answers of each.
    """

    total: int
    done: int
    own: int
    skipped: int
    elsewhere: int
    per_hour: float | None
    left_s: float | None
    annotators: dict[str, int]


@dataclass(frozen=True)
class _Lease:
    page: str
    annotator: str
    until: float


class Desk:
    """Hands out the images of one request and takes what annotators say of them; not safe between threads."""

    def __init__(
        self,
        ids: Sequence[str],
        class_names: Sequence[str],
        share: Share,
        record: Callable[[Answer], None],
        said: Iterable[Answer] = (),
        clock: Callable[[], float] = time.monotonic,
        date: Callable[[], str] = now,
    ) -> None:
        """A desk for images `ids` [B] of classes `class_names` [K], after what was `said` before.

        `record` keeps an answer for good before it returns, or raises; `clock` gives seconds, `date` the time as
        `Answer.at` has it. Raises UserError where an earlier answer is of another image or class.
        """
        self.ids, self.class_names, self.share = tuple(ids), tuple(class_names), share
        self._record, self._clock, self._date = record, clock, date
        self._position = {name: i for i, name in enumerate(self.ids)}
        self._said: list[dict[str, Answer]] = [{} for _ in self.ids]
        self._history: dict[str, dict[int, None]] = {}  # dictionaries stand for sets that keep their order
        self._skipped: dict[str, dict[int, None]] = {}
        self._open: dict[str, dict[int, None]] = {}  # without an answer; see `_still_open`
        self._given: dict[str, int] = {}
        self._done = 0
        self._leases: dict[int, _Lease] = {}
        self._times: dict[str, deque[float]] = {}
        for answer in said:
            self._check(answer)
            self._take(self._position[answer.id], answer)

    def hand_out(
        self, annotator: str, page: str, held: Iterable[int], want: int, *, skipped: bool = False
    ) -> tuple[list[int], list[int]]:
        """Up to `want` more images for a page that holds `held`, in order, and those of `held` that it must put back.

        What an annotator passed over comes again where `skipped` asks for it. All that a page holds afterwards is
        leased to it anew.
        """
        check_name(annotator)
        held = [position for position in held if 0 <= position < len(self.ids)]
        lost = [
            p for p in held if self._given_by(p, annotator) or self._owner(p, annotator, page) is not None
        ]  # the same annotator may have answered on another page
        kept = set(held).difference(lost)
        for position in [p for p, lease in self._leases.items() if lease.page == page and p not in kept]:
            del self._leases[position]
        found: list[int] = []
        passed = self._skipped.get(annotator, {})
        for position in sorted(passed) if skipped else self._still_open(annotator):
            if len(found) >= want:
                break
            fresh = skipped or position not in passed
            if fresh and position not in kept and self._owner(position, annotator, page) is None:
                found.append(position)
        self._lease(kept.union(found), annotator, page)
        return found, lost

    def release(self, page: str) -> None:
        """The page has been closed: what it held is free again."""
        for position in [p for p, lease in self._leases.items() if lease.page == page]:
            del self._leases[position]

    def answer(
        self,
        annotator: str,
        page: str,
        position: int,
        name: str,
        *,
        label: str | None = None,
        rejected: bool = False,
        skipped: bool = False,
    ) -> Outcome:
        """Take one answer on the image at `position`, whose id is `name`; it is recorded when this returns.

        The same answer again changes nothing, since a page asks again when it did not hear of the first. Another
        annotator's image, or another answer than that which stands, is not taken. Raises Refused for what does not
        belong to this request, and whatever `record` raises; then nothing has changed.
        """
        self._known(annotator, position, name)
        if label is not None and label not in self.class_names:
            raise Refused(f"{label}: no such class; {nearest(label, self.class_names)}")
        try:
            said = Answer(name, label, annotator, self._date(), rejected, skipped)
        except ValueError as error:
            raise Refused(f"an answer {error}") from error
        stands = self._said[position].get(annotator)
        if stands is not None and replace(stands, at="") == replace(said, at=""):
            return Outcome(True)
        if stands is not None and stands.given:
            return Outcome(False, annotator)
        owner = self._owner(position, annotator, page)
        if owner is not None:
            return Outcome(False, owner)
        self._record(said)
        self._take(position, said)
        self._leases.pop(position, None)
        return Outcome(True)

    def undo(self, annotator: str, page: str, position: int, name: str) -> Outcome:
        """Take back what this annotator said of the image, which is the page's again.

        Not where it had been skipped and somebody else has it now. Raises Refused as `answer` does.
        """
        self._known(annotator, position, name)
        owner = self._owner(position, annotator, page)
        if owner is not None:
            return Outcome(False, owner)
        if annotator in self._said[position]:
            answer = Answer(name, None, annotator, self._date(), undo=True)
            self._record(answer)
            self._take(position, answer)
        self._lease([position], annotator, page)
        return Outcome(True)

    def history(self, annotator: str) -> list[int]:
        """The images of which this annotator has said something that stands, the latest last."""
        return list(self._history.get(annotator, ()))

    def standing(self, annotator: str, page: str) -> Standing:
        """How far the work is for this annotator at this page; for nobody's name, "", what anybody has answered."""
        split = self.share == "split"
        own = self._given.get(annotator, 0)
        skipped = [p for p in self._skipped.get(annotator, ()) if not (split and self.answered(p))]
        leased = (p for p, lease in self._leases.items() if lease.page != page and lease.until > self._clock())
        done = self._done if split or not annotator else own
        rates = {name: rate for name in self._times if (rate := self._rate(name)) is not None}
        mine = rates.get(annotator)
        today = _seconds(self._date())
        team = sum(r for name, r in rates.items() if name == annotator or today - self._times[name][-1] < PRESENT_S)
        pace = team if split else mine
        return Standing(
            total=len(self.ids),
            done=done,
            own=own,
            skipped=len(skipped),
            elsewhere=sum(1 for p in leased if not self.answered(p)) if split else 0,
            per_hour=None if mine is None else 3600 * mine,
            left_s=(len(self.ids) - done) / pace if pace and mine is not None else None,
            annotators={name: count for name, count in self._given.items() if count},
        )

    def _check(self, answer: Answer) -> None:
        if answer.id not in self._position:
            raise UserError(f"its answer on '{answer.id}': not among the {len(self.ids)} images of this selection")
        if answer.label is not None and answer.label not in self.class_names:
            raise UserError(
                f"its answer '{answer.label}' on '{answer.id}': not among the {len(self.class_names)} classes"
            )

    def _known(self, annotator: str, position: int, name: str) -> None:
        check_name(annotator)
        if not 0 <= position < len(self.ids) or self.ids[position] != name:
            raise Refused(f"image {position} '{name}': not of this selection; load the page again")

    def _take(self, position: int, answer: Answer) -> None:
        """Keep what was recorded."""
        said, who = self._said[position], answer.annotator
        before = self.answered(position)
        if (earlier := said.pop(who, None)) is not None:
            self._history[who].pop(position)
            self._skipped.setdefault(who, {}).pop(position, None)
            self._given[who] = self._given.get(who, 0) - earlier.given
        if not answer.undo:
            said[who] = answer
            self._history.setdefault(who, {})[position] = None
            self._given[who] = self._given.get(who, 0) + answer.given
            if answer.skipped:
                self._skipped.setdefault(who, {})[position] = None
            when = _seconds(answer.at)
            if when == when:  # a file made by another tool may lack the time
                self._times.setdefault(who, deque(maxlen=RECENT)).append(when)
        after = self.answered(position)
        self._done += after - before
        for name, still_open in self._open.items():
            if after if self.share == "split" else self._given_by(position, name):
                still_open.pop(position, None)
            elif position not in still_open:  # taken back, which is rare
                self._open[name] = dict.fromkeys(sorted([*still_open, position]))

    def _still_open(self, annotator: str) -> dict[int, None]:
        """In order what this annotator has not answered; where images are split, what nobody has."""
        name = "" if self.share == "split" else annotator
        if name not in self._open:
            over = self.answered if self.share == "split" else (lambda p: self._given_by(p, annotator))
            self._open[name] = dict.fromkeys(p for p in range(len(self.ids)) if not over(p))
        return self._open[name]

    def answered(self, position: int) -> bool:
        """Whether anybody has said what this image is."""
        return any(answer.given for answer in self._said[position].values())

    def _given_by(self, position: int, annotator: str) -> bool:
        said = self._said[position].get(annotator)
        return said is not None and said.given

    def _owner(self, position: int, annotator: str, page: str) -> str | None:
        """Who keeps this page from answering: an annotator's name; None where nobody does."""
        if self.share == "all":
            return None
        for who, answer in self._said[position].items():
            if answer.given and who != annotator:
                return who
        lease = self._leases.get(position)
        if lease is not None and lease.page != page and lease.until > self._clock():
            return lease.annotator
        return None

    def _lease(self, positions: Iterable[int], annotator: str, page: str) -> None:
        if self.share == "split":
            until = self._clock() + LEASE_S
            self._leases.update((position, _Lease(page, annotator, until)) for position in positions)

    def _rate(self, annotator: str) -> float | None:
        """Answers per second of this annotator's latest, pauses left out; None for fewer than five."""
        times = list(self._times.get(annotator, ()))
        gaps = [b - a for a, b in zip(times, times[1:], strict=False) if 0 <= b - a < PAUSE_S]
        return len(gaps) / max(sum(gaps), 1e-3) if len(gaps) >= 4 else None


def check_name(annotator: str) -> None:
    """Raise Refused for what is no annotator's name."""
    if not annotator.strip() or annotator != annotator.strip() or len(annotator) > 60 or not annotator.isprintable():
        raise Refused(f"annotator {annotator!r}: must be a name of 1 to 60 letters")


def _seconds(at: str) -> float:
    """An `Answer.at` in seconds; NaN where it is none."""
    try:
        return datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return float("nan")
