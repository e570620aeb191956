"""`rambo collect`: the utility samples of a run and nothing else.

On a cluster they are nearly all of the work. What is collected here is what `rambo run` with the
same configuration and `--output` would train first, so that it goes on from there; a sweep or a
benchmark reads it by `--samples DIR/utility_samples`.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from rambo_ray.annotation import rounds
from rambo_ray.cli.entry import configuration, shown
from rambo_ray.cluster import embed
from rambo_ray.cluster.run import ClusterRun
from rambo_ray.cluster.session import connect
from rambo_ray.config.schema import Config, is_head
from rambo_ray.data.problem import Problem
from rambo_ray.pipeline import choices, claims, left_out, once, plan
from rambo_ray.pipeline.outputs import Output
from rambo_ray.pipeline.plan import Measured, Plan
from rambo_ray.progress import Stages, duration
from rambo_ray.utility_samples.store import SampleStore


def called(parsed: argparse.Namespace) -> int:
    """The command `collect`; returns its exit code."""
    config = configuration(parsed)
    with shown(parsed, config.output.progress_seconds) as stages:
        execute(config, parsed.output, stages)
    return 0


def execute(config: Config, folder: str, stages: Stages | None = None) -> Measured:
    """Measure all utility samples that a run of `config` in `folder` needs and lacks.

    stages: default: lines on standard output.

    Raises UserError, before anything is written, for what cannot be run; RunError for what failed.
    """
    claims.refuse_early(folder)
    began = time.monotonic()
    loaded = rounds.read(config)
    problem = loaded.problem
    stages = stages or Stages(every_s=config.output.progress_seconds)
    for text in loaded.said:
        stages.say(text)
    config, chosen = choices.made(config, problem)
    problem, _ = once.thinned(config, problem, None)
    todo = plan.make(config, problem)
    config = todo.config
    for line in (*chosen, *todo.said):
        stages.say(line)
    stages.say(
        f"Utility samples of {config.data.name}, k={len(problem.labeled)}: {len(todo.offline) // 2} pairs of subsets, "
        f"{len(todo.rounds) // 2} of mock rounds, {len(todo.nested_sets)} nested sets, {len(todo.held_out)} held out"
    )
    with Output.claim(folder, config) as output:
        for line in output.said:
            stages.say(line)
        return _collected(todo, problem, output, stages, began)


def _collected(todo: Plan, problem: Problem, output: Output, stages: Stages, began: float) -> Measured:
    config = todo.config
    with connect(config.cluster, stages.say) as session:
        stages.say(f"Ray: {session.describe()}")
        store = SampleStore.of_run(output.folder, config)
        for line in store.said:
            stages.say(line)
        if is_head(config.classifier.name):
            stages.begin("embeddings")
        seen = embed.inputs(session, config, problem, None, stages.progress)
        cluster = ClusterRun(session, todo.on(session.device, session.abilities), problem, None, seen)
        if todo.mock_pool is not None:  # which rounds a run draws depends on the evidence
            stages.begin("evidence")
            cluster.draw_rounds(stages.progress)
        stages.begin("utility samples")
        measured, usage = cluster.measure(store, stages.progress)
        stages.end()
        tries, pairs = config.cluster.max_tries, cluster.plan.num_pairs
        for line in left_out.lines(usage.quarantined, tries, pairs, measured.num_pairs):
            stages.say(line)
    utilities = np.array([s.utility for s in measured.retrained])
    made, seconds = output.folder / "utility_samples", time.monotonic() - began
    lines = [
        f"\n{len(utilities)} utility samples, {usage.retrained} of them trained now, in {duration(seconds)}; utility "
        f"{utilities.min():.3f} to {utilities.max():.3f}"
    ]
    if usage.retrained:
        lines.append(f"actors were training {usage.busy_fraction:.0%} of their time")
    lines.append(f"files in {made}; go on with rambo run --output {output.folder}")
    figures = {"samples": len(utilities), "retrained": usage.retrained, "busy_fraction": usage.busy_fraction}
    figures |= {"quarantined": len(usage.quarantined), "damaged_files": store.damaged, "seconds": seconds}
    stages.finish("\n".join(lines), made, figures)
    return measured
