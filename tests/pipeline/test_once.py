"""A pool in which copies are bought once: what enters a run, what is said, and what is as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from rambo_ray.acquisition import controls
from rambo_ray.acquisition.greedy import Selection
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data.images import Images
from rambo_ray.data.problem import Inputs, Problem, Revealed
from rambo_ray.data.vectors import LabeledVectors, Vectors
from rambo_ray.errors import UserError
from rambo_ray.pipeline import once, plan
from rambo_ray.pipeline.outputs import Output
from rambo_ray.pipeline.prepared import prepared_key

from .made_problems import own, problem


def with_copies(times: int = 2, pool: int = 30) -> tuple[Problem, Revealed]:
    """A problem whose pool holds each image `times` times, one round after the other."""
    made = problem(60, [0, 1, 2] * 20, pool)
    pixels = np.concatenate([made.pool.array] * times)
    images = Images(pixels, tuple(f"p/{i}" for i in range(len(pixels))))
    return replace(made, pool=images), Revealed(np.tile(np.arange(pool) % 3, times), None)


def of_vectors(pool: np.ndarray) -> Problem:
    """A problem of vectors with this pool."""
    known = np.random.default_rng(5).normal(size=(120, pool.shape[1])).astype(np.float32)
    ids = [tuple(f"{name}{i}" for i in range(60)) for name in "lv"]
    labels = np.arange(60, dtype=np.int64) % 2
    return Problem(
        labeled=LabeledVectors(known[:60].copy(), ids[0], labels),
        validation=LabeledVectors(known[60:].copy(), ids[1], labels),
        pool=Vectors(pool, tuple(f"p{i}" for i in range(len(pool)))),
        class_names=("a", "b"),
        mean=(),
        std=(),
    )


class TestExact:
    def test_the_first_of_each_enters(self) -> None:
        made, revealed = with_copies(3)
        left, answers = once.thinned(own(), made, revealed)
        assert left.pool.ids == made.pool.ids[:30] and np.array_equal(left.pool.array, made.pool.array[:30])
        assert answers is not None and answers.pool_labels.tolist() == revealed.pool_labels[:30].tolist()
        assert left.copies is not None and (left.copies.exact, left.copies.copied, left.num_pool) == (60, 30, 90)
        assert plan.make(own(), left).said[0] == "60 exact copies of 30 images in the pool: each is bought once"
        assert left.fingerprint == made.fingerprint
        assert left.given_fingerprint == made.pool_fingerprint != left.pool_fingerprint, "what is read anew is known"

    def test_a_pool_without_copies_is_as_it_was(self) -> None:
        made, revealed = with_copies(1)
        left, answers = once.thinned(own(), made, revealed)
        assert left is made and answers is revealed and left.positions.tolist() == list(range(30))

    def test_where_it_is_not_wanted(self) -> None:
        made, revealed = with_copies()
        assert once.thinned(own("acquisition.copies=keep"), made, revealed) == (made, revealed)
        digits, parquet = Config(), loading.load(None, ["data.name=parquet", "data.root=x"])
        assert once.thinned(digits, made, revealed)[0] is made, "a benchmark's runs have ids"
        assert len(once.thinned(parquet, made, revealed)[0].pool) == 30
        wanted = loading.load(None, ["acquisition.copies=once"])
        assert len(once.thinned(wanted, made, revealed)[0].pool) == 30

    def test_positions_are_those_of_the_whole_pool(self, tmp_path: Path) -> None:
        made, _ = with_copies()
        order = np.random.default_rng(3).permutation(60)
        mixed = replace(made, pool=made.pool.take(order))
        left, _ = once.thinned(own(), mixed, None)
        margins = np.random.default_rng(4).random(30).astype(np.float32)
        ask = own("acquisition.budget=12", "acquisition.batch_size=5").acquisition
        selection: Selection = controls.follow_filter(margins, ask, 0)
        path = Output(tmp_path).write_selection(selection, left.pool.ids, left.positions)
        table = pq.read_table(path).to_pydict()
        assert table["id"] == [mixed.pool.ids[i] for i in table["pool_index"]]
        assert len({mixed.pool.digests()[i] for i in table["pool_index"]}) == 12, "no image twice"

    def test_a_budget_beyond_them_is_refused_with_numbers(self) -> None:
        left, _ = once.thinned(own(), *with_copies())
        line = (
            "acquisition.budget=31: B must not exceed the 30 different images of the pool, whose other 30 are copies "
            "of them; lower acquisition.budget or set acquisition.copies=keep"
        )
        with pytest.raises(UserError) as error:
            plan.make(own("acquisition.budget=31"), left)
        assert str(error.value) == line
        assert plan.make(own(), left).config.acquisition.budget == 15, "half of the different ones"
        plan.make(own("acquisition.budget=31", "acquisition.copies=keep"), with_copies()[0])


class TestNear:
    def test_by_hash(self) -> None:
        made, _ = with_copies(1)
        noisy = made.pool.array.astype(int) + np.random.default_rng(1).integers(-1, 2, made.pool.array.shape)
        pixels = np.concatenate([made.pool.array, made.pool.array[:5], noisy.clip(0, 255).astype(np.uint8)])
        pool = Images(pixels, tuple(f"p/{i}" for i in range(65)))
        config = own("acquisition.near_copies=hash", "acquisition.near_distance=13.0")  # such small noise has no shape
        left, _ = once.thinned(config, replace(made, pool=pool), None)
        assert left.copies is not None and left.copies.exact == 5 and left.pool.ids == pool.ids[:30]
        assert left.copies.sentence().startswith("5 exact and 30 near copies of 30 images")

    def test_by_given_embeddings(self) -> None:
        pool = np.random.default_rng(2).normal(size=(20, 8)).astype(np.float32)
        near = np.concatenate([pool, pool[:4], 2.5 * pool])
        left, _ = once.thinned(own("acquisition.near_copies=embedding"), of_vectors(near), None)
        assert left.copies is not None and (left.copies.exact, left.copies.near, len(left.pool)) == (4, 20, 20)

    def test_by_what_a_head_sees(self) -> None:
        """Exact copies went before; those near by embeddings go, from what f sees and from the answers, too."""
        made, revealed = with_copies()
        config = own("acquisition.near_copies=embedding", "classifier.name=linear", "acquisition.budget=9")
        left, answers = once.thinned(config, made, revealed)
        assert len(left.pool) == 30
        angle = np.repeat(np.linspace(0, 5, 10), 3)  # groups of three
        seen = Inputs.as_given(left, None)
        seen = replace(seen, pool=np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32))
        final, revealed_final, seen = once.thinned_by_embeddings(config, left, answers, seen)
        assert final.pool.ids == made.pool.ids[:30:3] and len(seen.pool) == 10 and revealed_final is not None
        assert len(revealed_final.pool_labels) == 10 and final.copies is not None
        assert (final.copies.exact, final.copies.near, final.num_pool) == (30, 20, 60)
        assert final.positions.tolist() == list(range(0, 30, 3)) and final.given_fingerprint == made.pool_fingerprint
        with pytest.raises(UserError, match="acquisition.budget=11: B must not exceed the 10 different images"):
            more = loading.with_values(config, {"acquisition.budget": 11})
            again = replace(seen, pool=np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32))
            once.thinned_by_embeddings(more, left, answers, again)

    @pytest.mark.parametrize(
        ("overrides", "line"),
        [
            (["acquisition.near_copies=embedding"], "classifier.name=mnist_net sees images, not embeddings of them"),
            (["acquisition.near_copies=hash", "acquisition.copies=keep"], "in a pool where copies are kept; set"),
        ],
    )
    def test_what_cannot_be(self, overrides: list[str], line: str) -> None:
        with pytest.raises(UserError, match=line):
            once.thinned(own(*overrides), *with_copies())

    def test_vectors_have_no_hash(self) -> None:
        with pytest.raises(UserError, match="near_copies=hash: compares images, and the data are embeddings"):
            once.thinned(own("acquisition.near_copies=hash"), of_vectors(np.eye(9, dtype=np.float32)), None)

    @pytest.mark.parametrize(("kind", "distance"), [("hash", 32), ("embedding", 1.0)])
    def test_a_distance_at_which_everything_is_near(self, kind: str, distance: float) -> None:
        with pytest.raises(UserError, match="have nothing in common; lower it"):
            own(f"acquisition.near_copies={kind}", f"acquisition.near_distance={distance}")


def test_keys_of_copies_name_runs_only_where_they_are_set() -> None:
    for config in (Config(), own()):
        assert not {key for key in loading.relevant(config) if "cop" in key or "near" in key}
    assert "acquisition.copies" in loading.relevant(own("acquisition.copies=once"))
    near = loading.relevant(own("acquisition.near_copies=hash"))
    assert {"acquisition.near_copies", "acquisition.near_distance"} <= near.keys()
    assert prepared_key(own()) != prepared_key(own("acquisition.near_copies=hash"))
