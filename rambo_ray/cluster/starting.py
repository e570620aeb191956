"""How a Ray is started or joined: on this machine's loopback alone, and what is said where it cannot be.

Ray raises whatever fails first, often an error of something below it; here it becomes one line with a remedy.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import ray
from ray._private import ray_constants
from ray.exceptions import AuthenticationError

from rambo_ray import ends
from rambo_ray.errors import RunError, UserError
from rambo_ray.run_log import LOG


@contextmanager
def local() -> Iterator[None]:
    """The body starts a Ray for this driver alone, whose processes listen on this machine's loopback only.

    On Linux Ray binds to all interfaces, for nodes that a Ray of one process never has; it takes the loopback where
    clusters are switched off, as they are by default on the other systems. Raises RunError where it does not start.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    LOG.info("starting a Ray on this machine")
    try:
        yield
    except Exception as error:  # whatever it was that failed first
        with suppress(Exception):
            ray.shutdown()  # what had been started
        raise RunError(f"Ray did not start on this machine: {_remedy(error)}") from error
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        ends.heed_again()  # Ray has put its own handlers there
    LOG.info("Ray's own logs: %s", ray._private.worker._global_node.get_logs_dir_path())


@contextmanager
def connecting(address: str) -> Iterator[None]:
    """The body joins the cluster at `address`. Raises UserError where it cannot."""
    LOG.info("connecting to the Ray at %s", address)
    try:
        yield
    except AuthenticationError as error:
        raise UserError(
            f"cluster.address={address}: the cluster wants its token, and RAY_AUTH_MODE is "
            f"{os.environ.get('RAY_AUTH_MODE', 'not set')}; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
            "~/.ray/auth_token to the cluster's"
        ) from error
    except Exception as error:
        reason = _words(error)
        remedy = (
            "start it with 'ray start --head', or leave cluster.address out (and RAY_ADDRESS unset) for a local Ray"
        )
        if "version mismatch" in reason.lower():
            remedy = "install the cluster's versions of Ray and Python here, or submit the command as a job there"
        raise UserError(f"cluster.address={address}: cannot connect ({reason}); {remedy}") from error
    finally:
        ends.heed_again()


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
