"""Whether a pool stays in its files, and these as what passes over them need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from rambo_ray.config.schema import DataConfig
from rambo_ray.data.decoding import Seen
from rambo_ray.data.forms import kinds
from rambo_ray.data.forms.source import Source
from rambo_ray.data.forms.tables import Tables
from rambo_ray.data.images import Format
from rambo_ray.data.pool.files import PoolFiles
from rambo_ray.errors import UserError

STREAM_BYTES = 512 << 20  # of decoded images or vectors, from which on a pool is streamed


def streamed(
    source: Source,
    data: DataConfig,
    shape: tuple[int, ...],
    wanted: Format,
    seen: Mapping[str, Seen],
    known: Callable[[], Iterable[str]],
) -> PoolFiles | None:
    """The files of the pool `source`, where data.stream says that it stays in them, else None.

    shape: of an image, which is as `wanted.like`, or of a vector, where that is None; seen: what the images of the
    other sets were like; known: ids of theirs that mean the same in any set. Raises UserError for a pool that should
    be streamed and cannot be, and as `PoolFiles.of`.
    """
    fits = isinstance(source, Tables) and all(kinds.suffix(file.name) == ".parquet" for file in source.files)
    if data.stream == "always" and not fits:
        raise UserError(
            f"data.stream=always: {source.named} is no Parquet, the only form that is streamed; set data.stream=auto, "
            "or write the pool as Parquet"
        )
    each = int(np.prod(shape)) * (4 if wanted.like is None else 1)
    if not fits or data.stream == "never" or (data.stream == "auto" and len(source) * each < STREAM_BYTES):
        return None
    if data.bit_depth is None and any(one.deep >= 0 for one in seen.values()):
        raise UserError(
            "data.bit_depth=null: images are grey of 16 bits, and the largest value of a pool that is streamed is not "
            "known; set data.bit_depth to 8, 10, 12, 14 or 16"
        )
    assert isinstance(source, Tables)
    return PoolFiles.of(source.files, source.column, shape, wanted, known(), source.given.id)
