"""Which images each model of a stack trains on in which step, where every model goes through epochs of its own.

Model g takes batch s mod B_g of its epoch s // B_g in step s, so all models are busy in every step, however many
images each has. Shuffles and masks of dropout are drawn on the device, a block of steps at once, from the models'
seeds, epochs and steps alone (`draws`).

Letters: G models, T steps of a block, b rows of a batch, B batches of an epoch, N images at hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rambo_ray.classifier.stacks import draws

# Steps whose batches are drawn at once: enough that drawing launches few kernels, few enough that masks are small.
BLOCK = 8


@dataclass(frozen=True)
class Step:
    """One step: rows of the images [G, b], weight of each in its model's mean loss [G, b], and what else it needs.

    real float [G]: images of a batch. places int64: which of all G b rows fill batches up, or None. masks: dropout,
    [G, b, units]. ends int64: models whose epoch ends here, None where none does; last bool: whether it must be
    their last; epoch int64: its number, from 1.
    """

    rows: Tensor
    weight: Tensor
    real: Tensor
    places: Tensor | None
    masks: tuple[Tensor, ...]
    ends: Tensor | None
    last: Tensor
    epoch: Tensor


class Schedule:
    """The batches of the models that are still in training."""

    def __init__(
        self,
        subsets: Sequence[np.ndarray],
        bounds: Sequence[Sequence[tuple[int, int]]],
        seeds: Sequence[int],
        batch_size: int,
        max_epochs: int,
        dropout: Sequence[tuple[int, float]],
        device: torch.device,
    ) -> None:
        """bounds: of each subset's batches, as `training.batch_bounds`; dropout: units and probability per mask."""
        self.batch_size, self.max_epochs, self.dropout, self.device = batch_size, max_epochs, dropout, device
        self.sizes = np.array([len(subset) for subset in subsets])
        self.batches = np.array([len(of_one) for of_one in bounds])
        table = np.zeros((len(subsets), int(self.sizes.max())), dtype=np.int64)
        for place, subset in enumerate(subsets):
            table[place, : len(subset)] = subset
        self.table, self.lengths = (self._sent(v) for v in (table, self.sizes))
        self.shuffles, self.dropping = (draws.starts(seeds, what, device) for what in (draws.SHUFFLES, draws.DROPOUT))
        self.step = 0  # the next one

    def keep(self, places: np.ndarray) -> None:
        """Leave only the models at these places."""
        self.sizes, self.batches = self.sizes[places], self.batches[places]
        kept = self._sent(places)
        self.table, self.lengths = self.table[kept], self.lengths[kept]
        self.shuffles, self.dropping = self.shuffles[kept], self.dropping[kept]

    def round_steps(self) -> int:
        """Steps after which to ask which models are done: an epoch of the largest, and no less than a block."""
        return max(BLOCK, int(self.batches.max()))

    def steps(self, count: int) -> Iterator[Step]:
        """The next `count` steps."""
        for first in range(0, count, BLOCK):
            yield from self._block(min(BLOCK, count - first))

    def _block(self, count: int) -> Iterator[Step]:
        models = len(self.sizes)
        steps = np.arange(self.step, self.step + count)[:, None]
        epoch, batch = steps // self.batches, steps % self.batches  # [T, G]
        first = batch * self.batch_size
        ends = batch == self.batches - 1
        held = np.where(ends, self.sizes, first + self.batch_size) - first
        widths = held.max(1)

        # Each epoch that the block touches is shuffled once; an epoch in several blocks in each of them, alike.
        pairs, which = np.unique(np.arange(models) * (epoch.max() + 1) + epoch, return_inverse=True)
        of_model, of_epoch = np.divmod(pairs, epoch.max() + 1)
        ended = [ends[t].nonzero()[0] for t in range(count)]
        filling = [(np.arange(w) >= held[t][:, None]).flatten().nonzero()[0] for t, w in enumerate(widths)]
        parts = [of_model, of_epoch, which.reshape(count, models), first, held, epoch + 1, *ended, *filling]
        sent = iter(self._sent(np.concatenate([part.flatten() for part in parts])).split([part.size for part in parts]))
        model, number = next(sent), next(sent)
        place, start, size, epoch_number = (next(sent).view(count, models, 1) for _ in range(4))
        closing, fills = ([next(sent) for _ in range(count)] for _ in range(2))

        longest = self.table.shape[1]
        orders = draws.orders(draws.at(self.shuffles[model], number), self.lengths[model], longest)
        shuffled = self.table[model].gather(1, orders)
        across = torch.arange(int(widths.max()), device=self.device)
        rows = shuffled.flatten()[place * longest + (start + across).clamp_(max=longest - 1)]
        weight = torch.where(across < size, 1.0 / size, 0.0)
        masks = self._masks(count, int(widths.max()))
        last = epoch_number[..., 0] >= self.max_epochs
        for t, width in enumerate(widths.tolist()):
            yield Step(
                rows[t, :, :width],
                weight[t, :, :width],
                size[t, :, 0].to(torch.float32),
                fills[t] if len(fills[t]) else None,
                tuple(mask[t, :, :width] for mask in masks),
                closing[t] if len(closing[t]) else None,
                last[t],
                epoch_number[t, :, 0],
            )
        self.step += count

    def _masks(self, count: int, rows: int) -> tuple[Tensor, ...]:
        """Masks of dropout [T, G, rows, units]; row j of a batch draws the same, however many rows there are."""
        made = []
        if self.dropout:
            steps = torch.arange(self.step, self.step + count, device=self.device)
            of_step = draws.at(self.dropping, steps[:, None])  # [T, G]
            for number, (units, probability) in enumerate(self.dropout):
                purpose = draws.at(of_step, number)[..., None]
                drawn = draws.at(purpose, torch.arange(rows * units, device=self.device))
                made.append(draws.kept(drawn, probability).view(count, len(self.sizes), rows, units))
        return tuple(made)

    def _sent(self, values: np.ndarray) -> Tensor:
        """int64 numbers on the device, without waiting for what it is doing."""
        made = torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64))
        return made.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else made.clone()
