"""The fit of u_hat: under Ray Train, one trainer for the whole pretraining stage, or in the driver's own process.

A trainer's worker group of any size that divides the shards gives the same bits. Each outer epoch is a
checkpoint; a worker that dies is replaced and the fit goes on from the last one, and so does the
same command run again, since the run's name is a hash of what is fitted.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.exceptions import RayError
from ray.train import CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchTrainer

from rambo_ray import files, run_log
from rambo_ray.cluster import nodes
from rambo_ray.cluster.session import Session, cause_of, slots
from rambo_ray.cluster.waiting import until_room
from rambo_ray.errors import RunError
from rambo_ray.pipeline.judging import AnyFit, AnyInput
from rambo_ray.utility_model import checkpoints, quadratic
from rambo_ray.utility_model.fitting import FitInput, FitResult, State, fit
from rambo_ray.utility_model.quadratic import QuadraticInput
from rambo_ray.utility_model.sharding import Group

_log = logging.getLogger(__name__)
# Pairs times outer epochs that the driver fits itself, where it is one of the cluster's CPUs: twice the paper's size,
# which took a core 42 s beside other work (benchmarks/utility_model.py --threads 1). A trainer takes fifteen seconds to
# start, and keeps every epoch.
SHORT = 100_000
_PATIENCE_S = 10.0  # with the monitor, when all is done

# Ray Train's controller looks at its workers every 2 s, and a report waits to be looked at: an outer
# epoch takes a tenth of that. The start-up limit makes a cluster that cannot hold the fit say so
# instead of waiting for ever. The rest keeps Ray's own remarks out of the run's log.
_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.05",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "120",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}


def fit_on_cluster(
    session: Session,
    task: FitInput,
    storage: Path,
    done: Callable[[Mapping[str, float]], None],
    say: Callable[[str], None] = _log.warning,
    told: UserCallback | None = None,
) -> FitResult:
    """`fitting.fit` under a TorchTrainer with session.config.trainer_workers workers; `done` sees each epoch's metrics.

    Checkpoints lie in `storage`, which every node must reach; a fit that is finished there is read
    back, and `done` sees its last epoch only. One that is damaged there is set aside, as `say` is told, and
    made again. told: whom Ray Train tells of each epoch, too. Raises RunError where the workers cannot start or keep
    dying.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # Ray Train passes these on to its controller and workers
    name = checkpoints.name(task)
    checkpoints.mend(task, storage / name, say)
    finished = checkpoints.finished(task, storage / name)
    if finished is not None:
        done(finished.history[-1])
        return finished
    called = f"{name}-{secrets.token_hex(4)}"  # it dies with this process, which who holds the name can see
    monitor = ray.remote(_Monitor).options(num_cpus=0, name=called).remote()
    use_gpu = _on_gpus(session)
    trainer = TorchTrainer(
        _train_loop,
        train_loop_config={"task": ray.put(task), "monitor": monitor, "name": called, "begin": session.begin},
        scaling_config=ScalingConfig(
            num_workers=session.config.trainer_workers,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": session.cpus, **({"GPU": 1} if use_gpu else {})},
        ),
        run_config=RunConfig(
            name=name,
            storage_path=str(storage.resolve()),
            failure_config=FailureConfig(max_failures=session.config.max_tries, controller_failure_limit=1),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            logging_config=LoggingConfig(log_level="ERROR"),
            callbacks=None if told is None else [told],
        ),
    )
    # Ray's own handler of SIGINT ends the process with exit code 0.
    trainer._register_sigint_handler = lambda controller: None
    with _watching(monitor, done):
        try:
            result = trainer.fit()
        except Exception as error:  # Ray Train has several, all meaning that the fit is not done
            failures = getattr(error, "worker_failures", None) or {0: error}
            for rank, failure in failures.items():  # their tracebacks are no part of the group's error
                run_log.tracebacks(failure, f"the fit's worker {rank} failed:")
            cause = cause_of(next(iter(failures.values())))
            if "CheckpointManagerInitializationError" in cause:  # its list is another version's, or wrong otherwise
                checkpoints.abandon(storage / name, cause, say)
                return fit_on_cluster(session, task, storage, done, say=say, told=told)
            if os.strerror(errno.ENOSPC) in cause:
                raise RunError(f"the fit of u_hat failed: {files.full(storage)}") from error
            raise RunError(
                f"the fit of u_hat failed ({cause}); its checkpoints are in "
                f"{storage}, run the same command again to continue"
            ) from error
    return result.return_value


def is_here(session: Session, pairs: int, epochs: int) -> bool:
    """Whether a run fits u_hat to so many pairs in its driver's process; the bits are those of a trainer.

    epochs: outer ones of all iterations.
    """
    alone = session.config.fit_workers is None and session.nodes == 1 and not session.gpus
    return alone and pairs * epochs <= SHORT


def wait_for_room(session: Session) -> None:
    """Until a fit's workers have room, where others hold it now; says so meanwhile.

    Ray Train itself would wait for a while without a word, and give up.
    """
    workers, gpus = session.config.trainer_workers, 1 if _on_gpus(session) else 0

    def places(resources: Iterable[Mapping[str, float]]) -> int:
        return slots(resources, session.cpus, gpus)

    if places(node["Resources"] for node in nodes.alive()) >= workers:
        asked = {"num_cpus": session.cpus, "num_gpus": gpus}
        what = f"the {workers} workers of the fit" if workers > 1 else "the worker of the fit"
        until_room(what, asked, lambda: places(nodes.free()), workers, workers)


def _on_gpus(session: Session) -> bool:
    return session.gpus > 0 and session.total_gpus >= session.config.trainer_workers


def fit_here(
    task: AnyInput,
    storage: Path,
    done: Callable[[Mapping[str, float]], None],
    device: str = "cpu",
    say: Callable[[str], None] = _log.warning,
) -> AnyFit:
    """`fitting.fit` in this process, with the bits of `fit_on_cluster`; a finished fit in `storage` is read back.

    `done` sees each epoch's metrics, of a finished fit the last epoch's only.
    One that is damaged there is set aside, as `say` is told, and made again.
    The quadratic u_hat is fitted at once and leaves nothing there.
    """
    if isinstance(task, QuadraticInput):
        return quadratic.fit(task)
    folder = storage / checkpoints.name(task)
    checkpoints.mend(task, folder, say)
    finished = checkpoints.finished(task, folder)
    if finished is not None:
        done(finished.history[-1])
        return finished
    last: list[State] = []
    position = (len(task.interpolation) - 1, task.config.outer_epochs - 1)

    def report(metrics: Mapping[str, float], state: Callable[[], State]) -> None:
        if (metrics["iteration"], metrics["epoch"]) == position:
            last.append(state())
        done(metrics)

    result = fit(task, report=report, device=device)
    checkpoints.write(last[0], checkpoints.last(task, folder))
    return result


def _train_loop(config: dict[str, Any]) -> FitResult:
    config["begin"]()
    context = ray.train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    task: FitInput = ray.get(config["task"])
    device = str(ray.train.torch.get_device())
    of_trainer = {"placement_group": _placement_group(), "monitor": config["name"]}

    def report(metrics: Mapping[str, float], state: Callable[[], State]) -> None:
        name = checkpoints.of_epoch(int(metrics["iteration"]), int(metrics["epoch"]))
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = None
            if rank == 0:
                torch.save(state(), Path(folder) / checkpoints.STATE)
                checkpoint = ray.train.Checkpoint.from_directory(folder)
                config["monitor"].add.remote(dict(metrics))
            ray.train.report(dict(metrics) | of_trainer, checkpoint=checkpoint, checkpoint_dir_name=name)

    resume_from = None
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            resume_from = checkpoints.read(Path(folder) / checkpoints.STATE, device)
    group = Group(task.config.shards, rank, size, _all_gather if size > 1 else Group().gather)
    return fit(task, report=report, resume_from=resume_from, group=group, device=device)


def _placement_group() -> str:
    """The id of what Ray Train has reserved for its workers."""
    group = ray.util.get_current_placement_group()
    return "" if group is None else group.id.hex()


def _all_gather(parts: torch.Tensor) -> torch.Tensor:
    gathered = [torch.empty_like(parts) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(gathered, parts)
    return torch.cat(gathered)


class _Monitor:
    """Where the worker leaves its metrics and the driver finds them; holds no CPU."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []

    def add(self, metrics: dict[str, float]) -> None:
        self.metrics.append(metrics)

    def since(self, position: int) -> list[dict[str, float]]:
        return self.metrics[position:]


@contextlib.contextmanager
def _watching(monitor: Any, done: Callable[[Mapping[str, float]], None]) -> Iterator[None]:
    """Pass on what the monitor receives while the body, which blocks, runs.

    An error of the body is never replaced by one of the watching. Alone, what `done` raises is raised at the body's
    end; a monitor that cannot be asked any more is the log's business, as the fit does not depend on it.
    """
    stop = threading.Event()
    seen = 0
    raised: list[BaseException] = []

    def look() -> None:
        nonlocal seen
        for metrics in ray.get(monitor.since.remote(seen), timeout=_PATIENCE_S):
            seen += 1
            done(metrics)

    def watch() -> None:
        try:
            while not stop.wait(1.0):
                look()
        except BaseException as error:  # an exception of a thread is nobody's
            raised.append(error)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
        stop.set()
        thread.join(timeout=_PATIENCE_S)
        if not raised:
            try:
                look()
            except Exception as error:
                raised.append(error)
        for mishap in raised:
            if not isinstance(mishap, RayError):
                raise mishap
            run_log.tracebacks(mishap, "how the fit went is not known in full:")
    finally:
        stop.set()
        with contextlib.suppress(Exception):  # there may be no Ray any more
            ray.kill(monitor)
