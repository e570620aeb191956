"""The log of a run, `run.log` in its output directory: what happened when, and all that an error's one line leaves out.

A command begins it before there is a directory and gives it one when that is claimed; until then its records are kept
in memory, and a command that ends at the door leaves none. In it are the command, versions, stages and progress, what
was said, warnings, what workers printed, and errors with their whole chain of causes. The same command again appends.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import platform
import shlex
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TextIO

import rambo_ray
from rambo_ray import ends

NAME = "run.log"
LARGEST = 10_000_000
"""Bytes; a log that is larger becomes run.log.1, in the place of an earlier one, and a new one begins."""

LOG = logging.getLogger("rambo_ray")
LOG.addHandler(logging.NullHandler())  # where nobody keeps it, Python would show it on standard error
WORKERS = LOG.getChild("workers")

_VERSIONS = ("ray", "torch", "torchvision", "numpy", "scipy", "pyarrow", "scikit-learn", "POT")
_FOREIGN = ("", "ray", "py.warnings")  # other libraries' loggers; Ray's passes nothing on to the root


class _Text(logging.Formatter):
    """UTC, level, message; what has several lines is indented below the first."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        name = "" if record.name.startswith(LOG.name) else f"{record.name}: "
        text = name + record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return f"{stamp} {record.levelname.lower():<7} " + text.strip("\n").replace("\n", "\n    ")


class _File(logging.handlers.RotatingFileHandler):
    """The file; what cannot be written, as on a full disk, is said once and ends the log, not the run."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=LARGEST, backupCount=1, encoding="utf-8", errors="backslashreplace", delay=True)
        self.setFormatter(_Text())
        self.broken = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.broken:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        self.broken = True
        error = sys.exc_info()[1]
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        print(f"{self.baseFilename}: {reason}; the log ends here", file=sys.stderr)


_early: logging.handlers.MemoryHandler | None = None
_file: _File | None = None


@contextmanager
def begun(program: str, arguments: Sequence[str], *, debug: bool = False) -> Iterator[None]:
    """The log of a command in this process, from here to the end of the context; `keep` says where it lies.

    debug: with what is of use to a developer alone.
    """
    global _early
    early = logging.handlers.MemoryHandler(100_000, flushLevel=logging.CRITICAL + 1)
    show, _early = warnings.showwarning, early
    LOG.setLevel(logging.DEBUG if debug else logging.INFO)
    LOG.propagate = False
    LOG.addHandler(early)
    for name in _FOREIGN:
        logging.getLogger(name).addHandler(_Foreign())
    aloud = _aloud()

    def shown(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        LOG.warning("%s:%s: %s: %s", filename, lineno, category.__name__, message)
        show(message, category, filename, lineno, file, line)

    warnings.showwarning = shown
    LOG.info(_Header(program, arguments))
    try:
        yield
    finally:
        warnings.showwarning = show
        logging.getLogger().removeHandler(aloud)
        for name in _FOREIGN:
            logger = logging.getLogger(name)
            for handler in [each for each in logger.handlers if isinstance(each, _Foreign)]:
                logger.removeHandler(handler)
        LOG.removeHandler(early)
        _early = None
        close()


def keep(folder: Path) -> None:
    """Write the log to `folder` from here on, and first what was said before; `folder` is this run's."""
    global _file
    close()
    _file = _File(folder / NAME)
    if _early is not None:
        _early.setTarget(_file)
        _early.flush()
        LOG.removeHandler(_early)
    else:  # a run in somebody else's process
        LOG.setLevel(logging.INFO)
        LOG.addHandler(_file)
        LOG.info(_Header("rambo_ray", ()))
        return
    LOG.addHandler(_file)
    ends.tell(log=str(_file.baseFilename))


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """`keep`; of a run in somebody else's process to the end of the context, of a command to its own end."""
    keep(folder)
    try:
        yield
    finally:
        if _early is None:
            close()


def close() -> None:
    """End the log's file, if there is one."""
    global _file
    if _file is not None:
        LOG.removeHandler(_file)
        _file.close()
        _file = None


def path() -> Path | None:
    """Where the log lies; None where it has no place yet, or could not be written."""
    return None if _file is None or _file.broken else Path(_file.baseFilename)


def tracebacks(error: BaseException, what: str) -> None:
    """An error with all its causes, those of Ray's workers with their tracebacks, into the log."""
    LOG.error(what, exc_info=(type(error), error, error.__traceback__))


class _Foreign(logging.Handler):
    """Passes other libraries' records on to the log."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING and not record.name.startswith(LOG.name):
            LOG.handle(record)


def _aloud() -> logging.Handler:
    """Other libraries' warnings still reach standard error: with a handler at the root, Python's own does no more."""
    root, handler = logging.getLogger(), logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(message)s"))
    if not [each for each in root.handlers if not isinstance(each, _Foreign)]:
        root.addHandler(handler)
    return handler


@dataclass(frozen=True)
class _Header:
    """What a run's part of the log begins with; made up when it is written, as most commands write none."""

    program: str
    arguments: Sequence[str]

    def __str__(self) -> str:
        found = {"rambo_ray": rambo_ray.__version__, "Python": platform.python_version()}
        for name in _VERSIONS:
            with suppress(PackageNotFoundError):  # an optional one
                found[name] = version(name)
        where = f"{platform.platform()}, {os.cpu_count()} CPUs, host {platform.node()}, process {os.getpid()}"
        return "\n".join(
            [
                "-" * 80,
                shlex.join([*self.program.split(), *self.arguments]),
                ", ".join(f"{name} {number}" for name, number in found.items()),
                f"{where}, in {os.getcwd()}",
            ]
        )
