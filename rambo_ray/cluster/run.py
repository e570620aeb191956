"""One run on the cluster: its data in the object store once, and each stage of Fig. 2 as a call.

The references are kept as long as this object: an actor that is started again needs those it began with.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import ray

from rambo_ray import seeds
from rambo_ray.acquisition import greedy
from rambo_ray.acquisition.greedy import Selection
from rambo_ray.cluster import fit, tasks
from rambo_ray.cluster.collect import Labeled, measure
from rambo_ray.cluster.session import Session
from rambo_ray.cluster.tasks import TrainedClassifier
from rambo_ray.cluster.workers import Usage
from rambo_ray.data.problem import Inputs, LabeledArrays, Problem, Revealed
from rambo_ray.pipeline.plan import Measured, Plan
from rambo_ray.progress import Progress
from rambo_ray.utility_model import features
from rambo_ray.utility_model.fitting import FitInput, FitResult
from rambo_ray.utility_model.network import UtilityModel
from rambo_ray.utility_samples.store import SampleStore

# Makes a display for a number of pieces of work and their total weight.
Shown = Callable[[int, float | None], Progress]


class ClusterRun:
    """A plan on a cluster. `revealed` is read by the evaluation of classifiers and by `final_classifier` only."""

    def __init__(
        self, session: Session, plan: Plan, problem: Problem, revealed: Revealed | None, inputs: Inputs | None = None
    ) -> None:
        """inputs: what f sees of the images; default: their pixels."""
        self.session, self.plan, self.problem, self.revealed = session, plan, problem, revealed
        self.seen = Inputs.pixels(problem, revealed) if inputs is None else inputs

    @property
    def labeled(self) -> LabeledArrays:
        """S_0."""
        return LabeledArrays(self.seen.labeled, self.problem.labeled.labels)

    @property
    def sets(self) -> dict[str, LabeledArrays]:
        """What classifiers are evaluated on, by name."""
        sets = {"validation": LabeledArrays(self.seen.validation, self.problem.validation.labels)}
        if self.revealed is not None and self.revealed.test is not None and self.seen.test is not None:
            sets["test"] = LabeledArrays(self.seen.test, self.revealed.test.labels)
        return sets

    # -- what lies in the object store -----------------------------------------------------------

    @cached_property
    def data(self) -> Labeled:
        """S_0 and S_val."""
        return Labeled.put(self.labeled, self.sets["validation"])

    @cached_property
    def _pool(self) -> ray.ObjectRef:
        return ray.put(self.seen.pool)

    @cached_property
    def _labeled_pixels(self) -> ray.ObjectRef:
        return ray.put(self.seen.labeled)

    @cached_property
    def _sets(self) -> dict[str, ray.ObjectRef]:
        stored = {"validation": self.data.validation}
        return {name: stored[name] if name in stored else ray.put(part) for name, part in self.sets.items()}

    @cached_property
    def _base(self) -> ray.ObjectRef:
        return ray.put(self.base_classifier.arrays)

    # -- the stages ------------------------------------------------------------------------------

    def measure(self, store: SampleStore, shown: Shown) -> tuple[Measured, Usage]:
        """What subsets are worth (lines 3, 6, 10 and 11); what `store` holds is not trained again."""
        (measured,), usage = measure(self.session, [(self.plan, self.data)], store, shown)
        return measured, usage

    @cached_property
    def base_training(self) -> ray.ObjectRef:
        """The training of f on all of S_0, started."""
        return self._train(self.data.labeled, "base_classifier")

    @cached_property
    def base_classifier(self) -> TrainedClassifier:
        """f trained on all of S_0: line 16's, whose margins are the filter's."""
        return tasks.fetch(self.base_training, "the base classifier")

    def inputs(self) -> np.ndarray:
        """What the images of S_0 are to u_hat, [k, ...] float32."""
        return self._encodings(self._labeled_pixels, np.arange(len(self.problem.labeled)), None)

    def fit(self, task: FitInput, storage: Path, shown: Shown) -> FitResult:
        """The offline fit, then tau_1 iterations of interpolation and bilevel fit (lines 3 and 8 to 14)."""
        per_iteration = task.config.outer_epochs
        epochs = shown(per_iteration * len(task.nested_sets), None)
        fitted = fit.fit_on_cluster(
            self.session,
            task,
            storage,
            lambda metrics: epochs.reach(int((metrics["iteration"] + 1) * per_iteration + metrics["epoch"] + 1)),
        )
        epochs.close()
        return fitted

    def margins(self, shown: Shown) -> np.ndarray:
        """f's margins of the pool, [N] (line 16)."""
        passed = shown(len(self.problem.pool), None)
        found = self.pool_margins(passed.advance)
        passed.close()
        return found

    def pool_margins(self, done: Callable[[int], None]) -> np.ndarray:
        """The same; `done` is told of finished images."""
        return tasks.pool_margins(
            self.session, self._pool, len(self.problem.pool), self._base, self.plan.training, done
        )

    def acquire(self, margins: np.ndarray, model: UtilityModel) -> Selection:
        """Of the smallest margins, a batch at a time, what u_hat ranks highest (lines 15 to 26)."""
        ask = self.plan.config.acquisition
        encoded = self._encodings(self._pool, greedy.candidates(margins, ask), model)
        labeled = self._encodings(self._labeled_pixels, np.arange(len(self.problem.labeled)), model)
        judge = greedy.JoinedSets(labeled, encoded, tasks.scorer(self.session, model, encoded))
        return greedy.acquire(margins, judge, ask, self.plan.config.seed)

    def final_classifier(self, selection: Selection) -> TrainedClassifier:
        """Benchmark mode: the annotators answer, f is trained on S_1. Raises ValueError where labels are unknown."""
        if self.revealed is None:
            raise ValueError("this run's pool has no labels to answer with")
        acquired = selection.pool_index
        joined = self.labeled.joined(self.seen.pool[acquired], self.revealed.pool_labels[acquired])
        return tasks.fetch(self._train(ray.put(joined), "final_classifier"), "the final classifier")

    def outputs(
        self, images: np.ndarray, done: Callable[[int], None] = lambda count: None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logits [N, K] and embeddings [N, E] of the base classifier on pixels [N, H, W, C]."""
        return tasks.outputs(self.session, ray.put(images), len(images), self._base, self.plan.training, done)

    def _train(self, labeled: ray.ObjectRef, stage: str) -> ray.ObjectRef:
        seed = seeds.integer(self.plan.config.seed, stage)
        return tasks.train_classifier(self.session, labeled, self.plan.training, seed, self._sets)

    def _encodings(self, pixels: ray.ObjectRef, positions: np.ndarray, model: UtilityModel | None) -> np.ndarray:
        plan = self.plan
        weights = plan.imagenet_weights
        encoder = features.Encoder(plan.kind, plan.training, plan.config.utility_model, weights, model)
        return tasks.encodings(self.session, pixels, positions, ray.put(encoder), self._base)
