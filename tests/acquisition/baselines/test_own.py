"""Strategies of a user's own: found by name, sent to where they pick, checked there."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rambo_ray.acquisition.baselines import StrategyInputs, own
from rambo_ray.benchmark.experiment import METHODS, Method, is_nested, load, register_strategy
from rambo_ray.benchmark.runs import run_id
from rambo_ray.config.schema import Config
from rambo_ray.errors import UserError


def inputs(n: int = 12) -> StrategyInputs:
    generator = np.random.default_rng(0)
    logits, embeddings = generator.normal(size=(n, 3)), generator.normal(size=(n, 4))
    labels = np.arange(6) % 3
    return StrategyInputs(
        logits=logits,
        embeddings=embeddings,
        labeled_logits=logits[:6],
        labeled_embeddings=embeddings[:6],
        labels=labels,
        validation_logits=logits[6:],
        validation_embeddings=embeddings[6:],
        validation_labels=labels,
    )


def last(data: StrategyInputs, budget: int, generator: np.random.Generator) -> np.ndarray:
    return len(data) - 1 - np.arange(budget)


@pytest.fixture(autouse=True)
def _forgotten() -> Any:
    yield
    own._registered.clear()


class TestRegistered:
    def test_it_is_a_method_and_travels(self) -> None:
        factor = 2

        def every_other(data: StrategyInputs, budget: int, generator: np.random.Generator) -> np.ndarray:
            return factor * np.arange(budget)

        register_strategy("every_other", every_other)
        method = pickle.loads(pickle.dumps(Method("shown", "every_other", {})))
        own._registered.clear()  # as in a worker
        assert method.own is not None
        assert own.pick(method.own, inputs(), 3, np.random.default_rng(0)).tolist() == [0, 2, 4]
        assert not is_nested("every_other", Config().acquisition, [1, 2]) and is_nested(
            "x:y", Config().acquisition, [2]
        )

    def test_its_runs_are_known_by_its_source(self) -> None:
        def made(offset: int) -> Any:
            def shifted(data: StrategyInputs, budget: int, generator: np.random.Generator) -> np.ndarray:
                return offset + np.arange(budget)

            return shifted

        ids = []
        for offset in (1, 2, 1):
            register_strategy("shifted", made(offset))
            ids.append(run_id(Config(), Method("shifted", "shifted", {}), "f", "r"))
        assert ids[0] == ids[2] != ids[1]

    @pytest.mark.parametrize(
        ("name", "strategy", "words"),
        [
            ("badge", last, "is one of this package's methods"),
            ("rambo", last, "is one of this package's methods"),
            ("a:b", last, "must be a word without a colon"),
            ("", last, "must be a word"),
            ("mine", 3, "must be callable as"),
        ],
    )
    def test_refused(self, name: str, strategy: Any, words: str) -> None:
        with pytest.raises(UserError, match=words):
            register_strategy(name, strategy)

    def test_what_u_hat_is_offered_stays(self) -> None:
        from rambo_ray.acquisition import proposals

        before = proposals.orders(inputs(), 4, 0)
        register_strategy("mine", last)
        after = proposals.orders(inputs(), 4, 0)
        assert before.keys() == after.keys()
        assert "mine" not in METHODS


class TestByName:
    def test_in_an_experiment_s_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(tmp_path))
        (tmp_path / "rambo_own_strategies.py").write_text(
            "import numpy as np\ndef first(inputs, budget, generator):\n    return np.arange(budget)\n"
        )
        (tmp_path / "a.yaml").write_text(json.dumps({"data": {"name": "digits"}}))
        file = tmp_path / "e.yaml"
        content = {"title": "t", "panels": [{"config": "a.yaml"}], "budgets": [50], "seeds": 1, "control": "random"}
        file.write_text(json.dumps({**content, "methods": ["random", "rambo_own_strategies:first"]}))
        loaded = load(file, tmp_path)
        assert loaded.methods[0].own is None
        strategy = loaded.methods[1].own
        assert strategy is not None and own.pick(strategy, inputs(), 2, np.random.default_rng(0)).tolist() == [0, 1]
        for wrong, words in (
            ("rambo_own_strategies:fist", "did you mean 'first'?"),
            ("no_such_module:f", "importing no_such_module raised"),
            ("bagde", "no such method; did you mean 'badge'?"),
        ):
            file.write_text(json.dumps({**content, "methods": ["random", wrong]}))
            with pytest.raises(UserError) as caught:
                load(file, tmp_path)
            assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (np.arange(2), r"returned int64 \(2,\); must be 3"),
        (np.zeros(3), "float64"),
        (np.array([0, 1, 12]), "12 is not in"),
        (np.array([-1, 0, 1]), "position -1"),
    ],
)
def test_what_it_returns_is_looked_at(found: np.ndarray, words: str) -> None:
    register_strategy("wrong", lambda data, budget, generator: found)
    strategy = own.find("wrong")
    assert strategy is not None
    with pytest.raises(ValueError, match=words):
        own.pick(strategy, inputs(), 3, np.random.default_rng(0))
