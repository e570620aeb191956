"""`rambo labels`: the annotators' answers taken in, what they were worth, and the labelled set with them."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rambo_ray import locks, numerics
from rambo_ray.annotation import labeled_set, record, request, returned, rounds, settled
from rambo_ray.annotation.answers import LABELS
from rambo_ray.annotation.entries import NONE_OF_THESE, Entry
from rambo_ray.annotation.request import Request
from rambo_ray.annotation.settled import AnswersError, Outcome, Settled
from rambo_ray.cli.entry import shown
from rambo_ray.cluster import embed
from rambo_ray.cluster.run import ClusterRun
from rambo_ray.cluster.session import connect
from rambo_ray.cluster.tasks import TrainedClassifier
from rambo_ray.config.schema import Config
from rambo_ray.data.problem import Problem, Revealed
from rambo_ray.errors import UserError
from rambo_ray.files import finite, remove_leftovers, replacing
from rambo_ray.locks import Owner
from rambo_ray.pipeline import choices, plan
from rambo_ray.progress import Stages

ANSWERED = "answered.json"


def called(parsed: argparse.Namespace) -> int:
    """The command `labels`; returns its exit code."""
    asked = request.read(parsed.run)
    locks.refuse_held(asked.folder / locks.RUN, _busy)
    numerics.settle(asked.config.cluster.reproducible, restart=parsed.restart)
    with shown(parsed, asked.config.output.progress_seconds) as stages:
        outcome = _settled(asked, parsed, stages)
        earlier = record.read(asked) if not parsed.replace else _readable(asked)
        answers = record.joined(asked, earlier, outcome.answers, replace=parsed.replace)
        execute(asked, answers, stages, output=parsed.output, train=not parsed.no_train, tied=outcome.tied)
    return 0


def execute(
    asked: Request,
    answers: Sequence[Settled],
    stages: Stages,
    *,
    output: str | None = None,
    train: bool = True,
    tied: Sequence[str] = (),
) -> dict[str, Any]:
    """Keep the answers to a request, write the labelled set with them, train f on it; returns what answered.json holds.

    output: where that set goes; default: labeled_round_N in the run's folder. train: False for no training. tied: ids
    whose answers were left out. Raises UserError, before anything is written, for data that have changed or an output
    that exists; RunError where the training failed, with the answers kept.
    """
    problem, revealed = rounds.load(asked.config)
    rounds.check_unchanged(asked, problem)
    config, _ = choices.made(asked.config, problem)
    found: dict[str, Any] = {"round": config.round.number, **_counts(asked, answers, tied)}
    with locks.held(asked.folder / locks.RUN, _busy), labeled_set.written(asked, answers, output) as merged:
        remove_leftovers(asked.folder)
        record.write(asked, answers)
        stages.say(_taken(asked, problem, answers, found))
        if train:
            found.update(_worth(asked, config, problem, revealed, answers, stages))
        if merged is not None:
            stages.say(f"labelled set with the answers: {merged.keep()}")
            for line in merged.remarks:
                stages.say(f"  {line}")
        elif asked.data.name == "own":
            stages.say(f"data.labeled={asked.data.labeled} is not written again in its form; the next round needs none")
        with replacing(asked.folder / ANSWERED) as temporary:
            temporary.write_text(json.dumps(finite(found), indent=2) + "\n", encoding="utf-8")
    ahead = f"next: rambo run --round {config.round.number + 1} --after {asked.folder} --output NEW_DIR"
    stages.finish(ahead, asked.folder / record.ANNOTATIONS, found)
    return found


def _busy(folder: Path, owner: Owner) -> str:
    return f"{folder}: {owner} is at work there; wait for it or end it"


def _settled(asked: Request, parsed: argparse.Namespace, stages: Stages) -> Outcome:
    """The answers in the files that were given."""
    files = parsed.files or [str(asked.folder / LABELS)]
    if not parsed.files and not Path(files[0]).is_file():
        raise UserError(
            f"{asked.folder}: no answers yet; give the file that the annotators returned, or label: rambo label "
            f"{asked.folder}"
        )
    entries: list[Entry] = []
    for file in files:
        found, remark = returned.read(file, parsed.format, parsed.field)
        if remark:
            stages.say(remark)
        if len(files) > 1:  # a file each, as nobody else says who
            found = [entry if entry.annotator else replace(entry, annotator=Path(file).name) for entry in found]
        entries += found
    renames = dict(_rename(text) for text in parsed.rename or [])
    try:
        outcome = settled.settle(
            asked, entries, renames=renames, resolve=parsed.resolve, skip_unknown=parsed.skip_unknown
        )
    except AnswersError as error:
        for line in error.lines if len(error.lines) > 1 else ():
            stages.say(line)
        raise
    for line in outcome.remarks:
        stages.say(line)
    return outcome


def _rename(text: str) -> tuple[str, str]:
    name, equals, target = text.rpartition("=")
    if not equals or not name:
        raise UserError(f"--rename {text}: write NAME=CLASS, such as Cat=cat, or NAME='{NONE_OF_THESE}'")
    return name, target


def _readable(asked: Request) -> tuple[Settled, ...]:
    """The answers so far, where they are of this run."""
    try:
        return record.read(asked)
    except UserError:
        return ()


def _counts(asked: Request, answers: Sequence[Settled], tied: Sequence[str]) -> dict[str, int]:
    rejected = sum(answer.rejected for answer in answers)
    left_out = len(set(tied) - {answer.id for answer in answers})
    return {
        "asked": len(asked.ids),
        "labelled": len(answers) - rejected,
        "rejected": rejected,
        "tied": left_out,
        "unanswered": len(asked.ids) - len(answers) - left_out,
    }


def _taken(asked: Request, problem: Problem, answers: Sequence[Settled], counts: Mapping[str, int]) -> str:
    """How many were answered, and the classes of S_0 and of what was bought."""
    lines = [
        f"{len(answers)} of {counts['asked']} images answered: {counts['labelled']} labelled, {counts['rejected']} "
        f"{NONE_OF_THESE}, {counts['tied']} tied, {counts['unanswered']} without an answer; in "
        f"{asked.folder / record.ANNOTATIONS}"
    ]
    before = np.bincount(problem.labeled.labels, minlength=len(problem.class_names))
    bought = Counter(answer.label for answer in answers)
    width = max(len(name) for name in (*problem.class_names, "class"))
    lines.append(f"  {'class':<{width}}  {'S_0':>6}  {'bought':>6}  {'S_1':>6}")
    for name, count in zip(problem.class_names, before, strict=True):
        lines.append(f"  {name:<{width}}  {count:>6}  {bought[name]:>6}  {count + bought[name]:>6}")
    return "\n".join(lines)


def _worth(
    asked: Request,
    config: Config,
    problem: Problem,
    revealed: Revealed | None,
    answers: Sequence[Settled],
    stages: Stages,
) -> dict[str, Any]:
    """Train f on S_1 and say what the answers were worth, beside what u_hat expected."""
    places = {name: place for place, name in enumerate(problem.pool.ids)}
    acquired = np.array([places[answer.id] for answer in answers], dtype=np.int64)
    todo = plan.make(config, problem)
    with connect(config.cluster, stages.say) as session:
        todo = todo.on(session.device, session.abilities)
        stages.begin("final classifier")
        seen = embed.inputs(session, config, problem, revealed, stages.progress)
        cluster = ClusterRun(session, todo, problem, revealed, seen)
        after = cluster.answered_classifier(acquired, rounds.codes(problem, answers))
        stages.end()
    metrics = json.loads((asked.folder / "metrics.json").read_text(encoding="utf-8"))
    found = _compared(after, metrics, asked, config)
    stages.say(_said(found, config, len(answers), len(asked.ids)))
    return found


def _compared(after: TrainedClassifier, metrics: Mapping[str, Any], asked: Request, config: Config) -> dict[str, Any]:
    """Accuracies before and after; u_hat's forecast where it made one in units of the utility."""
    names = ("validation", "test")
    measured = {name: after.scores[name].accuracy if name in after.scores else None for name in names}
    validation = after.scores["validation"]
    utility = {
        "accuracy": validation.accuracy,
        "soft_accuracy": validation.soft_accuracy,
        "neg_val_loss": -validation.val_loss,
    }[config.utility_samples.utility]
    # The network ranks, and its scores have no unit; the quadratic u_hat says what f would be worth in the end.
    says_level = config.utility_model.architecture == "quadratic" and metrics.get("u_hat_followed", False)
    return {
        "accuracy_before": metrics["accuracy_before"],
        "accuracy_after": measured,
        "utility_after": utility,
        "utility_forecast": request.last_utility(asked) if says_level else None,
        "ranking_gain_forecast": (metrics.get("ranking") or {}).get("held_out_gain"),
    }


def _said(found: Mapping[str, Any], config: Config, answered: int, asked: int) -> str:
    lines = []
    for name, called_so in (("validation", "S_val"), ("test", "test")):
        before, after = found["accuracy_before"].get(name), found["accuracy_after"][name]
        if before is not None and after is not None:
            lines.append(
                f"accuracy on {called_so:<6} {before:.3f} -> {after:.3f} ({100 * (after - before):+.1f} points)"
            )
    unit = config.utility_samples.utility.replace("_", " ")
    if (forecast := found["utility_forecast"]) is not None:
        partly = "" if answered == asked else f", for all {asked} images"
        lines.append(
            f"{unit}: u_hat expected {forecast:.3f}{partly}, cautiously; it is {found['utility_after']:.3f} on S_val"
        )
    elif config.utility_model.architecture == "quadratic":
        lines.append(f"{unit} on S_val: {found['utility_after']:.3f}; the run followed the margin filter, no forecast")
    return "\n".join(lines)
