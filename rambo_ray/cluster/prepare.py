"""What the trials of a sweep or the runs of a benchmark share, measured once by Ray before the first of them.

Utility samples go to one content-addressed store, whatever number of problems they belong to: what
an earlier sweep, an interrupted one or a plain run has trained there is not trained again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import ray

from rambo_ray.classifier import prediction
from rambo_ray.cluster import collect, embed
from rambo_ray.cluster.run import ClusterRun
from rambo_ray.cluster.session import Session
from rambo_ray.cluster.tasks import TrainedClassifier
from rambo_ray.errors import RunError
from rambo_ray.pipeline import once
from rambo_ray.pipeline.plan import Measured
from rambo_ray.pipeline.prepared import PreparedProblem, Request
from rambo_ray.progress import Stages
from rambo_ray.utility_samples.store import SampleStore


def make(session: Session, requests: Sequence[Request], store: SampleStore, stages: Stages) -> list[PreparedProblem]:
    """One prepared problem per request: utility samples, base classifiers, u_hat's inputs, margins.

    Raises RunError for what the cluster failed at.
    """
    runs = []
    for r in requests:
        config = r.plan.config
        problem, answers, seen = r.problem, r.answers, r.seen
        if seen is None:
            seen = embed.inputs(session, config, problem, answers, stages.progress)
            problem, answers, seen = once.thinned_by_embeddings(config, problem, answers, seen)
        runs.append(ClusterRun(session, r.plan.on(session.device, session.abilities), problem, answers, seen))
    if any(run.plan.mock_pool is not None for run in runs):
        stages.begin("evidence")
        for run in runs:
            if run.plan.mock_pool is not None:
                run.draw_rounds(stages.progress)
    if any(request.plan.retrained for request in requests):
        stages.begin("utility samples")
    measured, usage = collect.measure(session, [(run.plan, run.data) for run in runs], store, stages.progress)
    if usage.quarantined:  # results are kept by what they depend on, and these would depend on who died
        raise RunError(
            f"{len(usage.quarantined)} of the utility samples killed every worker that tried them: "
            f"{usage.quarantined[0]}; free memory or raise cluster.max_tries, then run the same command again: "
            "all others are kept"
        )
    stages.begin("base classifiers")
    started = [run.base_training for run in runs]  # all of them before the first is waited for
    shown, bases = stages.progress(len(started)), []
    for run in runs:
        bases.append(run.base_classifier)
        shown.advance()
    shown.close()
    stages.begin("outputs of f" if any(request.outputs for request in requests) else "margins")
    passed = stages.progress(sum(len(r.problem.pool) for r in requests if r.answers is not None or r.outputs))
    made = [
        # A run that is done leaves the list, and its pool the object store.
        _prepared(runs.pop(0), request.outputs, base, found, passed.advance)
        for request, base, found in zip(requests, bases, measured, strict=True)
    ]
    passed.close()
    stages.end()
    return made


def share(made: Iterable[PreparedProblem]) -> list[ray.ObjectRef]:
    """Each prepared problem in the cluster's object store, for any number of trials."""
    return [ray.put(prepared) for prepared in made]


def _prepared(
    run: ClusterRun, outputs: bool, base: TrainedClassifier, measured: Measured, done: Callable[[int], None]
) -> PreparedProblem:
    plan, answers = run.plan, run.revealed
    images = run.inputs() if plan.retrained else np.zeros((0, 1), dtype=np.float32)
    margins, strategy_inputs = np.zeros(0, dtype=np.float32), None
    wanted = outputs or answers is not None
    if outputs:
        strategy_inputs = run.strategy_inputs(done=done)
        margins = prediction.margins(strategy_inputs.logits)
    elif answers is not None:
        margins = run.pool_margins(done)
    evidence = None
    if plan.kind == "evidence" and plan.retrained and answers is not None:
        evidence = run.evidence_of(np.arange(len(run.seen.pool)))
    return PreparedProblem.of(
        plan,
        measured,
        images,
        labeled=run.labeled,
        sets=run.sets,
        pool=run.seen.pool if wanted else run.seen.pool[:0],
        rejected=run.seen.rejected,
        answers=None if answers is None else answers.pool_labels,
        evidence=evidence,
        classifier=base.arrays,
        before={name: score.accuracy for name, score in base.scores.items()},
        margins=margins,
        strategy_inputs=strategy_inputs,
        sample_seconds=sum(s.measurement.seconds for s in measured.retrained if s.measurement is not None),
    )
