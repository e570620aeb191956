"""The two errors a user can meet, and how an unknown name is answered.

Everything wrong with a configuration, a file or an argument is found before any work starts and
is raised as `UserError`: one line that names the value, the rule and the remedy. The job files
print that line and exit with code 2. What goes wrong later, on the cluster, is a `RunError`: one
line too, exit code 1, and everything finished so far stays on disk for the next run.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad configuration, data or arguments; exit code 2."""


class RunError(RuntimeError):
    """A run that could not be finished although its input was right; exit code 1."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which of `known` the user may have meant, as the end of a sentence.

    Returns "did you mean 'x'?" for a near miss, else the whole list of what is allowed.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return "allowed: " + ", ".join(names)
