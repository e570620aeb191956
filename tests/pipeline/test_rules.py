"""Versions of rules in the keys under which numbers are kept: as they always were, until a rule changes."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from rambo_ray import otdd
from rambo_ray.acquisition import greedy
from rambo_ray.backtest import store
from rambo_ray.backtest.playing import Material
from rambo_ray.benchmark.experiment import Method
from rambo_ray.benchmark.runs import run_id
from rambo_ray.classifier import settings
from rambo_ray.cluster.sweep import Study
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.embeddings import networks
from rambo_ray.pipeline import rules
from rambo_ray.pipeline.plan import training_settings
from rambo_ray.sweep.search_space import Space
from rambo_ray.sweep.simulation import FoldScale
from rambo_ray.utility_model import fitting, quadratic
from rambo_ray.utility_samples import measuring, mock_rounds
from rambo_ray.utility_samples.measuring import MeasurementSettings

from .test_claims import problem

SPACE = {"keys": {"acquisition.batch_size": {"grid": [10, 20]}}}


def trial(name: str = "mnist_net") -> str:
    base = loading.load(None, ["method=paper", f"classifier.name={name}"])
    study = Study(
        base=base,
        space=Space.model_validate(SPACE),
        k=200,
        scale=FoldScale(labeled=0.5, acquired=0.1),
        prepared={},
        fingerprints={0: "data"},
        folder="",
        oracle=False,
    )
    return study.trial_id({"acquisition.batch_size": 10}, 0)


def run(kind: str) -> str:
    return run_id(loading.load(None, ["method=paper"]), Method(kind, kind, {}), "data", "settings")


def play() -> str:
    images = problem()
    config = loading.load(None, ["classifier.precision=float32"])
    made = Material(
        problem=images,
        labeled=images.labeled.array,
        validation=images.validation.array,
        rejected=images.labeled.array[:0],
        training=training_settings(config, images),
        num_pool=7,
    )
    return store.play_id(store.identity(config, made, np.array([0.5, 0.5]), [1.0]), 0, "rambo")


def sample() -> str:
    images, config = problem(), Config()
    return MeasurementSettings(training_settings(config, images), 0, 1, "exact", "converged", 0.1, False).identity("x")


KEYS = {
    "trial": trial,
    "run of rambo": lambda: run("rambo"),
    "run of the filter": lambda: run("margin_m_random"),
    "run of badge": lambda: run("badge"),
    "play": play,
    "sample": sample,
}


def test_keys_are_what_they_were_before_rules_had_versions() -> None:
    assert rules.newer() == []
    assert trial() == "47cc7a537f90e590ec564676ffcb93de"
    assert [run(kind) for kind in ("rambo", "margin_m_random", "badge")] == [
        "eebb0ef9c8440225b0619486c89f464d",
        "c3a267c0f7c9b9a9cf36b5ef74a8dcb8",
        "4ecd46e143c90f9faf8c72a8a4231159",
    ]


@pytest.mark.parametrize(
    ("module", "changed"),
    [
        (fitting, ["play", "run of rambo", "trial"]),
        (quadratic, ["play", "run of rambo", "trial"]),
        (greedy, ["play", "run of rambo", "run of the filter", "trial"]),
        (mock_rounds, ["play", "run of rambo", "trial"]),
        (otdd, ["play", "run of rambo", "sample", "trial"]),
        (settings, ["play", "sample", "trial"]),
        (networks, ["trial"]),
    ],
)
def test_a_rule_that_changes_changes_the_keys_of_what_depends_on_it(
    monkeypatch: pytest.MonkeyPatch, module: object, changed: list[str]
) -> None:
    before = {name: key() for name, key in KEYS.items()}
    monkeypatch.setattr(module, "RULE", 2)
    monkeypatch.setattr(measuring, "OTDD_RULE", otdd.RULE)
    assert sorted(name for name, key in KEYS.items() if key() != before[name]) == changed


NETWORK = """
from torch import nn

def make(image_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear({width}, num_classes))
"""


def test_a_network_of_ones_own_is_known_by_its_source_in_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for text in (NETWORK.format(width=64), NETWORK.format(width=64), NETWORK.format(width="8 * 8")):
        (tmp_path / "edited_net.py").write_text(text)
        importlib.invalidate_caches()
        sys.modules.pop("edited_net", None)
        found.append(trial("edited_net:make"))
    sys.modules.pop("edited_net", None)
    assert found[0] == found[1] != found[2]
