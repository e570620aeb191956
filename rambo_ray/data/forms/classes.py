"""Which folder of an image's path is its class.

`cat/0001.png` leaves no doubt. `train/cat/0001.png` has one folder that all share, which is no class. But of
`monday/cat/0001.png` and `cat/monday/0001.png` nobody can tell by the shape alone which is which: what is not clear
is asked back, and `data.class_level` answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from rambo_ray.errors import UserError

_SHOWN = 4  # names of a level


def of_paths(paths: Sequence[str], level: int | None, named: str) -> list[str]:
    """The class of each image by its path below the folder `named` [N].

    level: 1 for the first folder of a path, 2 for the next, -1 for the one that holds the image; None: that which
    differs, where only one does. Raises UserError where there is no such folder, or more than one that might be.
    """
    folders = [path.split("/")[:-1] for path in paths]
    for path, above in zip(paths, folders, strict=True):
        if not above:
            raise UserError(f"{named}: {path} lies in no class folder; move it to CLASS/{path}")
    if level is not None:
        return [_at(path, above, level, named) for path, above in zip(paths, folders, strict=True)]
    depth = min(map(len, folders))
    if depth != max(map(len, folders)):
        return _uneven(folders, named)
    names = [sorted({above[number] for above in folders}) for number in range(depth)]
    differing = [number for number in range(depth) if len(names[number]) > 1]
    if len(differing) > 1:
        seen = "; ".join(f"level {number + 1}: {_few(names[number])}" for number in differing)
        raise UserError(
            f"{named}: which folders are the classes is not clear ({seen}); set data.class_level={differing[-1] + 1} "
            f"(or {differing[0] + 1}), or name the images by a pattern"
        )
    chosen = differing[0] if differing else depth - 1
    return [above[chosen] for above in folders]


def _uneven(folders: Sequence[Sequence[str]], named: str) -> list[str]:
    """Images at several depths: the first folder is the class where each of them holds images itself."""
    whole = {above[0] for above in folders}
    direct = {above[0] for above in folders if len(above) == 1}
    if direct != whole:
        deeper = sorted("/".join(above) for above in folders if above[0] not in direct)
        raise UserError(
            f"{named}: images lie at several depths (in {_few(sorted(direct)) or 'no first folder'}, but also in "
            f"{_few(sorted(set(deeper)))}), so which folders are the classes is not clear; set data.class_level=-1 for "
            "those that hold the images, 1 for the first, or move them"
        )
    return [above[0] for above in folders]


def _at(path: str, above: Sequence[str], level: int, named: str) -> str:
    place = level - 1 if level > 0 else len(above) + level
    if not 0 <= place < len(above):
        raise UserError(
            f"data.class_level={level}: {named}: {path} has only {len(above)} folders; set a level that all images have"
        )
    return above[place]


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
