"""A stack of classifiers, each as `rambo_ray.classifier.training.train` would train it alone.

On a GPU it is `on_gpu.Stack` that trains. What follows is said of CPUs, where a stack goes in step: every model has
its own seed and draws initialisation, shuffles and dropout in the order in which `training.train` draws them, from a
generator of its own, so a model of the stack is that model, but for the rounding of other matrix products. Models
that make the same number of steps in an epoch go together, so that one Adam does for all; a model that reaches
`stop_accuracy` leaves the stack at the end of that epoch, and the others go on closer together.

Letters: G models, S steps of an epoch, b rows of a batch, N images at hand, V evaluated, K classes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rambo_ray.classifier import training
from rambo_ray.classifier.networks import build
from rambo_ray.classifier.stacks import draws, on_gpu
from rambo_ray.classifier.stacks.batched import BATCHED, Layout, Pass
from rambo_ray.classifier.stacks.networks import STACKED, Layers, Network, State, stacked_state
from rambo_ray.classifier.training import Device, TrainingSettings

# Images of one model in a forward pass outside training.
CHUNK = 200


@dataclass(frozen=True)
class Result:
    """What became of one model: as `training.Trained`, and its logits float32 [V, K].

    seconds is the model's share of the stack's time.
    """

    logits: np.ndarray
    epochs: int
    images_seen: int
    train_accuracy: float
    seconds: float


def batches_per_epoch(n: int, settings: TrainingSettings) -> int:
    """Steps of an epoch on n images: what models that train in step must have in common."""
    return len(training.batch_bounds(n, settings.batch_size, STACKED[settings.classifier].smallest))


def models_that_fit(settings: TrainingSettings, room: float) -> int:
    """How many models a stack on a GPU can have in `room` bytes, at least one; one for a network without a stack.

    Counted are, per model, its weights, gradients, Adam's two moments, the copy put aside and one more of what is at
    work on them, rounded weights and gradients, what autograd keeps of a batch (found by one pass), and three times
    the largest of that, as a backward pass makes tensors of that size. Evaluation takes as many rows at a time as
    training, of which it keeps nothing; for fewer models than have CHUNK rows its room is set aside.
    """
    if settings.classifier not in STACKED:
        return 1
    kind = torch.bfloat16 if settings.precision == "bfloat16" else torch.float32
    layout = Layout.of(settings)
    flat = layout.drawn(draws.starts([0], draws.WEIGHTS)).requires_grad_()
    kept: dict[int, int] = {}  # by address, as several functions may keep one tensor

    def note(value: Tensor) -> Tensor:
        kept[value.data_ptr()] = value.nbytes
        return value

    channels, height, width = settings.image_shape
    rows = 2
    x = torch.zeros(1, rows, height, width, channels, dtype=kind)
    masks = tuple(torch.ones(1, rows, units) for units, _ in STACKED[settings.classifier].dropout)
    weights = layout.views(flat, kind)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        BATCHED[settings.classifier](Pass(weights, None, torch.full((1,), float(rows)), None, masks), x)
    for value in (flat, *weights.values()):
        kept.pop(value.data_ptr(), None)
    largest = max(kept.values()) / rows
    row = sum(kept.values()) / rows + 3 * largest
    per_model = flat.numel() * (6 * flat.element_size() + 3 * kind.itemsize) + row * settings.batch_size
    return max(1, int((room - 3 * largest * on_gpu.CHUNK) // per_model))


def train_stack(
    images: Tensor,
    labels: np.ndarray,
    evaluated: Tensor,
    settings: TrainingSettings,
    seeds: Sequence[int],
    subsets: Sequence[np.ndarray],
    device: Device = "cpu",
) -> list[Result]:
    """Train one model per subset, all at once, and return their results in the order of the subsets.

    images and evaluated are what `training.prepare` made of N and V images, labels int64 [N], each
    subset int64 positions among the N. On a CPU model g is that of training.train(images, labels, settings,
    seeds[g], positions=subsets[g]), but for rounding, and models that differ in their steps per epoch go one
    such stack after the other; on a GPU it is another draw of the same rule, and all go together. Raises
    ValueError where there is not one seed each, UserError for a subset too small for batch normalisation.
    """
    if not subsets or len(seeds) != len(subsets):
        raise ValueError(f"subsets: {len(subsets)} with {len(seeds)} seeds; a stack needs one each, and at least one")
    began = time.perf_counter()
    device = torch.device(device)
    found: dict[int, Outcome] = {}
    with training.cuda_kernels(device, settings):
        if device.type == "cuda":
            found = dict(enumerate(on_gpu.Stack(images, labels, settings, seeds, subsets, device).train(evaluated)))
        else:
            alike: dict[int, list[int]] = {}
            for g, subset in enumerate(subsets):
                alike.setdefault(batches_per_epoch(len(subset), settings), []).append(g)
            for chosen in alike.values():
                own_seeds, own_subsets = [seeds[g] for g in chosen], [subsets[g] for g in chosen]
                outcomes = _in_step(_Stack(images, labels, settings, own_seeds, own_subsets, device), evaluated)
                found |= dict(zip(chosen, outcomes, strict=True))
    share = (time.perf_counter() - began) / len(subsets)
    return [
        Result(logits, epochs, epochs * len(subset), accuracy, share)
        for subset, (logits, epochs, accuracy) in zip(subsets, (found[g] for g in range(len(subsets))), strict=True)
    ]


Outcome = tuple[np.ndarray, int, float]  # logits float32 [V, K], epochs and the last one's accuracy of a model


def _in_step(stack: _Stack, evaluated: Tensor) -> list[Outcome]:
    """Train the models of a stack that have one number of steps per epoch."""
    settings = stack.training
    evaluated = _channels_last(evaluated.to(stack.device))
    found: dict[int, Outcome] = {}
    epoch = 0
    while stack.members:
        epoch += 1
        accuracy = stack.run_epoch()
        done = [a >= settings.stop_accuracy or epoch >= settings.max_epochs for a in accuracy]
        if any(done):
            leaving = [place for place, left in enumerate(done) if left]
            logits = stack.logits(evaluated, leaving)
            for place, of_one in zip(leaving, logits, strict=True):
                found[stack.members[place]] = (of_one.cpu().numpy(), epoch, accuracy[place])
            stack.keep([place for place, left in enumerate(done) if not left])
    return [found[g] for g in sorted(found)]


class _Stack:
    """The models still in training: their weights, Adam's moments, random generators and subsets."""

    def __init__(
        self,
        images: Tensor,
        labels: np.ndarray,
        settings: TrainingSettings,
        seeds: Sequence[int],
        subsets: Sequence[np.ndarray],
        device: torch.device,
    ) -> None:
        self.training, self.device = settings, device
        self.network: Network = STACKED[settings.classifier]
        self.images = _channels_last(images.to(device)).to(training.image_type(settings))
        self.labels = torch.tensor(labels, dtype=torch.int64, device=device)
        self.members = list(range(len(subsets)))
        self.subsets = [torch.tensor(subset, dtype=torch.int64) for subset in subsets]
        self.bounds = [
            training.batch_bounds(len(subset), settings.batch_size, self.network.smallest) for subset in subsets
        ]
        self.generators, models = [], []
        for seed in seeds:
            with training.seeded(seed, torch.device("cpu")):
                models.append(build(settings.classifier, settings.image_shape, settings.num_classes))
                self.generators.append(torch.Generator().set_state(torch.get_rng_state()))
        self.state: State = {key: value.to(device) for key, value in stacked_state(models).items()}
        self.trained = [key for key, _ in models[0].named_parameters()]
        self.adam = self._adam()

    def run_epoch(self) -> list[float]:
        """One epoch of every model; returns their running accuracies, in [0, 1]."""
        rows, real, masks = self._draw()
        correct = torch.zeros(len(self.members), dtype=torch.int64, device=self.device)
        for step in range(rows.shape[0]):
            weight = real[step]
            x = self.images.index_select(0, rows[step].flatten()).view(*rows.shape[1:], *self.images.shape[1:])
            y = self.labels.index_select(0, rows[step].flatten())
            with training.autocast(self.device, self.training):
                layers = Layers(self.state, weight, training=True)
                logits = self.network.logits(layers, x, tuple(mask[step] for mask in masks)).float()
            loss = F.cross_entropy(logits.flatten(0, 1), y, reduction="none").view_as(weight)
            self.adam.zero_grad(set_to_none=True)
            # The sum over models of their mean losses: each model's gradient is its own loss's.
            (loss * (weight / weight.sum(1, keepdim=True))).sum().backward()
            self.adam.step()
            right = logits.detach().argmax(2) == y.view_as(weight)
            correct += (right & (weight > 0)).sum(1)
        return [int(c) / len(self.subsets[g]) for c, g in zip(correct.tolist(), self.members, strict=True)]

    def logits(self, images: Tensor, places: list[int]) -> Tensor:
        """Logits float32 [len(places), V, K] for channels-last images of the models at these places, in eval mode."""
        state = {key: value.detach()[places] for key, value in self.state.items()}
        parts = []
        with torch.inference_mode(), training.autocast(self.device, self.training):
            for first in range(0, len(images), CHUNK):
                x = images[first : first + CHUNK]
                real = torch.ones(len(places), len(x), device=self.device)
                layers = Layers(state, real, training=False)
                parts.append(self.network.logits(layers, x.expand(len(places), *x.shape), ()).float())
        return torch.cat(parts, dim=1)

    def keep(self, places: list[int]) -> None:
        """Leave only the models at these places of the stack."""
        old, state = self.adam, self.state
        kept = torch.tensor(places, dtype=torch.int64, device=self.device)
        self.state = {key: value.detach().index_select(0, kept) for key, value in state.items()}
        self.members = [self.members[place] for place in places]
        self.adam = self._adam()
        for key in self.trained:
            moments = old.state[state[key]]
            self.adam.state[self.state[key]] = {
                name: value if name == "step" else value.index_select(0, kept) for name, value in moments.items()
            }

    def _adam(self) -> torch.optim.Adam:
        return torch.optim.Adam(
            [self.state[key].requires_grad_() for key in self.trained], lr=self.training.learning_rate, fused=True
        )

    def _draw(self) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """An epoch's batches: image rows and which are real, [S, G, b], and dropout masks [S, G, b, units]."""
        shape = (
            len(self.bounds[0]),
            len(self.members),
            max(last - first for g in self.members for first, last in self.bounds[g]),
        )
        rows, real = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape)
        masks = [torch.zeros(*shape, units) for units, _ in self.network.dropout]
        for place, g in enumerate(self.members):
            generator, subset = self.generators[g], self.subsets[g]
            order = subset[torch.randperm(len(subset), generator=generator)]
            for step, (first, last) in enumerate(self.bounds[g]):
                rows[step, place, : last - first] = order[first:last]
                real[step, place, : last - first] = 1.0
                for mask, (_, p) in zip(masks, self.network.dropout, strict=True):
                    mask[step, place, : last - first].bernoulli_(1 - p, generator=generator).div_(1 - p)
        to = self.device
        return rows.to(to), real.to(to), tuple(mask.to(to) for mask in masks)


def _channels_last(x: Tensor) -> Tensor:
    """[N, C, H, W] in any layout as contiguous [N, H, W, C]."""
    return x.permute(0, 2, 3, 1).contiguous()
