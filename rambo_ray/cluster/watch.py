"""What a driver hears of its Ray beside its results: what workers print, and that a local Ray has lost a process.

Ray prints what workers say on the driver's terminal, or nowhere; here it goes into the run's log. A driver whose own
raylet was killed waits for ever: the raylet is its child, and one that nobody has buried still counts as alive.
"""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from ray._private.ray_logging import global_worker_stdstream_dispatcher

from rambo_ray import ends, run_log
from rambo_ray.errors import RunError
from rambo_ray.run_log import LOG, WORKERS

_HANDLER, _RAYS_OWN = "rambo_ray", "ray_print_logs"
_LOOKS_S = 1.0
_NEEDED = {"raylet": "raylet", "gcs_server": "GCS"}  # without which there is no Ray


@contextmanager
def logged() -> Iterator[None]:
    """What workers of this driver print goes into the log, and no more to its terminal; from `ray.init` on."""
    if any(name == _HANDLER for name, _ in global_worker_stdstream_dispatcher.handlers):
        yield  # a connection within another one
        return
    global_worker_stdstream_dispatcher.remove_handler(_RAYS_OWN)
    global_worker_stdstream_dispatcher.add_handler(_HANDLER, said)
    try:
        yield
    finally:
        global_worker_stdstream_dispatcher.remove_handler(_HANDLER)


def said(batch: Mapping[str, Any]) -> None:
    """Lines of a process, as Ray hands them on: `pid`, `ip`, `is_err`, `lines`, and its `actor_name` or `task_name`."""
    if batch.get("pid") == "autoscaler":
        return  # tables of what the cluster has, every few seconds
    who = batch.get("actor_name") or batch.get("task_name") or "worker"
    where = f"{who} ({batch.get('pid')}, {batch.get('ip')})"
    for line in batch.get("lines", ()):
        if line.strip() and "__ray_tqdm_magic_token__" not in line:
            WORKERS.log(30 if batch.get("is_err") else 20, "%s: %s", where, line.rstrip())


@contextmanager
def alive() -> Iterator[None]:
    """Raises RunError out of the body when the raylet or the GCS that this driver has started dies.

    The body runs in the main thread and is interrupted there; in another one the loss is only logged. A body that
    does not heed it is ended by the guard.
    """
    node = ray._private.worker._global_node  # which holds nothing where Ray was there already, as on a cluster
    over = threading.Event()
    lost: list[str] = []

    def watch() -> None:
        while not over.wait(_LOOKS_S):
            dead = {kind: process for kind, process in node.dead_processes() if kind in _NEEDED}
            for kind, process in dead.items():
                number = -process.returncode if process.returncode < 0 else None
                how = f"killed by {signal.Signals(number).name}" if number else f"exit code {process.returncode}"
                lost.append(f"Ray's {_NEEDED[kind]} on this machine died ({how})")
            if lost:
                LOG.error("%s; Ray's own logs: %s", "; ".join(lost), node.get_logs_dir_path())
                if main:
                    ends.tell(lost=True, line=f"failed: {_lost(lost)}{_see()}", code=1)
                    _thread.interrupt_main(ends.interrupting())
                return

    main = threading.current_thread() is threading.main_thread()
    thread = threading.Thread(target=watch, name="rambo_ray alive", daemon=True)
    thread.start()
    try:
        yield
    except BaseException as error:
        if lost:
            raise RunError(_lost(lost)) from error
        raise
    finally:
        over.set()


def _lost(lost: list[str]) -> str:
    return (
        f"{'; '.join(lost)}; where nobody killed it, the machine had no memory left: free some, or lower "
        "cluster.num_workers; the same command continues"
    )


def _see() -> str:
    return "" if run_log.path() is None else f"; see {run_log.path()}"
