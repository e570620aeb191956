"""Fitting u_hat: Fig. 2 lines 3 and 8 to 14, as one plain function.

`fit` first fits the offline pairs, then runs the tau_1 pretraining iterations: each gives the n
pairs drawn from S_i their interpolated utilities (Definition 5, with the phi of that moment), joins
them to what there is and goes on fitting from where it stood. Within an iteration, `outer_epochs`
times: some Adam steps on the inner loss (shorter pairs plus Omega_lambda), then one Adam step on
lambda along the hypergradient of the outer loss (longer pairs).

It knows nothing of Ray: `report` receives the metrics and the complete state after each outer
epoch, and a fit that is given such a state continues from it to the same bits.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rambo_ray import seeds
from rambo_ray.config.schema import UtilityModelConfig
from rambo_ray.utility_model import hypergradients
from rambo_ray.utility_model.interpolation import interpolate
from rambo_ray.utility_model.network import (
    Architecture,
    UtilityModel,
    initialise,
    membership,
    spread,
    standardisation,
)
from rambo_ray.utility_model.objective import Objective, Pairs, TargetScale, ranking_accuracy, split_by_length
from rambo_ray.utility_model.sharding import Group

# Raise it when the same pairs would give another u_hat; see `pipeline.rules`.
RULE = 1

# exp(lambda) stays between "no penalty" and one under which a few inner steps cannot yet pull all
# weights to zero: there every gradient vanishes, and no lambda would bring u_hat back.
LAMBDA_RANGE = (-18.0, -2.3)

State = dict[str, Any]
Report = Callable[[Mapping[str, float], Callable[[], State]], None]


@dataclass(frozen=True)
class FitInput:
    """All that a fit depends on, as plain data that travels to a worker.

    images: [k, C, H, W] normalised pixels or [k, F] frozen features, float32, in the order of S_0.
    nested_sets: S_0, ..., S_tau_1 of Fig. 2 as positions, with their measured utilities acc_i.
    interpolation: for each i < tau_1 the n pairs drawn from S_i, utilities not yet known.
    """

    images: np.ndarray
    offline: Pairs
    nested_sets: tuple[tuple[int, ...], ...]
    nested_utilities: tuple[float, ...]
    interpolation: tuple[Pairs, ...]
    config: UtilityModelConfig
    seed: int


@dataclass(frozen=True)
class FitResult:
    """A fitted u_hat as plain data: weights by name, lambda by tensor, and how it came about.

    interpolated: utilities [n, 2] given to each iteration's pairs. history: one dict per outer epoch.
    """

    weights: dict[str, np.ndarray]
    architecture: Architecture
    scale: TargetScale
    lambdas: dict[str, float]
    interpolated: tuple[np.ndarray, ...]
    history: tuple[dict[str, float], ...]

    def model(self) -> UtilityModel:
        """u_hat itself, in evaluation mode."""
        model = UtilityModel(self.architecture)
        model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in self.weights.items()})
        return model.eval()


def fit(
    task: FitInput,
    *,
    report: Report | None = None,
    resume_from: State | None = None,
    group: Group | None = None,
    device: str = "cpu",
) -> FitResult:
    """Fit u_hat by Fig. 2's pretraining stage and return it; the same bits for any group and any resumption.

    Raises ValueError where the pairs cannot be split into shorter and longer ones.
    """
    fitter = _Fitter(task, group or Group(task.config.shards), device)
    if resume_from is not None:
        fitter.restore(resume_from)
    for iteration in range(fitter.iteration, len(task.interpolation)):
        fitter.begin(iteration)
        for epoch in range(fitter.epoch, task.config.outer_epochs):
            metrics = fitter.outer_epoch(epoch)
            if report is not None:
                report(metrics, fitter.state)
    return fitter.result()


class _Fitter:
    """The state of a fit between two outer epochs. Iteration -1 is the offline fit."""

    def __init__(self, task: FitInput, group: Group, device: str) -> None:
        self.task, self.config, self.group = task, task.config, group
        self.scale = TargetScale.of(task.offline)
        seed = seeds.integer(task.seed, "utility_model", 0)
        self.model = initialise(Architecture.from_config(task.config, task.images.shape[1:]), seed).to(device)
        # A copy, not a view: bits must not depend on where in a process's memory the images lie.
        self.images = self.model.prepare(torch.tensor(task.images, device=device))
        self.model.spread.fill_(spread(task.offline.sizes, len(task.images)))
        self.weights = [p.detach().clone().requires_grad_() for p in self.model.parameters()]
        start = math.log(task.config.weight_decay)
        self.lambdas = [torch.full((), start, device=device, dtype=w.dtype) for w in self.weights]
        self.inner_optimizer = torch.optim.Adam(self.weights, lr=task.config.inner_learning_rate, fused=True)
        self.outer_optimizer = torch.optim.Adam(self.lambdas, lr=task.config.outer_learning_rate, fused=True)
        self.iteration, self.epoch = -1, 0
        self.interpolated: list[np.ndarray] = []
        self.history: list[dict[str, float]] = []
        self.best_loss = math.inf
        self.best: list[Tensor] = []  # the weights, then the lambdas, of the best outer loss

    # -- one pretraining iteration ---------------------------------------------------------------

    def begin(self, iteration: int) -> None:
        """Make D_{i+1} (lines 12-13): interpolate this iteration's pairs if that is not done yet, and split."""
        if iteration != self.iteration:
            self.iteration, self.epoch = iteration, 0
            self.best_loss, self.best = math.inf, []
        if len(self.interpolated) <= iteration:
            self.interpolated.append(self._interpolate(iteration))
        known = [p.with_utility(u) for p, u in zip(self.task.interpolation, self.interpolated, strict=False)]
        pairs = Pairs.join([self.task.offline, *known])
        if self.config.bilevel:
            shorter, longer = split_by_length(pairs.sizes)
        else:
            order = seeds.generator(self.task.seed, "bilevel_split", iteration + 1).permutation(len(pairs))
            shorter, longer = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
        self.train_pairs, self.val_pairs = pairs.take(shorter), pairs.take(longer)
        # How well u_hat ranks is judged on pairs whose utilities were measured, not interpolated.
        self.val_retrained = pairs.take(longer[longer < len(self.task.offline)])
        make = (self.model, self.images, len(self.task.images))
        rest = (self.scale, self.config.lambda_ot, self.group)
        self.train_loss = Objective(*make, self.train_pairs, *rest)
        self.val_loss = Objective(*make, self.val_pairs, *rest)

    def outer_epoch(self, epoch: int) -> dict[str, float]:
        """Inner steps, one step on lambda, and how u_hat now does on D_val."""
        train_loss = self._inner_steps(epoch)
        self.model.eval()
        if self.config.bilevel:
            self._outer_step()
        with torch.no_grad():
            outer_loss = float(self.val_loss(self.weights))
        if outer_loss < self.best_loss:
            self.best_loss, self.best = outer_loss, [t.detach().clone() for t in self._variables()]
        self.epoch = epoch + 1
        metrics = {
            "iteration": self.iteration,
            "epoch": epoch,
            "inner_loss": train_loss,
            "outer_loss": outer_loss,
            "train_ranking_accuracy": self._ranking_accuracy(self.train_pairs),
            "val_ranking_accuracy": self._ranking_accuracy(self.val_retrained),
        }
        self.history.append(metrics)
        if self.epoch == self.config.outer_epochs:
            # w(lambda) of the least outer loss is what the next iteration, and acquisition, start from.
            if not self.best:
                raise ValueError(
                    f"iteration {self.iteration}: the loss of u_hat on D_val was never finite; check that u_hat's "
                    "inputs are finite, or lower utility_model.inner_learning_rate"
                )
            self._set_variables(self.best)
        return metrics

    def _inner(self, weights: Any, lambdas: Any) -> Tensor:
        return self.train_loss(weights) + hypergradients.regularizer(weights, lambdas)

    def _inner_steps(self, epoch: int) -> float:
        self.model.train()
        loss = torch.zeros(())
        devices = [self.images.device] if self.images.is_cuda else []
        with torch.random.fork_rng(devices=devices):
            for step in range(self.config.inner_steps):
                index = (self.iteration + 1, epoch, step)
                torch.manual_seed(seeds.integer(self.task.seed, "utility_model", 1, *index))
                self.inner_optimizer.zero_grad(set_to_none=True)
                loss = self._inner(self.weights, self.lambdas)
                loss.backward()
                self.inner_optimizer.step()
        return float(loss.detach())

    def _outer_step(self) -> None:
        gradients = hypergradients.HYPERGRADIENTS[self.config.hypergradient](
            self.weights,
            self.lambdas,
            self._inner,
            self.val_loss,
            steps=self.config.hypergradient_steps,
            step_size=self.config.step_size,
            damping=self.config.damping,
        )
        for lam, gradient in zip(self.lambdas, gradients, strict=True):
            lam.grad = gradient
        self.outer_optimizer.step()
        with torch.no_grad():
            for lam in self.lambdas:
                lam.clamp_(*LAMBDA_RANGE)

    # -- what u_hat says of sets -----------------------------------------------------------------

    @torch.no_grad()
    def _phi(self, subsets: list[tuple[int, ...]]) -> Tensor:
        self._load(self.weights)
        encodings = self.model.extractor(self.images)
        pooled = membership(subsets, len(self.task.images)).to(encodings) @ encodings
        return self.model.embed(pooled, *standardisation(encodings))

    def _interpolate(self, iteration: int) -> np.ndarray:
        self.model.eval()
        pairs = self.task.interpolation[iteration]
        phi = self._phi([*pairs.first, *pairs.second, *self.task.nested_sets[iteration : iteration + 2]])
        around = self.task.nested_utilities[iteration : iteration + 2]
        values = interpolate(phi[:-2], phi[-2], phi[-1], *around)
        return values.reshape(2, -1).T.double().cpu().numpy()

    def _ranking_accuracy(self, pairs: Pairs) -> float:
        if len(pairs) == 0:
            return math.nan
        scores = self.model.score(self._phi([*pairs.first, *pairs.second])).detach()
        return ranking_accuracy(scores.reshape(2, -1).T.cpu().numpy(), pairs.utility)

    @torch.no_grad()
    def _load(self, weights: list[Tensor]) -> None:
        for parameter, weight in zip(self.model.parameters(), weights, strict=True):
            parameter.copy_(weight)

    # -- leaving and coming back -----------------------------------------------------------------

    def _variables(self) -> list[Tensor]:
        return [*self.weights, *self.lambdas]

    @torch.no_grad()
    def _set_variables(self, values: list[Tensor]) -> None:
        for mine, value in zip(self._variables(), values, strict=True):
            mine.copy_(value)

    def state(self) -> State:
        """Everything that the rest of the fit depends on; tensors and plain values only."""
        return {
            "iteration": self.iteration,
            "epoch": self.epoch,
            "variables": [t.detach().clone() for t in self._variables()],
            # Copies, here and in `restore`: a state_dict holds the optimizer's own tensors.
            "inner_optimizer": copy.deepcopy(self.inner_optimizer.state_dict()),
            "outer_optimizer": copy.deepcopy(self.outer_optimizer.state_dict()),
            "interpolated": [torch.from_numpy(u) for u in self.interpolated],
            "history": list(self.history),
            "best_loss": self.best_loss,
            "best": [t.clone() for t in self.best],
        }

    def restore(self, state: State) -> None:
        """Continue from what `state` returned."""
        self._set_variables(state["variables"])
        self.inner_optimizer.load_state_dict(copy.deepcopy(state["inner_optimizer"]))
        self.outer_optimizer.load_state_dict(copy.deepcopy(state["outer_optimizer"]))
        self.iteration, self.epoch = state["iteration"], state["epoch"]
        self.interpolated = [u.numpy() for u in state["interpolated"]]
        self.history, self.best_loss = list(state["history"]), state["best_loss"]
        self.best = [t.to(self.images.device) for t in state["best"]]

    def result(self) -> FitResult:
        """u_hat with the standardisation of its final weights stored beside them."""
        self.model.eval()
        self._load(self.weights)
        with torch.no_grad():
            mean, deviation = standardisation(self.model.extractor(self.images))
            self.model.mean.copy_(mean)
            self.model.deviation.copy_(deviation)
        names = [name for name, _ in self.model.named_parameters()]
        return FitResult(
            weights={name: tensor.detach().cpu().numpy().copy() for name, tensor in self.model.state_dict().items()},
            architecture=self.model.architecture,
            scale=self.scale,
            lambdas={name: float(lam) for name, lam in zip(names, self.lambdas, strict=True)},
            interpolated=tuple(self.interpolated),
            history=tuple(self.history),
        )
