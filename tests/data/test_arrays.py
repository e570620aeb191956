"""What a caller's arrays are: images, embeddings, classes; what could be two things is refused with a remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.sparse import csr_matrix

from rambo_ray.config.schema import DataConfig
from rambo_ray.data import arrays, datasets, held
from rambo_ray.data.decoding import decode, in_batches
from rambo_ray.data.images import Format
from rambo_ray.data.vectors import Vectors
from rambo_ray.errors import UserError

GREY = np.arange(5 * 8 * 6, dtype=np.uint8).reshape(5, 8, 6)
COLOUR = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3)).astype(np.uint8)


class TestImages:
    @pytest.mark.parametrize(
        "given",
        [
            COLOUR,
            np.moveaxis(COLOUR, 3, 1),
            torch.tensor(np.moveaxis(COLOUR, 3, 1)),
            COLOUR / 255,
            (COLOUR / 255).astype(np.float32),
            torch.tensor(np.moveaxis(COLOUR, 3, 1)) / 255,
            list(COLOUR),
            [torch.tensor(np.moveaxis(one, 2, 0)).float() / 255 for one in COLOUR],
            [Image.fromarray(one) for one in COLOUR],
            np.asfortranarray(COLOUR),
        ],
        ids=["last", "first", "tensor", "floats", "float32", "float tensor", "list", "tensors", "pictures", "fortran"],
    )
    def test_all_ways_to_say_the_same_pictures(self, given: Any) -> None:
        found = arrays.content(given, "pool")
        assert isinstance(found, np.ndarray) and found.dtype == np.uint8 and found.flags.c_contiguous
        np.testing.assert_array_equal(found, COLOUR)

    @pytest.mark.parametrize("given", [GREY, GREY[..., None], GREY[:, None], [Image.fromarray(x) for x in GREY]])
    def test_grey_ones(self, given: Any) -> None:
        np.testing.assert_array_equal(arrays.content(given, "pool"), GREY[..., None])

    @given(st.integers(0, 255))
    def test_a_level_survives_as_float(self, level: int) -> None:
        for kind in (np.float16, np.float32, np.float64):
            x = np.full((1, 2, 2), np.uint8(level)).astype(kind) / kind(255)
            assert (arrays.content(x, "pool") == level).all()

    def test_pictures_of_several_sizes_and_modes_are_brought_to_one(self) -> None:
        pictures = [Image.fromarray(COLOUR[0]), Image.new("CMYK", (9, 9), (0, 255, 255, 0)), Image.new("L", (4, 5), 77)]
        name = held.keep(arrays.content(pictures, "pool"), None, None, "pool")
        with pytest.raises(UserError, match="data.image_size"):
            decoded(name, Format())
        read = decoded(name, Format(image_size=4, channels=3))
        assert read.shape[1:] == (4, 4, 3)
        assert read[1, 0, 0, 0] > 200 and (read[2] == 77).all()

    def test_files_and_encoded_images(self, tmp_path: Path) -> None:
        paths = [tmp_path / f"{row}.png" for row in range(5)]
        for path, one in zip(paths, COLOUR, strict=True):
            Image.fromarray(one).save(path)
        texts = list(map(str, paths))
        for form in (paths, texts, np.array(texts), [path.read_bytes() for path in paths]):
            name = held.keep(arrays.content(form, "pool"), None, None, "pool")
            np.testing.assert_array_equal(decoded(name, Format()), COLOUR)


def decoded(name: str, wanted: Format) -> np.ndarray:
    """The pixels of encoded images that are held."""
    encoded = held.find(name, "data.pool").encoded()
    return decode(in_batches(encoded), len(encoded), wanted)


class TestEmbeddings:
    @pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
    def test_floats_of_two_axes(self, kind: Any) -> None:
        x = np.linspace(-3, 3, 12).reshape(4, 3).astype(kind)
        found = arrays.content(x, "pool")
        assert isinstance(found, np.ndarray) and found.dtype == np.float32
        np.testing.assert_array_equal(found, x.astype(np.float32))

    def test_other_holders_of_them(self) -> None:
        x = np.arange(12, dtype=np.float32).reshape(4, 3)
        tensor = torch.tensor(x)
        for form in (tensor, tensor.bfloat16(), x.tolist(), list(x), list(tensor), csr_matrix(x)):
            np.testing.assert_array_equal(arrays.content(form, "pool"), x)

    def test_a_data_frame(self) -> None:
        pandas = pytest.importorskip("pandas")
        x = np.arange(12, dtype=np.float32).reshape(4, 3)
        np.testing.assert_array_equal(arrays.content(pandas.DataFrame(x), "pool"), x)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (GREY.reshape(5, 48), "images without their shape, or embeddings?"),
        (np.zeros((4, 3), np.int64), "x.astype('float32')"),
        (np.zeros((480, 640, 3), np.uint8), "one colour image, or grey ones 3 pixels wide?"),
        (np.zeros((5, 3, 8, 3), np.uint8), "channels first or last?"),
        (np.zeros((5, 8, 8, 4), np.uint8), "leave the transparency out: x[..., :3]"),
        (np.zeros((5, 4, 8, 8), np.uint8), "x[:, :3]"),
        (np.zeros((5, 8, 8, 2), np.uint8), "no axis of 1 or 3 channels"),
        (np.full((5, 8, 8), 300, np.uint16), "(x >> 8)"),
        (np.zeros((5, 8, 8), np.int64), "x.astype('uint8')"),
        (np.zeros((5, 8, 8), bool), "(255 * x).astype('uint8')"),
        (np.full((5, 8, 8), 16.0), "floats from 16 to 16; must be in [0, 1]: give x / 16"),
        (np.full((5, 8, 8), 200.0), "give x / 255"),
        (np.full((5, 8, 8), -0.4), "they seem normalised: give them as they were before"),
        (np.full((5, 8, 8), np.nan), "not finite"),
        (np.array([[1.0, np.inf]]), "must be finite"),
        (np.zeros(5), "neither images"),
        (np.zeros((2, 2, 2, 2, 2)), "neither images"),
        ([], "holds nothing"),
        ([COLOUR[0], "a.png"], "must be all pictures, all bytes, all files, or all arrays"),
        ([np.zeros(3), np.zeros(4)], "embeddings are all of one size"),
        ([Image.new("F", (4, 4)), Image.new("F", (5, 4))], "pixels of 32 bits"),
        (5, "a int; give an array"),
        (None, "a NoneType; give an array"),
        ({"a": 1}, "a dict; give an array"),
    ],
)  # fmt: skip
def test_what_could_be_anything_is_refused_in_a_line(given: Any, words: str) -> None:
    with pytest.raises(UserError) as caught:
        arrays.content(given, "pool")
    assert str(caught.value).startswith("pool") and words in str(caught.value) and "\n" not in str(caught.value)


class TestLabels:
    @pytest.mark.parametrize("y", [[2, 0, 7], np.array([2, 0, 7], np.uint8), torch.tensor([2, 0, 7]), (2, 0, 7),
                                   np.array([2, 0, 7], object)])  # fmt: skip
    def test_numbers(self, y: Any) -> None:
        found = arrays.labels(y, None, "labeled")
        assert found.names == ("0", "2", "7") and found.codes.tolist() == [1, 0, 2] and found.said_as == "numbers"

    @pytest.mark.parametrize("y", [["cat", "ant", "cat"], np.array(["cat", "ant", "cat"]),
                                   np.array(["cat", "ant", "cat"], object)])  # fmt: skip
    def test_names(self, y: Any) -> None:
        found = arrays.labels(y, None, "labeled")
        assert found.names == ("ant", "cat") and found.codes.tolist() == [1, 0, 1]
        assert arrays.labels(y, ["cat", "dog", "ant"], "labeled").codes.tolist() == [0, 2, 0]

    def test_numbers_with_names(self) -> None:
        found = arrays.labels([2, 0], ["a", "b", "c"], "labeled")
        assert found.names == ("a", "b", "c") and found.codes.tolist() == [2, 0] and found.said_as == "declared"

    @pytest.mark.parametrize(
        ("y", "names", "words"),
        [
            ([0.0, 1.0], None, "give y.astype(int)"),
            ([True, False], None, "give y.astype(int)"),
            ([0, -1], None, "label -1 in row 1; classes count from 0"),
            (np.eye(3), None, "of one-hot: y.argmax(1)"),
            (["a", None], None, "label None in row 1"),
            (["a", 1], None, "label 1 in row 1"),
            ([0, 3], ["a", "b"], "label 3 is beyond the 2 class_names"),
            (["c"], ["a", "b"], "label 'c' in row 0 is not among class_names"),
            ([0], ["a", "a"], "must be distinct"),
        ],
    )
    def test_refused(self, y: Any, names: Any, words: str) -> None:
        with pytest.raises(UserError) as caught:
            arrays.labels(y, names, "labeled")
        assert str(caught.value).startswith("labeled: ") and words in str(caught.value)


class TestHeld:
    def keep(self, x: Any, y: Any = None, ids: Any = None, what: str = "pool") -> str:
        return held.keep(arrays.content(x, what), None if y is None else arrays.labels(y, None, what), ids, what)

    def test_a_name_is_of_the_content(self) -> None:
        assert self.keep(COLOUR) == self.keep(COLOUR.copy()) != self.keep(COLOUR[::-1])
        assert self.keep(COLOUR, ids="abcde") != self.keep(COLOUR) != self.keep(COLOUR, [0, 1, 2, 3, 4])
        assert self.keep(COLOUR).startswith("memory:5x8x6x3-")

    @pytest.mark.parametrize(
        ("y", "ids", "words"),
        [([0, 1], None, "5 images or embeddings, but 2 labels"), (None, ["a"], "but 1 ids"),
         (None, ["a", "b", "a", "c", "d"], "id 'a' occurs twice")],
    )  # fmt: skip
    def test_what_does_not_fit_is_refused(self, y: Any, ids: Any, words: str) -> None:
        with pytest.raises(UserError, match=words):
            self.keep(COLOUR, y, ids)

    def test_nothing_is_held_of_what_was_let_go(self) -> None:
        name = self.keep(COLOUR)
        held.forget([name])
        with pytest.raises(UserError, match="was given in Python, and not to this process"):
            held.find(name, "data.pool")

    def problem(self, labeled: Any, validation: Any, pool: Any, **keys: Any) -> Any:
        paths = {
            "labeled": self.keep(*labeled, what="labeled"),
            "validation": self.keep(*validation, what="validation"),
        }
        return datasets.load(DataConfig(name="own", pool=self.keep(pool), **paths, **keys), seed=0)[0]

    def test_images_become_a_problem(self) -> None:
        rows = np.random.default_rng(1).integers(0, 256, (12, 8, 6, 3)).astype(np.uint8)
        made = self.problem((rows[:4], [5, 3, 5, 9]), (rows[4:8], [3, 5, 3, 5]), rows[8:])
        assert made.class_names == ("3", "5", "9") and made.validation.labels.tolist() == [0, 1, 0, 1]
        assert made.pool.ids == ("0", "1", "2", "3") and made.labeled.ids[0] != made.pool.ids[0]
        np.testing.assert_array_equal(made.pool.pixels, rows[8:])
        small = self.problem((rows[:4], [5, 3, 5, 9]), (rows[4:8], [3, 5, 3, 5]), rows[8:], image_size=5, channels=1)
        assert small.shape == (5, 5, 1)

    def test_embeddings_become_a_problem(self) -> None:
        rows = np.random.default_rng(1).normal(size=(12, 7))
        made = self.problem((rows[:4], list("abab")), (rows[4:8], list("bbaa")), rows[8:])
        assert made.of_vectors and isinstance(made.pool, Vectors) and made.shape == (7,)

    def test_parts_that_do_not_fit_together(self) -> None:
        rows = np.random.default_rng(1).normal(size=(12, 7))
        labels = [0, 1, 0, 1]
        with pytest.raises(UserError, match="data.pool=memory:4x6.*6 numbers, but data.labeled=.*7 numbers"):
            self.problem((rows[:4], labels), (rows[4:8], labels), rows[8:, :6])
        with pytest.raises(UserError, match="must be images in all sets"):
            self.problem((GREY[:4], labels), (rows[4:8], labels), rows[8:])
        with pytest.raises(UserError, match="class '2' is not among"):
            self.problem((rows[:4], labels), (rows[4:8], [0, 1, 0, 2]), rows[8:])
        with pytest.raises(UserError, match="4 of its embeddings are also in data.labeled"):
            self.problem((rows[:4], labels), (rows[4:8], labels), rows[:4])
