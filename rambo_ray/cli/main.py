"""The program `rambo`: its first argument names a command, the command's own parser takes the rest.

The files in `jobs/` are the same commands under the names of those files, by `job`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rambo_ray import __version__
from rambo_ray.cli import overview, terminal
from rambo_ray.cli.commands import COMMANDS
from rambo_ray.cli.entry import Parser, exit_code
from rambo_ray.errors import UserError, nearest

PROGRAM = "rambo"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments (default: those of this process) name; returns its exit code."""
    terminal.settle()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in COMMANDS:
        return COMMANDS[given[0]].main(f"{PROGRAM} {given[0]}", given[1:], restart=arguments is None)
    return exit_code(PROGRAM, lambda: _without_command(given))


def job(command: str, arguments: Sequence[str] | None = None) -> int:
    """Run a command as its file in `jobs/`, whose name its messages then carry; returns the exit code."""
    terminal.settle()
    return COMMANDS[command].main(f"{command}.py", arguments)


def _without_command(given: list[str]) -> int:
    """What `rambo` itself answers: its help, its version, or a UserError for what is no command."""
    parser = _parser()
    terminal.check(given)
    if not given:
        parser.print_help(sys.stderr)
        return 2
    if not given[0].startswith("-"):
        raise UserError(f"{given[0]}: no such command; {nearest(given[0], COMMANDS)}")
    parser.parse_known_args(given[:1])  # --help and --version end here
    raise UserError(f"{given[0]}: no option of {PROGRAM} itself; name a command first ({', '.join(COMMANDS)})")


def _parser() -> Parser:
    made = Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} COMMAND [options] [section.key=value ...]",
        description="RAMBO: one-round active learning by learning to rank, on Ray.",
        epilog=overview.text(PROGRAM, COMMANDS),
        allow_abbrev=False,
    )
    made.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    return made
