"""From what was returned to one answer per image: checked against the request, several annotators brought together.

Nothing is guessed: an answer that is of no requested image, of no class, or at odds with another of the same
annotator makes the whole file unusable, and all such answers are said at once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rambo_ray.annotation.entries import NONE_OF_THESE, Entry, listed
from rambo_ray.annotation.names import Names
from rambo_ray.annotation.request import Request
from rambo_ray.errors import UserError, nearest


class AnswersError(UserError):
    """Answers that cannot be taken; `lines` says of all of them why."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__(f"{lines[0]}{f' (and {len(lines) - 1} more, above)' if len(lines) > 1 else ''}")
        self.lines = tuple(lines)


@dataclass(frozen=True)
class Settled:
    """What the annotators as a whole say of one image: the class, or None where it belongs to none of them."""

    id: str
    label: str | None
    annotators: tuple[str, ...]

    @property
    def rejected(self) -> bool:
        """Whether it belongs to none of the classes."""
        return self.label is None


@dataclass(frozen=True)
class Outcome:
    """answers: in the order picked; unanswered: ids that nobody answered; tied: those left out as votes are equal.

    remarks: what a person should know of, a line each.
    """

    answers: tuple[Settled, ...]
    unanswered: tuple[str, ...]
    tied: tuple[str, ...]
    remarks: tuple[str, ...]


def settle(
    request: Request,
    entries: Sequence[Entry],
    *,
    renames: Mapping[str, str] | None = None,
    resolve: str | None = None,
    skip_unknown: bool = False,
) -> Outcome:
    """One answer per image of the request, by majority.

    renames: a class for each name that annotators used for it, or NONE_OF_THESE. resolve: who wins where as many say
    one thing as another: "first" or "last" in the file, or an annotator; None leaves these images out. skip_unknown:
    images that were not asked for are counted instead of refused. Raises AnswersError, and UserError for renames or a
    resolve that mean nothing.
    """
    meaning = _Meaning(request.class_names, renames or {}, request.data.none_label)
    _check_resolve(resolve, entries)
    problems: list[str] = []
    remarks: list[str] = []

    places = _places(request, entries)
    strangers = [entry for entry, place in zip(entries, places, strict=True) if place is None]
    if strangers:
        who = listed(dict.fromkeys(entry.names[0] for entry in strangers))
        said = f"{_number(len(strangers), 'answer')} of images that the run did not ask for: {who}"
        (remarks if skip_unknown else problems).append(
            f"{said}: passed over" if skip_unknown else f"{said}; remove them, or give --skip-unknown"
        )

    votes: dict[str, dict[str, list[str | None]]] = defaultdict(lambda: defaultdict(list))
    for entry, place in zip(entries, places, strict=True):
        if place is None or not entry.said:
            continue
        named = [meaning.of(label) for label in entry.labels]
        votes[place][entry.annotator] += [*named, *([None] if entry.rejected else [])]
    if meaning.unknown:
        problems.append(meaning.problem())
    problems += _conflicts(request.ids, votes)
    if not problems and not votes:
        problems.append(f"none of the {len(request.ids)} images is answered")
    if problems:
        raise AnswersError(problems)

    answers, tied = [], []
    for name in request.ids:
        if name in votes:
            winner = _majority(votes[name], resolve)
            if winner is _TIED:
                tied.append(name)
            else:
                answers.append(Settled(name, winner, tuple(sorted(votes[name]))))  # type: ignore[arg-type]
    remarks += _remarks(votes, tied, resolve)
    unanswered = tuple(name for name in request.ids if name not in votes)
    return Outcome(tuple(answers), unanswered, tuple(tied), tuple(remarks))


class _Meaning:
    """Which class a name means."""

    def __init__(self, class_names: Sequence[str], renames: Mapping[str, str], none_label: str | None) -> None:
        self.class_names, self.unknown = class_names, Counter[str]()
        self._known: dict[str, str | None] = {NONE_OF_THESE: None}
        if none_label is not None:
            self._known[none_label] = None
        self._known.update({name: name for name in class_names})
        for name, target in renames.items():
            if target not in self._known:
                raise UserError(f"--rename {name}={target}: no class '{target}'; {nearest(target, self._known)}")
        self._known.update({name: self._known[target] for name, target in renames.items()})

    def of(self, label: str) -> str | None:
        """The class, None for none of them; what is unknown is counted and comes back as it is."""
        if label in self._known:
            return self._known[label]
        if label.strip() in self._known:  # blanks about a name mean nothing
            return self._known[label.strip()]
        self.unknown[label] += 1
        return label

    def problem(self) -> str:
        """What was unknown, in a line."""
        said = []
        for label, count in self.unknown.most_common(20):
            alike = [name for name in self._known if name.casefold() == label.strip().casefold()]
            hint = f"did you mean '{alike[0]}'?" if alike else nearest(label, self._known)
            said.append(f"'{label}' {count} time{'s' if count > 1 else ''}{f' ({hint})' if hint[:3] == 'did' else ''}")
        more = f" and {len(self.unknown) - 20} more" if len(self.unknown) > 20 else ""
        return (
            f"{_number(self.unknown.total(), 'answer')} by names of no class of the run: {', '.join(said)}{more}; the "
            f"classes are {listed(self.class_names)}: give --rename NAME=CLASS, or correct the file"
        )


_TIED = object()


def _places(request: Request, entries: Sequence[Entry]) -> list[str | None]:
    """Whose image each entry is about, None for nobody's."""
    asked, names = set(request.ids), Names(request.ids)
    found = [entry.names[0] if entry.is_id and entry.names[0] in asked else None for entry in entries]
    for number in range(max((len(entry.names) for entry in entries), default=0)):
        waiting = [i for i, e in enumerate(entries) if found[i] is None and not e.is_id and len(e.names) > number]
        for i, name in zip(waiting, names.found([entries[i].names[number] for i in waiting]), strict=True):
            found[i] = name
    return found


def _conflicts(ids: Sequence[str], votes: Mapping[str, Mapping[str, Sequence[str | None]]]) -> list[str]:
    said = []
    for name in ids:
        for who, labels in votes.get(name, {}).items():
            if len(set(labels)) > 1:
                given = " and ".join(f"'{NONE_OF_THESE if v is None else v}'" for v in dict.fromkeys(labels))
                said.append(f"'{name}' is {given}{f' by {who}' if who else ''}")
    if not said:
        return []
    more = f" and {len(said) - 20} more" if len(said) > 20 else ""
    return [f"{_number(len(said), 'image')} with two answers at once: {', '.join(said[:20])}{more}; keep one of each"]


def _majority(given: Mapping[str, Sequence[str | None]], resolve: str | None) -> object:
    """The answer with the most votes; _TIED where several have as many and nobody decides."""
    said = {who: labels[0] for who, labels in given.items()}
    counts = Counter(said.values())
    most = max(counts.values())
    leading = [answer for answer, count in counts.items() if count == most]  # in the order said
    if len(leading) == 1 or resolve == "first":
        return leading[0]
    if resolve == "last":
        return [answer for answer in said.values() if answer in leading][-1]
    if resolve in said and said[resolve] in leading:
        return said[resolve]
    return _TIED


def _remarks(
    votes: Mapping[str, Mapping[str, Sequence[str | None]]], tied: Sequence[str], resolve: str | None
) -> list[str]:
    remarks = []
    twice = sum(len(labels) - 1 for given in votes.values() for labels in given.values())
    if twice:
        remarks.append(f"{_number(twice, 'answer')} given twice alike, counted once")
    shared = [given for given in votes.values() if len(given) > 1]
    if shared:
        agreed = sum(len({labels[0] for labels in given.values()}) == 1 for given in shared)
        remarks.append(f"{_number(len(shared), 'image')} by several annotators, who agree on {agreed}")
    if tied:
        remedy = "" if resolve else "; --resolve first, last or ANNOTATOR decides"
        remarks.append(
            f"{_number(len(tied), 'image')} left out, as many say one thing as another: {listed(tied)}{remedy}"
        )
    return remarks


def _check_resolve(resolve: str | None, entries: Iterable[Entry]) -> None:
    if resolve in (None, "first", "last"):
        return
    known = {entry.annotator for entry in entries if entry.annotator}
    if resolve not in known:
        raise UserError(f"--resolve {resolve}: must be first, last, or an annotator; {nearest(str(resolve), known)}")


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
