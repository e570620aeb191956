"""Whether what is asked for fits into this machine's memory, by arithmetic and before it is made."""

from __future__ import annotations

from pathlib import Path

from rambo_ray import limits
from rambo_ray.data.images import Shape, describe
from rambo_ray.errors import UserError

# Of what is free now: the rest is for copies and everything else.
SHARE = 0.9


def check(count: int, shape: Shape, like: str | None = None, *, resized: bool = False) -> None:
    """Raise UserError where the pixels of `count` images of H, W, C do not fit; `like` names one of them.

    resized: the size is that of data.image_size.
    """
    height, width, channels = shape
    needed, free = count * height * width * channels, available()
    if free is None or needed <= SHARE * free:
        return
    size = f"data.image_size={height}" if resized else f"{like}: {describe(shape)}" if like else describe(shape)
    remedy = "set a smaller data.image_size" if resized else "set data.image_size to resize all"
    raise UserError(
        f"{size}: {count:,} images of {width}x{height} pixels and {channels} channels are {_size(needed)}, but "
        f"{_size(free)} of memory are free; {remedy}, or give fewer images"
    )


def check_bytes(needed: int, what: str, remedy: str, of_it: str = "is {} unpacked") -> None:
    """Raise UserError where so many bytes do not fit; `what` needs them, `remedy` is what would help.

    of_it: the words about `what`, with {} for the size.
    """
    free = available()
    if free is not None and needed > SHARE * free:
        raise UserError(f"{what} {of_it.format(_size(needed))}, but {_size(free)} of memory are free; {remedy}")


def available() -> int | None:
    """Bytes that this process can still have, None where nobody says."""
    found = [value for value in (_of_machine(), limits.memory_left()) if value is not None]
    return min(found) if found else None


def _of_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration, IndexError):
        return None


def _size(count: int) -> str:
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB")):
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return f"{count:,} bytes"
