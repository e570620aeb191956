"""Reads what comes back from annotators: which tool wrote it is seen by its content."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rambo_ray import files
from rambo_ray.annotation import answers, coco, cvat, label_studio, tables
from rambo_ray.annotation.entries import Entry
from rambo_ray.annotation.names import IMAGE_SUFFIXES
from rambo_ray.data import memory, places
from rambo_ray.errors import UserError

FORMATS = ("labels", "label-studio", "cvat", "coco", "csv", "folder")


def read(path: str | os.PathLike[str], wanted: str | None = None, field: str | None = None) -> tuple[list[Entry], str]:
    """The entries of a file or folder, and a remark about it, empty where there is nothing to say.

    wanted: one of FORMATS, which the content must then be; default: whatever it is. field: what the tool calls the
    class, where it could be several things. Raises UserError, which names the file, for what is none of them.
    """
    place = places.at(str(path), str(path))
    if not isinstance(place, Path) or not places.exists(place, str(path)):
        raise UserError(f"{path}: no such file or folder; give what the annotators returned")
    if place.is_dir():
        _agree("folder", wanted, path)
        return _folder(place), ""
    kind = place.suffix.lower()
    if kind == ".zip":
        return _zipped(place, wanted, field), ""
    if kind == ".jsonl":
        _agree("labels", wanted, path)
        return _log(place)
    return _parsed(places.content(place, str(path)), kind, str(path), wanted, field), ""


def _parsed(content: bytes, kind: str, source: str, wanted: str | None, field: str | None) -> list[Entry]:
    if kind == ".json":
        return _json(content, source, wanted, field)
    if kind == ".xml":
        _agree("cvat", wanted, source)
        return cvat.read_xml(content, source)
    if kind in (".csv", ".tsv", ".txt"):
        if wanted != "label-studio":  # whose CSV it may be
            _agree("csv", wanted, source)
        return tables.read(content, source, field)
    raise UserError(f"{source}: ends in none of .json, .csv, .tsv, .xml, .zip, .jsonl; export it as one of these")


def _json(content: bytes, source: str, wanted: str | None, field: str | None) -> list[Entry]:
    try:
        parsed = files.from_json(content.decode("utf-8-sig"))
    except ValueError as error:
        raise UserError(f"{source}: not JSON ({' '.join(str(error).split())[:120]}); export it anew") from error
    readers: list[tuple[str, Callable[[Any], bool], Callable[[], list[Entry]]]] = [
        ("coco", coco.is_coco, lambda: coco.read(parsed, source)),
        ("label-studio", label_studio.is_json, lambda: label_studio.read_json(parsed, source, field)),
        ("label-studio", label_studio.is_json_min, lambda: label_studio.read_json_min(parsed, source, field)),
    ]
    for name, fits, entries in readers:
        if fits(parsed):
            _agree(name, wanted, source)
            return entries()
    raise UserError(f"{source}: neither Label Studio's JSON or JSON-MIN nor COCO's; export it as one of these")


def _log(path: Path) -> tuple[list[Entry], str]:
    """labels.jsonl: what stands of it."""
    log = answers.read(path)
    entries = [
        Entry(
            (a.id,),
            () if a.label is None else (a.label,),
            f"{path} image '{a.id}'",
            rejected=a.rejected,
            annotator=a.annotator,
            is_id=True,
        )
        for a in answers.standing(log.answers)
    ]
    torn = f"{path}: its last line was cut off and counts for nothing: {log.torn[:80]}" if log.torn else ""
    return entries, torn


def _folder(path: Path) -> list[Entry]:
    """Class folders with copies of images."""
    paths = [
        Path(parent, name).relative_to(path).as_posix()
        for parent, _, found in os.walk(path, followlinks=True)
        for name in found
        if _is_image(name)
    ]
    if not any("/" in name for name in paths):
        raise UserError(f"{path}: holds no class folders with images; give the folder that has a subfolder per class")
    return cvat.read_folders(sorted(paths), str(path))


def _zipped(path: Path, wanted: str | None, field: str | None) -> list[Entry]:
    """The one file of annotations in an archive, or else its class folders."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
            known = [n for n in names if Path(n).suffix.lower() in (".xml", ".json", ".csv") and not _hidden(n)]
            if len(known) == 1:
                inside = f"{path}/{known[0]}"
                memory.check_bytes(archive.getinfo(known[0]).file_size, inside, "download it again")
                return _parsed(archive.read(known[0]), Path(known[0]).suffix.lower(), inside, wanted, field)
    except UserError:
        raise
    except Exception as error:  # a damaged archive fails in many ways
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{path}: not a readable zip file ({reason}); download it again") from error
    if known:
        raise UserError(f"{path}: holds {len(known)} files of annotations; unpack it and give one of them")
    images = sorted(name for name in names if _is_image(name) and not _hidden(name))
    if not any("/" in name for name in images):
        raise UserError(f"{path}: holds neither annotations nor class folders; export with annotations")
    if wanted != "cvat":  # whose ImageNet export it may be
        _agree("folder", wanted, path)
    return cvat.read_folders(images, str(path))


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES and not Path(name).name.startswith(".")


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _agree(found: str, wanted: str | None, source: object) -> None:
    if wanted not in (None, found):
        raise UserError(f"--format {wanted}: {source} is {found}; give --format {found}, or leave it out")
