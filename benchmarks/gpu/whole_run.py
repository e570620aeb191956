"""A whole run of a ready configuration on one device, stage after stage in one process, with seconds per stage.

As `rambo_ray.rambo` has it, without Ray, and with stacks where the device is a GPU; by the paper's method and by mock
rounds. The pool is what the packed images hold, smaller than the dataset's own; the section on pools has the full
sizes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu.pairs import Timed
from gpu.rates import GROUP, ROOM
from gpu.record import Section
from gpu.timing import MB, process_mb, synchronize
from rambo_ray import seeds
from rambo_ray.acquisition import controls, greedy
from rambo_ray.classifier import prediction, stacks, training
from rambo_ray.classifier.training import Trained
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data import datasets
from rambo_ray.data.problem import LabeledArrays, Problem, Revealed
from rambo_ray.pipeline import judging, plan
from rambo_ray.pipeline.judging import PoolEvidence
from rambo_ray.pipeline.plan import Measured, Plan, fit_input
from rambo_ray.pipeline.prepared import PreparedProblem, acquire
from rambo_ray.utility_model import evidence, features, quadratic
from rambo_ray.utility_model.evidence import EvidenceScale
from rambo_ray.utility_model.fitting import fit
from rambo_ray.utility_model.quadratic import QuadraticInput
from rambo_ray.utility_samples.measuring import groups
from rambo_ray.utility_samples.mock_rounds import parts
from rambo_ray.utility_samples.sampling import Measurement

CONFIGS = Path(__file__).resolve().parents[2] / "jobs" / "configs"


@dataclass
class Run:
    """A run under way: what it knows so far, and seconds per stage, put into the section as each one ends."""

    section: Section
    config: Config
    problem: Problem
    revealed: Revealed | None
    todo: Plan
    labeled: LabeledArrays
    validation: LabeledArrays
    began: float
    seconds: dict[str, float] = field(default_factory=dict)
    opinions: tuple[Trained, ...] = ()
    scale: EvidenceScale | None = None

    @property
    def device(self) -> str:
        """Where it computes."""
        return self.section.device

    def done(self, name: str) -> None:
        """The stage `name` ends here."""
        synchronize(self.device)
        now = time.perf_counter()
        self.seconds[name], self.began = now - self.began, now
        self.section.put("stages", self.seconds | {"whole run": sum(self.seconds.values())})

    def outputs(self, model: Any, images: np.ndarray) -> np.ndarray:
        """Logits float32 [N, K] of a classifier on pixels [N, H, W, C]."""
        return prediction.predict(model, images, self.todo.training, self.device)[0]

    def train(self, images: LabeledArrays, *stage: Any) -> Trained:
        """f trained from scratch on `images`, by the seed of a stage."""
        seed = seeds.integer(self.config.seed, *stage)
        return training.train(images.inputs, images.labels, self.todo.training, seed, self.device)


def paper(section: Section) -> None:
    """jobs/configs/fashion_mnist.yaml by the paper's method; without images of it, the digits."""
    _measure(section, "paper")


def rounds(section: Section) -> None:
    """The same by mock rounds, the package's default."""
    _measure(section, "mock_rounds")


def _measure(section: Section, method: str) -> None:
    smoke = section.smoke or section.root is None
    name = "digits_smoke" if smoke else "fashion_mnist"
    overrides = [f"method={method}"]
    overrides += [] if smoke else [f"data.root={section.root}", "data.download=false"]
    config = loading.load(str(CONFIGS / f"{name}.yaml"), overrides)
    began = time.perf_counter()
    problem, revealed = datasets.load(config.data, config.seed)
    todo = plan.make(config, problem).on(section.device)
    labeled, validation = LabeledArrays.of(problem.labeled), LabeledArrays.of(problem.validation)
    section.put("run", {"config": name, "method": method, "device": section.device,
                        "precision": todo.training.precision, "k": len(labeled.labels), "pool": len(problem.pool),
                        "samples": len(todo.retrained)})  # fmt: skip
    run = Run(section, config, problem, revealed, todo, labeled, validation, began)
    run.done("images and plan")
    _stages(run)
    on_gpu = torch.cuda.max_memory_allocated() / MB if section.device == "cuda" else None
    section.put("peak_mb", {"process": process_mb(), "gpu": on_gpu})


def _stages(run: Run) -> None:
    config, device, pool = run.config, run.device, run.problem.pool.pixels
    base = run.train(run.labeled, "base_classifier")
    arrays = training.to_arrays(base)
    run.done("base classifier")
    items = None
    if run.todo.mock_pool is not None:
        items = _evidence(run, base)
        run.todo = run.todo.with_evidence(items)
        run.done("evidence")
    measured = _samples(run)
    run.done("utility samples")

    todo = run.todo
    encoder = features.Encoder(todo.kind, todo.training, config.utility_model, todo.imagenet_weights)
    images = encoder.encode(run.labeled.inputs, arrays, device) if items is None else items.astype(np.float32)
    task = fit_input(config, measured, images, todo.mock_pool)
    model = quadratic.fit(task).model() if isinstance(task, QuadraticInput) else fit(task, device=device).model()
    held_out = judging.held_out(measured.held_out, model, images, todo.mock_pool, todo.kind == "evidence")
    quality = held_out.quality(config.seed)
    run.done("u_hat")
    run.section.put("ranking", vars(quality))

    own = run.outputs(base.model, pool)
    margins = prediction.margins(own)
    run.done("margins of the pool")
    prepared = PreparedProblem(
        labeled=run.labeled, sets={}, pool=pool, rejected=pool[:0], answers=None, training=todo.training,
        kind=todo.kind, imagenet_weights=todo.imagenet_weights, task=task, images=images, held_out=(),
        mock_pool=todo.mock_pool, evidence=_of_pool(run, own, margins), classifier=arrays, before={}, margins=margins,
    )  # fmt: skip
    followed = not judging.follows_filter(config, quality)
    if followed:
        selection = acquire(config, prepared, model, device)
    else:
        selection = controls.follow_filter(margins, config.acquisition, config.seed)
    run.done("acquisition")
    run.section.put("u_hat_was_followed", followed)
    _accuracy(run, base, selection)


def _evidence(run: Run, base: Trained) -> np.ndarray:
    """The second opinions, trained and kept, and the evidence [V, F] of S_val's images."""
    pool, folds = run.todo.mock_pool, run.config.utility_samples.evidence_folds
    assert pool is not None
    inputs, labels = run.validation.inputs, run.validation.labels
    part = parts(labels, folds, seeds.generator(run.config.seed, "evidence", 0))
    logits = np.empty((len(inputs), run.todo.training.num_classes), dtype=np.float32)
    for number in range(folds):
        shown = run.labeled.joined(inputs[part != number], labels[part != number])
        opinion = run.train(shown, "evidence", 1, number)
        run.opinions += (opinion,)
        logits[part == number] = run.outputs(opinion.model, inputs[part == number])
    run.scale, items = evidence.fit(logits, run.outputs(base.model, inputs), pool.labels)
    return items


def _of_pool(run: Run, own: np.ndarray, margins: np.ndarray) -> PoolEvidence | None:
    """Evidence of the candidates, where u_hat looks at it, in rows of the whole pool's."""
    if run.scale is None:
        return None
    positions = greedy.candidates(margins, run.config.acquisition)
    asked = run.problem.pool.pixels[positions]
    found = run.scale.of([run.outputs(opinion.model, asked) for opinion in run.opinions], own[positions])
    numbers = np.zeros((len(margins), found.shape[1]))
    numbers[positions] = found
    return PoolEvidence(numbers, run.scale)


def _samples(run: Run) -> Measured:
    """What the plan's samples are worth: trained ones in stacks, as an actor of a run trains them."""
    todo, section, at_once = run.todo, run.section, 1
    if run.device == "cuda":
        room = ROOM * torch.cuda.get_device_properties(0).total_memory
        at_once = min(GROUP, stacks.models_that_fit(todo.training, room))
    retrainer = Timed(run.labeled, run.validation, todo.measuring, run.device, todo.mock_pool)
    found: dict[str, Measurement] = {}
    began = time.perf_counter()
    in_step = run.device == "cpu"
    pieces = groups(todo.retrained, todo.training, at_once, todo.mock_pool, in_step=in_step)
    for number, piece in enumerate(pieces):
        measurements = retrainer.measure_group([(sample.indices, sample.fold) for sample in piece], at_once)
        found |= {sample.sample_id: one for sample, one in zip(piece, measurements, strict=True)}
        if run.device == "cuda" or number % 100 == 0:
            spent = {"seconds": time.perf_counter() - began, "otdd_s": retrainer.otdd_s}
            section.put("utility_samples", {"measured": len(found), "of": len(todo.retrained), **spent})
    for sample in todo.interpolation:
        if sample.sample_id not in found:
            found[sample.sample_id] = retrainer.measure(sample.indices, retrain=False)
    utility = run.config.utility_samples.utility
    return Measured(*(tuple(s.measured(found[s.sample_id], utility) for s in part) for part in todo.parts))


def _accuracy(run: Run, base: Trained, selection: greedy.Selection) -> None:
    """Benchmark mode: the annotators answer, f is trained on S_1, and scored beside what it was before."""
    if run.revealed is None:
        return
    acquired = selection.pool_index
    joined = run.labeled.joined(run.problem.pool.pixels[acquired], run.revealed.pool_labels[acquired])
    after = run.train(joined, "final_classifier")
    sets = {"validation": run.validation}
    if run.revealed.test is not None:
        sets["test"] = LabeledArrays.of(run.revealed.test)
    scores = {
        name: {
            when: prediction.evaluate(trained.model, part.inputs, part.labels, run.todo.training).accuracy
            for when, trained in (("before", base), ("after", after))
        }
        for name, part in sets.items()
    }
    run.done("final classifier")
    run.section.put("accuracy", scores)
