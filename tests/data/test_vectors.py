"""Embeddings as data: what vectors may be, and that a problem of them is one like any other."""

from __future__ import annotations

import numpy as np
import pytest

from rambo_ray.config.loading import load
from rambo_ray.data.images import Images, LabeledImages
from rambo_ray.data.problem import Inputs, Problem, check_overlap
from rambo_ray.data.vectors import LabeledVectors, Vectors, as_vectors
from rambo_ray.embeddings import given
from rambo_ray.errors import UserError
from rambo_ray.pipeline import choices, plan

from .written_images import pictures


def vectors(count: int, width: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def ids(count: int, prefix: str = "") -> tuple[str, ...]:
    return tuple(f"{prefix}{i}" for i in range(count))


def problem(labeled: int = 60, validation: int = 80, pool: int = 100, width: int = 6) -> Problem:
    """Three classes that differ in their first three numbers; units of the numbers are far apart."""
    generator = np.random.default_rng(3)

    def part(count: int, prefix: str) -> LabeledVectors:
        labels = generator.integers(0, 3, count)
        x = generator.normal(size=(count, width)).astype(np.float32)
        x[np.arange(count), labels] += 4
        return LabeledVectors(
            x * np.float32(10.0) ** (np.arange(width) % 6).astype(np.float32), ids(count, prefix), labels
        )

    parts = part(labeled, "l"), part(validation, "v"), part(pool, "p").unlabeled()
    return Problem(*parts, ("cat", "dog", "owl"), (), ())


SMALL = ["acquisition.budget=20", "acquisition.batch_size=10"]


class TestVectors:
    @pytest.mark.parametrize(
        ("array", "says"),
        [
            (np.zeros((3, 2)), "float64"),
            (np.zeros((3,), np.float32), "(3,)"),
            (np.zeros((3, 0), np.float32), "(3, 0)"),
            (np.array([[0, 0], [0, np.nan], [0, 0]], np.float32), "row 1"),
            (np.zeros((2, 3), np.float32).T, "C-contiguous"),
        ],
    )
    def test_refused(self, array: np.ndarray, says: str) -> None:
        with pytest.raises(ValueError, match="vectors") as error:
            Vectors(array, ids(len(array)))
        assert says in str(error.value)

    def test_ids_are_distinct_and_complete(self) -> None:
        for names in (("a", "a", "b"), ("a", "b")):
            with pytest.raises(ValueError, match="ids must be"):
                Vectors(vectors(3), names)

    def test_take_keeps_numbers_ids_and_labels_together(self) -> None:
        whole = LabeledVectors(vectors(5), ids(5), np.arange(5))
        part = whole.take([4, 0, 4 - 1])
        assert (part.ids, part.labels.tolist()) == (("4", "0", "3"), [4, 0, 3])
        assert (part.vectors == whole.vectors[[4, 0, 3]]).all()
        assert not part.vectors.flags.writeable
        assert isinstance(whole.unlabeled(), Vectors)
        assert not hasattr(whole.unlabeled(), "labels")

    def test_equal_numbers_have_equal_digests(self) -> None:
        x = vectors(3)
        x[2] = x[0]
        first, second, third = Vectors(x, ids(3)).digests()
        assert first == third != second

    def test_other_types_of_numbers_are_converted(self) -> None:
        assert as_vectors(np.arange(6).reshape(3, 2), "x").tolist() == [[0, 1], [2, 3], [4, 5]]
        assert as_vectors(vectors(3).astype(np.float16), "x").dtype == np.float32
        fortran = np.asfortranarray(vectors(3))
        assert as_vectors(fortran, "x").flags.c_contiguous

    @pytest.mark.parametrize(
        ("array", "says"),
        [
            (np.zeros((3, 2, 2)), "(3, 2, 2)"),
            (np.array([["a"]]), "<U1"),
            (np.array([[1.0, 2.0], [1.0, 1e300]]), "pool.npz row 1: number 1 is 1e+300"),
            (np.array([[1.0, np.inf]]), "row 0: number 1 is inf"),
        ],
    )
    def test_what_is_no_vector_is_said(self, array: np.ndarray, says: str) -> None:
        with pytest.raises(UserError) as error:
            as_vectors(array, "pool.npz")
        assert says in str(error.value)


class TestProblem:
    def test_parts_must_be_alike(self) -> None:
        made = problem()
        images = Images(pictures(4), ids(4))
        with pytest.raises(ValueError, match="pool: Images, but labeled: LabeledVectors"):
            Problem(made.labeled, made.validation, images, made.class_names, (), ())
        with pytest.raises(ValueError, match="pool: 5 numbers, but labeled: 6 numbers"):
            Problem(made.labeled, made.validation, Vectors(vectors(4, 5), ids(4)), made.class_names, (), ())
        with pytest.raises(ValueError, match="without labels"):
            Problem(made.labeled, made.validation, made.validation, made.class_names, (), ())
        with pytest.raises(ValueError, match="must be 0 numbers"):
            Problem(made.labeled, made.validation, made.pool, made.class_names, (0.5,), (0.5,))

    def test_fingerprints_change_with_the_numbers(self) -> None:
        made, same = problem(), problem()
        assert made.fingerprint == same.fingerprint
        assert made.pool_fingerprint == same.pool_fingerprint
        changed = made.labeled.array.copy()
        changed[5, 2] += 1
        assert isinstance(made.labeled, LabeledVectors)
        labeled = LabeledVectors(changed, made.labeled.ids, made.labeled.labels)
        other = Problem(labeled, made.validation, made.pool, made.class_names, (), ())
        assert other.fingerprint != made.fingerprint
        assert other.pool_fingerprint == made.pool_fingerprint

    def test_a_vector_in_two_parts_is_found(self) -> None:
        made = problem()
        shared = Vectors(np.array(made.validation.array[3:5]), ("new", "newer"))
        with pytest.raises(UserError, match=r"pool: 2 of its embeddings are also in data.validation \(first: 'new'"):
            check_overlap(made.labeled, made.validation, shared)


class TestScale:
    def test_no_unit_decides(self) -> None:
        """The numbers that f sees have mean variance 1 and depend neither on units nor on offsets."""
        made = problem()
        seen = given.inputs(load(None).classifier, made, None)
        joined = np.concatenate([seen.labeled, seen.validation, seen.pool]).astype(np.float64)
        assert joined.shape == (240, 6)
        assert np.allclose(joined.mean(axis=0), 0, atol=1e-5)
        assert np.isclose(joined.var(axis=0).mean(), 1)

        def moved(items: LabeledVectors | Vectors) -> np.ndarray:
            return np.asarray(items.vectors * np.float32(128.0) + np.float32(0.0), np.float32)

        assert isinstance(made.labeled, LabeledVectors)
        assert isinstance(made.validation, LabeledVectors)
        assert isinstance(made.pool, Vectors)
        other = Problem(
            LabeledVectors(moved(made.labeled), made.labeled.ids, made.labeled.labels),
            LabeledVectors(moved(made.validation), made.validation.ids, made.validation.labels),
            Vectors(moved(made.pool), made.pool.ids), made.class_names, (), (),
        )  # fmt: skip
        again = given.inputs(load(None).classifier, other, None)
        assert np.allclose(again.pool, seen.pool, atol=1e-5)

    def test_many_numbers_weigh_no_more_than_128(self) -> None:
        config, _ = choices.made(load(None), problem(300, 300, 300, width=200))
        seen = given.inputs(config.classifier, problem(300, 300, 300, width=200), None)
        joined = np.concatenate([seen.labeled, seen.validation, seen.pool]).astype(np.float64)
        assert joined.shape[1] == 200
        assert np.isclose(joined.var(axis=0).sum(), 128, rtol=1e-4)

    def test_distances_are_those_of_standardised_numbers(self) -> None:
        """With as many components as numbers nothing but turns, and one factor, happens to them."""
        made = problem()
        seen = given.inputs(load(None).classifier, made, None)
        raw = np.concatenate([made.labeled.array, made.validation.array, made.pool.array]).astype(np.float64)
        z = (raw - raw.mean(axis=0)) / raw.std(axis=0)
        found = np.concatenate([seen.labeled, seen.validation, seen.pool]).astype(np.float64)
        assert np.allclose(z @ z.T, found @ found.T, atol=1e-3)

    def test_numbers_that_never_change_are_left_out(self) -> None:
        made = problem()

        def padded(items: Vectors) -> np.ndarray:
            return np.concatenate([items.vectors, np.full((len(items), 3), 0.1, np.float32)], axis=1)

        assert isinstance(made.labeled, LabeledVectors)
        assert isinstance(made.validation, LabeledVectors)
        assert isinstance(made.pool, Vectors)
        other = Problem(
            LabeledVectors(padded(made.labeled), made.labeled.ids, made.labeled.labels),
            LabeledVectors(padded(made.validation), made.validation.ids, made.validation.labels),
            Vectors(padded(made.pool), made.pool.ids), made.class_names, (), (),
        )  # fmt: skip
        seen, plain = (given.inputs(load(None).classifier, p, None) for p in (other, made))
        assert np.allclose(seen.pool[:, :6], plain.pool, atol=1e-5)
        assert np.abs(seen.pool[:, 6:]).max() < 1e-5

    def test_all_the_same_is_refused(self) -> None:
        same = np.ones((9, 4), np.float32)
        made = Problem(
            LabeledVectors(same[:4], ids(4), np.array([0, 1, 0, 1])),
            LabeledVectors(same[:2], ids(2), np.array([0, 1])),
            Vectors(same, ids(9)), ("a", "b"), (), (),
        )  # fmt: skip
        with pytest.raises(UserError, match="embeddings of the data: all images have the same"):
            given.inputs(load(None).classifier, made, None)

    def test_no_more_components_than_there_can_be(self) -> None:
        assert given.kept(load(None, ["classifier.components=4"]).classifier, problem()) == 4
        assert given.kept(load(None).classifier, problem(width=200)) == 128
        assert given.kept(load(None).classifier, problem(2, 2, 3, width=200)) == 6


class TestClassifier:
    def test_linear_is_taken_and_said(self) -> None:
        config, lines = choices.made(load(None), problem())
        assert config.classifier.name == "linear"
        assert lines == ["classifier.name=linear: the data are embeddings of 6 numbers, and f is a head on them"]
        again, nothing = choices.made(config, problem())
        assert (again, nothing) == (config, [])

    def test_wide_embeddings_keep_their_numbers(self) -> None:
        for width, kept in ((6, 128), (200, 200), (2000, 1024)):
            config, lines = choices.made(load(None, ["classifier.name=mlp"]), problem(width=width))
            assert config.classifier.components == kept
            assert len(lines) == (width > 128)
        config, _ = choices.made(load(None, ["classifier.components=50"]), problem(width=200))
        assert config.classifier.components == 50
        config, _ = choices.made(load(None, ["method=paper"]), problem(width=200))
        assert config.classifier.components == 128

    def test_what_is_set_stays(self) -> None:
        config, lines = choices.made(load(None, ["classifier.name=mlp", "seed=3"]), problem())
        assert (config.classifier.name, config.seed, lines) == ("mlp", 3, [])

    def test_a_network_is_refused(self) -> None:
        config, _ = choices.made(load(None, ["classifier.name=mnist_net", *SMALL]), problem())
        with pytest.raises(UserError, match="classifier.name=mnist_net: sees images"):
            plan.make(config, problem())

    def test_images_are_as_before(self) -> None:
        pixels = pictures(12)
        made = Problem(
            LabeledImages(pixels[:4], ids(4), np.array([0, 1, 0, 1])),
            LabeledImages(pixels[4:8], ids(4), np.array([0, 1, 0, 1])),
            Images(pixels[8:], ids(4)), ("a", "b"), (0.5,) * pixels.shape[3], (0.5,) * pixels.shape[3],
        )  # fmt: skip
        config = load(None)
        assert choices.made(config, made) == (config, [])
        assert Inputs.as_given(made, None).pool is made.pool.array

    def test_the_plan_knows_what_f_sees(self) -> None:
        config, _ = choices.made(load(None, SMALL), problem())
        todo = plan.make(config, problem())
        assert todo.training.image_shape == (6, 1, 1)
        assert todo.training.embedding
        assert todo.kind == "evidence"
