"""What an id or a class may be called: text that every file of a run can hold, and every tool can give back.

Names go into Parquet, CSV, JSON, XML and HTML, and come back from annotators by any of these. A file name that is
not UTF-8 fits none of them; a line break or another control character does not survive them all. Such a name is
refused where it is read, as changing it would lose whose it is. All else is kept byte for byte: blanks, quotes,
markup, dashes and dots in front, and names that differ in nothing but their Unicode form.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rambo_ray.errors import UserError, plain

LONGEST = 4096  # characters: no path of Linux is longer

# Control characters, what ends a line, and what Python makes of bytes that are not UTF-8.
_BAD = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NAMED = 40  # letters of one that is shown


def check(names: Sequence[str], source: str, what: str = "ids") -> None:
    """Raise UserError where one of the names [N] cannot be kept; `source` and `what` say whose and what they are."""
    if not names or not (_BAD.search("".join(names)) or max(map(len, names)) > LONGEST):
        return
    bad = [name for name in names if _BAD.search(name) or len(name) > LONGEST]
    first = bad[0]
    found = _BAD.search(first)
    if found is None:
        rule = f"must have at most {LONGEST:,} characters, and it has {len(first):,}"
    elif "\ud800" <= found.group() <= "\udfff":
        rule = "must be UTF-8"
    else:
        rule = f"must hold no control character, and it has {plain(found.group())}"
    raise UserError(
        f"{source}: {len(bad):,} of {len(names):,} {what} cannot be kept (the first: '{_shown(first)}'): {rule}; "
        "rename them"
    )


def _shown(name: str) -> str:
    text = plain(name)
    return text if len(text) <= 2 * _NAMED else f"{text[:_NAMED]}...{text[-_NAMED:]}"
