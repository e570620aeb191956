"""Classes as stored (numbers or names) and as the classifier counts them (0 to C-1).

A dataset says its classes in one of three ways: numbers whose names are declared beside them,
numbers alone, or names alone. Two datasets that belong together (S_0 and S_val, train and test)
may say them differently and still mean the same, so the second is translated into the first's.

N images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rambo_ray.data.items import Integers
from rambo_ray.errors import UserError, nearest


@dataclass(frozen=True, eq=False)
class Labels:
    """The class of each of N images: `codes` int64 [N], positions in `names`.

    `said_as`: how the dataset said them: "declared" (numbers, named in the file's metadata),
    "numbers" (the names are the numbers in decimal) or "names".
    """

    codes: Integers
    names: tuple[str, ...]
    said_as: Literal["declared", "numbers", "names"]


def from_names(names: Sequence[str]) -> Labels:
    """Labels of images whose classes have these names [N]; classes are counted in sorted order."""
    known = tuple(sorted(set(names)))
    code = {name: i for i, name in enumerate(known)}
    return Labels(np.array([code[name] for name in names], np.int64), known, "names")


def from_numbers(numbers: Integers) -> Labels:
    """Labels of images whose classes have these numbers [N]; counted in the order of the numbers."""
    known, codes = np.unique(numbers, return_inverse=True)
    return Labels(codes.astype(np.int64), tuple(str(number) for number in known), "numbers")


def translated(labels: Labels, into: Labels, source: str, into_source: str) -> Integers:
    """Codes [N] of `labels` among the names of `into`.

    Bare numbers are positions where `into` declares names; all else goes by name. Raises UserError
    for a class that `into` does not have; the sources are what the message calls the two datasets.
    """
    code = {name: i for i, name in enumerate(into.names)}
    if into.said_as == "declared" and labels.said_as == "numbers":
        code = {str(i): i for i in range(len(into.names))}
    table = np.array([code.get(name, -1) for name in labels.names], np.int64)
    codes = table[labels.codes]
    if (codes < 0).any():
        name = labels.names[int(labels.codes[codes < 0][0])]
        raise UserError(
            f"{source}: class '{name}' is not among the {len(code)} classes of {into_source}; "
            f"label it there too or remove its images ({_brief(nearest(name, code))})"
        )
    return codes


def without(labels: Labels, name: str, source: str) -> tuple[Labels, Integers]:
    """Labels without the class `name`, whose images [R] are at the positions that come second; their code is -1.

    Raises UserError where there is no such class; the source is what the message calls the dataset.
    """
    if name not in labels.names:
        raise UserError(f"data.none_label={name}: {source} has no such class; {_brief(nearest(name, labels.names))}")
    place = labels.names.index(name)
    codes = np.where(labels.codes > place, labels.codes - 1, labels.codes)
    codes[labels.codes == place] = -1
    rest = Labels(codes, tuple(other for other in labels.names if other != name), labels.said_as)
    return rest, np.flatnonzero(labels.codes == place).astype(np.int64)


def check_two_classes(codes: Integers, source: str, remedy: str) -> None:
    """Raise UserError where fewer than two classes occur among the codes [N]."""
    if not len(codes):
        raise UserError(f"{source}: no image is of a class; must hold at least 2 classes; {remedy}")
    if len(np.unique(codes)) < 2:
        raise UserError(f"{source}: all {len(codes)} images are of one class; must hold at least 2; {remedy}")


def _brief(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."
