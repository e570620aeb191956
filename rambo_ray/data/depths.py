"""How many of their 16 bits grey images use: one number for all sets, so that a value means the same in each.

It is the least of 8, 10, 12, 14 and 16 bits that holds the largest value of all images of 16 bits in S_0, S_val and
the pool, or `data.bit_depth`. The upper 8 of these bits are kept.
"""

from __future__ import annotations

from collections.abc import Mapping

from rambo_ray.data.decoding import Seen
from rambo_ray.errors import UserError

DEPTHS = (8, 10, 12, 14, 16)


def settle(seen: Mapping[str, Seen], given: int | None) -> tuple[int, str | None]:
    """The bits to read images of 16 bits by, and what to say of it; `seen` by what the sets are called.

    Raises UserError for a value beyond the `given` bits, and for coloured images of 16 bits that use so few of them
    that the upper 8, which is all that Pillow reads of them, are nearly black.
    """
    largest = max((one.deep for one in seen.values()), default=-1)
    for named, one in seen.items():
        if given is not None and one.deep >= 2**given:
            raise UserError(
                f"data.bit_depth={given}: {named} holds the value {one.deep}, must be below {2**given}; set "
                f"data.bit_depth={least(one.deep)}"
            )
    colour = max((one.deep_colour for one in seen.values()), default=-1)
    if given is None and 0 <= colour < 2**6:
        raise UserError(
            f"coloured images of 16 bits hold values of {8 + colour.bit_length()} bits at most, and only the upper 8 "
            "of 16 can be read: nearly black; convert them to 8 bits, or set data.bit_depth=16 if they are that dark"
        )
    if largest < 0:
        return given or 16, None
    bits = given or least(largest)
    how = "as data.bit_depth says" if given else f"the largest value of all sets is {largest}"
    return bits, f"grey images of 16 bits are read as {bits} bits: {how}"


def least(largest: int) -> int:
    """The least of DEPTHS whose bits hold a value."""
    return next(bits for bits in DEPTHS if largest < 2**bits)
