"""The trials of a sweep under Ray Tune.

A trial is one point of the space with one seed. Its numbers are kept in a file named by the hash
of all they depend on, so that an interrupted sweep, or a larger one, computes only what is missing;
Tune's own directory is where its logs (TensorBoard, CSV, JSON) are.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.search import Repeater, Searcher
from ray.tune.search.repeater import TRIAL_INDEX

from rambo_ray import run_log
from rambo_ray.cluster import concurrency
from rambo_ray.cluster.fit import fit_here, fit_on_cluster
from rambo_ray.cluster.session import Session, cause_of
from rambo_ray.cluster.stopping import Freed, Told
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.pipeline import rules
from rambo_ray.pipeline.judging import AnyFit, AnyInput
from rambo_ray.pipeline.prepared import PreparedProblem, prepared_key
from rambo_ray.progress import Progress, Stages
from rambo_ray.sweep import kept, search_space
from rambo_ray.sweep.results import TrialRow
from rambo_ray.sweep.search_space import Dimension, Space
from rambo_ray.sweep.simulation import FoldScale, fold_config
from rambo_ray.sweep.trial import Epoch, Fit, Score, evaluate, objective
from rambo_ray.utility_model.quadratic import QuadraticInput

Values = Mapping[str, Any]

# Trials stay in the job's working directory, Tune's own tables out of its log; reports of outer
# epochs have no objective yet, which Tune would take for a mistake.
_ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # with which an interrupted sweep would go on to its report
}


@dataclass(frozen=True)
class Study:
    """What all trials of a sweep have in common, as plain data that travels to them.

    k: images in S_0 of `base`. prepared: references by `prepared_key`. fingerprints: of each seed's
    data, by seed. folder: the sweep's output directory, which every node must reach.
    """

    base: Config
    space: Space
    k: int
    scale: FoldScale
    prepared: Mapping[str, ray.ObjectRef]
    fingerprints: Mapping[int, str]
    folder: str
    oracle: bool

    def configs(self, values: Values, seed: int) -> tuple[Config, list[Config]]:
        """A point's configuration, and those of its folds."""
        config = search_space.configure(self.base, values, seed)
        folds = self.space.simulation.folds if self.space.objective.simulated > 0 else 0
        return config, [fold_config(config, self.k, self.scale) for _ in range(folds)]

    def trial_id(self, values: Values, seed: int) -> str:
        """Hash of everything that a trial's numbers depend on, 32 hexadecimal digits."""
        config, folds = self.configs(values, seed)
        content: list[Any] = [
            [loading.relevant(c) for c in (config, *folds)],
            self.fingerprints[seed],
            self.oracle,
            len(folds) and (self.scale.labeled, self.k),
            *rules.newer(),
        ]
        if own := rules.own_sources(config):
            content.append(own)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def run(
    session: Session, study: Study, points: Sequence[Values], seeds: Sequence[int], stages: Stages
) -> list[TrialRow]:
    """Run all trials; one row per point and seed, in the order of the points. Failed ones have their reason."""
    space = study.space
    at_once = concurrency.now(session, space)
    optuna = space.search.method == "optuna"
    total = (space.search.samples or 0) * len(seeds) if optuna else len(points) * len(seeds)
    shown = stages.progress(total)
    trainable = tune.with_resources(
        tune.with_parameters(_trial, study=study, session=session, seeds=tuple(seeds)),
        {"CPU": session.cpus, **({"GPU": session.gpus} if session.gpus else {})},
    )
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logs = Path(study.folder) / "tune"
    tuner = tune.Tuner(
        trainable,
        param_space=None if optuna else {"trial": tune.grid_search(_trials_of(points, seeds))},
        tune_config=tune.TuneConfig(
            num_samples=total if optuna else 1,
            max_concurrent_trials=at_once,
            # A new process takes 4 s to import torch; but one that had a trainer ends, so that the trainer does.
            reuse_actors=space.num_workers == 0,
            search_alg=_optuna(space, study.base, points, len(seeds)) if optuna else None,
            scheduler=make_scheduler(space),
        ),
        run_config=tune.RunConfig(
            name=time.strftime("%Y%m%d-%H%M%S"),
            storage_path=str(logs),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=session.config.max_tries - 1),
            callbacks=[_Shown(shown), Freed(), *_mlflow(study, stages.say)],
        ),
    )
    with warnings.catch_warnings():
        # Of a point whose trials were all stopped Tune takes the mean nevertheless.
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        results = tuner.fit()
    shown.close()
    if not optuna:
        ordered = list(points)
    else:
        ordered = []
        for result in results:
            values = _values(result.config or {})
            if values not in ordered:
                ordered.append(values)
    rows = {}
    for result in results:
        row = _row(result, ordered, seeds)
        rows[(row.point, row.seed)] = row
    return [rows[key] for key in sorted(rows)]


def _trials_of(points: Sequence[Values], seeds: Sequence[int]) -> list[dict[str, Any]]:
    return [{"values": dict(values), "seed": seed} for values in points for seed in seeds]


def _values(config: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's point: given as a trial, or suggested key by key."""
    if "trial" in config:
        return dict(config["trial"]["values"])
    return {key: value for key, value in config.items() if key != TRIAL_INDEX}


def _seed(config: Mapping[str, Any], seeds: Sequence[int]) -> int:
    return int(config["trial"]["seed"]) if "trial" in config else seeds[config.get(TRIAL_INDEX, 0)]


def _trial(config: dict[str, Any], *, study: Study, session: Session, seeds: Sequence[int]) -> None:
    session.begin()
    values, seed = _values(config), _seed(config, seeds)
    path = Path(study.folder) / "trials" / f"{study.trial_id(values, seed)}.json"
    if (known := kept.read(path)) is not None:
        tune.report(_numbers(known, study))
        return
    point, fold_configs = study.configs(values, seed)
    prepared: PreparedProblem = ray.get(study.prepared[prepared_key(point)])
    folds = [(c, ray.get(study.prepared[prepared_key(c, i)])) for i, c in enumerate(fold_configs)]
    # A trainer's epochs are reported by Ray Train itself, so that Tune can end it between two of them.
    report = tune.report if study.space.num_workers == 0 else _unheard
    score = evaluate(
        point, prepared, folds, _fit(session, study), oracle=study.oracle, device=session.device, report=report
    )
    kept.write(score, path)
    tune.report(_numbers(score, study))


def _numbers(score: Score, study: Study) -> dict[str, float]:
    """What a finished trial reports: `objective` is there only then; `ranking` is what schedulers look at."""
    weights = study.space.objective
    return {
        **asdict(score),
        "objective": objective(score, weights.simulated, weights.ranking, study.oracle),
        "epoch": score.epochs,
        "ranking": score.ranking_accuracy,
    }


def _fit(session: Session, study: Study) -> Fit:
    storage = Path(study.folder) / "fits"
    workers = study.space.num_workers
    if workers == 0:

        def here(task: AnyInput, epoch: Epoch | None) -> AnyFit:
            return fit_here(task, storage, epoch or _unheard, session.device)

        return here
    config = session.config.model_copy(update={"fit_workers": workers})
    wide = replace(session, config=config)

    def trained(task: AnyInput, epoch: Epoch | None) -> AnyFit:
        if isinstance(task, QuadraticInput):
            return fit_here(task, storage, epoch or _unheard, session.device)
        told = None if epoch is None else Told(task.config.outer_epochs)
        return fit_on_cluster(wide, task, storage, epoch or _unheard, told=told)

    return trained


def _unheard(metrics: Mapping[str, float]) -> None:
    """Where nobody asks about epochs."""


def make_scheduler(space: Space) -> TrialScheduler:
    """Looks at u_hat's ranking of D_val after each outer epoch; the end of a trial is never cut off."""
    ask = space.scheduler
    looks_at: dict[str, Any] = {"time_attr": "epoch", "metric": "ranking", "mode": "max", "grace_period": ask.grace}
    if ask.name == "asha":
        return ASHAScheduler(**looks_at, reduction_factor=ask.reduction, max_t=10**6)
    if ask.name == "median":
        return MedianStoppingRule(**looks_at)
    return FIFOScheduler()


def _optuna(space: Space, base: Config, first: Sequence[Values], repeats: int) -> Searcher:
    """Optuna's TPE over the space, each suggestion tried with every seed; it sees the mean objective."""
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = OptunaSearch(
        space={key: optuna_distribution(dimension) for key, dimension in space.keys.items()},
        metric="objective",
        mode="max",
        points_to_evaluate=[dict(values) for values in first] or None,
        seed=base.seed,
    )
    return Repeater(search, repeat=repeats, set_index=True)


def optuna_distribution(dimension: Dimension) -> Any:
    """A drawn dimension as Optuna's distribution."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if dimension.choice is not None:
        return CategoricalDistribution(dimension.choice)
    low, high = dimension.extremes()
    if dimension.randint is not None:
        return IntDistribution(low, high, step=int(dimension.step or 1))
    if dimension.loguniform is not None:
        return FloatDistribution(low, high, log=True)
    return FloatDistribution(low, high, step=dimension.step)


def _row(result: tune.Result, points: Sequence[Values], seeds: Sequence[int]) -> TrialRow:
    config, metrics = result.config or {}, result.metrics or {}
    values = _values(config)
    nan = float("nan")
    finished = "objective" in metrics
    if result.error is not None:
        run_log.tracebacks(result.error, f"a trial failed: {values}")
    status = "finished" if finished else "failed" if result.error is not None else "stopped"
    names = ("simulated_accuracy", "simulated_gain", "ranking_accuracy", "kendall_tau")
    oracle = ("oracle_accuracy", "oracle_test_accuracy")
    return TrialRow(
        point=list(points).index(values),
        values=values,
        seed=_seed(config, seeds),
        status=status,  # type: ignore[arg-type]
        objective=metrics.get("objective", nan),
        **{name: metrics.get(name, nan) for name in (*names, *oracle)},
        epochs=int(metrics.get("epoch", 0)),
        seconds=float(metrics.get("time_total_s", nan)),
        error="" if finished or result.error is None else cause_of(result.error),
    )


class _Shown(tune.Callback):
    """Counts ended trials on the stage's progress display."""

    def __init__(self, shown: Progress) -> None:
        self.shown = shown

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its callbacks with the experiment; a display of this process cannot be

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.shown.advance()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.shown.advance()


def _mlflow(study: Study, say: Callable[[str], None]) -> list[tune.Callback]:
    """MLflow's logger, where MLflow is installed: to MLFLOW_TRACKING_URI, or else to mlflow.db in the output.

    A sweep does not depend on its logs: where they cannot be written, `say` is told why, and it goes on.
    """
    if importlib.util.find_spec("mlflow") is None:
        return []
    import mlflow
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    where = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path(study.folder) / 'mlflow.db'}"
    try:
        mlflow.MlflowClient(tracking_uri=where).search_experiments()
    except Exception as error:  # whatever its many backends raise
        reason = " ".join(str(error).split())[:160]
        say(f"MLflow is installed but cannot log to {where} ({reason}); going on without it")
        return []
    return [MLflowLoggerCallback(tracking_uri=where, experiment_name="rambo_ray sweep")]
