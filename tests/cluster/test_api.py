"""Rambo from Python on one Ray: arrays pick what the command picks from files, with classifiers of one's own, too."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import nn

from rambo_ray import Picked, Rambo, UserError
from rambo_ray.cli.run import execute
from rambo_ray.cluster.session import Session
from rambo_ray.config import loading

from ..data.written_images import png, write_parquet

pytestmark = pytest.mark.slow  # whole runs, one after the other

SMALL = {
    "utility_samples.num_pairs": 12,
    "utility_samples.num_held_out": 12,
    "utility_samples.evidence_folds": 2,
    "acquisition.batch_size": 10,
    "acquisition.margin_pool": 150,
    "classifier.max_epochs": 4,
    "cluster.num_workers": 2,
    "output.report_images": 0,
}
K, V, N = 60, 120, 400


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images as scikit-learn has them, 0 to 16, and their labels."""
    found = load_digits()
    return found.images[: K + V + N], found.target[: K + V + N]


def parts(x: Any, y: np.ndarray) -> tuple[Any, Any, Any]:
    """S_0, S_val and the pool."""
    return (x[:K], y[:K]), (x[K : K + V], y[K : K + V]), x[K + V :]


def same(one: pa.Table, other: pa.Table) -> bool:
    """Whether two tables hold the same, NaN in the same places."""
    return one.schema.equals(other.schema) and repr(one.to_pydict()) == repr(other.to_pydict())


@pytest.fixture(scope="module")
def picked(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Picked:
    x, y = digits()
    folder = tmp_path_factory.mktemp("python") / "run"
    return Rambo(20, seed=3, overrides=SMALL, output=folder, quiet=True).select(*parts(x / 16, y))


class TestSelect:
    def test_arrays_pick_what_the_command_picks_from_parquet(self, picked: Picked, tmp_path: Path) -> None:
        x, y = digits()
        pixels = np.round(x * 255 / 16).astype(np.uint8)[..., None]
        labeled, validation, pool = parts(pixels, y)
        for name, (images, labels) in (("labeled", labeled), ("validation", validation), ("pool", (pool, None))):
            write_parquet(tmp_path / f"{name}.parquet", [png(one) for one in images], labels)
        paths = [f"data.{name}={tmp_path / name}.parquet" for name in ("labeled", "validation", "pool")]
        given = [f"{key}={value}" for key, value in SMALL.items()]
        output = f"output.dir={tmp_path / 'run'}"
        execute(loading.load(None, ["data.name=own", *paths, *given, output, "seed=3", "acquisition.budget=20"]))
        by_command = pq.read_table(tmp_path / "run" / "selection.parquet")
        assert same(by_command, pq.read_table(picked.folder / "selection.parquet"))
        assert same(by_command, picked.to_table())

    def test_what_comes_back(self, picked: Picked) -> None:
        assert len(picked) == 20 and len(set(picked)) == 20
        assert picked.ids == tuple(map(str, picked.indices))
        assert picked.steps.tolist() == [0] * 10 + [1] * 10
        np.testing.assert_array_equal(picked.margins, picked.pool_margins[picked.indices])
        assert picked.pool_margins.shape == (N,) and "held-out mock rounds" in picked.verdict
        assert picked.report.is_file() and picked.metrics["sizes"]["budget"] == 20

    def test_nothing_was_shown_and_nothing_is_held(self, picked: Picked) -> None:
        from rambo_ray.data import held

        assert not any(name.startswith(f"memory:{N}x8x8x1") for name in held._held)

    def test_the_same_directory_with_other_data_is_refused(self, picked: Picked) -> None:
        x, y = digits()
        labeled, validation, pool = parts(x / 16, y)
        again = Rambo(20, seed=3, overrides=SMALL, output=picked.folder, quiet=True)
        with pytest.raises(UserError, match="holds a run with data.pool=memory:.*give another directory"):
            again.select(labeled, validation, pool[::-1])


class TestOwnCode:
    def test_a_network_that_was_only_given(self, session: Session) -> None:
        width = 9

        def small(shape: tuple[int, int, int], classes: int) -> nn.Module:
            return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, classes))

        x, y = digits()
        found = Rambo(10, classifier=small, overrides=SMALL, quiet=True).select(*parts(x / 16, y))
        assert len(found) == 10 and found.config.classifier.name.startswith("given:small@")
        assert found.folder.is_dir()
        folder = found.folder
        del found
        gc.collect()
        assert not folder.exists()  # it lasted as long as what it belonged to

    def test_an_estimator_on_embeddings(self, session: Session, capsys: pytest.CaptureFixture[str]) -> None:
        x, y = digits()
        flat = x.reshape(len(x), -1)
        found = Rambo(10, classifier=LogisticRegression(C=0.1), overrides=SMALL).select(*parts(flat, y))
        assert len(found) == 10 and found.config.classifier.name.startswith("estimator:given:LogisticRegression@")
        assert "embeddings of 64 numbers" in capsys.readouterr().out
        assert "<img" not in found._repr_html_()

    def test_features_of_one_s_own(self, session: Session, tmp_path: Path) -> None:
        def halves(pixels: np.ndarray) -> np.ndarray:
            return np.stack([pixels[:, :4].mean((1, 2, 3)), pixels[:, 4:].mean((1, 2, 3)), pixels.std((1, 2, 3))], 1)

        x, y = digits()
        keys = {**SMALL, "classifier.embedding_cache": str(tmp_path)}
        made = Rambo(10, classifier="linear", embedding=halves, overrides=keys, quiet=True)
        found = made.select(*parts(torch.tensor(x / 16), y))
        assert len(found) == 10 and found.metrics["accuracy_before"]["validation"] > 0.15
        assert found.config.classifier.embedding.startswith("given:halves@")


def test_scikit_activeml_s_own_loop(session: Session) -> None:
    skactiveml = pytest.importorskip("skactiveml")
    from skactiveml.classifier import SklearnClassifier

    from rambo_ray.adapters.skactiveml import RamboQuery

    assert skactiveml
    x, truth = digits()
    x = x.reshape(len(x), -1)
    y = np.full(len(x), np.nan)
    start = np.random.default_rng(0).permutation(len(x))[:150]
    y[start] = truth[start]
    classifier = SklearnClassifier(LogisticRegression(max_iter=200), classes=range(10), random_state=0)
    strategy = RamboQuery(validation_share=0.6, options={"overrides": SMALL}, random_state=0)
    scores = [classifier.fit(x, y).score(x, truth)]
    rows, utilities = strategy.query(x, y, batch_size=20, return_utilities=True)
    assert len(set(rows.tolist())) == 20 and np.isnan(y[rows]).all()
    assert utilities.shape == (20, len(x)) and np.isnan(utilities[:, start]).all()
    assert np.nanargmax(utilities, axis=1).tolist() == rows.tolist()
    y[rows] = truth[rows]
    scores.append(classifier.fit(x, y).score(x, truth))
    assert scores[1] > scores[0] - 0.02


def test_quiet_is_quiet_and_bad_input_a_line(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = digits()
    with pytest.raises(UserError, match="acquisition.budget=401: B must not exceed the pool's 400 images"):
        Rambo(401, overrides=SMALL, quiet=True).select(*parts(x / 16, y))
    assert capsys.readouterr().out == ""
