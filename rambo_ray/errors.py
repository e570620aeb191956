"""The two errors a user can meet, and how an unknown name is answered.

Everything wrong with a configuration, a file or an argument is found before any work starts and
is raised as `UserError`: one line that names the value, the rule and the remedy. The job files
print that line and exit with code 2. What goes wrong later, on the cluster, is a `RunError`: one
line too, exit code 1, and everything finished so far stays on disk for the next run.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

LISTED = 40  # names that are allowed
LONGEST = 2000  # letters of an error that are said

# What would begin a new line, or tell a terminal to do something; and what came of bytes that are not UTF-8.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class UserError(ValueError):
    """Bad configuration, data or arguments; exit code 2."""


class RunError(RuntimeError):
    """A run that could not be finished although its input was right; exit code 1."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which of `known` the user may have meant, as the end of a sentence.

    Returns "did you mean 'x'?" for a near miss, else the list of what is allowed, or how it begins.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    more = f", and {len(names) - LISTED} more" if len(names) > LISTED + 1 else ""
    return "allowed: " + ", ".join(names[:LISTED] if more else names) + more


def plain(text: str) -> str:
    """`text` in one line that any terminal can show: control characters and bytes that are not UTF-8 as `\\xff`."""

    def escaped(found: re.Match[str]) -> str:
        letter = found.group()
        if "\udc80" <= letter <= "\udcff":  # a byte, as Python keeps it in the name of a file
            return f"\\x{ord(letter) - 0xDC00:02x}"
        return letter.encode("unicode_escape").decode("ascii") if letter < "\ud800" else f"\\u{ord(letter):04x}"

    return _CONTROL.sub(escaped, text)


def one_line(error: BaseException | str) -> str:
    """An error as it is said: `plain`, and without the middle of what is endless."""
    text = plain(str(error))
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
