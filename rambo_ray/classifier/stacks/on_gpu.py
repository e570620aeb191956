"""A stack on a GPU: models of any sizes, each in its own epochs, which stop without a word to the CPU.

What a GPU needs and `training._Stack`, which CPUs use, does not give: one tensor of all weights, initial weights,
shuffles and masks drawn on the device (so a model is another than its seed's on a CPU, of the same distribution),
and no waiting but once in a round of about an epoch. A model that reaches `stop_accuracy` at the end of its epoch is
copied aside then and there; that it trains on until the round's end changes nothing. What is copied aside is
evaluated at the end, a few models at a time.

The code runs on any device, which is how it is tested.

Letters: G models, b rows of a batch, V images evaluated, K classes, P weights, Q normalised channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rambo_ray.classifier import training
from rambo_ray.classifier.stacks import draws
from rambo_ray.classifier.stacks.batched import BATCHED, Layout, Pass
from rambo_ray.classifier.stacks.networks import STACKED
from rambo_ray.classifier.stacks.schedule import Schedule
from rambo_ray.classifier.training import TrainingSettings

CHUNK = 200  # images of one model in a forward pass outside training


class Stack:
    """The models of a stack: those still in training, and what became of the others."""

    def __init__(
        self,
        images: Tensor,
        labels: np.ndarray,
        settings: TrainingSettings,
        seeds: Sequence[int],
        subsets: Sequence[np.ndarray],
        device: torch.device,
        exact: torch.dtype = torch.float32,
    ) -> None:
        """images as `training.prepare` makes them; exact: the type of weights and sums."""
        self.training, self.device = settings, device
        self.kind = torch.bfloat16 if settings.precision == "bfloat16" else exact
        self.network = BATCHED[settings.classifier]
        self.images = self.laid_out(images)
        self.labels = torch.from_numpy(np.asarray(labels, dtype=np.int64)).to(device)
        self.layout = Layout.of(settings)
        self.retarget(subsets, seeds)
        self.flat = self.layout.drawn(draws.starts(seeds, draws.WEIGHTS, device)).to(exact)
        self.statistics = self.layout.statistics(len(seeds), exact, device)
        self.final = torch.empty_like(self.flat), torch.empty_like(self.statistics)
        self.adam = self._adam()

    def laid_out(self, images: Tensor) -> Tensor:
        """What `training.prepare` made as [N, H, W, C] on the device, in the type of products."""
        return images.to(self.device, self.kind).permute(0, 2, 3, 1).contiguous()

    def retarget(self, subsets: Sequence[np.ndarray], seeds: Sequence[int]) -> None:
        """Let all the models train on these subsets from here on."""
        settings = self.training
        network, count = STACKED[settings.classifier], len(subsets)
        bounds = [training.batch_bounds(len(s), settings.batch_size, network.smallest) for s in subsets]
        self.schedule = Schedule(
            subsets, bounds, seeds, settings.batch_size, settings.max_epochs, network.dropout, self.device
        )
        self.sizes = [len(subset) for subset in subsets]
        self.enough = torch.tensor([_enough(len(s), settings.stop_accuracy) for s in subsets], device=self.device)
        self.members = torch.arange(count, device=self.device)
        # Right answers of the epoch so far; of all models that began: epochs, 0 while in training, and right answers.
        self.correct, self.epochs, self.right = (
            torch.zeros(count, dtype=torch.int64, device=self.device) for _ in range(3)
        )

    def run_round(self, steps: int | None = None) -> None:
        """Train all models for some steps, by default about an epoch, and let those that are done leave."""
        for step in self.schedule.steps(self.schedule.round_steps() if steps is None else steps):
            models, rows = step.rows.shape
            chosen = step.rows.flatten()
            x = self.images.index_select(0, chosen)
            if step.places is not None and self.layout.norms:
                x.index_fill_(0, step.places, 0.0)
            y = self.labels.index_select(0, chosen)
            weights = self.layout.views(self.flat, self.kind)
            forward = Pass(weights, None, step.real.to(self.flat.dtype), step.places, step.masks)
            logits = self.network(forward, x.view(models, rows, *self.images.shape[1:])).to(self.flat.dtype)
            loss = F.cross_entropy(logits.flatten(0, 1), y, reduction="none").view(models, rows)
            self.adam.zero_grad(set_to_none=True)
            # The sum over models of their mean losses: each model's gradient is its own loss's.
            (loss * step.weight).sum().backward()
            self.adam.step()
            with torch.no_grad():
                forward.update(self.layout, self.statistics)
                right = (logits.argmax(2) == y.view(models, rows)) & (step.weight > 0)
                self.correct += right.sum(1)
                if step.ends is not None:
                    self._end_epochs(step.ends, step.last, step.epoch)
        left = (self.epochs.index_select(0, self.members) == 0).cpu().numpy()
        if not left.all():
            self._keep(left.nonzero()[0])

    def _end_epochs(self, ends: Tensor, last: Tensor, epoch: Tensor) -> None:
        """Put aside those of the models at `ends` that are done with this epoch, and count anew."""
        members = self.members.index_select(0, ends)
        correct, epoch = self.correct.index_select(0, ends), epoch.index_select(0, ends)
        training_on = self.epochs.index_select(0, members) == 0
        enough = (correct >= self.enough.index_select(0, members)) | last.index_select(0, ends)
        done = training_on & enough
        self.epochs.index_copy_(0, members, torch.where(done, epoch, self.epochs.index_select(0, members)))
        self.right.index_copy_(0, members, torch.where(done, correct, self.right.index_select(0, members)))
        self.correct.index_fill_(0, ends, 0)
        for final, now in zip(self.final, (self.flat.detach(), self.statistics), strict=True):
            chosen = done.view(-1, *[1] * (now.ndim - 1))
            kept = torch.where(chosen, now.index_select(0, ends), final.index_select(0, members))
            final.index_copy_(0, members, kept)

    def _keep(self, places: np.ndarray) -> None:
        """Leave only the models at these places in training."""
        kept = torch.from_numpy(places).to(self.device)
        if len(places):
            self.schedule.keep(places)
            old, flat = self.adam, self.flat
            self.flat = flat.detach().index_select(0, kept)
            self.adam = self._adam()
            self.adam.state[self.flat] = {
                name: value if name == "step" else value.index_select(0, kept)
                for name, value in old.state[flat].items()
            }
            self.statistics = self.statistics.index_select(0, kept)
        else:  # what is evaluated next can use the memory
            del self.flat, self.adam
        self.members, self.correct = self.members.index_select(0, kept), self.correct.index_select(0, kept)

    def _adam(self) -> torch.optim.Adam:
        return torch.optim.Adam([self.flat.requires_grad_()], lr=self.training.learning_rate, fused=True)

    @torch.inference_mode()
    def logits(self, evaluated: Tensor, flat: Tensor, statistics: Tensor) -> Tensor:
        """Logits [G, V, K] on the CPU of images as `laid_out` by G models, in eval mode.

        So many models at a time that a pass has no more rows than one of training had.
        """
        found = []
        step = max(1, len(self.sizes) * self.training.batch_size // CHUNK)
        for first in range(0, len(flat), step):
            part = slice(first, first + step)
            weights = self.layout.views(flat[part], self.kind)
            forward = Pass(weights, self.layout.running(statistics[part]))
            count = len(flat[part])
            passes = [
                self.network(forward, x.expand(count, *x.shape).contiguous()).float() for x in evaluated.split(CHUNK)
            ]
            found.append(torch.cat(passes, 1).cpu())
        return torch.cat(found)

    def train(self, evaluated: Tensor) -> list[tuple[np.ndarray, int, float]]:
        """Train all models; logits float32 [V, K], epochs and the last one's accuracy of each."""
        while len(self.members):
            self.run_round()
        logits = self.logits(self.laid_out(evaluated), *self.final).numpy()
        epochs, right = self.epochs.tolist(), self.right.tolist()
        return [(logits[g], epochs[g], right[g] / size) for g, size in enumerate(self.sizes)]


def _enough(n: int, accuracy: float) -> int:
    """The fewest right answers of n that are as good as an accuracy."""
    right = max(0, math.floor(accuracy * n) - 1)
    while right / n < accuracy:
        right += 1
    return right
