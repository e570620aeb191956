"""What is given to the annotators: the picked images in their tool's form, and how the tool reaches them.

A tool gets at an image in one of three ways: an address, which is a prefix and the id (`Reach.prefix`); a file in a
folder that it can see (`Reach.images`); or, without either, a copy that is written beside the tasks.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from rambo_ray.annotation import coco, cvat, label_studio, tables
from rambo_ray.annotation.entries import NONE_OF_THESE
from rambo_ray.annotation.names import copy_stem
from rambo_ray.annotation.request import Request
from rambo_ray.data import originals
from rambo_ray.data.formats import readable
from rambo_ray.data.originals import Stored
from rambo_ray.errors import UserError
from rambo_ray.files import temporary_name

FORMATS = ("label-studio", "cvat", "coco", "csv", "folder")
COPIES = "images"
_FILES = (".json", ".csv", ".jsonl", ".txt", ".xml")  # an output that ends so is meant to be a file


@dataclass(frozen=True)
class Reach:
    """How a tool gets at the images.

    prefix: what stands before an id in an address, such as https://example.org/pool/ or /data/local-files/?d=pool/.
    images: the folder in which the ids are paths, as the tool sees it. One of them, or neither.
    """

    prefix: str | None = None
    images: str | None = None

    def address(self, name: str, form: str) -> str | None:
        """Where the image with this id is, as tools of this form are told; None where a copy has to be made."""
        if self.prefix is not None:
            return self.prefix + quote(name)
        if self.images is None:
            return None
        path = os.path.join(self.images, *name.split("/"))
        return label_studio.local(Path(path)) if form == "label-studio" else path


def write(
    request: Request,
    form: str,
    output: str | os.PathLike[str],
    reach: Reach | None = None,
    done: Callable[[], None] = lambda: None,
) -> list[Path]:
    """Write the request in a form of FORMATS to the new `output`; returns its files, without the copies.

    output: a folder, or a file such as tasks.json, whose companions then stand beside it. `done` is told of each image.
    Raises UserError, with nothing written, where something is there already, for a form or reach that does not fit,
    and for images that are not there.
    """
    reach = Reach() if reach is None else reach
    folder = Path(output).expanduser()
    if form not in FORMATS:
        raise UserError(f"--to {form}: must be one of {', '.join(FORMATS)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--output {output}: exists already; give a new one, what is there is not overwritten")
    if form == "folder" and reach != Reach():
        raise UserError("--to folder: is a folder of copies; leave out --images and --url-prefix")
    if reach.images is not None:
        _check_there(Path(reach.images).expanduser(), request.ids)
    if reach.prefix is not None and reach.images is not None:
        raise UserError(f"--images {reach.images}, --url-prefix {reach.prefix}: one way to the images; leave one out")
    with _new(folder) as made:
        if form == "folder":
            files = _sorting_folder(request, made, done)
        else:
            found = list(_reached(request, made, folder, reach, form, done))
            files = _tasks(request, form, made, found, reach)
        if folder.suffix.lower() in _FILES:
            return _beside(folder, made, files)
    return [folder / file for file in files]


@dataclass(frozen=True)
class _Reached:
    """An image as the tool finds it: its address, and width and height, 0 where nobody asked."""

    address: str
    width: int = 0
    height: int = 0


def _reached(
    request: Request, made: Path, folder: Path, reach: Reach, form: str, done: Callable[[], None]
) -> Iterator[_Reached]:
    """Every image in order, with copies where they are wanted: in `made`, which will be `folder`."""
    sized = form in ("cvat", "coco")
    if (reach != Reach() and not sized) or (form == "csv" and not originals.are_there(request.data)):
        # Nothing of the images is needed, or there are none: embeddings are known by their ids.
        yield from (_Reached(reach.address(name, form) or "") for name in request.ids)
        return
    for order, stored in enumerate(originals.stored(request.data, request.seed, request.ids)):
        address = reach.address(stored.id, form)
        if address is None and form == "csv" and stored.path is not None:
            address = str(stored.path.resolve())
        if address is None:
            path = made / COPIES / _copy_name(order, stored)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(stored.content)
            address = f"{COPIES}/{path.name}"
            if form == "label-studio":
                address = label_studio.local(folder / address)
        done()
        yield _Reached(address, *(_size(stored) if sized else (0, 0)))


def _tasks(request: Request, form: str, made: Path, found: list[_Reached], reach: Reach) -> list[str]:
    """Write the files of a form; returns their names."""
    addresses = [image.address for image in found]
    sizes = [(image.address, image.width, image.height) for image in found]
    texts: dict[str, str] = {}
    if form == "label-studio":
        texts["tasks.json"] = label_studio.tasks(request.ids, addresses)
        texts["labelling.xml"] = label_studio.labelling_config(request.class_names)
    elif form == "cvat":
        if reach.images is not None:  # CVAT's names are below its share, which is this folder
            sizes = [(name, width, height) for name, (_, width, height) in zip(request.ids, sizes, strict=True)]
        if reach.prefix is None:  # a manifest is of files
            texts["manifest.jsonl"] = cvat.manifest(sizes)
        texts["images.txt"] = "".join(f"{path}\n" for path, _, _ in sizes)
        texts["labels.json"] = cvat.labels(request.class_names)
    elif form == "coco":
        texts["images.json"] = coco.document(request.ids, sizes, request.class_names)
    else:
        texts["images.csv"] = tables.to_fill_in(request.ids, addresses)
    for name, text in texts.items():
        (made / name).write_text(text, encoding="utf-8")
    return list(texts)


def _sorting_folder(request: Request, made: Path, done: Callable[[], None]) -> list[str]:
    """Copies to be moved into the class folders beside them, and which copy is whose."""
    for name in (*request.class_names, NONE_OF_THESE):
        if "/" in name or name in (".", "..") or "\0" in name:
            raise UserError(f"--to folder: the class '{name}' cannot be a folder's name; use another --to")
        (made / name).mkdir(exist_ok=True)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["order", "file", "id"])
    for order, stored in enumerate(originals.stored(request.data, request.seed, request.ids)):
        name = _copy_name(order, stored)
        (made / name).write_bytes(stored.content)
        writer.writerow([order, name, stored.id])
        done()
    (made / "mapping.csv").write_text(table.getvalue(), encoding="utf-8")
    return ["mapping.csv"]


def _copy_name(order: int, stored: Stored) -> str:
    return copy_stem(order, stored.id) + Path(stored.name).suffix.lower()


def _size(stored: Stored) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(stored.content), formats=readable()) as image:
            return image.size
    except Exception as error:  # a damaged file can fail anywhere in a reader, in any way
        raise UserError(f"{stored.id}: not a readable image ({error}); replace it") from error


def _check_there(folder: Path, ids: tuple[str, ...]) -> None:
    """Where the folder can be seen from here, its images must be there."""
    if not folder.is_dir():
        return  # a path on the tool's machine
    missing = [name for name in ids if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"--images {folder}: holds no {missing[0]}; of {len(ids)} images {len(missing)} are not there; give the "
            "folder that the ids are paths in, or leave it out to have copies made"
        )


def _beside(output: Path, made: Path, files: list[str]) -> list[Path]:
    """Move what was made to `output`, a file, and its companions beside it; returns all of them."""
    if (made / COPIES).is_dir():
        raise UserError(
            f"--output {output}: a file, but the tool needs copies of the images; give a folder, or say how it reaches "
            "them: --images or --url-prefix"
        )
    places = [output, *(output.with_suffix(Path(file).suffix) for file in files[1:])]
    places = [place if places.index(place) == i else output.with_name(files[i]) for i, place in enumerate(places)]
    for place in places[1:]:
        if place.exists():
            raise UserError(f"--output {output}: {place} exists already; give another one")
    for file, place in zip(files, places, strict=True):
        os.replace(made / file, place)
    return places


@contextmanager
def _new(folder: Path) -> Iterator[Path]:
    """A folder to write to that becomes `folder` in the end, whole or not at all."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = temporary_name(folder)
        made.mkdir()
    except OSError as error:
        raise UserError(f"--output {folder}: {error.strerror}; give a folder you can write to") from error
    try:
        yield made
        if folder.suffix.lower() not in _FILES:
            if folder.is_dir():
                folder.rmdir()  # empty, or else it would not have come to this
            os.rename(made, folder)
    finally:
        if made.exists():
            shutil.rmtree(made)
