"""The images of a request, by their position, ready before they are asked for.

A thread reads them one after the other, those without an answer first, so that the page opens at once however many
there are. Files of the user's own are only pointed at; all others (rows of Parquet files, benchmarks) go to a
temporary file, since ten thousand photographs do not fit into memory.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from rambo_ray.errors import UserError


class Picture(Protocol):
    """An image as `rambo_ray.data.originals` gives it."""

    @property
    def content(self) -> bytes:
        """The encoded file."""
        ...

    @property
    def path(self) -> Path | None:
        """Where it lies, None where it has no file of its own."""
        ...


class Pictures:
    """The encoded images of a request [B]."""

    def __init__(self, pictures: Iterator[Picture], order: Sequence[int]) -> None:
        """Read `pictures`, which come in the `order` [B] of these positions.

        Raises UserError where the first cannot be had; what fails later, `get` raises.
        """
        self._order = tuple(order)
        self._places: dict[int, Path | tuple[int, int]] = {}
        self._changed = threading.Condition()
        self._failed: str | None = None
        self._file = tempfile.TemporaryFile(prefix="rambo_label_")  # noqa: SIM115
        self._pictures = pictures
        self._keep(0)
        self._closed = False
        self._thread = threading.Thread(target=self._read, name="pictures", daemon=True)
        self._thread.start()

    def get(self, position: int) -> bytes:
        """The encoded image, waited for where it is not there yet. Raises UserError where it cannot be had."""
        with self._changed:
            self._changed.wait_for(lambda: position in self._places or self._failed is not None or self._closed)
            if position not in self._places:
                raise UserError(self._failed or "the server ends")
            place = self._places[position]
        if isinstance(place, Path):
            try:
                return place.read_bytes()
            except OSError as error:
                raise UserError(f"{place}: {error.strerror}; put the file back") from error
        begin, size = place
        return os.pread(self._file.fileno(), size, begin)

    def close(self) -> None:
        """Stop reading and remove the temporary file."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._file.close()

    def _read(self) -> None:
        try:
            for number in range(1, len(self._order)):
                if self._closed:
                    return
                self._keep(number)
        except Exception as error:  # of a thread: said to whoever asks for an image
            with self._changed:
                self._failed = str(error) or type(error).__name__
                self._changed.notify_all()

    def _keep(self, number: int) -> None:
        picture = next(self._pictures)
        place: Path | tuple[int, int]
        if picture.path is not None:
            place = picture.path
        else:
            place = (self._file.seek(0, os.SEEK_END), len(picture.content))
            self._file.write(picture.content)
            self._file.flush()
        with self._changed:
            self._places[self._order[number]] = place
            self._changed.notify_all()
