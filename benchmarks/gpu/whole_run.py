"""A whole run of a ready configuration on one device, stage after stage in one process, with seconds per stage.

As `tests/without_ray.py`, with stacks where the device is a GPU. The pool is what the packed images hold, smaller
than the dataset's own; the section on pools has the full sizes.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from gpu.pairs import Timed
from gpu.rates import GROUP, ROOM
from gpu.record import Section
from gpu.timing import MB, process_mb, synchronize
from rambo_ray import seeds
from rambo_ray.classifier import prediction, stacks, training
from rambo_ray.config import loading
from rambo_ray.data import datasets
from rambo_ray.data.problem import LabeledArrays
from rambo_ray.pipeline import plan
from rambo_ray.pipeline.plan import Measured, fit_input
from rambo_ray.pipeline.prepared import PreparedProblem, acquire
from rambo_ray.utility_model import features, ranking
from rambo_ray.utility_model.fitting import fit
from rambo_ray.utility_samples.measuring import groups
from rambo_ray.utility_samples.sampling import Measurement

CONFIGS = Path(__file__).resolve().parents[2] / "jobs" / "configs"


class Stages:
    """Seconds per stage, put into the section as each one ends."""

    def __init__(self, section: Section) -> None:
        self.section, self.seconds, self.began = section, dict[str, float](), time.perf_counter()

    def done(self, name: str) -> None:
        """The stage `name` ends here."""
        synchronize(self.section.device)
        now = time.perf_counter()
        self.seconds[name], self.began = now - self.began, now
        self.section.put("stages", self.seconds | {"whole run": sum(self.seconds.values())})


def measure(section: Section) -> None:
    """jobs/configs/fashion_mnist.yaml; without images of it, the digits."""
    smoke = section.smoke or section.root is None
    name = "digits_smoke" if smoke else "fashion_mnist"
    overrides = [] if smoke else [f"data.root={section.root}", "data.download=false"]
    config = loading.load(str(CONFIGS / f"{name}.yaml"), overrides)
    device = section.device
    stages = Stages(section)
    problem, revealed = datasets.load(config.data, config.seed)
    todo = plan.make(config, problem).on(device)
    labeled, validation = LabeledArrays.of(problem.labeled), LabeledArrays.of(problem.validation)
    section.put("run", {"config": name, "device": device, "precision": todo.training.precision,
                        "k": len(labeled.labels), "pool": len(problem.pool),
                        "samples": len(todo.retrained)})  # fmt: skip
    stages.done("images and plan")

    retrainer = Timed(labeled, validation, todo.measuring, device)
    measured = _measure(section, todo, retrainer, config.utility_samples.utility)
    stages.done("utility samples")

    seed = seeds.integer(config.seed, "base_classifier")
    base = training.train(labeled.inputs, labeled.labels, todo.training, seed, device)
    arrays = training.to_arrays(base)
    stages.done("base classifier")

    encoder = features.Encoder(todo.kind, todo.training, config.utility_model, todo.imagenet_weights)
    images = encoder.encode(labeled.inputs, arrays, device)
    model = fit(fit_input(config, measured, images), device=device).model()
    stages.done("u_hat")

    logits, _ = prediction.predict(base.model, problem.pool.pixels, todo.training, device)
    margins = prediction.margins(logits)
    stages.done("margins of the pool")

    prepared = PreparedProblem(
        labeled=labeled, sets={}, pool=problem.pool.pixels, answers=None, training=todo.training, kind=todo.kind,
        imagenet_weights=todo.imagenet_weights, task=fit_input(config, measured, images), held_out=(),
        held_out_utilities=(), classifier=arrays, before={}, margins=margins, **_rejected(problem.pool.pixels),
    )  # fmt: skip
    selection = acquire(config, prepared, model, device)
    stages.done("acquisition")

    if revealed is not None:
        joined = labeled.joined(problem.pool.pixels[selection.pool_index], revealed.pool_labels[selection.pool_index])
        seed = seeds.integer(config.seed, "final_classifier")
        after = training.train(joined.inputs, joined.labels, todo.training, seed, device)
        sets = {"validation": validation}
        if revealed.test is not None:
            sets["test"] = LabeledArrays.of(revealed.test)
        scores = {
            name: {
                when: prediction.evaluate(trained.model, part.inputs, part.labels, todo.training).accuracy
                for when, trained in (("before", base), ("after", after))
            }
            for name, part in sets.items()
        }
        stages.done("final classifier")
        section.put("accuracy", scores)
    held_out = measured.held_out
    _, _, quality = ranking.judge(model.cpu(), images, [s.indices for s in held_out], [s.utility for s in held_out])
    section.put("ranking", vars(quality))
    on_gpu = torch.cuda.max_memory_allocated() / MB if device == "cuda" else None
    section.put("peak_mb", {"process": process_mb(), "gpu": on_gpu})


def _measure(section: Section, todo: plan.Plan, retrainer: Timed, utility: Any) -> Measured:
    """What the plan's samples are worth: trained ones in stacks, as an actor of a run trains them."""
    at_once = 1
    if section.device == "cuda":
        room = ROOM * torch.cuda.get_device_properties(0).total_memory
        at_once = min(GROUP, stacks.models_that_fit(todo.training, room))
    found: dict[str, Measurement] = {}
    began = time.perf_counter()
    for number, piece in enumerate(groups(todo.retrained, todo.training, at_once)):
        measurements = retrainer.measure_group([sample.indices for sample in piece], at_once)
        found |= {sample.sample_id: one for sample, one in zip(piece, measurements, strict=True)}
        if section.device == "cuda" or number % 100 == 0:
            spent = {"seconds": time.perf_counter() - began, "otdd_s": retrainer.otdd_s}
            section.put("utility_samples", {"measured": len(found), "of": len(todo.retrained), **spent})
    for sample in todo.interpolation:
        if sample.sample_id not in found:
            found[sample.sample_id] = retrainer.measure(sample.indices, retrain=False)
    return Measured(*(tuple(s.measured(found[s.sample_id], utility) for s in part) for part in todo.parts))


def _rejected(pixels: Any) -> dict[str, Any]:
    """The field of images that belong to no class, none here, where this version of the package has one."""
    return {"rejected": pixels[:0]} if "rejected" in PreparedProblem.__dataclass_fields__ else {}
