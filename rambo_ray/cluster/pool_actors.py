"""What the actors of a pass over a pool compute: margins of images, features of images, margins of features.

Where they do so on the cores that decode, they read and write, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch

from rambo_ray.classifier import prediction, training
from rambo_ray.classifier.training import Arrays, TrainingSettings
from rambo_ray.cluster.pool_reading import Decoding, Reusing
from rambo_ray.data.pool.parts import Parts
from rambo_ray.embeddings import networks
from rambo_ray.embeddings.reduce import Reduction
from rambo_ray.embeddings.weights import Source
from rambo_ray.machines.begin import Begin

# Features reduced at a time, whatever the batch.
ROWS_REDUCED = 85 * prediction.CHUNK


class Computed:
    """What an actor does with a batch of decoded images; made once in each actor."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The columns of parts for a batch with the column `array`."""
        name, values = self.of(array_of(batch))
        return batch.drop_columns(["array"]).append_column(name, values)

    def of(self, array: np.ndarray) -> tuple[str, pa.Array]:
        """A column's name, and a value for each of an array's rows: pixels uint8 [n, H, W, C], or features."""
        raise NotImplementedError


class Margins(Computed):
    """f's margins of images."""

    def __init__(self, held: Sequence[ray.ObjectRef], settings: TrainingSettings, device: str, begin: Begin) -> None:
        """held: the reference of a trained f's arrays."""
        begin()
        arrays: Arrays = ray.get(held[0])
        self.model = training.from_arrays(arrays, settings, device).model
        self.settings, self.device = settings, device

    def of(self, array: np.ndarray) -> tuple[str, pa.Array]:
        logits, _ = prediction.predict(self.model, array, self.settings, self.device)
        return "margin", pa.array(prediction.margins(logits))


class Features(Computed):
    """A frozen network's features of images."""

    def __init__(self, held: Sequence[ray.ObjectRef], source: Source, device: str, begin: Begin) -> None:
        """held: the reference of the network's weights."""
        begin()
        state = ray.get(held[0])
        self.network = source.build({key: torch.tensor(value) for key, value in state.items()})
        self.device = device

    def of(self, array: np.ndarray) -> tuple[str, pa.Array]:
        found = networks.features(self.network, array, self.device)
        return "features", pa.FixedSizeListArray.from_arrays(pa.array(found.reshape(-1)), found.shape[1])


class Given(Computed):
    """Vectors that are features already."""

    def of(self, array: np.ndarray) -> tuple[str, pa.Array]:
        return "features", pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])


class HeadMargins(Computed):
    """A head's margins of features, which it sees reduced."""

    def __init__(self, held: Sequence[ray.ObjectRef], settings: TrainingSettings, device: str, begin: Begin) -> None:
        """held: the references of a trained head's arrays and of the reduction."""
        self.margins = Margins(held[:1], settings, device, begin)
        self.reduction: Reduction = ray.get(held[1])

    def of(self, array: np.ndarray) -> tuple[str, pa.Array]:
        # Filled up to the same number of rows: how a product rounds may depend on it.
        filled = np.zeros((ROWS_REDUCED * -(-len(array) // ROWS_REDUCED), array.shape[1]), dtype=np.float32)
        filled[: len(array)] = array
        parts = [self.reduction(filled[i : i + ROWS_REDUCED]) for i in range(0, len(filled), ROWS_REDUCED)]
        return self.margins.of(np.concatenate(parts)[: len(array)])


class Whole:
    """A whole pass over some of the pool: reads, decodes, computes and writes parts, one after the other."""

    def __init__(
        self,
        readings: Sequence[ray.ObjectRef],
        computed: type[Computed],
        arguments: Sequence[Any],
        rows: int,
        parts: Parts,
    ) -> None:
        """`computed(*arguments)` is given so many `rows` at a time; readings: what there is to read, by number."""
        self.readings, self.compute, self.rows, self.parts = readings, computed(*arguments), rows, parts

    def __call__(self, numbers: pa.Table) -> Iterator[pa.Table]:
        """Do the readings of the column `id`; yields the number of rows of each part, as it is written."""
        for number in numbers.column("id").to_pylist():
            reading: Decoding | Reusing = ray.get(self.readings[number])
            for batch in in_batches(reading.tables(), self.rows):
                self.parts.write(self.compute(batch))
                yield pa.table({"rows": [len(batch)]})


def in_batches(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The rows of `tables` in their order, so many in each table but the last."""
    held: list[pa.Table] = []
    count = 0
    for table in tables:
        held.append(table)
        count += len(table)
        while count >= rows:
            joined = pa.concat_tables(held)
            yield joined.slice(0, rows)
            held, count = [joined.slice(rows)], count - rows
    if count:
        yield pa.concat_tables(held)


def array_of(batch: pa.Table) -> np.ndarray:
    """The column `array`: [n, ...] of the shape in its metadata, if it is there, or [n, F]."""
    column = batch.column("array").combine_chunks()
    stated = (batch.schema.field("array").metadata or {}).get(b"shape")
    shape = [int(side) for side in stated.split()] if stated else [column.type.list_size]
    return column.flatten().to_numpy().reshape(-1, *shape)
