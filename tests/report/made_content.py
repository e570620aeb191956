"""A report's content that tests make up, of a run by the paper's scheme, and its page read back."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from rambo_ray.acquisition import pool_view
from rambo_ray.acquisition.greedy import Selection, step_sizes
from rambo_ray.acquisition.pool_view import PoolView
from rambo_ray.config.schema import AcquisitionConfig, Config
from rambo_ray.data.images import Images, LabeledImages
from rambo_ray.data.problem import Problem, Revealed
from rambo_ray.report import plots
from rambo_ray.report.content import ReportContent
from rambo_ray.report.page import render
from rambo_ray.utility_model.ranking import HeldOut
from rambo_ray.utility_samples.sampling import Measurement, UtilitySample

pytestmark = pytest.mark.usefixtures("coarse_figures")

NAN = float("nan")
MAX_BYTES = 3_000_000
HOSTILE = '<script>alert("1")</script>'


def make_problem(
    num_pool: int, shape: tuple[int, int, int], names: tuple[str, ...], prefix: str = "image "
) -> tuple[Problem, Revealed]:
    """A problem of random pictures: smooth blobs, so that they look like something."""
    generator = np.random.default_rng(0)
    height, width, channels = shape
    rows, columns = np.mgrid[0:height, 0:width]
    count = 40 + 30 + num_pool
    labels = generator.integers(0, len(names), count)
    pixels = np.zeros((count, *shape), np.uint8)
    for i in range(count):
        for c in range(channels):
            y, x = generator.uniform(0, height), generator.uniform(0, width)
            distance = ((rows - y) / height) ** 2 + ((columns - x) / width) ** 2
            pixels[i, ..., c] = 255 * np.exp(-distance * generator.uniform(4, 30))
    ids = tuple(f"{prefix}{i:05d}" for i in range(count))
    labeled = LabeledImages(pixels[:40], ids[:40], labels[:40])
    validation = LabeledImages(pixels[40:70], ids[40:70], labels[40:70])
    pool = Images(pixels[70:], ids[70:])
    problem = Problem(labeled, validation, pool, names, (0.3,) * channels, (0.3,) * channels)
    return problem, Revealed(labels[70:], validation)


def make_samples(num_pairs: int, k: int, nested_sets: int, num_held_out: int) -> list[UtilitySample]:
    generator = np.random.default_rng(1)

    def sample(size: int, pair: int, iteration: int) -> UtilitySample:
        value = 0.5 + 0.35 * np.sqrt(size / k) + generator.normal(0, 0.02)
        otdd = 8 - 4 * value + generator.normal(0, 0.1)
        measured = Measurement(value, value, 1 - value, 0, 0, 0, otdd, 20, 20 * size, 0.2)
        return UtilitySample(f"{pair}", pair, iteration, "retrained", tuple(range(size)), measured, value)

    made = []
    for pair in range(num_pairs):
        size = int(generator.integers(20, k))
        made += [sample(size, pair, -1), sample(size, pair, -1)]
    made += [sample(50 + i * (k - 50) // max(1, nested_sets - 1), -1, i) for i in range(nested_sets)]
    made += [sample(round(0.75 * k), -1, -1) for _ in range(num_held_out)]
    unmeasured = Measurement(NAN, NAN, NAN, NAN, NAN, NAN, 5.0, 0, 0, 0.0)
    for pair in range(10):
        indices = tuple(range(30))
        made.append(UtilitySample(f"i{pair}", num_pairs + pair, 0, "interpolated", indices, unmeasured, 0.7))
    return made


def make_history(iterations: int, epochs: int) -> list[dict[str, float]]:
    generator = np.random.default_rng(2)
    history = []
    for iteration in range(-1, iterations):
        for epoch in range(epochs):
            t = (iteration + 1) * epochs + epoch
            history.append(
                {
                    "iteration": iteration,
                    "epoch": epoch,
                    "inner_loss": 0.3 + 1.2 * np.exp(-t / 12) + generator.normal(0, 0.01),
                    "outer_loss": 0.45 + 0.9 * np.exp(-t / 15) + generator.normal(0, 0.02),
                    "train_ranking_accuracy": 0.85 - 0.35 * np.exp(-t / 10) + generator.normal(0, 0.01),
                    "val_ranking_accuracy": 0.72 - 0.2 * np.exp(-t / 14) + generator.normal(0, 0.015),
                }
            )
    return history


def make_selection(margins: np.ndarray, budget: int, batch_size: int, per_step: int = 40) -> Selection:
    generator = np.random.default_rng(3)
    index = np.argsort(margins)[: 2 * budget]
    index = generator.permutation(index)[:budget]
    sizes = step_sizes(budget, batch_size)
    scores = tuple(generator.normal(1.0 + 0.05 * j, 0.1, per_step) for j in range(len(sizes)))
    step = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    utility = np.array([scores[j].max() for j in step], np.float32)
    return Selection(index.astype(np.int64), step, margins[index].astype(np.float32), utility, scores)


def make_view(
    selection: Selection, margins: np.ndarray, problem: Problem, ask: AcquisitionConfig, embeddings: np.ndarray
) -> PoolView:
    """What a made f says: classes by chance, and these embeddings of S_0 and then the pool."""
    k, classes = len(problem.labeled), len(problem.class_names)
    logits = np.random.default_rng(6).normal(0, 2, (len(margins), classes)).astype(np.float32)
    return pool_view.look(
        selection,
        margins,
        np.arange(len(margins)),
        ask,
        lambda positions: (logits[positions], embeddings[k + positions]),
        lambda positions: (logits[positions], embeddings[positions]),
        k,
    )


def make_metrics(k: int, num_pool: int, budget: int, batch_size: int) -> dict[str, Any]:
    return {
        "sizes": {
            "k": k,
            "validation": 1000,
            "pool": num_pool,
            "test": 10000,
            "budget": budget,
            "batch_size": batch_size,
            "margin_pool": 400,
            "num_pairs": 200,
        },
        "accuracy_before": {"validation": 0.7812, "test": 0.7745},
        "accuracy_after": {"validation": 0.8231, "test": 0.8102},
        "ranking": {
            "held_out_pairwise_accuracy": 0.71,
            "held_out_kendall_tau": 0.42,
            "held_out_subsets": 20,
            "held_out_size": 150,
            "held_out_chance": [0.34, 0.66],
            "held_out_by_size": {"150": 0.71},
            "held_out_gain": 0.012,
            "held_out_best_gain": 0.02,
            "val_pairwise_accuracy": 0.69,
        },
        "u_hat_followed": True,
        "candidates_won": {"partition": 5},
        "seconds": {
            "utility samples": 812.4,
            "base classifier": 3.1,
            "u_hat": 96.0,
            "margins of the pool": 11.2,
            "acquisition": 4.4,
            "final classifier": 9.7,
            "total": 941.5,
        },
        "collect": {"busy_fraction": 0.93, "retrained": 424, "reused": 0, "passes_per_second": 5120.0},
        "precision": "float32",
        "kernels": "compiled",
        "cluster": "1 node, 2 CPUs",
    }


def make_content(
    *,
    num_pool: int = 2000,
    shape: tuple[int, int, int] = (8, 8, 1),
    names: tuple[str, ...] = ("boot", "coat", "dress"),
    budget: int = 100,
    batch_size: int = 20,
    report_images: int = 60,
    prefix: str = "image ",
) -> ReportContent:
    k = 200
    problem, revealed = make_problem(num_pool, shape, names, prefix)
    margins = np.random.default_rng(4).beta(0.7, 0.9, num_pool).astype(np.float32)
    samples = make_samples(200, k, 4, 20)
    held_out = np.array([s.utility for s in samples if plots.is_held_out(s)])
    scores = 3 * held_out + np.random.default_rng(5).normal(0, 0.06, len(held_out))
    margin_pool = max(400, batch_size)
    config = Config.model_validate(
        {
            "method": "paper",
            "acquisition": {"budget": budget, "batch_size": batch_size, "margin_pool": margin_pool},
            "output": {"report_images": report_images},
        }
    )
    selection = make_selection(margins, budget, batch_size)
    rows = np.random.default_rng(7).normal(0, 1, (len(problem.labeled) + num_pool, 6)).astype(np.float32)
    return ReportContent(
        config=config,
        metrics=make_metrics(k, num_pool, budget, batch_size),
        manifest={"seed": 0, "data": {"name": "digits", "classes": list(names)}, "versions": {"torch": None}},
        problem=problem,
        revealed=revealed,
        selection=selection,
        margins=margins,
        samples=samples,
        history=make_history(3, 20),
        held_out=HeldOut(scores, held_out, ((-1, 150),) * len(scores), (150,) * len(scores)),
        view=make_view(selection, margins, problem, config.acquisition, rows),
        folder="/home/me/my runs/first",
    )


class Page(HTMLParser):
    """What a browser would find in the page: tags with attributes, ids of text, style and script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.scripts = "", ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts += data
        else:
            self.text += data

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.tags if t == tag and all(a.get(k) == v for k, v in wanted.items())]


def page(content: ReportContent) -> Page:
    """Render, and check what holds for every page."""
    html = render(content)
    assert len(html.encode()) < MAX_BYTES
    found = Page(html)
    policy = found.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"] or ""
    allowed = base64.b64encode(hashlib.sha256(found.scripts.encode()).digest()).decode()
    assert len(found.all("script")) == 1 and f"script-src 'sha256-{allowed}'" in policy and "unsafe-eval" not in policy
    assert not re.search(r"(?<!data-)\b(?:https?:)?//\w", re.sub(r"base64,[A-Za-z0-9+/=]+", "", html))
    for picture in found.all("img"):
        assert (picture["src"] or "").startswith("data:image/")
        assert picture["alt"]
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert "nan" not in found.text.lower().split()
    return found


def with_metrics(content: ReportContent, **changed: Any) -> ReportContent:
    return replace(content, metrics={**content.metrics, **changed})
