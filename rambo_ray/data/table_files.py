"""Columns of table files, Parquet or Arrow, on this machine or elsewhere; nothing but what is asked for is read.

Arrow files are what `datasets.save_to_disk` writes (streams), and what Feather is (files); both are mapped into
memory where they are on this machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rambo_ray import files
from rambo_ray.data import memory
from rambo_ray.data.decoding import BATCH
from rambo_ray.data.places import File, opened
from rambo_ray.errors import UserError

_ARROW_MAGIC = b"ARROW1"


def schema(file: File) -> pa.Schema:
    """The columns of a file and its metadata."""
    if _is_arrow(file):
        with _arrow(file) as reader:
            return reader.schema
    with parquet_file(file) as table:
        return table.schema_arrow


def rows(file: File) -> int:
    """How many rows a file has."""
    if _is_arrow(file):
        with _arrow(file) as reader:
            return sum(batch.num_rows for batch in _batches(reader))
    with parquet_file(file) as table:
        return int(table.metadata.num_rows)


def read(file: File, column: str) -> Iterator[pa.Array]:
    """One column of a file, in pieces of at most BATCH rows; of a struct's field, "image.path", the struct with it.

    Raises UserError for a file that is damaged, also where a piece of it is, and for text that is not UTF-8.
    """
    name, _, field = column.partition(".")
    if _is_arrow(file):
        with _arrow(file) as reader:
            for batch in _batches(reader):
                whole = checked(batch.column(reader.schema.get_field_index(name)), file, column)
                if field:
                    whole = pa.StructArray.from_arrays([whole.field(field)], [field])
                for start in range(0, batch.num_rows, BATCH):
                    yield whole.slice(start, BATCH)
        return
    with parquet_file(file) as table:
        check_size(table, file, name)
        for batch in table.iter_batches(BATCH, columns=[column]):
            yield checked(batch.column(0), file, column)


def checked(values: pa.Array, file: File, column: str) -> pa.Array:
    """`values` of a file's column, where they are what their type says: Arrow itself does not look.

    Raises UserError where text is not UTF-8, or offsets lead beyond the data.
    """
    try:
        values.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error) or "UTF-8" in str(error):
            raise UserError(f"{file}: column '{column}' holds text that is not UTF-8; write it as UTF-8") from error
        raise _damaged(file, "Parquet" if not _is_arrow(file) else "Arrow", error) from error
    return values


def check_size(table: pq.ParquetFile, file: File, column: str) -> None:
    """Raise UserError where the largest row group of a column, which is unpacked at once, has no room in memory."""
    footer = table.metadata
    if not footer.num_row_groups or not footer.num_columns:
        return
    first = footer.row_group(0)
    parts = [i for i in range(first.num_columns) if first.column(i).path_in_schema.split(".")[0] == column]
    groups = map(footer.row_group, range(footer.num_row_groups))
    largest = max(sum(group.column(i).total_uncompressed_size for i in parts) for group in groups)
    memory.check_bytes(largest, f"{file}: a row group of column '{column}'", "write it in smaller row groups")


def declared(file: File) -> dict[str, Any]:
    """What the metadata of Hugging Face says of each column; empty where it says nothing that can be used."""
    try:
        features = files.from_json((schema(file).metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def of_saved_dataset(folder: File) -> list[str]:
    """The files of a folder that `datasets.save_to_disk` wrote, in the order of its state.json."""
    try:
        state = files.from_json((folder / "state.json").read_bytes())
        found = [str(entry["filename"]) for entry in state["_data_files"]]
        if outside := [name for name in found if "/" in name or name in ("", ".", "..")]:
            raise ValueError(outside[0])
        return found
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder}: its state.json does not name its files; save the dataset anew") from error


def splits_of_saved_dataset(folder: File) -> list[str]:
    """The splits of a folder that `DatasetDict.save_to_disk` wrote; each is a folder in it."""
    try:
        return [str(name) for name in files.from_json((folder / "dataset_dict.json").read_bytes())["splits"]]
    except (OSError, KeyError, TypeError, ValueError):
        return []


def splits(names: Sequence[str]) -> list[str]:
    """The splits that file names such as train-00000-of-00002.parquet say; [] where they say none or one."""
    known = ("train", "test", "validation", "val", "valid", "dev")
    stems = [name.rpartition("/")[2].rpartition(".")[0] for name in names]
    found = [next((split for split in known if stem == split or stem.startswith(f"{split}-")), "") for stem in stems]
    distinct = sorted({split for split in found if split})
    return distinct if len(distinct) > 1 else []


def _is_arrow(file: File) -> bool:
    return file.suffix.lower() != ".parquet"


@contextmanager
def parquet_file(file: File) -> Iterator[pq.ParquetFile]:
    """A Parquet file, opened. Raises UserError where it is damaged, also while it is read."""
    try:
        with opened(file) as content, pq.ParquetFile(file if isinstance(file, Path) else content) as table:
            yield table
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, "Parquet", error) from error


@contextmanager
def _arrow(file: File) -> Iterator[Any]:
    try:
        with opened(file) as content:
            is_file = content.read(len(_ARROW_MAGIC)) == _ARROW_MAGIC
        with pa.memory_map(str(file)) if isinstance(file, Path) else opened(file) as content:
            open_one = pa.ipc.open_file if is_file else pa.ipc.open_stream
            with open_one(content) as reader:
                yield reader
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, "Arrow", error) from error


def _batches(reader: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, pa.ipc.RecordBatchFileReader):
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)
    else:
        yield from reader


def _damaged(file: File, kind: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:120]
    return UserError(f"{file}: not a readable {kind} file ({reason}); write it anew")
