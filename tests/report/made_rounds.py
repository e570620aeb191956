"""A report's content that tests make up, of a run with mock rounds and the quadratic u_hat."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from rambo_ray.config.schema import Config
from rambo_ray.report.content import ReportContent
from rambo_ray.utility_model.evidence import ComparedEvidence
from rambo_ray.utility_model.quadratic import QuadraticModel
from rambo_ray.utility_model.ranking import HeldOut
from rambo_ray.utility_samples.sampling import UtilitySample

from .made_content import NAN, make_content, with_metrics

K = 40  # of the made problem


def make_rounds(count: int, held_out: bool) -> list[UtilitySample]:
    generator = np.random.default_rng(7)
    made = []
    for i in range(count):
        bought = (20, 25)[(i // 2) % 2] if held_out else int(generator.integers(5, 15))
        value = 0.4 + 0.02 * np.log(bought) + generator.normal(0, 0.01)
        pair = -1 if held_out else i // 2
        indices = tuple(range(K + bought))
        made.append(UtilitySample(f"r{i}", pair, -1, "retrained", indices, None, float(value), fold=i % 2))
    return made


def make_model(width: int, seed: int = 8) -> QuadraticModel:
    w, a = np.random.default_rng(seed).normal(0, 0.001, (2, width))
    return QuadraticModel(w, a, np.eye(2 * width) * 1e-7, 0.02, (0.4, 0.41), 0.1, 0.5)


def make_rounds_content(*, followed: bool = True, rejected: bool = False, **keywords: Any) -> ReportContent:
    """As `make_content`, which gets the keywords."""
    content = make_content(**keywords)
    problem = replace(content.problem, rejected=content.problem.labeled.unlabeled() if rejected else None)
    held = make_rounds(16, held_out=True)
    utilities = np.array([s.utility for s in held])
    scores = utilities + np.random.default_rng(9).normal(0, 0.003, len(held))
    selection = content.selection
    steps = len(selection.step_scores)
    kinds = (("margin filter", "tilted at 0.5") * steps)[:steps] if followed else ("margin filter",) * steps
    selection = replace(selection, kinds=kinds)
    if not followed:
        scored = tuple(np.full(len(s), NAN) for s in selection.step_scores)
        selection = replace(selection, utility=np.full_like(selection.utility, NAN), step_scores=scored)
    width = len(problem.class_names) + rejected + 4
    shares = np.random.default_rng(10).dirichlet(np.ones(width), 3)
    config = {"acquisition": content.config.acquisition.model_dump() | {"candidates": "tilted"}}
    content = replace(
        content,
        config=Config.model_validate(config),
        problem=problem,
        selection=selection,
        samples=[*make_rounds(60, held_out=False), *held],
        history=(),
        held_out=HeldOut(scores, utilities, tuple((s.fold, s.size) for s in held), tuple(s.size - K for s in held)),
        u_hat=make_model(width),
        compared=ComparedEvidence(*shares),
    )
    ranking = {
        **content.metrics["ranking"],
        "held_out_pairwise_accuracy": 0.71 if followed else 0.5,
        "held_out_subsets": 16,
        "held_out_by_size": {"20": 0.7, "25": 0.72},
    }
    return with_metrics(content, ranking=ranking, u_hat_followed=followed)
