"""What all commands share: a parser whose errors are one line, their common options, how they end.

What computes is imported when it is known which command is to run, and not before: torch and Ray
take seconds to load, `--help` and a misspelt option should not.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rambo_ray import displays, ends, numerics, run_log, submitted
from rambo_ray.cli import guard, ready, terminal
from rambo_ray.errors import RunError, UserError, one_line
from rambo_ray.progress import Stages

if TYPE_CHECKING:
    from rambo_ray.config.schema import Config


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are UserErrors, said by the command in one line."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(formatter_class=_Formatter, **keywords)

    def error(self, message: str) -> Any:
        raise UserError(f"{message}; see {self.prog} --help")

    def config_option(self, purpose: str = "YAML configuration") -> None:
        """`--config`: the configuration, which `overrides` change; without it all keys have their defaults."""
        self.add_argument("--config", metavar="FILE", help=_by_name(purpose, "config"))

    def space_option(self, purpose: str) -> None:
        """`--space`: what a sweep varies."""
        self.add_argument("--space", metavar="FILE", required=True, help=_by_name(purpose, "space"))

    def output_option(self, purpose: str, *, required: bool = True) -> None:
        """`--output`: the directory of everything that is written."""
        self.add_argument("--output", metavar="DIR", required=required, help=purpose)

    def samples_option(self, default: str) -> None:
        """`--samples`: utility samples that several outputs share; `default` says where they are else."""
        purpose = f"folder of utility samples to read and add to; default: {default}"
        self.add_argument("--samples", metavar="DIR", help=purpose)

    def debug_option(self) -> None:
        """`--debug`: what a developer wants to see; see `exit_code` and `run_log.begun`."""
        purpose = f"show the traceback of an error, and log more to {run_log.NAME}"
        self.add_argument("--debug", action="store_true", help=purpose)

    def display_options(self) -> None:
        """`--quiet` and `--log-json`: what `shown` makes a display of."""
        either = self.add_mutually_exclusive_group()
        either.add_argument("--quiet", action="store_true", help="say nothing but errors and, at the end, the path")
        events = "one JSON object per line and event: begin, progress, end, message, summary, error"
        either.add_argument("--log-json", action="store_true", help=events)

    def overrides(self, purpose: str = "override a key of the configuration") -> None:
        """Any number of `section.key=value`, before, between and after the options."""
        self.add_argument("overrides", nargs="*", metavar="section.key=value", help=purpose)


class _Formatter(argparse.HelpFormatter):
    """Wraps paragraphs, and leaves lines as they are that begin with two spaces: what is to be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        filled = super()._fill_text
        return "\n".join(
            line if line.startswith("  ") or not line else filled(line, width, indent) for line in text.split("\n")
        )


@dataclass(frozen=True)
class Command:
    """A command of `rambo`.

    summary: what it does, in a line. options: gives a parser what the command takes. module: where its
    work is; the function `called` there takes the parsed arguments and returns the exit code. on_ray: whether
    it works on Ray, and so in a process that another one watches over.
    """

    name: str
    summary: str
    options: Callable[[Parser], None]
    module: str
    on_ray: bool = True

    def parser(self, program: str) -> Parser:
        """Its command line, as a program of this name; parsed arguments name it as `program`."""
        made = Parser(prog=program)
        made.set_defaults(program=program)
        self.options(made)
        made.debug_option()
        return made

    def main(self, program: str, arguments: Sequence[str] | None = None, *, restart: bool | None = None) -> int:
        """Do what the arguments (default: those of this process) ask for; returns the exit code, see `exit_code`.

        restart: whether this process is the command's own, so that it may be started again with another
        environment (see `numerics.settle`), and watched over (see `guard`); default: where it takes the arguments
        from the process.
        """
        given = list(sys.argv[1:] if arguments is None else arguments)
        own = arguments is None if restart is None else restart

        def job() -> int:
            terminal.check(given)
            parsed = self.parser(program).parse_intermixed_args(given)
            parsed.restart = own
            for option in ("output", "samples"):
                if getattr(parsed, option, None) is not None:
                    submitted.refuse_copy(f"--{option}", getattr(parsed, option))
            return int(import_module(self.module).called(parsed))

        log_json, debug = "--log-json" in given, "--debug" in given

        def work() -> int:
            with run_log.begun(program, given, debug=debug):
                return exit_code(program, job, log_json=log_json, debug=debug)

        if own and self.on_ray and guard.possible():
            return guard.watched(program, work, log_json=log_json)
        if own and self.on_ray:
            ends.heed()
        return work()


def exit_code(name: str, job: Callable[[], int], *, log_json: bool = False, debug: bool = False) -> int:
    """What `job` returns, or 1 for what failed, 2 for bad input, 128 + its number for a signal, said in a line each.

    141, without a line, where nothing reads the output any more. All that an error's line leaves out is in the log,
    and with `debug` on standard error. log_json: the line is an event on standard output, the last of those that
    `--log-json` asks for, and not text on standard error. Where the process is watched over, its guard says the line,
    when this process has ended.
    """
    line, code = _ended(job, debug)
    if ends.guarded():
        ends.tell(line=line, code=code)
        return code
    return guard.say(name, line, code, log_json=log_json)


def _ended(job: Callable[[], int], debug: bool) -> tuple[str | None, int]:
    """The line and the exit code."""

    def log(error: BaseException, line: str) -> str:
        run_log.tracebacks(error, line)
        if debug:
            traceback.print_exception(error)
        return line if run_log.path() is None else f"{line}; see {run_log.path()}"

    try:
        code = job()
        sys.stdout.flush()
        return None, code
    except BrokenPipeError:
        # `| head` has had enough; Python flushes once more at its end, and must not complain there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return None, 141
    except UserError as error:
        line = f"error: {one_line(error)}"
        log(error, line)
        return line, 2
    except RunError as error:
        return log(error, f"failed: {error}"), 1
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, ends.Stopped) else signal.SIGINT
        run_log.LOG.error(ends.stopped(number))
        run_log.LOG.debug("where it was:", exc_info=error)
        return ends.stopped(number), 128 + number
    except SystemExit as ended:  # --help and its like
        ends.tell(code=ended.code if isinstance(ended.code, int) else int(ended.code is not None))
        raise
    except Exception as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        line = log(error, f"failed: {words}; what is finished is kept")
        return line if run_log.path() is not None else f"{line}; --debug shows where", 1


def shown(parsed: argparse.Namespace, every_s: float) -> Stages:
    """The stages of a command on the display that its options ask for; to be used as a context.

    every_s: seconds between two lines of progress where there is no terminal.
    """
    return Stages(every_s=every_s, display=displays.chosen(quiet=parsed.quiet, log_json=parsed.log_json))


def configuration(parsed: argparse.Namespace) -> Config:
    """What `--config` and the overrides say, after the process computes as it asks (`numerics.settle`)."""
    from rambo_ray.config import loading  # only here: pydantic would double the time of --help

    config = loading.load(ready.file("config", parsed.config), parsed.overrides)
    numerics.settle(config.cluster.reproducible, restart=parsed.restart)
    return config


def _by_name(purpose: str, kind: ready.Kind) -> str:
    """The help of an option whose file may be one of the ready ones."""
    return f"{purpose}: the path of a file, or the name of a ready one: {', '.join(ready.known(kind))}"
