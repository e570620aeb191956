"""Where the ready configurations, experiments and spaces are, and which of them a name means.

A wheel holds them beside the code, in `rambo_ray/ready/`. In a checkout, and in the copy of one that
`ray job submit` unpacks, they are the repository's own folders: `jobs/configs/`, `jobs/experiments/`
and `tune_configs/`. So `--config digits` means the same wherever it is said.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

import rambo_ray
from rambo_ray.errors import UserError, nearest

PACKAGE = Path(rambo_ray.__file__).resolve().parent
SUFFIXES = (".yaml", ".yml")

Kind = Literal["config", "experiment", "space"]


@dataclass(frozen=True)
class _Place:
    """A kind's folder, below `rambo_ray/ready` of a wheel and below the root of a checkout; what one of it is."""

    installed: str
    checkout: str
    noun: str


_PLACES: Mapping[Kind, _Place] = {
    "config": _Place("configs", "jobs/configs", "configuration"),
    "experiment": _Place("experiments", "jobs/experiments", "experiment"),
    "space": _Place("spaces", "tune_configs", "space"),
}


def configs() -> Path:
    """The folder of the ready configurations."""
    return _folder("config")


def experiments() -> Path:
    """The folder of the ready experiments."""
    return _folder("experiment")


def spaces() -> Path:
    """The folder of the ready spaces."""
    return _folder("space")


def known(kind: Kind) -> dict[str, Path]:
    """The ready files of a kind by their names, in the order of the names."""
    return {path.stem: path for path in sorted(_folder(kind).glob("*.yaml"))}


@overload
def file(kind: Kind, name: None) -> None: ...
@overload
def file(kind: Kind, name: str) -> Path: ...
def file(kind: Kind, name: str | None) -> Path | None:
    """The file that `--config`, `--experiment` or `--space` means by `name`; None where it was not given.

    A file at the path `name` comes first, then the ready one of that name, with or without `.yaml`.
    What cannot be a bare name is returned as a path, for its reader to say what is wrong with it.
    Raises UserError where a bare name is neither a file nor a ready one's name.
    """
    if name is None:
        return None
    path, ready = Path(name), known(kind)
    if path.is_file():
        return path
    if (bare := _bare(name)) in ready:
        return ready[bare]
    if path.exists() or any(separator and separator in name for separator in (os.sep, os.altsep)):
        return path
    noun = _PLACES[kind].noun
    rule = f"no such {noun}" if bare == name else f"No such file, and no ready {noun} of that name"
    raise UserError(f"--{kind} {name}: {rule}; {nearest(bare, ready)} (or give the path of a YAML file)")


def _folder(kind: Kind) -> Path:
    place = _PLACES[kind]
    inside = PACKAGE / "ready"
    return inside / place.installed if inside.is_dir() else PACKAGE.parent / place.checkout


def _bare(name: str) -> str:
    """`name` without the suffix of a YAML file."""
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)
