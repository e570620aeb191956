"""Images as their owner has them, by the pool's ids: what an annotator should see, at its own size and quality."""

from __future__ import annotations

import io
import mimetypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from rambo_ray.config.schema import DataConfig
from rambo_ray.data import datasets, parquet
from rambo_ray.data.images import Images, Pixels
from rambo_ray.errors import UserError

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"GIF8", ".gif"), (b"BM", ".bmp"),
    (b"II*\0", ".tif"), (b"MM\0*", ".tif"), (b"P5", ".pgm"), (b"P6", ".ppm"),
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


def stored(data: DataConfig, seed: int, ids: Sequence[str]) -> Iterator[Stored]:
    """The pool's images with these ids, each once, in the order of `ids`.

    Files of one's own come as they are; images of benchmarks become PNG. `seed` is the run's. Raises UserError for
    an id that the pool has not, before the first is given; and for what `datasets.load` refuses.
    """
    if data.name != "own":
        yield from _of_benchmark(data, seed, ids)
        return
    assert data.pool is not None
    path = Path(data.pool).expanduser()
    if not path.exists():
        raise UserError(
            f"data.pool={data.pool}: no such file or folder; go to where the run was started, or move it back"
        )
    files = parquet.find(path)
    if files:
        yield from _of_parquet(files, ids)
        return
    _check([name for name in ids if not (path / name).is_file()], f"data.pool={data.pool}")
    for name in ids:
        yield Stored(name, PurePosixPath(name).name, (path / name).read_bytes(), path / name)


def png(pixels: Pixels) -> bytes:
    """One image [H, W, C] as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return file.getvalue()


def suffix(content: bytes) -> str:
    """Of an image file's content, with its dot; empty for formats that nobody knows."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    return next((name for signature, name in _SIGNATURES if content.startswith(signature)), "")


def _of_parquet(files: list[Path], ids: Sequence[str]) -> Iterator[Stored]:
    place = {name: row for row, name in enumerate(parquet.names(files))}
    _check([name for name in ids if name not in place], str(files[0].parent))
    # In the order of rows first: a file is read once, and what is asked for is little beside the pool.
    found = dict(parquet.encoded(files, {place[name] for name in ids}))
    for name in ids:
        content = found[place[name]]
        yield Stored(name, _named(name, suffix(content)), content)


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
