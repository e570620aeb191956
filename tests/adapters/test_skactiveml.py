"""The adapter's own part: which samples are S_0, S_val and pool, and which rows an answer means.

What picks is played by a stand-in that takes the pool's first rows; tests/cluster/test_api.py has the real one.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rambo_ray.errors import UserError

pytest.importorskip("skactiveml")

from skactiveml.utils import MISSING_LABEL

from rambo_ray.adapters import skactiveml as adapter
from rambo_ray.adapters.skactiveml import RamboQuery

X = np.random.default_rng(0).normal(size=(60, 5))
TRUTH = np.arange(60) % 3


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the stand-in was asked: its budget and keys, S_0, S_val, the pool, the class names."""
    calls: list[Any] = []

    class Stand:
        def __init__(self, budget: int, **keys: Any) -> None:
            self.budget, self.keys = budget, keys

        def select(self, labeled: Any, validation: Any, pool: Any, *, class_names: Any) -> Any:
            calls.append(SimpleNamespace(budget=self.budget, keys=self.keys, labeled=labeled, validation=validation,
                                         pool=pool, class_names=class_names))  # fmt: skip
            margins = np.linspace(0.1, 0.9, len(pool))
            rows = np.arange(self.budget)[::-1]
            return type("Found", (), {"indices": rows, "pool_margins": margins, "__len__": lambda _: len(rows)})()

    monkeypatch.setattr(adapter, "Rambo", Stand)
    return calls


def labels(known: int = 30) -> np.ndarray:
    y = np.full(60, MISSING_LABEL)
    y[:known] = TRUTH[:known]
    return y


class TestParts:
    def test_the_labelled_are_divided_by_class_and_the_rest_is_the_pool(self, asked: list[Any]) -> None:
        RamboQuery(validation_share=0.3, random_state=0).query(X, labels(), batch_size=4)
        (call,) = asked
        assert call.budget == 4 and call.keys["quiet"] and call.class_names == ["0", "1", "2"]
        assert (
            np.bincount(call.labeled[1]).tolist() == [7, 7, 7] and np.bincount(call.validation[1]).tolist() == [3] * 3
        )
        np.testing.assert_array_equal(call.pool, X[30:].astype(np.float32))
        both = np.concatenate([call.labeled[0], call.validation[0]])
        assert sorted(map(tuple, both)) == sorted(map(tuple, X[:30].astype(np.float32)))
        for part in (call.labeled, call.validation):
            for row, code in zip(*part, strict=True):
                assert TRUTH[int(np.flatnonzero((X.astype(np.float32) == row).all(1))[0])] == code

    def test_one_seed_one_division(self, asked: list[Any]) -> None:
        for _ in range(2):
            RamboQuery(random_state=3).query(X, labels())
        RamboQuery(random_state=4).query(X, labels())
        one, again, other = asked
        np.testing.assert_array_equal(one.labeled[0], again.labeled[0])
        assert one.keys["seed"] == again.keys["seed"] != other.keys["seed"]

    def test_a_validation_set_of_its_own(self, asked: list[Any]) -> None:
        held = X[50:], np.array([2, 1, 0, 2, 1, 0, 2, 1, 0, 2])
        RamboQuery(validation=held, options={"classifier": "mlp"}, random_state=0).query(X[:50], labels()[:50])
        (call,) = asked
        assert len(call.labeled[1]) == 30 and call.validation[1].tolist() == held[1].tolist()
        assert call.keys["classifier"] == "mlp"

    def test_names_as_classes(self, asked: list[Any]) -> None:
        y = np.full(60, "nan", dtype="U3")
        y[:30] = np.array(["ant", "bee", "cat"])[TRUTH[:30]]
        RamboQuery(missing_label="nan", random_state=0).query(X, y)
        assert asked[0].class_names == ["ant", "bee", "cat"]


class TestAnswers:
    def test_rows_of_x(self, asked: list[Any]) -> None:
        rows, utilities = RamboQuery(random_state=0).query(X, labels(), batch_size=3, return_utilities=True)
        assert rows.tolist() == [32, 31, 30] and utilities.shape == (3, 60)
        assert np.isnan(utilities[:, :30]).all() and np.nanargmax(utilities, 1).tolist() == rows.tolist()
        assert (
            np.isnan(utilities[1:, 32]).all() and np.isnan(utilities[2, 31]) and not np.isnan(utilities[0, 30:]).any()
        )
        np.testing.assert_allclose(utilities[2, 33:], 1 - np.linspace(0.1, 0.9, 30)[3:])

    def test_candidates_as_rows_and_as_samples(self, asked: list[Any]) -> None:
        rows = RamboQuery(random_state=0).query(X, labels(), candidates=np.array([40, 55, 33]), batch_size=2)
        assert rows.tolist() == [40, 33]  # scikit-activeml sorts them
        rows, utilities = RamboQuery(random_state=0).query(
            X, labels(), candidates=X[[40, 55, 33]] + 1, batch_size=2, return_utilities=True
        )
        assert rows.tolist() == [1, 0] and utilities.shape == (2, 3)
        np.testing.assert_array_equal(asked[1].pool, (X[[40, 55, 33]] + 1).astype(np.float32))


@pytest.mark.parametrize(
    ("strategy", "known", "words"),
    [
        (RamboQuery(), 0, "0 of 60 samples are labelled"),
        (RamboQuery(), 3, "leave none to validate with"),
        (RamboQuery(validation_share=1.0), 30, "validation_share=1.0: must be between 0 and 1"),
        (RamboQuery(validation=(X[:2], [0, 7])), 30, "label 7 is not among"),
    ],
)
def test_refused(strategy: RamboQuery, known: int, words: str, asked: list[Any]) -> None:
    with pytest.raises(UserError, match=words):
        strategy.query(X, labels(known))
    assert asked == []
