"""What a Python program holds (`rambo_ray.data.held`), as a source like any other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rambo_ray.data import held
from rambo_ray.data.decoding import Encoded, in_batches
from rambo_ray.data.forms.source import Source, are_row_numbers, row_ids
from rambo_ray.data.labels import Labels


class InMemory(Source):
    """Arrays or encoded images that were given in Python."""

    form = "given in Python"

    def __init__(self, named: str, key: str, name: str) -> None:
        """key: which of the three sets it is. Raises UserError for what was given to another process."""
        super().__init__(named)
        self.key, self.held = key, held.find(name, f"data.{key}")
        is_array = isinstance(self.held.content, np.ndarray)
        self.content = "embeddings" if self.held.of_vectors else "pixels" if is_array else "images"

    def __len__(self) -> int:
        return len(self.held)

    def stored_ids(self) -> tuple[str, ...]:
        return self.held.ids or row_ids(self.key, len(self.held))

    @property
    def ids_are_shared(self) -> bool:
        return self.held.ids is not None and not are_row_numbers(self.held.ids)

    def stored_labels(self) -> Labels:
        return self.held.classes(self.named)

    def encoded(self) -> Iterator[Sequence[Encoded]]:
        return in_batches(self.held.encoded())

    def array(self) -> npt.NDArray[Any]:
        assert isinstance(self.held.content, np.ndarray)
        return self.held.content

    def originals(self, positions: Sequence[int]) -> Iterator[tuple[int, bytes, Path | None]]:
        for position in positions:
            one = self.held.content[position]
            if isinstance(one, Path):
                yield position, one.read_bytes(), one
            else:
                yield position, bytes(one), None
