"""Rounds: what was bought in one round is known in the next.

S_1, which is S_0 with the annotators' answers, becomes S_0; the pool is without what was bought or refused; what was
refused, as it belongs to no class, is known to be so (`Problem.rejected`). S_val stays. What was asked for and not
answered stays in the pool. Everything goes by the pool's ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rambo_ray.annotation import record, request
from rambo_ray.annotation.request import Request
from rambo_ray.annotation.settled import Settled
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data import datasets
from rambo_ray.data.images import Images, LabeledImages
from rambo_ray.data.items import Items
from rambo_ray.data.problem import NONE, Labeled, Problem, Revealed, statistics
from rambo_ray.data.reading import Reading
from rambo_ray.errors import UserError

# Where the same images may lie, and what a later round may say otherwise of its data.
_MAY_DIFFER = ("data.root", "data.download")


@dataclass(frozen=True)
class Answered:
    """A round that is over: its request and the answers to it."""

    request: Request
    answers: tuple[Settled, ...]


@dataclass(frozen=True, eq=False)
class Loaded:
    """The problem of a run of any round, what an evaluation may know (None for one's own data), and what was read.

    said: what a person should be told of it, a text each.
    """

    problem: Problem
    revealed: Revealed | None
    reading: Reading | None
    said: tuple[str, ...]


def read(config: Config, streams: bool = False) -> Loaded:
    """The problem of a run of any round; streams: whether the pool of the first may stay in its files.

    Raises UserError where the data, the round before or its answers are not there or do not fit.
    """
    if config.round.after is None:
        first = datasets.read(config.data, config.seed, streams)
        text = () if first.reading is None else (first.reading.text(),)
        return Loaded(first.problem, first.revealed, first.reading, text)
    over = before(config)
    earlier = read(over.request.config)
    check_unchanged(over.request, earlier.problem)
    answers = over.answers_in(earlier.problem, earlier.revealed)
    problem, revealed = advanced(earlier.problem, earlier.revealed, answers)
    refused = sum(answer.rejected for answer in answers)
    copies = len(earlier.problem.pool) - len(problem.pool) - len(answers)
    line = f"round {config.round.number}, after {config.round.after}: {len(answers) - refused} images have joined S_0"
    line += f", {refused} belong to no class" if refused else ""
    line += f"; {copies} exact copies of them are out of the pool, too" if copies else ""
    return Loaded(problem, revealed, earlier.reading, (*earlier.said, line))


def load(config: Config) -> tuple[Problem, Revealed | None]:
    """The same without what is said."""
    loaded = read(config)
    return loaded.problem, loaded.revealed


@dataclass(frozen=True)
class _Before:
    """The round before, and where its answers are."""

    request: Request
    config: Config

    def answers_in(self, problem: Problem, revealed: Revealed | None) -> tuple[Settled, ...]:
        """The answers to it, in its order."""
        asked = self.request
        if self.config.round.answers == "annotations":
            found = record.read(asked)
            if not found:
                raise UserError(
                    f"round.after={asked.folder}: holds no {record.ANNOTATIONS}, so nobody has answered; take the "
                    f"answers in with rambo labels {asked.folder} FILE"
                )
            return found
        if revealed is None:
            raise UserError("round.answers=revealed: your own pool hides no labels; set round.answers=annotations")
        places = {name: place for place, name in enumerate(problem.pool.ids)}
        labels = [int(revealed.pool_labels[places[name]]) for name in asked.ids]
        names = [None if label == NONE else problem.class_names[label] for label in labels]
        return tuple(Settled(name, label, ("revealed",)) for name, label in zip(asked.ids, names, strict=True))


def check_first(config: Config, what: str) -> None:
    """Raise UserError where `what`, which reads its data without rounds, is asked about a later one."""
    if config.round.number > 1:
        raise UserError(
            f"round.number={config.round.number}: {what} knows nothing of rounds; give it the labelled set that rambo "
            "labels has written, and leave out round.*"
        )


def before(config: Config) -> _Before:
    """The round before a later one's. Raises UserError where it is none, or of other data."""
    after = config.round.after
    assert after is not None
    asked = request.read(after)
    number = asked.config.round.number
    if config.round.number != number + 1:
        raise UserError(f"round.number={config.round.number}: {after} is round {number}; set round.number={number + 1}")
    differing = [
        key
        for key in loading.differences(expected(asked), config)
        if key.startswith("data.") and key not in _MAY_DIFFER
    ]
    if differing:
        key = differing[0]
        there, here = (loading.flatten(each)[key] for each in (expected(asked), config))
        raise UserError(f"{key}={here}: {after} has {there}, and a later round has the same data; set {key}={there}")
    return _Before(asked, config)


def expected(asked: Request) -> Config:
    """A round's configuration, with the seed of its split said, so that a next one with another seed splits alike."""
    config = asked.config
    drawn = config.data.name != "own" or config.data.validation is None  # S_val may be a share of the labelled images
    if not drawn or config.data.split_seed is not None:
        return config
    return loading.with_values(config, {"data.split_seed": config.seed})


def check_unchanged(asked: Request, problem: Problem) -> None:
    """Raise UserError where the data are not those that the run of a request saw."""
    if problem.fingerprint != asked.fingerprint or problem.pool_fingerprint != asked.pool_fingerprint:
        what = "pool" if problem.fingerprint == asked.fingerprint else "labelled or validation set"
        raise UserError(
            f"{asked.folder}: the {what} has changed since its run, so positions and samples no longer hold; put the "
            "files back as they were, they are read from where the run read them"
        )


def chain(asked: Request) -> tuple[Answered, ...]:
    """The rounds before a request's own, the first one first, with the answers to each."""
    if asked.config.round.after is None:
        return ()
    over = before(asked.config)
    problem, revealed = load(over.request.config)
    return (*chain(over.request), Answered(over.request, over.answers_in(problem, revealed)))


def advanced(
    problem: Problem, revealed: Revealed | None, answers: Sequence[Settled]
) -> tuple[Problem, Revealed | None]:
    """The problem after `answers`, which are of images of its pool, and what stays hidden of it.

    Exact copies of what was answered leave the pool, too: nobody would learn anything from their labels. Raises
    UserError where nothing is left in the pool.
    """
    places = {name: place for place, name in enumerate(problem.pool.ids)}
    positions = np.array([places[answer.id] for answer in answers], dtype=np.int64)
    labels = codes(problem, answers)
    contents = problem.pool.digests()
    known = {contents[place] for place in positions}
    left = np.array([place for place, content in enumerate(contents) if content not in known], dtype=np.int64)
    if not len(left):
        raise UserError("every image of the pool is annotated, or a copy of one that is: there is nothing left to pick")
    bought, refused = positions[labels != NONE], positions[labels == NONE]
    labeled = _with(problem.labeled, problem.pool.take(bought), labels[labels != NONE])
    rejected = problem.pool.take(refused) if len(refused) else None
    if problem.rejected is not None and rejected is not None:
        rejected = _joined(problem.rejected, rejected)
    mean, std = problem.mean, problem.std
    if isinstance(labeled, LabeledImages) and _are_its_own(problem):
        mean, std = statistics(labeled.pixels)
    after = replace(
        problem,
        labeled=labeled,
        pool=problem.pool.take(left),
        rejected=problem.rejected if rejected is None else rejected,
        mean=mean,
        std=std,
    )
    return after, None if revealed is None else replace(revealed, pool_labels=revealed.pool_labels[left])


def codes(problem: Problem, answers: Sequence[Settled]) -> np.ndarray:
    """The answers' classes, int64 [n], NONE for those that belong to none."""
    code = {name: number for number, name in enumerate(problem.class_names)}
    return np.array([NONE if a.label is None else code[a.label] for a in answers], dtype=np.int64)


def _are_its_own(problem: Problem) -> bool:
    """Whether the normalisation is S_0's own, and no benchmark's usual one."""
    assert isinstance(problem.labeled, LabeledImages)
    return (problem.mean, problem.std) == statistics(problem.labeled.pixels)


def _with(labeled: Labeled, bought: Items, labels: np.ndarray) -> Labeled:
    joined = _joined(labeled.unlabeled(), bought)
    return type(labeled)(joined.array, joined.ids, np.concatenate([labeled.labels, labels]))


def _joined(first: Items, second: Items) -> Items:
    """Both, the first ones first. Ids belong to their set, so what comes from the pool says so where it must."""
    taken, ids = set(first.ids), list(first.ids)
    for name in second.ids:
        while name in taken:
            name = f"pool/{name}"
        taken.add(name)
        ids.append(name)
    array = np.concatenate([first.array, second.array])
    made = Images if isinstance(first, Images) else type(first)
    return made(array, tuple(ids))  # type: ignore[call-arg]
