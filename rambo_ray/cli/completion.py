"""`rambo completion`: the script by which a shell completes commands, options, ready names and configuration keys.

shtab writes it from the commands' own parsers. Keys end in `=`, after which a file may be completed, so bash is told
not to add a space there; zsh and fish know by themselves.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any, get_args

import shtab

from rambo_ray.cli import ready
from rambo_ray.cli.commands import COMMANDS
from rambo_ray.cli.entry import Parser
from rambo_ray.cli.ready import Kind
from rambo_ray.config import loading

PROGRAM = "rambo"
_KINDS: tuple[Kind, ...] = get_args(Kind)

# In bash `=` divides words: what is completed behind one is the value alone.
_BASH = """
_rambo_complete() {
  local line word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"
  if [[ $word == "=" || $before == "=" ]]; then
    [[ $word == "=" ]] && word=""
    compopt -o filenames 2>/dev/null
    COMPREPLY=()
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$word")
    return
  fi
  _shtab_rambo
  [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace 2>/dev/null
}
complete -o bashdefault -F _rambo_complete rambo
"""


def called(parsed: argparse.Namespace) -> int:
    """The command `completion`; returns its exit code."""
    sys.stdout.write(script(parsed.shell))
    return 0


def script(shell: str) -> str:
    """The completion script for "bash", "zsh" or "fish"."""
    made: str = shtab.complete(_whole(), shell=shell, root_prefix=PROGRAM)
    if shell == "bash":
        return made + _BASH
    # In zsh any number of keys: what shtab writes of "*" completes the first alone.
    return (made.replace('"(*)::', '"*:') if shell == "zsh" else made) + "\n"


def _whole() -> Parser:
    """The program as one parser, each action with what completes it."""
    whole = Parser(prog=PROGRAM)
    whole.add_argument("--version", action="version", version="")
    below = whole.add_subparsers()
    for command in COMMANDS.values():
        parser = below.add_parser(command.name, help=command.summary)
        command.options(parser)
        for action in parser._actions:
            if (found := _completed(action)) is not None:
                action.complete = found  # type: ignore[attr-defined]
    return whole


def _completed(action: argparse.Action) -> dict[str, Any] | None:
    """What completes an action's value, by what its help calls that value; None: its choices, or nothing."""
    if action.dest in _KINDS:
        return _words(action.dest, list(ready.known(action.dest)), files=True)  # type: ignore[arg-type]
    if action.dest == "overrides":
        return _words("keys", [f"{key}=" for key in loading.dotted_keys()], files=False)
    return {"DIR": shtab.DIRECTORY, "FILE": shtab.FILE}.get(str(action.metavar))


def _words(name: str, words: list[str], *, files: bool) -> dict[str, Any]:
    """Completion by a function of each shell that knows these words, and files beside or, of keys, behind them."""
    function, listed = f"_rambo_{name}", " ".join(words)
    if files:
        bash = f'compgen -W "{listed}" -- "$1"; compgen -f -- "$1"'
        zsh = f"compadd -- {listed}; _files"
        fish = f"string split ' ' -- '{listed}'\n  __fish_complete_path (commandline -ct)"
    else:
        bash = f'compgen -W "{listed}" -- "$1"'
        zsh = f"if compset -P '*='; then _files; else compadd -S '' -- {listed}; fi"
        fish = f"""set -l parts (string split -m 1 = -- (commandline -ct))
  if set -q parts[2]
    for path in (__fish_complete_path $parts[2])
      echo $parts[1]=$path
    end
  else
    string split ' ' -- '{listed}'
  end"""
    return {
        "bash": function,
        "zsh": function,
        "fish": f"({function})",
        "preamble": {
            "bash": f"{function}() {{ {bash}; }}",
            "zsh": f"{function}() {{ {zsh} }}",
            "fish": f"function {function}\n  {fish}\nend",
        },
    }
