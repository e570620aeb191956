"""One run on the cluster: its data in the object store once, and each stage of Fig. 2 as a call.

The references are kept as long as this object: an actor that is started again needs those it began with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import ray

from rambo_ray import seeds
from rambo_ray.acquisition import controls, greedy, pool_view
from rambo_ray.acquisition.baselines.inputs import StrategyInputs
from rambo_ray.acquisition.candidates import Sloped
from rambo_ray.acquisition.greedy import Selection
from rambo_ray.acquisition.pool_view import PoolView
from rambo_ray.cluster import evidence, fit, narrow, nodes, tasks
from rambo_ray.cluster.collect import Labeled, measure
from rambo_ray.cluster.evidence import Opinions
from rambo_ray.cluster.session import Session
from rambo_ray.cluster.shipped import with_weights
from rambo_ray.cluster.tasks import TrainedClassifier
from rambo_ray.cluster.workers import Usage
from rambo_ray.data.pool.parts import Parts
from rambo_ray.data.problem import Inputs, LabeledArrays, Problem, Revealed
from rambo_ray.machines.begin import threads
from rambo_ray.pipeline import judging
from rambo_ray.pipeline.judging import AnyFit, AnyInput, AnyModel, PoolEvidence
from rambo_ray.pipeline.plan import Measured, Plan
from rambo_ray.progress import Progress
from rambo_ray.utility_model import features, quadratic
from rambo_ray.utility_model.evidence import ComparedEvidence
from rambo_ray.utility_model.network import UtilityModel
from rambo_ray.utility_model.quadratic import QuadraticInput, QuadraticModel
from rambo_ray.utility_samples.store import SampleStore

# Makes a display for a number of pieces of work and their total weight.
Shown = Callable[[int, float | None], Progress]


def check_reach(plan: Plan, problem: Problem, folder: Path) -> None:
    """Raise UserError where a node does not reach what its workers read and write beside the object store.

    folder: the run's. The regression that mock rounds are judged by is solved in the driver; what fits a network are
    workers, and so are those that pass over a pool's files.
    """
    streamed = problem.streamed
    if streamed is not None:
        nodes.check_files([file.path for file in streamed.files if isinstance(file.path, Path)], "data.pool")
    if streamed is not None or plan.config.utility_model.architecture != "quadratic":
        nodes.check_folder(folder)


class ClusterRun:
    """A plan on a cluster. `revealed` is read by the evaluation of classifiers and by `final_classifier` only."""

    def __init__(
        self, session: Session, plan: Plan, problem: Problem, revealed: Revealed | None, inputs: Inputs | None = None
    ) -> None:
        """inputs: what f sees; default: the images themselves."""
        self.session, self.plan = session, with_weights(plan)
        self.problem, self.revealed = problem, revealed
        self.seen = Inputs.as_given(problem, revealed) if inputs is None else inputs
        self.opinions: Opinions | None = None

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

    def draw_rounds(self, shown: Shown) -> None:
        """Gather the evidence of S_val's images, and draw the plan's mock rounds with contrast along it."""
        training = evidence.start(self.session, self.plan, self.seen, self.labeled)
        trained = shown(1 + len(training.started), None)
        _ = self.base_classifier
        trained.advance()
        self.opinions = evidence.finish(self.session, self.plan, self.seen, self._base, training, trained.advance)
        trained.close()
        self.plan = self.plan.with_evidence(self.opinions.items)

    def pass_over_pool(self, folder: Path, shown: Shown) -> Parts:
        """f's margins of a pool that is streamed, as parts in `folder` (line 16)."""
        base = self.base_classifier.arrays
        return narrow.passed(self.session, self.plan, self.problem, self.seen, base, folder, shown)

    def narrow(self, parts: Parts, shown: Shown) -> None:
        """Go on with what of that pool any step can look at. Raises UserError for images that should not be in it."""
        self.problem, self.seen = narrow.narrowed(
            self.session, self.plan, self.problem, self.seen, parts, lambda count: shown(count, None)
        )

    def inputs(self) -> np.ndarray:
        """What images are to u_hat, float32: those of S_0, with mock rounds also of S_val and what was rejected.

        Evidence [V + R, F] there is of the latter two alone.
        """
        if self.plan.kind == "evidence":
            assert self.opinions is not None
            return self.opinions.items.astype(np.float32)
        known = self.seen.labeled
        if self.plan.mock_pool is not None:
            known = np.concatenate([known, self.seen.validation, self.seen.rejected])
        return self._encodings(ray.put(known), np.arange(len(known)), None)

    def evidence_of(self, positions: np.ndarray, done: Callable[[int], None] = lambda count: None) -> PoolEvidence:
        """Evidence of the pool's images at `positions`; `done` is told of images that a classifier is through with."""
        assert self.opinions is not None
        images = self.seen.pool[positions]
        return evidence.of_images(self.session, self.plan, self.opinions, self._base, images, done)

    def fit(self, task: AnyInput, storage: Path, shown: Shown, say: Callable[[str], None]) -> AnyFit:
        """The offline fit, then tau_1 iterations of interpolation and bilevel fit (lines 3 and 8 to 14).

        `say` is told of damaged checkpoints in `storage`.

        A regression is solved here, and a short fit made here: a trainer would take longer to start.
        """
        if isinstance(task, QuadraticInput):
            return quadratic.fit(task)
        per_iteration = task.config.outer_epochs
        count = per_iteration * (1 + len(task.interpolation))

        def reached(metrics: Mapping[str, float]) -> None:
            epochs.reach(int((metrics["iteration"] + 1) * per_iteration + metrics["epoch"] + 1))

        pairs = sum(len(each.first) for each in (task.offline, *task.interpolation))
        fitted: AnyFit
        if fit.is_here(self.session, pairs, count):
            epochs = shown(count, None)
            with threads(self.session.cpus):
                fitted = fit.fit_here(task, storage, reached, say=say)
        else:
            fit.wait_for_room(self.session)
            epochs = shown(count, None)
            fitted = fit.fit_on_cluster(self.session, task, storage, reached, say=say)
        epochs.close()
        return fitted

    def margins(self, shown: Shown) -> np.ndarray:
        """f's margins of the pool, [N] (line 16); of one that was surveyed, of what the survey keeps."""
        if self.problem.survey is not None:
            return self.problem.survey.kept.margins
        passed = shown(len(self.problem.pool), None)
        found = self.pool_margins(passed.advance)
        passed.close()
        return found

    def pool_margins(self, done: Callable[[int], None]) -> np.ndarray:
        """The same; `done` is told of finished images."""
        return tasks.pool_margins(
            self.session, self._pool, len(self.problem.pool), self._base, self.plan.training, done
        )

    def acquire(self, margins: np.ndarray, model: AnyModel) -> Selection:
        """Of the smallest margins, a batch at a time, what u_hat ranks highest (lines 15 to 26)."""
        positions = greedy.candidates(margins, self.plan.config.acquisition)
        found = self.evidence_of(positions) if self.plan.kind == "evidence" else None
        judge = self._judge(model, positions, found)
        return judging.acquire(self.plan.config, margins, judge, found, lambda: self.strategy_inputs(positions))

    def _judge(self, model: AnyModel, positions: np.ndarray, found: PoolEvidence | None) -> Sloped:
        if isinstance(model, QuadraticModel):
            assert found is not None
            return greedy.MeanEvidence(model, found.numbers, self.plan.config.acquisition)
        if found is not None:
            encoded = self._encoder(model).encode_inputs(found.numbers.astype(np.float32))
            labeled = encoded[:0]
        else:
            encoded = self._encodings(self._pool, positions, model)
            labeled = self._encodings(self._labeled_pixels, np.arange(len(self.problem.labeled)), model)
        return greedy.JoinedSets(labeled, encoded, tasks.scorer(self.session, model, encoded), model)

    def follow_filter(self, margins: np.ndarray) -> Selection:
        """What the margin filter picks without u_hat: a random batch of the smallest margins in each step."""
        return controls.follow_filter(margins, self.plan.config.acquisition, self.plan.config.seed)

    def compare(self, margins: np.ndarray, selection: Selection) -> ComparedEvidence | None:
        """What the picked images' evidence is like, for the report; None where no evidence was gathered."""
        if self.opinions is None:
            return None
        filtered = greedy.smallest_margins(margins, self.plan.config.acquisition.margin_pool)
        return judging.compared(selection.pool_index, filtered, self.problem.sampled, self.evidence_of)

    def look(self, margins: np.ndarray, selection: Selection) -> PoolView:
        """A part of the pool as f sees it, for the report."""
        return pool_view.look(
            selection,
            margins,
            self.problem.sampled,
            self.plan.config.acquisition,
            lambda positions: self.outputs(self.seen.pool[positions]),
            lambda positions: self.outputs(self.seen.labeled[positions]),
            len(self.problem.labeled),
        )

    def strategy_inputs(
        self, positions: np.ndarray | None = None, done: Callable[[int], None] = lambda count: None
    ) -> StrategyInputs:
        """What f says of the pool, or its images at `positions`, of S_0 and S_val; `done` is told of the pool's."""
        pool = self.seen.pool if positions is None else self.seen.pool[positions]
        return StrategyInputs.of(self.outputs(pool, done), self.labeled, self.sets["validation"], self.outputs)

    def final_classifier(self, selection: Selection) -> TrainedClassifier:
        """Benchmark mode: the annotators answer, f is trained on S_1. Raises ValueError where labels are unknown."""
        if self.revealed is None:
            raise ValueError("this run's pool has no labels to answer with")
        acquired = selection.pool_index
        return self.answered_classifier(acquired, self.revealed.pool_labels[acquired])

    def answered_classifier(self, acquired: np.ndarray, labels: np.ndarray) -> TrainedClassifier:
        """f trained on S_1: S_0 and the images at positions `acquired` of the pool with their labels, or NONE."""
        joined = self.labeled.joined(self.seen.pool[acquired], labels)
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
        return tasks.encodings(self.session, pixels, positions, ray.put(self._encoder(model)), self._base)

    def _encoder(self, model: UtilityModel | None) -> features.Encoder:
        plan = self.plan
        return features.Encoder(plan.kind, plan.training, plan.config.utility_model, plan.imagenet_weights, model)
