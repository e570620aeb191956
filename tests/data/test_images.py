"""Images in memory, and the decoding of image files."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rambo_ray.config.schema import DataConfig
from rambo_ray.data import items
from rambo_ray.data.decoding import BATCH, decode, in_batches, reshape
from rambo_ray.data.forms import opening
from rambo_ray.data.forms.source import Source
from rambo_ray.data.images import Format, Images, LabeledImages, Shape
from rambo_ray.data.items import first_repeated
from rambo_ray.errors import UserError

from .written_images import pictures, png, write_file


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decode_all(files: list[bytes], wanted: Format | None = None) -> np.ndarray:
    named = [(f"file {i}", content) for i, content in enumerate(files)]
    return decode(in_batches(named), len(named), wanted or Format())


def one_line(error: pytest.ExceptionInfo[UserError], *parts: str) -> None:
    line = str(error.value)
    assert "\n" not in line
    for part in parts:
        assert part in line


class TestImages:
    def test_take_copies_in_the_order_asked(self) -> None:
        images = LabeledImages(pictures(5), tuple("abcde"), np.arange(5))
        taken = images.take(np.array([3, 0]))
        assert type(taken) is LabeledImages
        assert taken.ids == ("d", "a")
        assert taken.labels.tolist() == [3, 0]
        assert np.array_equal(taken.pixels, images.pixels[[3, 0]])
        assert not np.shares_memory(taken.pixels, images.pixels)

    def test_take_of_nothing(self) -> None:
        assert len(Images(pictures(2), ("a", "b")).take([])) == 0

    def test_take_refuses_a_mask(self) -> None:
        with pytest.raises(ValueError, match="integers"):
            Images(pictures(2), ("a", "b")).take(np.array([True, False]))

    def test_pixels_and_labels_are_read_only_but_the_callers_array_is_not(self) -> None:
        mine = pictures(2)
        images = LabeledImages(mine, ("a", "b"), np.zeros(2, np.int64))
        with pytest.raises(ValueError, match="read-only"):
            images.pixels[0] = 0
        with pytest.raises(ValueError, match="read-only"):
            images.labels[0] = 1
        mine[0] = 0

    @pytest.mark.parametrize(
        ("pixels", "ids"),
        [
            (pictures(2).astype(np.int64), ("a", "b")),
            (pictures(2)[..., 0], ("a", "b")),
            (pictures(2, channels=3)[..., :2].copy(), ("a", "b")),
            (pictures(2)[:, ::2], ("a", "b")),
            (pictures(2), ("a",)),
            (pictures(2), ["a", "b"]),
            (pictures(2), ("a", "a")),
        ],
    )
    def test_what_does_not_fit_together_is_refused(self, pixels: np.ndarray, ids: tuple[str, ...]) -> None:
        with pytest.raises(ValueError):
            Images(pixels, ids)

    @pytest.mark.parametrize("labels", [np.zeros(2, np.int32), np.zeros(3, np.int64), np.array([0, -1])])
    def test_labels_are_checked(self, labels: np.ndarray) -> None:
        with pytest.raises(ValueError):
            LabeledImages(pictures(2), ("a", "b"), labels)

    def test_unlabeled_is_not_labeled(self) -> None:
        images = LabeledImages(pictures(2), ("a", "b"), np.zeros(2, np.int64)).unlabeled()
        assert type(images) is Images
        assert not hasattr(images, "labels")

    def test_digests_are_equal_where_pixels_are(self) -> None:
        pixels = pictures(3)
        pixels[2] = pixels[0]
        first, second, third = Images(pixels, ("a", "b", "c")).digests()
        assert first == third != second

    def test_first_repeated(self) -> None:
        assert first_repeated(["a", "b", "c", "b", "a"]) == "b"
        assert first_repeated(["a", "b"]) is None


class TestDigests:
    """Hashed once, in whatever way the same images are passed on."""

    def test_once_for_the_same_and_for_parts_of_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pixels = np.random.default_rng(0).integers(256, size=(6, 3, 3, 1), dtype=np.uint8)
        images = LabeledImages(pixels, tuple("abcdef"), np.arange(6) % 2)
        expected = [hashlib.blake2b(row, digest_size=16).digest() for row in pixels]
        fresh = images.take([4, 1])  # before anybody asked
        assert images.digests() == expected and fresh.digests() == [expected[4], expected[1]]

        def never(*_: object, **__: object) -> None:
            raise AssertionError("hashed again")

        monkeypatch.setattr(items.hashlib, "blake2b", never)
        assert images.digests() == images.unlabeled().digests() == expected
        assert images.take([5, 0]).take([1]).digests() == expected[:1]
        assert images.take([]).digests() == []
        with pytest.raises(AssertionError, match="hashed again"):
            Images(pixels, tuple("abcdef")).digests()

    def test_they_do_not_travel(self) -> None:
        pixels = np.random.default_rng(1).integers(256, size=(400, 1, 1, 1), dtype=np.uint8)
        images = Images(pixels, tuple(map(str, range(400))))
        before = len(pickle.dumps(images))
        expected = images.digests()
        assert len(pickle.dumps(images)) == before
        again = pickle.loads(pickle.dumps(images))
        assert again.digests() == expected and again.ids == images.ids


class TestDecode:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("side", [5, 200])  # 200: above the size that goes to threads
    def test_png_round_trip(self, channels: int, side: int) -> None:
        pixels = pictures(20, side=side, channels=channels)
        decoded = decode_all([png(picture) for picture in pixels])
        assert np.array_equal(decoded, pixels)
        assert decoded.flags.c_contiguous

    def test_several_batches_keep_their_order(self) -> None:
        pixels = pictures(BATCH + 3, side=2)
        assert np.array_equal(decode_all([png(picture) for picture in pixels]), pixels)

    def test_heights_and_widths_may_differ_from_each_other(self) -> None:
        picture = pictures(1)[:, :4]
        assert decode_all([png(picture[0])]).shape == (1, 4, 6, 1)

    @pytest.mark.parametrize(
        ("mode", "channels"),
        [("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("RGB", 3), ("RGBA", 3), ("I;16", 1)],
    )
    def test_modes_become_grey_or_colour(self, mode: str, channels: int) -> None:
        file = encoded(Image.new(mode, (4, 4)), "PNG")
        assert decode_all([file]).shape == (1, 4, 4, channels)
        assert decode_all([file], Format(channels=3)).shape == (1, 4, 4, 3)
        assert decode_all([file], Format(channels=1)).shape == (1, 4, 4, 1)

    def test_sixteen_bits_keep_their_upper_half(self) -> None:
        deep = np.array([[0, 256, 65535]], np.uint16)
        assert decode_all([encoded(Image.fromarray(deep), "PNG")]).ravel().tolist() == [0, 1, 255]

    def test_thirty_two_bits_are_refused(self) -> None:
        file = encoded(Image.fromarray(np.zeros((3, 3), np.float32)), "TIFF")
        with pytest.raises(UserError) as error:
            decode_all([file])
        one_line(error, "file 0", "32 bits", "convert")

    def test_photographs_are_turned_upright(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was held on its side
        file = encoded(Image.new("RGB", (8, 4)), "JPEG", exif=exif)
        assert decode_all([file]).shape == (1, 8, 4, 3)

    def test_resizing_to_a_square(self) -> None:
        files = [png(pictures(1, side=9)[0]), png(pictures(1, side=5, channels=3)[0])]
        assert decode_all(files, Format(image_size=4, channels=3)).shape == (2, 4, 4, 3)

    def test_other_size_names_the_first_file_its_size_and_the_key(self) -> None:
        sides = [6, 6, 7, 8]
        with pytest.raises(UserError) as error:
            decode_all([png(pictures(1, side=side)[0]) for side in sides])
        one_line(error, "file 2: 7x7 pixels", "file 0 has 6x6 pixels", "set data.image_size=6")
        assert "data.channels" not in str(error.value)

    def test_other_channels_name_the_key(self) -> None:
        with pytest.raises(UserError) as error:
            decode_all([png(pictures(1, channels=3)[0]), png(pictures(1)[0])])
        one_line(error, "file 1: 6x6 pixels, 1 channel,", "3 channels", "set data.channels=3")
        assert "data.image_size" not in str(error.value)

    def test_images_read_earlier_set_the_size(self) -> None:
        shape: Shape = (5, 5, 3)
        with pytest.raises(UserError) as error:
            decode_all([png(pictures(1)[0])], Format(like=("data.labeled=x", shape)))
        one_line(error, "file 0", "data.labeled=x has 5x5", "data.image_size=5", "data.channels=3")

    @pytest.mark.parametrize("content", [b"", b"no image", png(pictures(1, side=40)[0])[:-900]])
    def test_damaged_files_are_named(self, content: bytes) -> None:
        with pytest.raises(UserError) as error:
            decode_all([png(pictures(1, side=40)[0]), content])
        one_line(error, "file 1: not a readable image", "replace or remove it")

    def test_formats_that_start_programs_are_not_opened(self) -> None:
        with pytest.raises(UserError, match="not a readable image"):
            decode_all([b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n"])

    def test_reshape_of_arrays_equals_decoding_with_it(self) -> None:
        pixels = pictures(3, side=9)
        wanted = Format(image_size=4, channels=3)
        assert np.array_equal(reshape(pixels, wanted), decode_all([png(p) for p in pixels], wanted))
        assert reshape(pixels, Format(image_size=9, channels=1)) is pixels


def pool(folder: Path) -> Source:
    return opening.source("pool", DataConfig(name="own", labeled="x", validation="x", pool=str(folder)))


def labeled(folder: Path) -> Source:
    return opening.source("labeled", DataConfig(name="own", labeled=str(folder), validation="x", pool="x"))


class TestFolder:
    def test_ids_are_sorted_relative_paths_and_hidden_files_are_skipped(self, tmp_path: Path) -> None:
        pixels = pictures(4)
        for name, picture in zip(["b.PNG", "a/z.bmp", "a/c/y.tif", "a.webp"], pixels, strict=True):
            write_file(tmp_path / name, picture)
        write_file(tmp_path / ".hidden.png", pixels[0])
        write_file(tmp_path / ".cache/x.png", pixels[0])
        (tmp_path / "notes.txt").write_text("not an image")
        source = pool(tmp_path)
        assert source.ids() == ("a.webp", "a/c/y.tif", "a/z.bmp", "b.PNG")
        assert np.array_equal(decode(source.encoded(), 4, Format(channels=1))[1:], pixels[[2, 1, 0]])
        assert source.skipped == {".txt": 1}

    def test_links_are_followed_and_loops_end(self, tmp_path: Path) -> None:
        write_file(tmp_path / "elsewhere/1.png", pictures(1)[0])
        (tmp_path / "pool").mkdir()
        (tmp_path / "pool/link").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere/loop").symlink_to(tmp_path / "elsewhere")
        assert pool(tmp_path / "pool").ids() == ("link/1.png",)

    def test_class_folders(self, tmp_path: Path) -> None:
        for name in ("dog/1.png", "cat/deep/2.png", "cat/1.png"):
            write_file(tmp_path / name, pictures(1)[0])
        (tmp_path / "empty").mkdir()
        source = labeled(tmp_path)
        labels = source.labels()
        assert source.ids() == ("cat/1.png", "cat/deep/2.png", "dog/1.png")
        assert labels.names == ("cat", "dog")
        assert labels.codes.tolist() == [0, 0, 1]

    def test_image_outside_a_class_folder(self, tmp_path: Path) -> None:
        write_file(tmp_path / "1.png", pictures(1)[0])
        with pytest.raises(UserError) as error:
            labeled(tmp_path).labels()
        one_line(error, f"data.labeled={tmp_path}", "1.png", "CLASS/1.png")

    def test_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(UserError) as error:
            pool(tmp_path)
        one_line(error, f"data.pool={tmp_path}", "png jpg jpeg")
