"""RAMBO, top to bottom: Fig. 2 of the paper as one function over the stages of the package.

`run` reads in the order of the figure; the numbers beside the steps are its lines. Everything it
calls is either a pure function or one of the three fan-outs in `rambo_ray.cluster`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import ray

from rambo_ray import acquisition, evaluation, features, seeds, utility_samples
from rambo_ray.acquisition import Selection
from rambo_ray.cluster import collect, fit, tasks
from rambo_ray.cluster.session import Session
from rambo_ray.cluster.workers import Usage
from rambo_ray.config import Config, check_prefixes, check_sizes
from rambo_ray.errors import UserError
from rambo_ray.fitting import FitInput, FitResult
from rambo_ray.objective import Pairs, split_by_length
from rambo_ray.pool import Problem, Revealed
from rambo_ray.retraining import LabeledArrays, Protocol
from rambo_ray.sample_store import SampleStore
from rambo_ray.stages import Stages
from rambo_ray.training import Recipe
from rambo_ray.utility_model import UtilityModel
from rambo_ray.utility_samples import Utility, UtilitySample


@dataclass(frozen=True)
class Plan:
    """What a run will do, fixed before any work: the training rule, the subsets, u_hat's features."""

    protocol: Protocol
    kind: features.Features
    imagenet_weights: str | None
    utility: Utility
    offline: list[UtilitySample]
    prefixes: list[UtilitySample]
    held_out: list[UtilitySample]
    interpolation: list[UtilitySample]

    @property
    def parts(self) -> tuple[list[UtilitySample], ...]:
        """All samples, in the order of `Measured`."""
        return self.offline, self.prefixes, self.held_out, self.interpolation


@dataclass(frozen=True)
class Measured:
    """The samples of a plan with what was measured of them; usage, retrained: of all plans measured together."""

    offline: list[UtilitySample]
    prefixes: list[UtilitySample]
    held_out: list[UtilitySample]
    interpolation: list[UtilitySample]
    usage: Usage
    retrained: int


@dataclass(frozen=True)
class Outcome:
    """What a run found. held_out: u_hat's scores and true utilities of the held-out subsets, [G] each."""

    selection: Selection
    margins: np.ndarray
    samples: list[UtilitySample]
    fit: FitResult
    before: tasks.TrainedClassifier
    after: tasks.TrainedClassifier | None
    held_out: tuple[np.ndarray, np.ndarray]
    ranking: evaluation.RankingQuality
    usage: Usage
    retrained: int


def plan(config: Config, problem: Problem, device: str) -> Plan:
    """Everything that can be wrong with a run is found here: raises UserError, before any training."""
    k, num_classes = len(problem.labeled), len(problem.class_names)
    try:
        min_size = check_sizes(config, num_labeled=k, num_pool=len(problem.pool), num_classes=num_classes)
    except ValueError as error:
        raise UserError(str(error)) from error
    f = recipe(config, problem, device)
    kind = features.choose(config.utility_model, problem.shape)
    weights = features.imagenet_weights(config.utility_model) if kind == "imagenet" else None
    protocol = Protocol.from_config(config, f)
    identity = protocol.identity(problem.fingerprint)
    drawn = (config.seed, identity)
    samples = config.utility_samples
    offline = utility_samples.offline_pairs(samples.num_pairs, k, min_size, samples.sizes, *drawn)
    if config.utility_model.bilevel:
        try:
            split_by_length(np.array([s.size for s in offline[::2]]))
        except ValueError as error:
            raise UserError(str(error)) from error
    prefixes = utility_samples.prefix_samples(check_prefixes(config.pretraining, k), *drawn)
    return Plan(
        protocol=protocol,
        kind=kind,
        imagenet_weights=weights,
        utility=samples.utility,
        offline=offline,
        prefixes=prefixes,
        held_out=utility_samples.held_out_samples(samples.num_held_out, k, *drawn),
        interpolation=utility_samples.interpolation_pairs(
            prefixes, config.pretraining.num_interpolated, samples.num_pairs, min_size, *drawn
        ),
    )


def recipe(config: Config, problem: Problem, device: str) -> Recipe:
    """How f is trained for `problem`."""
    height, width, channels = problem.shape
    return Recipe.from_config(
        config.classifier,
        mean=problem.mean,
        std=problem.std,
        image_shape=(channels, height, width),
        num_classes=len(problem.class_names),
        device=device,
    )


def measure(
    session: Session, plans: Sequence[tuple[Plan, collect.Labeled]], store: SampleStore, stages: Stages
) -> list[Measured]:
    """For each plan, u(subset) and OTDD of its offline pairs, acc_i of S_0 ... S_tau_1, OTDD of what is interpolated.

    Lines 3, 6, 10 and 11. What `store` holds is not trained again; what it lacks is added to it.
    """
    known = len(store.measurements)
    jobs = [
        collect.Job(data, todo.protocol, [s for part in todo.parts for s in part], todo.utility)
        for todo, data in plans
    ]
    found, usage = collect.collect(session, jobs, store, stages.progress)
    retrained = len(store.measurements) - known
    measured = []
    for (todo, _), samples in zip(plans, found, strict=True):
        remaining = iter(samples)
        offline, prefixes, held_out, interpolation = ([next(remaining) for _ in part] for part in todo.parts)
        measured.append(Measured(offline, prefixes, held_out, interpolation, usage, retrained))
    return measured


def fit_input(config: Config, measured: Measured, images: np.ndarray) -> FitInput:
    """What u_hat is fitted to (lines 3 and 8 to 14); `images` [k, ...] are u_hat's inputs of S_0."""
    return FitInput(
        images=images,
        offline=_pairs(measured.offline),
        prefixes=tuple(s.indices for s in measured.prefixes),
        prefix_utilities=tuple(s.utility for s in measured.prefixes),
        interpolation=tuple(
            _pairs([s for s in measured.interpolation if s.iteration == i])
            for i in range(len(measured.prefixes) - 1)
        ),
        config=config.utility_model,
        seed=config.seed,
    )


def held_out_ranking(
    model: UtilityModel, measured: Measured, images: np.ndarray
) -> tuple[np.ndarray, np.ndarray, evaluation.RankingQuality]:
    """u_hat's scores and the true utilities of the held-out subsets, [G] each, and how well they agree."""
    held_out = measured.held_out
    return evaluation.judge(model, images, [s.indices for s in held_out], [s.utility for s in held_out])


def run(
    config: Config, problem: Problem, revealed: Revealed | None, session: Session, folder: Path, stages: Stages
) -> Outcome:
    """Pick B pool images for `problem` (Fig. 2); `revealed` is read only after the selection is made.

    Utility samples and checkpoints are kept in `folder`, so that the same call after a crash goes on.
    Raises UserError before any work for what cannot be done, RunError for what the cluster failed at.
    """
    todo = plan(config, problem, session.device)
    f = todo.protocol.recipe
    labeled = problem.labeled
    data, pool = collect.Labeled.put(problem), ray.put(problem.pool.pixels)
    store = SampleStore(folder / "utility_samples", config.utility_samples.utility)

    # Lines 3, 6, 10, 11: what subsets are worth.
    stages.begin("utility samples")
    (measured,) = measure(session, [(todo, data)], store, stages)

    # Line 16's f, trained on all of S_0: its margins are what the filter sorts by, once for all steps.
    stages.begin("base classifier")
    sets = {"validation": data.validation}
    if revealed is not None and revealed.test is not None:
        sets["test"] = ray.put(LabeledArrays.of(revealed.test))
    base_seed = seeds.integer(config.seed, "base_classifier")
    before: tasks.TrainedClassifier = tasks.fetch(
        tasks.train_classifier(session, data.labeled, f, base_seed, sets), "the base classifier"
    )
    classifier = ray.put(before.arrays)
    frozen = features.Encoder(todo.kind, f, config.utility_model, todo.imagenet_weights)
    labeled_pixels = ray.put(labeled.pixels)
    images = tasks.encodings(session, labeled_pixels, np.arange(len(labeled)), ray.put(frozen), classifier)

    # Lines 3 and 8 to 14: the offline fit, then tau_1 iterations of interpolation and bilevel fit.
    stages.begin("u_hat")
    task = fit_input(config, measured, images)
    per_iteration = config.utility_model.outer_epochs
    epochs = stages.progress(per_iteration * len(measured.prefixes), None)
    fitted = fit.fit_on_cluster(
        session,
        task,
        folder / "fit",
        lambda metrics: epochs.reach(int((metrics["iteration"] + 1) * per_iteration + metrics["epoch"] + 1)),
    )
    epochs.close()
    model = fitted.model()

    # Lines 15 to 26: margins once, then a batch at a time what u_hat ranks highest.
    stages.begin("margins of the pool")
    passed = stages.progress(len(problem.pool), None)
    margins = tasks.pool_margins(session, pool, len(problem.pool), classifier, f, passed.advance)
    passed.close()
    stages.begin("acquisition")
    ask = config.acquisition
    ranked = acquisition.smallest_margins(
        margins, acquisition.candidate_count(len(margins), ask.margin_pool, ask.budget)
    )
    encoder = ray.put(features.Encoder(todo.kind, f, config.utility_model, todo.imagenet_weights, model))
    encoded = tasks.encodings(session, pool, ranked, encoder, classifier)
    own = tasks.encodings(session, labeled_pixels, np.arange(len(labeled)), encoder, classifier)
    selection = acquisition.acquire(
        margins,
        ranked,
        own.sum(axis=0, dtype=np.float64),
        len(own),
        encoded,
        tasks.scorer(session, model, encoded),
        budget=ask.budget,
        batch_size=ask.batch_size,
        margin_pool=ask.margin_pool,
        seed=config.seed,
    )

    # Benchmark mode: the annotators answer, f is trained on S_1.
    after = None
    if revealed is not None:
        stages.begin("final classifier")
        bought = problem.pool.pixels[selection.pool_index]
        everything = LabeledArrays(
            np.concatenate([labeled.pixels, bought]),
            np.concatenate([labeled.labels, revealed.pool_labels[selection.pool_index]]),
        )
        final_seed = seeds.integer(config.seed, "final_classifier")
        after = tasks.fetch(
            tasks.train_classifier(session, ray.put(everything), f, final_seed, sets), "the final classifier"
        )
    stages.end()

    scores, utilities, ranking = held_out_ranking(model, measured, images)
    interpolated = _with_utilities(measured.interpolation, fitted)
    store.write_interpolated(interpolated)
    return Outcome(
        selection=selection,
        margins=margins,
        samples=[*measured.offline, *measured.prefixes, *measured.held_out, *interpolated],
        fit=fitted,
        before=before,
        after=after,
        held_out=(scores, utilities),
        ranking=ranking,
        usage=measured.usage,
        retrained=measured.retrained,
    )


def _pairs(samples: list[UtilitySample]) -> Pairs:
    """Samples that stand in pairs, one after the other, as what a fit takes."""

    def column(name: str) -> np.ndarray:
        values = [s.measurement.otdd if name == "otdd" else s.utility for s in samples if s.measurement is not None]
        return np.array(values, dtype=np.float64).reshape(-1, 2)

    return Pairs(
        tuple(s.indices for s in samples[::2]),
        tuple(s.indices for s in samples[1::2]),
        column("utility"),
        column("otdd"),
    )


def _with_utilities(interpolation: list[UtilitySample], fitted: FitResult) -> list[UtilitySample]:
    """The interpolated samples with the utilities that the fit gave them (Definition 5)."""
    values = np.concatenate([u.reshape(-1) for u in fitted.interpolated]) if fitted.interpolated else np.zeros(0)
    return [replace(s, utility=float(u)) for s, u in zip(interpolation, values, strict=True)]
