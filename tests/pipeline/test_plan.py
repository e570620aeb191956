"""A plan's samples: named by all that their measurements depend on, so also by the arithmetic of a device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rambo_ray.classifier import settings
from rambo_ray.config import loading
from rambo_ray.data import datasets
from rambo_ray.pipeline import plan
from rambo_ray.pipeline.plan import Plan

SMOKE = Path(__file__).parents[2] / "jobs" / "configs" / "digits_smoke.yaml"


def made() -> Plan:
    config = loading.load(SMOKE, ["method=paper"])
    problem, _ = datasets.load(config.data, config.seed)
    return plan.make(config, problem)


def ids(todo: Plan) -> list[str]:
    return [sample.sample_id for part in todo.parts for sample in part]


def test_the_precision_of_a_device_names_other_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    todo = made()
    assert todo.on("cpu") is todo
    other = "bfloat16" if todo.training.precision == "float32" else "float32"
    monkeypatch.setattr(settings, "choose_precision", lambda *_: other)
    there = todo.on("cuda")
    assert there.training == there.measuring.training == replace(todo.training, precision=other)
    assert not set(ids(there)) & set(ids(todo))
    # The same subsets in the same places.
    for ours, theirs in zip(todo.parts, there.parts, strict=True):
        assert [sample.indices for sample in ours] == [sample.indices for sample in theirs]
    monkeypatch.undo()
    assert ids(there.on("cpu")) == ids(todo)
