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

from rambo_ray import numerics
from rambo_ray.cli import ready
from rambo_ray.errors import RunError, UserError

if TYPE_CHECKING:
    from rambo_ray.config.schema import Config


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are UserErrors, said by the command in one line."""

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

    def overrides(self, purpose: str = "override a key of the configuration") -> None:
        """Any number of `section.key=value`, before, between and after the options."""
        self.add_argument("overrides", nargs="*", metavar="section.key=value", help=purpose)


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

        return exit_code(program, job)


def exit_code(name: str, job: Callable[[], int]) -> int:
    """What `job` returns, or 1 where the cluster failed, 2 for bad input, 130 when interrupted, said in a line each.

    141, without a line, where nothing reads the output any more.
    """
    try:
        code = job()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # `| head` has had enough; Python flushes once more at its end, and must not complain there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except UserError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"{name}: failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the same command continues where this one stopped", file=sys.stderr)
        return 130


def configuration(parsed: argparse.Namespace) -> Config:
    """What `--config` and the overrides say, after the process computes as it asks (`numerics.settle`)."""
    from rambo_ray.config import loading  # only here: pydantic would double the time of --help

    config = loading.load(ready.file("config", parsed.config), parsed.overrides)
    numerics.settle(config.cluster.reproducible, restart=parsed.restart)
    return config


def _by_name(purpose: str, kind: ready.Kind) -> str:
    """The help of an option whose file may be one of the ready ones."""
    return f"{purpose}: the path of a file, or the name of a ready one: {', '.join(ready.known(kind))}"
