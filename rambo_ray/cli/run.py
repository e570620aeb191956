"""`rambo run`, the main command: from its arguments to the files of a run."""

from __future__ import annotations

import argparse
import textwrap
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rambo_ray.acquisition.greedy import Selection
from rambo_ray.annotation import rounds
from rambo_ray.classifier.training import choose_kernels
from rambo_ray.cli.described import describe, describe_cluster
from rambo_ray.cli.entry import shown
from rambo_ray.cli.next_round import configuration
from rambo_ray.cli.plan import forecast_costs
from rambo_ray.cluster import pick
from rambo_ray.cluster.pick import Picked
from rambo_ray.cluster.run import check_reach
from rambo_ray.cluster.session import Session, connect
from rambo_ray.config.schema import Config
from rambo_ray.data.problem import Problem, Revealed
from rambo_ray.data.reading import Reading
from rambo_ray.errors import RunError, UserError
from rambo_ray.pipeline import choices, claims, once, plan, strategy_files
from rambo_ray.pipeline.outputs import Output, manifest
from rambo_ray.pipeline.plan import Plan
from rambo_ray.progress import Stages, duration
from rambo_ray.rambo import Outcome, run
from rambo_ray.report.content import ReportContent
from rambo_ray.report.page import render
from rambo_ray.report.reading import Judgement
from rambo_ray.report.words import things
from rambo_ray.utility_model import evidence, quadratic
from rambo_ray.utility_model.network import save
from rambo_ray.utility_model.quadratic import QuadraticFit

_SUMMARY_LETTERS = 90  # of a line of the summary, beside what it is about


def called(parsed: argparse.Namespace) -> int:
    """The command `run`; returns its exit code."""
    config = configuration(parsed)
    if parsed.output is not None:
        output_section = config.output.model_copy(update={"dir": parsed.output})
        config = config.model_copy(update={"output": output_section})
    with shown(parsed, config.output.progress_seconds) as stages:
        if parsed.dry_run:
            forecast_costs(config, stages)
        else:
            execute(config, stages)
    return 0


@dataclass(frozen=True)
class Finished:
    """A finished run: its files, what they hold, and how it went."""

    output: Output
    config: Config
    problem: Problem
    outcome: Outcome | Picked
    metrics: dict[str, Any]


def execute(config: Config, stages: Stages | None = None) -> dict[str, Any]:
    """Run `config` and write its files; returns what metrics.json holds. stages: default: lines on standard output.

    Raises UserError, before anything is written, for what cannot be run; RunError for what failed.
    """
    check_directory(config)
    began = time.monotonic()
    loaded = rounds.read(config, streams=True)
    stages = stages or Stages(every_s=config.output.progress_seconds)
    for text in loaded.said:
        stages.say(text)
    return execute_on(config, loaded.problem, loaded.revealed, stages, began, loaded.reading).metrics


def execute_on(
    config: Config,
    problem: Problem,
    revealed: Revealed | None,
    stages: Stages,
    began: float | None = None,
    reading: Reading | None = None,
) -> Finished:
    """The same for a problem that is in memory; `stages` is told how it goes, `began` is when reading it began.

    reading: what was read of one's own data, for the file data.json.
    """
    folder = check_directory(config)
    began = time.monotonic() if began is None else began
    config, chosen = choices.made(config, problem)
    problem, revealed = once.thinned(config, problem, revealed)
    todo = plan.make(config, problem)  # what cannot be run is said before a cluster is started
    config = todo.config
    stages.say("\n".join([describe(config, problem), *chosen, *todo.said]))
    with Output.claim(folder, config, problem=problem) as output:
        for text in output.said:
            stages.say(text)
        if reading is not None:
            output.write_json("data.json", reading.as_json())
        return _picked(todo, problem, revealed, output, stages, began)


def _picked(
    todo: Plan, problem: Problem, revealed: Revealed | None, output: Output, stages: Stages, began: float
) -> Finished:
    """The run in its directory: from a plan to its files."""
    config, selected = todo.config, output.folder / "selection.parquet"
    kept: list[dict[str, Any]] = []  # the manifest of a selection that is written

    def keep(seen: Problem, selection: Selection, made: Mapping[str, Any]) -> None:
        described = manifest(config, seen, todo.training.precision)
        output.write_json("manifest.json", {**described, "made": made})
        output.write_selection(selection, seen.pool.ids, seen.positions)
        kept.append(described)

    try:
        with connect(config.cluster, stages.say) as session:
            todo = todo.on(session.device, session.abilities)
            stages.say(describe_cluster(session, todo.training))
            if config.acquisition.strategy != "rambo":
                picked = pick.run(todo, problem, revealed, session, output.folder, stages, keep)
                total_s = time.monotonic() - began
                return by_strategy(todo, picked, revealed, session, output, stages, total_s, kept[0])
            check_reach(todo, problem, output.folder)
            outcome = run(todo, problem, revealed, session, output.folder, stages, keep)
            problem, revealed = outcome.problem, outcome.revealed
            metrics = _metrics(todo, problem, revealed, outcome, session, stages, time.monotonic() - began)
        _write(output, config, problem, revealed, outcome, metrics, kept[0])
    except Exception as error:  # a report is drawn from whatever users have: no failure of it may hide the selection
        if not kept or isinstance(error, UserError | BrokenPipeError):
            raise
        raise RunError(f"{_failed(error)}. The selection is made: {selected}") from error
    stages.finish(_summary(metrics, config, output), selected, metrics)
    return Finished(output, config, problem, outcome, metrics)


def _failed(error: Exception) -> str:
    """What failed after the selection was made, and what to do about it."""
    if isinstance(error, RunError):
        return str(error)
    said = " ".join(str(error).split())[:200]
    return (
        f"the report could not be made ({type(error).__name__}{': ' if said else ''}{said}); the same command again "
        "makes it, and trains no utility sample anew"
    )


def by_strategy(
    todo: Plan,
    picked: Picked,
    revealed: Revealed | None,
    session: Session,
    output: Output,
    stages: Stages,
    total_s: float,
    described: Mapping[str, Any],
) -> Finished:
    """The other files of a run whose images another strategy than RAMBO has picked, `acquisition.strategy`.

    described: what the manifest says of it.
    """
    config = todo.config
    metrics = strategy_files.metrics(
        config, picked.problem, revealed, picked, stages.seconds, total_s, session.describe()
    )
    output.write_json("metrics.json", metrics)
    content = ReportContent(
        config=config,
        metrics=metrics,
        manifest=described,
        problem=picked.problem,
        revealed=picked.revealed,
        selection=picked.selection,
        margins=picked.margins,
        view=picked.view,
        folder=str(output.folder),
    )
    output.write_text("report.html", render(content))
    said = strategy_files.summary(metrics, config, output.folder)
    stages.finish(said, output.folder / "selection.parquet", metrics)
    return Finished(output, config, picked.problem, picked, metrics)


def check_directory(config: Config) -> str:
    """The run's directory. Raises UserError where there is none, none can be, or another process is at work there."""
    if config.output.dir is None:
        raise UserError("output.dir=null: a run needs a directory for its files; give --output DIR")
    claims.refuse_early(config.output.dir)
    return config.output.dir


def _metrics(
    todo: Plan,
    problem: Problem,
    revealed: Revealed | None,
    outcome: Outcome,
    session: Session,
    stages: Stages,
    total_s: float,
) -> dict[str, Any]:
    ask, settings = todo.config.acquisition, todo.training
    images_seen = sum(s.measurement.images_seen for s in outcome.samples if s.measurement is not None)
    training_s = sum(s.measurement.seconds for s in outcome.samples if s.measurement is not None)
    has_test = revealed is not None and revealed.test is not None

    def accuracy(trained: Any) -> dict[str, Any] | None:
        if trained is None:
            return None
        scores = trained.scores
        return {name: scores[name].accuracy if name in scores else None for name in ("validation", "test")}

    return {
        "content": "embeddings" if problem.of_vectors else "images",
        "sizes": {
            "k": len(problem.labeled),
            "validation": len(problem.validation),
            "pool": problem.num_pool,
            "test": len(revealed.test) if has_test else 0,  # type: ignore[union-attr, arg-type]
            "budget": ask.budget,
            "batch_size": ask.batch_size,
            "margin_pool": ask.margin_pool,
            "num_pairs": todo.config.utility_samples.num_pairs,
        },
        "copies": {
            "exact": problem.copies.exact if problem.copies is not None else 0,
            "near": problem.copies.near if problem.copies is not None else 0,
            "of_images": problem.copies.copied if problem.copies is not None else 0,
        }
        if problem.survey is None
        else {"exact": problem.survey.copies, "near": 0, "of_images": None},
        "streamed": None if problem.survey is None else {"skipped": problem.survey.skipped, "kept": len(problem.pool)},
        "accuracy_before": accuracy(outcome.before),
        "accuracy_after": accuracy(outcome.after),
        "ranking": {
            "held_out_pairwise_accuracy": outcome.ranking.pairwise_accuracy,
            "held_out_kendall_tau": outcome.ranking.kendall_tau,
            "held_out_subsets": outcome.ranking.subsets,
            "held_out_size": outcome.ranking.size,
            "held_out_pairs": outcome.ranking.pairs,
            "held_out_tied_pairs": outcome.ranking.tied,
            "held_out_chance": list(outcome.ranking.chance),
            "held_out_by_size": {str(size): accuracy for size, accuracy in outcome.ranking.by_size},
            "held_out_gain": outcome.ranking.gain,
            "held_out_best_gain": outcome.ranking.best_gain,
            "val_pairwise_accuracy": outcome.fit.history[-1]["val_ranking_accuracy"] if outcome.fit.history else None,
        },
        "u_hat_followed": outcome.followed,
        "candidates_won": dict(Counter(outcome.selection.kinds)),
        "seconds": {**stages.seconds, "total": total_s},
        "collect": {
            "retrained": outcome.usage.retrained,
            "busy_fraction": outcome.usage.busy_fraction,
            "workers_replaced": outcome.usage.replaced,
            "quarantined": [one.as_json() for one in outcome.usage.quarantined],
            "damaged_files": outcome.usage.damaged_files,
            "passes_per_second": images_seen / training_s if training_s else None,
        },
        "precision": settings.precision,
        "kernels": choose_kernels(
            settings.classifier, settings.precision, session.device, settings.kernels, session.abilities
        ),
        "reproducible": settings.reproducible,
        "cluster": session.describe(),
    }


def _write(
    output: Output,
    config: Config,
    problem: Problem,
    revealed: Revealed | None,
    outcome: Outcome,
    metrics: dict[str, Any],
    described: Mapping[str, Any],
) -> None:
    if isinstance(outcome.fit, QuadraticFit):
        quadratic.save(
            outcome.fit.fitted,
            output.folder,
            {"inputs": evidence.names(problem.class_names, problem.rejected is not None)},
        )
    else:
        scale = outcome.fit.scale
        extra = {"ot_divisor": scale.ot, "scale": asdict(scale), "lambda": outcome.fit.lambdas}
        save(outcome.fit.model(), output.folder, extra)
    output.write_json("metrics.json", metrics)
    content = ReportContent(
        config=config,
        metrics=metrics,
        manifest=described,
        problem=problem,
        revealed=revealed,
        selection=outcome.selection,
        margins=outcome.margins,
        samples=outcome.samples,
        history=outcome.fit.history,
        held_out=outcome.held_out,
        u_hat=outcome.fit.fitted if isinstance(outcome.fit, QuadraticFit) else None,
        compared=outcome.compared,
        view=outcome.view,
        folder=str(output.folder),
    )
    output.write_text("report.html", render(content))


def _summary(metrics: dict[str, Any], config: Config, output: Output) -> str:
    def change(name: str) -> str | None:
        before, after = metrics["accuracy_before"][name], (metrics["accuracy_after"] or {}).get(name)
        if before is None:
            return None
        if after is None:
            return f"{before:.3f}"
        return f"{before:.3f} -> {after:.3f} ({100 * (after - before):+.1f} points)"

    lines = ["", f"{metrics['sizes']['budget']} {things(metrics)} picked in {duration(metrics['seconds']['total'])}"]
    rows = [("accuracy on S_val", change("validation")), ("accuracy on test", change("test"))]
    if metrics["ranking"]["held_out_subsets"]:
        said = Judgement.of(metrics, config).sentence("u_hat")
        lines_said = textwrap.wrap(said.replace(" %", "\u00a0%"), _SUMMARY_LETTERS)  # a number keeps its unit
        rows += [("" if i else "u_hat", line.replace("\u00a0", " ")) for i, line in enumerate(lines_said)]
    rows += [
        ("selection", str(output.folder / "selection.parquet")),
        ("report", str(output.folder / "report.html")),
    ]
    lines += [f"  {name:<18} {value}" for name, value in rows if value is not None]
    return "\n".join(lines)
