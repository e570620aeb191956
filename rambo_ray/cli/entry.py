"""What all commands share: a parser whose errors are one line, their common options, how they end.

What computes is imported when it is known which command is to run, and not before: torch and Ray
take seconds to load, `--help` and a misspelt option should not.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rambo_ray import displays, numerics
from rambo_ray.cli import ready
from rambo_ray.displays import JsonLines
from rambo_ray.errors import RunError, UserError
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
    work is; the function `called` there takes the parsed arguments and returns the exit code.
    """

    name: str
    summary: str
    options: Callable[[Parser], None]
    module: str

    def parser(self, program: str) -> Parser:
        """Its command line, as a program of this name; parsed arguments name it as `program`."""
        made = Parser(prog=program)
        made.set_defaults(program=program)
        self.options(made)
        return made

    def main(self, program: str, arguments: Sequence[str] | None = None, *, restart: bool | None = None) -> int:
        """Do what the arguments (default: those of this process) ask for; returns the exit code, see `exit_code`.

        restart: whether this process is the command's own, so that it may be started again with another
        environment (see `numerics.settle`); default: where it takes the arguments from the process.
        """

        def job() -> int:
            parsed = self.parser(program).parse_intermixed_args(arguments)
            parsed.restart = arguments is None if restart is None else restart
            return int(import_module(self.module).called(parsed))

        given = sys.argv[1:] if arguments is None else arguments
        return exit_code(program, job, log_json="--log-json" in given)


def exit_code(name: str, job: Callable[[], int], *, log_json: bool = False) -> int:
    """What `job` returns, or 1 where the cluster failed, 2 for bad input, 130 when interrupted, said in a line each.

    141, without a line, where nothing reads the output any more. log_json: the line is an event on standard output,
    the last of those that `--log-json` asks for, and not text on standard error.
    """

    def said(text: str, code: int) -> int:
        if log_json:
            JsonLines(sys.stdout).error(text, code)
        else:
            print(f"{name}: {text}", file=sys.stderr)
        return code

    try:
        code = job()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # `| head` has had enough; Python flushes once more at its end, and must not complain there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except UserError as error:
        return said(f"error: {error}", 2)
    except RunError as error:
        return said(f"failed: {error}", 1)
    except KeyboardInterrupt:
        return said("interrupted; the same command continues where this one stopped", 130)


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
