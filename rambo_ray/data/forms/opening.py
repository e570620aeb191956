"""What a value of `data.labeled`, `data.validation` or `data.pool` is: detected from what is there.

What could be two things is none: a table beside 300 pictures is asked back, and not taken for the whole.
"""

from __future__ import annotations

from pathlib import Path

from rambo_ray.config.schema import DataConfig
from rambo_ray.data import held, table_files
from rambo_ray.data.forms import kinds, listing
from rambo_ray.data.forms.arrays import Arrays
from rambo_ray.data.forms.images import ImageFiles
from rambo_ray.data.forms.in_memory import InMemory
from rambo_ray.data.forms.kinds import Kinds
from rambo_ray.data.forms.listing import ListedFiles
from rambo_ray.data.forms.source import Columns, Source
from rambo_ray.data.forms.tables import Tables
from rambo_ray.data.places import File, at, below, exists, has_magic, is_folder, matching
from rambo_ray.errors import UserError, nearest


def source(key: str, data: DataConfig) -> Source:
    """The set that data.`key` names, not read yet. Raises UserError for what is not there, or could be two things."""
    value = getattr(data, key)
    named = f"data.{key}={value}"
    if held.is_name(value):
        return InMemory(named, key, value)
    place = at(value, named)
    if exists(place, named):
        return _in_folder(named, key, data, place) if is_folder(place, named) else _of_file(named, key, data, place)
    if has_magic(value):
        return _of_pattern(named, key, data, value)
    raise UserError(f"{named}: no such file or folder; {_beside(place)}")


def _of_file(named: str, key: str, data: DataConfig, file: File) -> Source:
    end = file.suffix.lower()
    if end in kinds.TABLES:
        return Tables(named, _table(end), key, [file], Columns.of(data))
    if end in kinds.LISTS:
        return ListedFiles(named, key, file, Columns.of(data))
    if end in kinds.ARRAYS:
        return Arrays(named, key, file, Columns.of(data))
    if end in (*kinds.SUFFIXES, *kinds.SOME):
        raise UserError(f"{named}: is one image; give its folder, or a pattern such as {file.parent}/*{end}")
    raise UserError(
        f"{named}: is no folder and does not end in .parquet, .arrow, .feather, .csv, .tsv, .npz or .npy; give one of "
        "these"
    )


def _in_folder(named: str, key: str, data: DataConfig, folder: File) -> Source:
    found = Kinds.of(paths := below(folder, named))
    if "dataset_dict.json" in paths:
        splits = ", ".join(table_files.splits_of_saved_dataset(folder))
        raise UserError(f"{named}: is a DatasetDict with the splits {splits}; name one: data.{key}={folder}/SPLIT")
    if "state.json" in paths and found.tables and not found.images:
        files = [folder / name for name in table_files.of_saved_dataset(folder)]
        return Tables(named, "saved Hugging Face dataset (Arrow)", key, files, Columns.of(data))
    return _of_kinds(named, key, data, folder, found, f"folder {folder}")


def _of_pattern(named: str, key: str, data: DataConfig, pattern: str) -> Source:
    base, paths = matching(pattern, named)
    if not paths:
        raise UserError(f"{named}: no file matches; correct the pattern (** stands for any folders)")
    return _of_kinds(named, key, data, base, Kinds.of(paths), "pattern")


def _of_kinds(named: str, key: str, data: DataConfig, base: File, found: Kinds, where: str) -> Source:
    """The source that these files are, where they are one thing."""
    lists = [path for path in found.lists if not found.images or _lists_images(base / path, named, data)]
    held = {
        "images": found.images,
        "Parquet or Arrow files": found.tables,
        "CSV lists": lists,
        "NumPy files": found.arrays,
    }
    present = {what: files for what, files in held.items() if files}
    if found.unreadable and not found.images and found.tables:
        present["images of other kinds"] = list(found.unreadable)
    if len(present) > 1:
        counted = ", ".join(f"{len(files):,} {what}" for what, files in present.items())
        first = next(files[0] for what, files in present.items() if what not in ("images", "images of other kinds"))
        raise UserError(
            f"{named}: holds {counted} (such as {first}), and which are meant is not clear; name a file "
            f"(data.{key}={base / first}) or a pattern (data.{key}={base}/**/*.png)"
        )
    if found.images or (found.unreadable and not present):
        form = "image files of a pattern" if where == "pattern" else "folder of images"
        return ImageFiles(named, form, base, found, data.class_level)
    if found.tables:
        direct = [path for path in found.tables if "/" not in path]
        if where != "pattern" and 0 < len(direct) < len(found.tables):
            raise UserError(
                f"{named}: holds {len(direct)} tables and {len(found.tables) - len(direct)} in folders below it; name "
                f"those that are meant by a pattern: data.{key}={base}/*{kinds.suffix(direct[0])} or {base}/**/*"
                f"{kinds.suffix(direct[0])}"
            )
        if splits := table_files.splits(found.tables):
            ends = found.tables[0].rpartition("/")
            raise UserError(
                f"{named}: holds the splits {', '.join(splits)}; name one by a pattern: "
                f"data.{key}={base}/{ends[0]}{ends[1]}{'train' if 'train' in splits else splits[0]}*"
            )
        made: Source = Tables(
            named, _table(kinds.suffix(found.tables[0])), key, [base / p for p in found.tables], Columns.of(data)
        )
    elif len(lists) == 1:
        made = ListedFiles(named, key, base / lists[0], Columns.of(data))
    elif len(found.arrays) == 1 and not lists:
        made = Arrays(named, key, base / found.arrays[0], Columns.of(data))
    elif lists or found.arrays:
        several = lists or found.arrays
        raise UserError(
            f"{named}: holds {len(several)} files such as {several[0]}; name one: data.{key}={base / several[0]}"
        )
    else:
        allowed = " ".join(suffix[1:] for suffix in kinds.SUFFIXES)
        besides = f" (but {kinds.listed(found.other)})" if found.other else ""
        raise UserError(f"{named}: holds neither Parquet files nor images{besides}; images end in one of: {allowed}")
    made.skipped.update(found.other)
    return made


def _lists_images(file: File, named: str, data: DataConfig) -> bool:
    """Whether a CSV beside images is a list of them, and not just any table."""
    try:
        return (data.column or listing.PATH) in listing.column_names(file, named)
    except UserError:
        return False


def _table(end: str) -> str:
    return "Parquet" if end == ".parquet" else "Arrow"


def _beside(place: File) -> str:
    beside: list[str] = []
    if isinstance(place, Path) and place.parent.is_dir():
        beside = [entry.name for entry in place.parent.iterdir() if not entry.name.startswith(".")]
    hint = nearest(place.name, beside)
    return hint if hint.startswith("did") else "correct the path"
