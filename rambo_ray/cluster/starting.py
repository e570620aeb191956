"""How a Ray is started or joined: on this machine's loopback alone, and what is said where it cannot be.

Ray raises whatever fails first, often an error of something below it; here it becomes one line with a remedy.
"""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

import ray
from ray._private import ray_constants
from ray.exceptions import AuthenticationError

from rambo_ray import ends
from rambo_ray.errors import RunError, UserError
from rambo_ray.run_log import LOG

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_KEPT_MS = 30_000
_PATIENCE_S = 10.0  # with a machine that does not answer
_START = "start it with 'ray start --head', or leave cluster.address out (RAY_ADDRESS unset) for a local Ray"


@contextmanager
def local() -> Iterator[None]:
    """The body starts a Ray for this driver alone, whose processes listen on this machine's loopback only.

    On Linux Ray binds to all interfaces, for nodes that a Ray of one process never has; it takes the loopback where
    clusters are switched off, as they are by default on the other systems. Raises RunError where it does not start.
    """
    LOG.info("starting a Ray on this machine")
    try:
        with _on_loopback():
            yield
    except Exception as error:  # whatever it was that failed first
        with suppress(Exception):
            ray.shutdown()  # what had been started
        raise RunError(f"Ray did not start on this machine: {_remedy(error)}") from error
    finally:
        ends.heed_again()  # Ray has put its own handlers there
    LOG.info("Ray's own logs: %s", ray._private.worker._global_node.get_logs_dir_path())


def local_settings() -> dict[str, int | bool]:
    """Settings of Ray's own that a Ray of this driver's differs in; what the environment sets stays so.

    Processes that wait for tasks stay for half a minute, where Ray ends them after a second while actors hold the
    CPUs: each would take seconds to load torch again. And no process is started before it is known with what
    environment: ours has one, so that nothing would come to those.
    """
    ours: dict[str, int | bool] = {
        "idle_worker_killing_time_threshold_ms": _KEPT_MS,
        "prestart_worker_first_driver": False,
    }
    return {name: value for name, value in ours.items() if f"RAY_{name}" not in os.environ}


@contextmanager
def connecting(address: str) -> Iterator[None]:
    """The body joins the cluster at `address`. Raises UserError where it cannot."""
    LOG.info("connecting to the Ray at %s", address)
    heard_on = _listening(address)
    try:
        with _on_loopback() if heard_on in _LOOPBACK else nullcontext():
            yield
    except AuthenticationError as error:
        raise UserError(f"cluster.address={address}: the cluster wants its token; {_token()}") from error
    except Exception as error:
        reason = _words(error)
        # Ray says in its own lines alone that it was the token; that somebody listens there is known by now.
        remedy = f"if it wants a token, {_token()}; else see that it is a Ray: 'ray status --address {address}'"
        if "version mismatch" in reason.lower():
            remedy = "install the cluster's versions of Ray and Python here, or submit the command as a job there"
        raise UserError(f"cluster.address={address}: cannot connect ({reason}); {remedy}") from error
    finally:
        ends.heed_again()


@contextmanager
def _on_loopback() -> Iterator[None]:
    """In the body this machine's address is to Ray that of the loopback, and stays it where it is given."""
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _listening(address: str) -> str | None:
    """The host that answers at HOST:PORT; None where it is for Ray to find out.

    To Ray the loopback is another name of this machine's own address, where a Ray of the loopback alone does not
    listen. Raises UserError where nobody does: Ray would try for minutes.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return None  # auto, or another form that Ray knows
    host = host.strip("[]")
    errors: list[OSError | OverflowError] = []
    for each in (ray.util.get_node_ip_address(), host) if host in _LOOPBACK else (host,):
        try:
            socket.create_connection((each, int(port)), timeout=_PATIENCE_S).close()
            return each
        except (OSError, OverflowError) as error:
            errors.append(error)
    reason = getattr(errors[-1], "strerror", None) or errors[-1]
    raise UserError(f"cluster.address={address}: cannot connect ({reason}); {_START}") from errors[-1]


def _token() -> str:
    """How to come by a cluster's token."""
    mode = os.environ.get("RAY_AUTH_MODE", "not set")
    return f"set RAY_AUTH_MODE=token (it is {mode}), and RAY_AUTH_TOKEN or ~/.ray/auth_token to the cluster's"


def _remedy(error: Exception) -> str:
    """What went wrong, and what can be done about it."""
    words = _words(error)
    number, low = getattr(error, "errno", None), words.lower()
    if number == errno.ENOSPC or "no space left" in low:
        where = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or tempfile.gettempdir()
        return f"no space is left in {where}; make some, or set RAY_TMPDIR to a folder on another disk"
    if number in (errno.EACCES, errno.EROFS):
        return f"{words}; set RAY_TMPDIR to a folder that can be written"
    if number == errno.EMFILE or "too many open files" in low:
        return f"{words}; allow more of them, as by: ulimit -n 65536"
    if "timed out" in low or "timeout" in low:
        return f"{words}; the machine is too busy or has no memory left: run the same command again when it is not"
    return f"{words}; its own logs are in /tmp/ray/session_latest/logs"


def _words(error: Exception) -> str:
    """The error in a line."""
    return " ".join(f"{error}".split())[:300] or type(error).__name__
