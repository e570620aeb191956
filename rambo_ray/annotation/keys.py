"""Which key of the keyboard answers which class.

A class that is named by one letter or digit has that key: whoever sees a 3 presses 3. The others have 1 to 9 and then
the letters, as far as these are free. Beyond MOST classes nobody remembers keys, and names are typed instead.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

MOST = 20

_IN_ORDER = "123456789" + string.ascii_lowercase
_TYPED = frozenset(string.ascii_letters + string.digits)


def keys(class_names: Sequence[str]) -> list[str] | None:
    """A key for each class [K]; None where names are to be typed.

    Capital and small letters are different keys only where two classes differ by that alone.
    """
    single = [name if len(name) == 1 and name in _TYPED else None for name in class_names]
    lowered = [name.lower() for name in single if name is not None]
    if len(set(lowered)) == len(lowered):
        single = [None if name is None else name.lower() for name in single]
    if len(class_names) > MOST and None in single:
        return None
    free = iter([key for key in _IN_ORDER if key not in single and key.upper() not in single])
    return [next(free) if key is None else key for key in single]
