"""`rambo backtest`: will this beat random on these images? Rounds played with labelled ones only say so."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rambo_ray.acquisition.baselines import own
from rambo_ray.annotation import rounds as reading
from rambo_ray.backtest import alike, cost, folds, report, verdict
from rambo_ray.backtest import mix as class_mix
from rambo_ray.backtest.folds import Fold
from rambo_ray.backtest.gains import Round
from rambo_ray.backtest.playing import Material, plan_of
from rambo_ray.backtest.report import Played
from rambo_ray.backtest.store import PlayStore, identity
from rambo_ray.backtest.verdict import RANDOM, Verdict
from rambo_ray.benchmark.experiment import Method
from rambo_ray.cli.entry import shown
from rambo_ray.cli.next_round import configuration
from rambo_ray.cluster import backtest
from rambo_ray.cluster.backtest import Rules
from rambo_ray.cluster.session import connect
from rambo_ray.config import loading
from rambo_ray.config.schema import STRATEGY_NAMES, Config
from rambo_ray.data.problem import Problem
from rambo_ray.errors import UserError, nearest
from rambo_ray.pipeline import choices, claims, once, plan
from rambo_ray.pipeline.forecast import Probe, Stage
from rambo_ray.pipeline.outputs import Output
from rambo_ray.pipeline.plan import Plan
from rambo_ray.progress import Stages, duration

MADE = ("backtest.json", "backtest.md", "backtest.csv", "backtest.png")

PAIRS, HELD_OUT, OPINIONS = 60, 40, 5  # of RAMBO in a played round at most: it has a third of S_val, too

# All that need no rejected images.
METHODS = tuple(name for name in STRATEGY_NAMES if name != "margin_accepted")


@dataclass(frozen=True)
class Asked:
    """What is to be played: rounds, by whom, and where the files go (None: nowhere).

    command: what asked for it; run: what picks the real images by RAMBO; by: the same by a strategy, of its name.
    """

    folds: int
    methods: tuple[str, ...]
    folder: Path | None
    command: str
    run: str
    by: str = "{run} acquisition.strategy={strategy}"

    def picks(self, method: str) -> str:
        """What picks the real images by a method."""
        return self.run if method == "rambo" else self.by.format(run=self.run, strategy=method)


@dataclass(frozen=True)
class Found:
    """A finished backtest."""

    verdict: Verdict
    played: Played
    rounds: tuple[Round, ...]


def called(parsed: argparse.Namespace) -> int:
    """The command `backtest`; returns its exit code."""
    config = configuration(parsed)
    check_folds(parsed.folds, "--folds ")
    named = {"config": parsed.config, "round": parsed.round, "after": parsed.after, "answers": parsed.answers}
    given = [f"--{name} {shlex.quote(str(value))}" for name, value in named.items() if value is not None]
    overrides = [shlex.quote(o) for o in parsed.overrides if not o.startswith("acquisition.strategy=")]
    command = ["rambo backtest", *given, f"--folds {parsed.folds}"]
    command += [f"--methods {','.join(parsed.methods)}"] if parsed.methods else []
    command += [f"--output {shlex.quote(parsed.output)}"] if parsed.output else []
    asked = Asked(
        folds=parsed.folds,
        methods=methods(parsed.methods),
        folder=Path(parsed.output).expanduser() if parsed.output else None,
        command=" ".join([*command, *overrides]),
        run=" ".join(["rambo run", *given, "--output DIR", *overrides]),
    )
    with shown(parsed, config.output.progress_seconds) as stages:
        execute(config, asked, stages)
    return 0


def check_folds(folds: int, named: str) -> None:
    """Raise UserError for a number of rounds that says nothing; `named`: what it was given as."""
    if folds < 2:
        raise UserError(f"{named}{folds}: must be 2 or more, so that there is an interval; give 2 or more")


def methods(named: Sequence[str] | None) -> tuple[str, ...]:
    """The methods to play, random always among them. Raises UserError for one that there is not."""
    for name in named or ():
        if name not in STRATEGY_NAMES and own.find(name) is None:
            hint = nearest(name, (*STRATEGY_NAMES, *own.registered()))
            raise UserError(f"--methods {name}: no such method; {hint} (or give package.module:function of your own)")
    chosen = tuple(dict.fromkeys(named or METHODS))
    if not set(chosen) - {RANDOM}:
        raise UserError("--methods random: there is nothing to compare it with; name another method, too")
    return chosen if RANDOM in chosen else (*chosen, RANDOM)


def execute(config: Config, asked: Asked, stages: Stages) -> Found:
    """Play the rounds, write the files and say what came out; `stages` is told how it goes.

    Raises UserError, before anything is written, for what cannot be played; RunError for what failed.
    """
    if asked.folder is not None:
        claims.refuse_early(asked.folder)
    loaded = reading.read(config)
    for text in loaded.said:
        stages.say(text)
    return execute_on(config, loaded.problem, asked, stages)


def execute_on(config: Config, problem: Problem, asked: Asked, stages: Stages) -> Found:
    """The same for a problem that is in memory."""
    began = time.monotonic()
    config, chosen = choices.made(config, problem)
    problem, _ = once.thinned(config, problem, None)
    config = of_rounds(config)
    seen, num_pool = backtest.looked_at(problem), len(problem.pool)
    rules = Rules()
    check(config, problem, asked.methods, rules, asked.folds)
    stages.say(
        f"Backtest on {config.data.name}: {len(problem.labeled)} labelled, {len(problem.validation)} validation, "
        f"{num_pool} in the pool; {len(asked.methods)} methods x {asked.folds} rounds"
        + "".join(f"\n{line}" for line in chosen)
    )
    with claimed(asked.folder, config) as output:
        for line in () if output is None else output.said:
            stages.say(line)
        competitors = [Method(name, name, {}) for name in asked.methods]
        digests = {m.name: m.own.digest for m in competitors if m.own is not None}
        store = PlayStore(None if output is None else output.folder / "rounds", digests)
        for line in store.said:
            stages.say(line)
        with connect(config.cluster, stages.say) as session:
            stages.say(f"Ray: {session.describe()}")
            made, mix = backtest.material(session, config, seen, num_pool, stages)
            validation, rejected = alike.of(config, problem, made.validation, made.rejected)
            if (said := alike.sentence(validation)) is not None:
                stages.say(said)
            made = replace(made, same=alike.joined(validation, rejected))
            drawn = draw(config, made, mix, asked.folds, rules)
            todo = [plan_of(config, made, fold, rules.shares.bought) for fold in drawn]
            mine = identity(config, made, mix, rules.numbers)
            backtest.run(session, config, made, drawn, competitors, rules, mine, store, stages)
        rounds = tuple(store.round(mine, fold.number, asked.methods) for fold in drawn)
        even = not len(made.rejected) and class_mix.is_even(mix, len(problem.labeled))
        found = verdict.verdict(rounds, asked.methods, even)
        played = Played(
            rounds=len(rounds),
            bought=round(float(np.mean([one.config.acquisition.budget for one in todo]))),
            pool=float(np.mean([len(fold.pool) for fold in drawn])),
            validation=float(np.mean([len(fold.validation) for fold in drawn])),
            judges=float(np.mean([len(fold.judges) for fold in drawn])),
            mix=tuple(float(share) for share in mix),
            class_names=problem.class_names,
            budget=config.acquisition.budget,
            num_pool=num_pool,
            copies=alike.sentence(validation),
        )
        finished = Found(found, played, rounds)
        say(finished, asked, output, stages, time.monotonic() - began)
        return finished


def of_rounds(config: Config) -> Config:
    """`config` with RAMBO's effort that of a played round: at most PAIRS pairs, and so on."""
    limits = {"num_pairs": PAIRS, "num_held_out": HELD_OUT, "evidence_folds": OPINIONS}
    samples, ask = config.utility_samples, config.acquisition.model_copy(update={"strategy": "rambo"})
    fewer = {key: limit for key, limit in limits.items() if getattr(samples, key) > limit}
    # They do not count as set: in a round that is too small for them they give way.
    samples = samples.model_copy(update=fewer).unset(*fewer)
    return config.model_copy(update={"utility_samples": samples, "acquisition": ask})


def draw(config: Config, made: Material, mix: np.ndarray, count: int, rules: Rules) -> list[Fold]:
    """The rounds' divisions of S_val, `count` of them; round i never depends on how many there are."""
    labels, rejected, k = made.problem.validation.labels, len(made.rejected), len(made.labeled)
    return [folds.draw(i, labels, rejected, k, mix, rules.shares, config.seed, made.same) for i in range(count)]


def costed(config: Config, problem: Problem, count: int) -> Callable[[Probe, int], Stage]:
    """What says the cost of a backtest of `count` rounds by all methods, of a probe and a number of workers.

    Raises UserError, as `check`, for what cannot be played.
    """
    rules = Rules()
    todo = check(of_rounds(config), problem, METHODS, rules)
    k, validation = len(problem.labeled), round(len(problem.validation) * rules.shares.validation)
    return lambda probe, workers: cost.stage(probe, todo, METHODS, count, rules.draws, k, validation, workers)


def check(config: Config, problem: Problem, methods: Sequence[str], rules: Rules, count: int = 1) -> Plan:
    """The plan of the first of `count` rounds; raises UserError for what cannot be played, before a cluster is started.

    The pool's classes are not known then: S_0's labels stand for them.
    """
    settings = plan.training_settings(config, problem)
    plan.make(config, problem, settings)
    seen = problem.labeled.array
    rejected = seen[:0] if problem.rejected is None else problem.rejected.array
    held = backtest.single(problem)
    same = alike.joined(*alike.of(config, problem))  # but for near-copies by embeddings that are not known yet
    made = Material(held, seen, problem.validation.array, rejected, settings, len(problem.pool), same=same)
    mix = class_mix.counted(problem.labeled.labels, len(problem.class_names))
    fold, *_ = draw(config, made, mix, count, rules)
    if "margin_accepted" in methods and not len(rejected):
        raise UserError("--methods margin_accepted: no images were rejected before; leave it out")
    return plan_of(config, made, fold, rules.shares.bought)


@contextmanager
def claimed(folder: Path | None, config: Config) -> Iterator[Output | None]:
    """The output directory, this process's alone until the block ends; None for none.

    Raises UserError where other results are, another process is at work, or nothing can be written.
    """
    if folder is None:
        yield None
        return
    with Output.other(folder, "backtest.yaml", loading.dump(config), "backtest", MADE) as output:
        yield output


def say(found: Found, asked: Asked, output: Output | None, stages: Stages, seconds: float) -> None:
    """Tell the person, and write the files."""
    own = found.verdict
    commands = {name: asked.picks(name) for name in (own.recommended, own.best.method, RANDOM)}
    advice = f"To pick the images so: {commands[own.recommended]}"
    lines = ["", report.brief(own), "", found.played.sentence, *own.sentences, advice]
    content = report.content(own, found.played, found.rounds, asked.command, commands)
    if output is not None:
        shown = ["To pick the images so:", f"`{commands[own.recommended]}`"]
        output.write_json("backtest.json", content)
        output.write_text("backtest.md", report.markdown(own, found.played, asked.command, shown))
        output.write_text("backtest.csv", report.comma_separated(own))
        output.write_bytes("backtest.png", report.plot(own))
        lines += [
            f"\n{duration(seconds)}; files in {output.folder}:",
            "  backtest.json  backtest.md  backtest.csv  backtest.png  rounds/",
        ]
    stages.finish("\n".join(lines), None if output is None else output.folder / "backtest.md", content)
