"""Do the stack, the single model, the GPU and the CPU compute the same?

One step is compared with float64: distances of logits and gradients as norms, over the norm of the reference's.
What rounding may leave of them is measured, not picked: a layer whose products have k terms errs by about u sqrt(k)
of its values in float32 (u: the unit roundoff; a random walk of k roundings), and by u sqrt(3) in bfloat16, which
rounds both factors and the result. So every weight of the float64 network is moved at random by that share of it,
and what logits and gradients then do is one standard deviation of what this precision can do to this very network;
three are allowed, of gradients, which pass the layers twice, six. Whole trainings amplify rounding: they are
compared after one epoch, with float64's on the same draws, in units of the CPU's own distance; and, trained to the
end, by their mean accuracy, paired by their subsets.

Letters: G models, b rows of a batch, V images evaluated, K classes.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gpu import stacked
from gpu.problems import PRECISIONS, Problem, fixed_epochs, load, subsets
from gpu.record import Section
from gpu.timing import timed
from rambo_ray.classifier import prediction, stacks, training
from rambo_ray.classifier.networks import build
from rambo_ray.classifier.stacks.batched import BATCHED, Layout, Pass
from rambo_ray.classifier.stacks.networks import STACKED

ROUNDOFF = {"float32": 2.0**-24, "bfloat16": 2.0**-9}
Found = tuple[Tensor, Tensor]  # logits and all gradients, one vector each, float64 on the CPU


def measure(section: Section) -> None:
    """One step against float64, repeats bit by bit, an epoch against float64, whole trainings paired, a prediction."""
    mnist = load(section, "mnist", 400, 200 if section.smoke else 1000)
    cifar = load(section, "cifar10", 40, 40)
    torch.set_num_threads(1 if section.smoke else 8)
    one_step(section, mnist, 8)
    one_step(section, cifar, 8)
    repeats(section, mnist)
    one_epoch(section, mnist)
    a_prediction(section, mnist)
    whole_trainings(section, mnist)


def one_step(section: Section, problem: Problem, rows: int) -> None:
    """Logits and gradients of two models on `rows` images each, without dropout, by every path there is."""
    name = problem.settings("cpu").classifier
    models = []
    for seed in range(2):
        with training.seeded(seed, torch.device("cpu")):
            models.append(build(name, problem.settings("cpu").image_shape, 10))
    labels = torch.from_numpy(problem.labeled.labels[: 2 * rows])
    images = training.prepare(problem.labeled.inputs[: 2 * rows], problem.settings("cpu"))
    reference = _of_stack(problem, models, images, labels, "cpu", "float32", float64=True)
    moved = {
        precision: _of_stack(problem, _moved(models, precision), images, labels, "cpu", "float32", float64=True)
        for precision in PRECISIONS
    }
    # A GPU's float64 is held to a thousandth of float32.
    moved["float64"] = tuple(r + 1e-3 * (m - r) for m, r in zip(moved["float32"], reference, strict=True))  # type: ignore[assignment]
    devices = dict.fromkeys(("cpu", section.device))
    for device in devices:
        if device == "cuda":
            _step_row(section, problem, reference, moved, "stack", device, "float64",
                      _of_stack(problem, models, images, labels, device, "float32", float64=True))  # fmt: skip
        for precision in PRECISIONS if device == section.device else ("float32",):
            for path, call in (("stack", _of_stack), ("single", _of_singles)):
                found = call(problem, models, images, labels, device, precision)
                _step_row(section, problem, reference, moved, path, device, precision, found)


def _step_row(
    section: Section, problem: Problem, reference: Found, moved: dict[str, Found], path: str, device: str,
    precision: str, found: Found,
) -> None:  # fmt: skip
    row: dict[str, Any] = {
        "classifier": problem.settings("cpu").classifier, "path": path, "device": device, "precision": precision,
    }  # fmt: skip
    within = True
    for place, (what, deviations) in enumerate((("logits", 3), ("gradients", 6))):
        far = distance(found[place], reference[place])
        bound = deviations * distance(moved[precision][place], reference[place])
        within = within and far <= bound
        row |= {what: far, f"{what}_bound": bound}
    section.add("one_step", row | {"within": within})


def _moved(models: list[Any], precision: str) -> list[Any]:
    """Copies of models, each weight moved at random by what a layer's rounding in a precision comes to."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for model in models:
        own = copy.deepcopy(model).double()
        with torch.no_grad():
            for weight in own.parameters():
                terms = 3 if precision == "bfloat16" else max(weight[0].numel(), 1)
                noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
                weight.mul_(1 + ROUNDOFF[precision] * terms**0.5 * noise)
        made.append(own)
    return made


def _of_stack(
    problem: Problem, models: list[Any], images: Tensor, labels: Tensor, device: str, precision: str,
    float64: bool = False,
) -> Found:  # fmt: skip
    settings, where = problem.settings(device, precision), torch.device(device)
    exact = torch.float64 if float64 else torch.float32
    kind = torch.bfloat16 if settings.precision == "bfloat16" else exact
    layout = Layout.of(settings)
    flat = stacked.rows_of(layout, [model.state_dict() for model in models]).to(where, exact).requires_grad_()
    x = images.permute(0, 2, 3, 1).unflatten(0, (2, -1)).to(where, kind).contiguous()
    rows = x.shape[1]
    masks = tuple(torch.ones(2, rows, units, device=where) for units, _ in STACKED[settings.classifier].dropout)
    real = torch.full((2,), float(rows), dtype=exact, device=where)
    with training.cuda_kernels(where, settings):
        forward = Pass(layout.views(flat, kind), None, real, None, masks)
        logits = BATCHED[settings.classifier](forward, x).to(exact)
        loss = F.cross_entropy(logits.flatten(0, 1), labels.to(where), reduction="none").view(2, rows)
        (gradient,) = torch.autograd.grad(loss.mean(1).sum(), flat)
    return _vector([logits]), _vector([gradient])


def _of_singles(
    problem: Problem, models: list[Any], images: Tensor, labels: Tensor, device: str, precision: str
) -> Found:
    settings, where = problem.settings(device, precision), torch.device(device)
    rows = len(images) // 2
    all_logits, all_gradients = [], []
    for place, model in enumerate(models):
        with training.seeded(0, where), training.cuda_kernels(where, settings):
            own = build(settings.classifier, settings.image_shape, 10)
            own.load_state_dict(model.state_dict())
            own = own.to(device, memory_format=own.memory_format)
            own.train(settings.classifier != "mnist_net")  # whose dropout would be another on every device
            x = images[place * rows : (place + 1) * rows].to(device).to(training.image_type(settings))
            y = labels[place * rows : (place + 1) * rows].to(device)
            with training.autocast(where, settings):
                logits = own(x.contiguous(memory_format=own.memory_format)).float()
            names, weights = zip(*own.named_parameters(), strict=True)
            gradients = torch.autograd.grad(F.cross_entropy(logits, y), weights)
        all_logits.append(logits.detach())
        all_gradients.append(dict(zip(names, gradients, strict=True)))
    rows_of = stacked.rows_of(Layout.of(settings), all_gradients)
    return _vector([torch.stack(all_logits)]), _vector([rows_of])


def repeats(section: Section, problem: Problem) -> None:
    """Whether the same call gives the same bits again, and how far a model's company moves it."""
    settings = fixed_epochs(problem.settings(section.device), 2)
    images, validation = problem.prepared(settings, section.device)
    labels, chosen = problem.labeled.labels, subsets(8, 60, 400)

    def together(count: int) -> np.ndarray:
        found = stacks.train_stack(images, labels, validation, settings, range(count), chosen[:count], section.device)
        return np.stack([result.logits for result in found])

    def alone() -> np.ndarray:
        model = training.train(images, labels, settings, 0, section.device, chosen[0]).model
        return prediction.predict(model, validation, settings, section.device)[0]

    eight, two = together(8), together(2)
    section.put(
        "repeats",
        {
            "stack_same_bits": bool(np.array_equal(eight, together(8))),
            "single_same_bits": bool(np.array_equal(alone(), alone())),
            "same_bits_in_a_smaller_stack": bool(np.array_equal(eight[:2], two)),
            "distance_in_a_smaller_stack": distance(torch.from_numpy(eight[:2]), torch.from_numpy(two)),
        },
    )


def one_epoch(section: Section, problem: Problem) -> None:
    """Logits after an epoch of four models: their distance to a float64 stack's on the CPU, by device and precision.

    All draw the same: a GPU's stack, run on the CPU, is the reference.
    """
    labels, chosen = problem.labeled.labels, subsets(4, 60, 400)

    def stack(device: str, precision: str, float64: bool = False) -> Tensor:
        own = problem.settings(device, precision)
        images, validation = problem.prepared(own, device)
        made = stacked.make(images, labels, own, chosen, device, float64=float64)
        stacked.epochs(made, 1)
        return stacked.logits(made, validation).double()

    truth = stack("cpu", "float32", True)
    found = {"cpu float32": stack("cpu", "float32")}
    if section.device == "cuda":
        found |= {f"cuda {precision}": stack("cuda", precision) for precision in PRECISIONS}
        found["cuda float64"] = stack("cuda", "float32", True)
    distances = {name: distance(value, truth) for name, value in found.items()}
    relative = {name: far / distances["cpu float32"] for name, far in distances.items()}
    section.put("one_epoch", {"distances": distances, "in_units_of_the_cpus": relative})


def a_prediction(section: Section, problem: Problem) -> None:
    """Logits of one trained model on S_val: each device and precision against float64 on the CPU."""
    settings = replace(problem.settings("cpu", "float32", kernels="off"), max_epochs=8)
    trained = training.train(problem.labeled.inputs, problem.labeled.labels, settings, 0, "cpu", np.arange(60))
    arrays = training.to_arrays(trained)
    with torch.no_grad():
        images = training.prepare(problem.validation.inputs, settings).double()
        exact = training.from_arrays(arrays, settings).model.double()
        truth = exact.outputs(images)[0]
        moved = {precision: _moved([exact], precision)[0].outputs(images)[0] for precision in PRECISIONS}
    for device in dict.fromkeys(("cpu", section.device)):
        for precision in PRECISIONS if device == section.device else ("float32",):
            own = replace(settings, precision=precision)
            model = training.from_arrays(arrays, own, device).model
            found, _ = prediction.predict(model, problem.validation.inputs, own, device)
            bound = 3 * distance(moved[precision], truth)
            far = distance(torch.from_numpy(found), truth)
            section.add("prediction", {"device": device, "precision": precision, "logits": far, "logits_bound": bound,
                                       "within": far <= bound})  # fmt: skip


def whole_trainings(section: Section, problem: Problem) -> None:
    """Accuracy and epochs of trainings to the end: means, and paired with the same subsets one by one on the CPU."""
    count, n = (2, 40) if section.smoke else (32, 100)
    labels, chosen = problem.labeled.labels, subsets(count, n, 400)
    accuracy: dict[str, np.ndarray] = {}

    def note(way: str, scores: list[float], epochs: list[int], seconds: float) -> None:
        accuracy[way] = np.array(scores)
        row = {"way": way, "models": len(scores), "accuracy": float(np.mean(scores)), "epochs": float(np.mean(epochs)),
               "seconds_per_model": seconds / len(scores)}  # fmt: skip
        others = [name for name in accuracy if name != way]
        for other in others[:1]:
            paired = accuracy[way] - accuracy[other][: len(scores)]
            error = float(paired.std(ddof=1) / len(paired) ** 0.5) if len(paired) > 1 else float("nan")
            row |= {"against": other, "points": 100 * float(paired.mean()), "standard_error": 100 * error}
        section.add("whole_trainings", row)

    for device, precision, single in (
        (section.device, "float32", False), (section.device, "bfloat16", False), (section.device, "bfloat16", True),
        (section.device, "float32", True), ("cpu", "auto", True),
    ):  # fmt: skip
        settings = problem.settings(device, precision)
        if section.smoke:
            settings = replace(settings, max_epochs=3)
        images, validation = problem.prepared(settings, device)
        way = f"{device} {'single' if single else 'stack'} {settings.precision}"
        if way in accuracy or not section.fits(
            (5.0 if device == section.device else 8.0) if single and not section.smoke else 0.0, way
        ):
            continue
        if single:
            torch.set_num_threads(1)

            def singles(own: Any = settings, x: Any = images, v: Any = validation, where: str = device) -> list[Any]:
                trained = [training.train(x, labels, own, g, where, chosen[g]) for g in range(max(2, count // 2))]
                return [(prediction.evaluate(t.model, v, problem.validation.labels, own), t.epochs) for t in trained]

            found, seconds = timed(singles, device)
            note(way, [scores.accuracy for scores, _ in found], [epochs for _, epochs in found], seconds)
        else:

            def stack(own: Any = settings, x: Any = images, v: Any = validation, where: str = device) -> list[Any]:
                return stacks.train_stack(x, labels, v, own, range(count), chosen, where)

            results, seconds = timed(stack, device)
            scores = [prediction.scores(r.logits, problem.validation.labels).accuracy for r in results]
            note(way, scores, [r.epochs for r in results], seconds)


def distance(found: Tensor, true: Tensor) -> float:
    """|found - true| / |true|, of all elements."""
    found, true = found.detach().double().cpu(), true.detach().double().cpu()
    return float((found - true).norm() / true.norm())


def _vector(tensors: Any) -> Tensor:
    return torch.cat([tensor.detach().double().cpu().flatten() for tensor in tensors])
