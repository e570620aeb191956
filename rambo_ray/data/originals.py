"""Images as their owner has them, by the pool's ids: what an annotator should see, at its own size and quality."""

from __future__ import annotations

import io
import mimetypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from rambo_ray.config.schema import DataConfig
from rambo_ray.data import datasets
from rambo_ray.data.forms import opening
from rambo_ray.data.forms.tables import Tables
from rambo_ray.data.images import Images, Pixels
from rambo_ray.errors import UserError

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"GIF8", ".gif"), (b"BM", ".bmp"),
    (b"II*\0", ".tif"), (b"MM\0*", ".tif"), (b"P5", ".pgm"), (b"P6", ".ppm"),
    (b"\0\0\0\x0cjP  ", ".jp2"),
)  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """An image as stored: its id, a name for a file of it, with a suffix, and the encoded file itself.

    path: where that file lies, None where there is none of its own.
    """

    id: str
    name: str
    content: bytes
    path: Path | None = None

    @property
    def media_type(self) -> str:
        """Such as image/png; application/octet-stream where nobody knows."""
        return mimetypes.guess_type(self.name)[0] or "application/octet-stream"


def are_there(data: DataConfig) -> bool:
    """Whether the pool holds anything to look at: embeddings do not. Raises UserError where it is not there."""
    return data.name != "own" or opening.source("pool", data).content != "embeddings"


def stored(data: DataConfig, seed: int, ids: Sequence[str]) -> Iterator[Stored]:
    """The pool's images with these ids, each once, in the order of `ids`.

    Files of one's own come as they are; images of benchmarks become PNG. `seed` is the run's. Raises UserError for
    an id that the pool has not, before the first is given; and for what `datasets.load` refuses.
    """
    if data.name != "own":
        yield from _of_benchmark(data, seed, ids)
        return
    source = opening.source("pool", data)
    place = {name: position for position, name in enumerate(source.ids())}
    _check([name for name in ids if name not in place], source.named)
    positions = [place[name] for name in ids]
    if source.content == "embeddings":
        raise UserError(f"{source.named}: holds embeddings, which nobody can look at; export their ids as CSV")
    if source.content == "pixels":
        pixels = source.array()
        for name, position in zip(ids, positions, strict=True):
            yield Stored(name, _named(name, ".png"), png(pixels[position]))
        return
    if isinstance(source, Tables):
        # In the order of rows first: a file is read once, and what is asked for is little beside the pool.
        found = {position: content for position, content, _ in source.originals(positions)}
        for name in ids:
            content = found[place[name]]
            yield Stored(name, _named(name, suffix(content)), content)
        return
    for name, (_, content, path) in zip(ids, source.originals(positions), strict=True):
        yield Stored(name, path.name if path is not None else _named(name, suffix(content)), content, path)


def png(pixels: Pixels) -> bytes:
    """One image [H, W, C] as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return file.getvalue()


def suffix(content: bytes) -> str:
    """Of an image file's content, with its dot; empty for formats that nobody knows."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    if content[4:8] == b"ftyp":
        return ".avif" if content[8:12] in (b"avif", b"avis") else ".heic"
    return next((name for signature, name in _SIGNATURES if content.startswith(signature)), "")


def _of_benchmark(data: DataConfig, seed: int, ids: Sequence[str]) -> Iterator[Stored]:
    pool = datasets.load(data, seed)[0].pool
    assert isinstance(pool, Images)  # benchmarks' all are
    place = {name: position for position, name in enumerate(pool.ids)}
    _check([name for name in ids if name not in place], f"data.name={data.name}")
    for name in ids:
        yield Stored(name, _named(name, ".png"), png(pool.pixels[place[name]]))


def _named(name: str, end: str) -> str:
    """The last part of an id as a file's name with this suffix."""
    last = PurePosixPath(name).name or "image"
    known = (".jpg", ".jpeg") if end == ".jpg" else (".tif", ".tiff") if end == ".tif" else (end,)
    return last if last.lower().endswith(known) else last + end


def _check(missing: Sequence[str], source: str) -> None:
    if missing:
        more = f" and {len(missing) - 1} more that were" if len(missing) > 1 else ", which was"
        raise UserError(f"{source}: has no image '{missing[0]}'{more} asked for; put the data back as the run saw it")
