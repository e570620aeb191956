"""What a command is given by the system, fit to work with: its arguments, and where it speaks."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from rambo_ray.errors import UserError


def check(arguments: Sequence[str]) -> None:
    """Raise UserError where an argument is not UTF-8: no file of a run could say it."""
    for argument in arguments:
        try:
            argument.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(f"'{argument}': is not UTF-8; rename what it names, or give another one") from error


def settle() -> None:
    """Have standard output and standard error take whatever is said.

    Where one was closed, as by `>&-`, what is said goes nowhere; where it cannot show a letter, as in an old locale,
    the letter is escaped.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # the lowest free number, which is that of the closed one: no file of a run gets it then
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
        elif getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
