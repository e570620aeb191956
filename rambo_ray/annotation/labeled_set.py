"""The labelled set with the answers of all rounds so far, in the form in which it came.

What there was is copied as it is, what was bought is added: class folders get files, Parquet a further shard of the
same schema, a CSV list and an npz further rows. Images that belong to no class go where `data.none_label` says, and
are left out without it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rambo_ray.annotation import further_rows, rounds
from rambo_ray.annotation.further_rows import Bought, Pool, copy_to
from rambo_ray.annotation.names import IMAGE_SUFFIXES
from rambo_ray.annotation.request import Request
from rambo_ray.annotation.settled import Settled
from rambo_ray.errors import UserError
from rambo_ray.files import temporary_name


@dataclass
class LabeledSet:
    """A set that is written, and becomes `output` when it is `kept`. remarks: what a person should know of it."""

    output: Path
    made: Path
    remarks: list[str] = field(default_factory=list)

    def keep(self) -> Path:
        """Give it its name; returns it."""
        os.rename(self.made, self.output)
        return self.output


@contextmanager
def written(asked: Request, answers: Sequence[Settled], output: str | None) -> Iterator[LabeledSet | None]:
    """The set with the answers to a request, beside its place; what is not kept is gone afterwards.

    output: its place, a new folder; default: labeled_round_N in the run's folder. None comes where there is nothing
    to write: benchmarks have no set of one's own, and a set at an address is not copied. Raises UserError where the
    place is taken, or what was bought does not fit in.
    """
    data = asked.data
    if data.name != "own" or data.labeled is None:
        if output is not None:
            raise UserError(f"--output {output}: data.name={data.name} is no labelled set of your own; leave it out")
        yield None
        return
    place = Path(output).expanduser() if output else asked.folder / f"labeled_round_{asked.config.round.number}"
    if place.exists():
        raise UserError(f"--output {place}: exists already, and is not overwritten; move it away, or give another one")
    source = Path(data.labeled).expanduser()
    form = _form(source)
    if form is None:
        if output is not None:
            raise UserError(
                f"--output {output}: data.labeled={data.labeled} is in a form that is not written again; leave it out"
            )
        yield None
        return
    every = [answer for over in rounds.chain(asked) for answer in over.answers] + list(answers)
    none_label = data.none_label
    bought = [Bought(a.id, label) for a in every if (label := none_label if a.label is None else a.label) is not None]
    made = temporary_name(place)
    ready = LabeledSet(place, made)
    if len(bought) < len(every):
        ready.remarks.append(f"{len(every) - len(bought)} images that belong to no class are not in it")
    try:
        made.mkdir(parents=True)
        if form == "folders":
            _folders(source, asked, bought, made)
        else:
            further_rows.write(form, source, Pool(asked), bought, made, asked.config.round.number)
        yield ready
    except OSError as error:
        raise UserError(f"{place}: {error.strerror or error}; give --output a folder you can write to") from error
    finally:
        if made.exists():
            shutil.rmtree(made)


def _form(source: Path) -> str | None:
    """In which form a labelled set lies; None for one that is not written again."""
    if source.is_file():
        known = {".parquet": "parquet", ".csv": "list", ".tsv": "list", ".npz": "arrays"}
        return known.get(source.suffix.lower())
    if not source.is_dir():
        return None
    ends = {path.suffix.lower() for path in source.rglob("*") if path.is_file() and not path.name.startswith(".")}
    if ends & IMAGE_SUFFIXES:
        return "folders"
    return "parquet" if ".parquet" in ends else None


def _folders(source: Path, asked: Request, bought: Sequence[Bought], made: Path) -> None:
    """Class folders, with a file in the folder of its class for each image that was bought."""
    shutil.copytree(source, made, dirs_exist_ok=True)
    places: dict[str, Path] = {}
    for image, stored in zip(bought, Pool(asked).stored(bought), strict=True):
        if image.label not in places:
            places[image.label] = _class_folder(made, image.label)
        copy_to(places[image.label], stored)


def _class_folder(root: Path, label: str) -> Path:
    """Where images of a class are: the folder of its name nearest to the root; a new one where there is none."""
    named = sorted(
        (path for path in root.rglob("*") if path.name == label and path.is_dir()),
        key=lambda path: (len(path.parts), path.as_posix()),
    )
    folder = named[0] if named else root / label
    folder.mkdir(exist_ok=True)
    return folder
