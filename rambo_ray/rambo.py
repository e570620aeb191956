"""RAMBO, top to bottom: Fig. 2 of the paper as one function over the stages of the package.

`run` reads in the order of the figure; the numbers beside the steps are its lines. What each stage
computes is in the package of its noun, how it is spread over a cluster in `rambo_ray.cluster`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rambo_ray.acquisition.greedy import Selection
from rambo_ray.acquisition.pool_view import PoolView
from rambo_ray.cluster import embed, narrow
from rambo_ray.cluster.run import ClusterRun
from rambo_ray.cluster.session import Session
from rambo_ray.cluster.tasks import TrainedClassifier
from rambo_ray.cluster.workers import Usage
from rambo_ray.config.schema import is_head
from rambo_ray.data.problem import Problem, Revealed
from rambo_ray.pipeline import judging, left_out, once
from rambo_ray.pipeline.judging import AnyFit
from rambo_ray.pipeline.outputs import Keep
from rambo_ray.pipeline.plan import Plan, fit_input, with_utilities
from rambo_ray.progress import Stages
from rambo_ray.utility_model import checkpoints
from rambo_ray.utility_model.evidence import ComparedEvidence
from rambo_ray.utility_model.ranking import HeldOut, RankingQuality
from rambo_ray.utility_samples.sampling import UtilitySample
from rambo_ray.utility_samples.store import SampleStore


@dataclass(frozen=True)
class Outcome:
    """What a run found.

    problem, revealed: those that were given, but for images of the pool that are left out as near-copies of others;
    where the pool is streamed, with what a pass over it has left. Selection and margins have positions in that pool.
    held_out: how u_hat does on sets it was not fitted to; followed: whether the run took its word; compared: what
    the picked images' evidence is like, None without mock rounds; view: a part of the pool as f sees it.
    """

    problem: Problem
    revealed: Revealed | None
    selection: Selection
    margins: np.ndarray
    samples: list[UtilitySample]
    fit: AnyFit
    before: TrainedClassifier
    after: TrainedClassifier | None
    held_out: HeldOut
    ranking: RankingQuality
    followed: bool
    compared: ComparedEvidence | None
    view: PoolView
    usage: Usage


def run(
    plan: Plan,
    problem: Problem,
    revealed: Revealed | None,
    session: Session,
    folder: Path,
    stages: Stages,
    keep: Keep = lambda problem, selection, made: None,
) -> Outcome:
    """Pick B pool images for `problem` (Fig. 2); `revealed` is read only after the selection is made.

    Utility samples and checkpoints are kept in `folder`, so that the same call after a crash goes on. keep: is given
    the selection as soon as it is made, before anything else that may fail.
    Raises RunError for what the cluster failed at.
    """
    config = plan.config
    store = SampleStore.of_run(folder, config)
    for line in store.said:
        stages.say(line)
    if is_head(config.classifier.name):
        stages.begin("embeddings")
    if problem.streamed is not None:
        seen = narrow.inputs(session, config, problem, folder, stages.progress)
    else:
        seen = embed.inputs(session, config, problem, revealed, stages.progress)
        total = len(problem.pool)
        problem, revealed, seen = once.thinned_by_embeddings(config, problem, revealed, seen)
        if len(problem.pool) < total and problem.copies is not None:
            stages.say(problem.copies.sentence())
    cluster = ClusterRun(session, plan, problem, revealed, seen)

    if problem.streamed is not None:  # line 16 before all others: a pool that cannot be read is known of at once
        stages.begin("base classifier")
        _ = cluster.base_classifier
        stages.begin("pass over the pool")
        parts = cluster.pass_over_pool(folder / "pool", stages.progress)
        stages.begin("survey of the pool")
        cluster.narrow(parts, stages.progress)
        assert cluster.problem.survey is not None
        stages.say(cluster.problem.survey.sentence)

    if plan.mock_pool is not None:  # beyond the paper: what images are to u_hat, and the mock rounds drawn by it
        stages.begin("evidence")
        cluster.draw_rounds(stages.progress)

    stages.begin("utility samples")  # lines 3, 6, 10, 11: what sets are worth
    measured, usage = cluster.measure(store, stages.progress)
    for line in left_out.lines(usage.quarantined, config.cluster.max_tries, cluster.plan.num_pairs, measured.num_pairs):
        stages.say(line)
    if config.round.after is not None:
        held = f"{store.reused(measured.retrained)} of {len(measured.retrained)} utility samples"
        stages.say(f"{held} were measured in round {config.round.number - 1}; the others are of another S_0")

    stages.begin("base classifier")  # f trained on all of S_0
    before, images = cluster.base_classifier, cluster.inputs()

    stages.begin("u_hat")  # lines 3 and 8 to 14: the offline fit, then tau_1 iterations
    task = fit_input(config, measured, images, plan.mock_pool)
    known = checkpoints.made(task, folder / "fit")
    fitted = cluster.fit(task, folder / "fit", stages.progress, stages.say)
    again = checkpoints.made(task, folder / "fit") != known
    made = {"run": store.run, "utility_samples": store.runs_of(measured.retrained), "fit": None if again else known}
    model = fitted.model()
    held_out = judging.held_out(measured.held_out, model, images, plan.mock_pool, plan.kind == "evidence")
    quality = held_out.quality(config.seed)
    followed = not judging.follows_filter(config, quality)

    stages.begin("margins of the pool")  # line 16, once for all steps: f does not change
    margins = cluster.margins(stages.progress)

    stages.begin("acquisition")  # lines 15 to 26: a batch at a time what u_hat ranks highest
    selection = cluster.acquire(margins, model) if followed else cluster.follow_filter(margins)
    keep(cluster.problem, selection, made)
    looked = cluster.compare(margins, selection), cluster.look(margins, selection)  # for the report

    after = None
    if revealed is not None:  # benchmark mode: the annotators answer, f is trained on S_1
        stages.begin("final classifier")
        after = cluster.final_classifier(selection)
    stages.end()

    interpolated = with_utilities(measured.interpolation, fitted.interpolated)
    store.write_interpolated(interpolated)
    samples = [*measured.retrained, *interpolated]
    found = (selection, margins, samples, fitted, before, after, held_out, quality, followed)
    return Outcome(cluster.problem, revealed, *found, *looked, usage)
