"""What is decided of one's own data: depths of grey, shares for S_val, images of no class, what is left out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rambo_ray import limits
from rambo_ray.config.schema import DataConfig
from rambo_ray.data import depths, memory, originals, own, shares
from rambo_ray.data.problem import Problem
from rambo_ray.data.reading import Reading

from .refused import refusal
from .written_images import pictures, write_file


def config(root: Path, **keys: Any) -> DataConfig:
    parts = {part: keys.pop(part, str(root / part)) for part in ("labeled", "validation", "pool")}
    return DataConfig(name="own", **parts, **keys)


def read(data: DataConfig, seed: int = 0) -> tuple[Problem, Reading]:
    problem, reading = own.read(data, seed)
    assert problem is not None
    return problem, reading


def write_set(folder: Path, count: int, seed: int, names: tuple[str, ...] = ("cat", "dog")) -> None:
    for i, image in enumerate(pictures(count, seed=seed)):
        write_file(folder / names[i % len(names)] / f"{i}.png", image)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_set(tmp_path / "labeled", 20, 1)
    write_set(tmp_path / "validation", 8, 2)
    write_set(tmp_path / "pool", 9, 3, (".",))
    return tmp_path


class TestDepth:
    def write(self, root: Path, largest: dict[str, int]) -> dict[str, np.ndarray]:
        values = {}
        for part, top in largest.items():
            rng = np.random.default_rng([top, len(part)])
            values[part] = rng.integers(0, top + 1, (4, 6, 6), dtype=np.uint16)
            values[part][0, 0, 0] = top
            for i, image in enumerate(values[part]):
                path = root / part / ("cat", "dog")[i % 2] / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path)
        return values

    @pytest.mark.parametrize(("top", "bits"), [(255, 8), (256, 10), (1023, 10), (4095, 12), (4096, 14), (65535, 16)])
    def test_one_depth_for_all_sets(self, tmp_path: Path, top: int, bits: int) -> None:
        values = self.write(tmp_path, {"labeled": top - 9, "validation": top // 2, "pool": top})
        problem, reading = read(config(tmp_path))
        assert reading.notes == [
            f"grey images of 16 bits are read as {bits} bits: the largest value of all sets is {top}"
        ]
        order = [0, 2, 1, 3]  # by class
        assert np.array_equal(problem.labeled.array[..., 0], values["labeled"][order] >> (bits - 8))
        assert np.array_equal(problem.pool.array[..., 0], values["pool"][order] >> (bits - 8))

    def test_given(self, tmp_path: Path) -> None:
        values = self.write(tmp_path, {"labeled": 900, "validation": 900, "pool": 900})
        problem, reading = read(config(tmp_path, bit_depth=16))
        assert np.array_equal(problem.pool.array[..., 0], values["pool"][[0, 2, 1, 3]] >> 8)
        assert "as data.bit_depth says" in reading.text()
        line = refusal(config(tmp_path, bit_depth=8))
        assert line.startswith("data.bit_depth=8: ") and "the value 900" in line and "data.bit_depth=10" in line

    def test_images_of_8_bits_say_nothing(self, root: Path) -> None:
        assert read(config(root))[1].notes == []

    @given(st.integers(0, 65535))
    def test_least(self, largest: int) -> None:
        bits = depths.least(largest)
        assert largest < 2**bits
        assert bits == 8 or largest >= 2 ** depths.DEPTHS[depths.DEPTHS.index(bits) - 1]


class TestShare:
    def share(self, root: Path, **keys: Any) -> DataConfig:
        return config(root, validation=None, validation_share=0.3, **keys)

    def test_of_each_class(self, root: Path) -> None:
        problem, reading = read(self.share(root))
        assert Counter(problem.validation.labels.tolist()) == {0: 3, 1: 3}
        assert Counter(problem.labeled.labels.tolist()) == {0: 7, 1: 7}
        assert not set(problem.labeled.ids) & set(problem.validation.ids)
        assert [one.key for one in reading.sets] == ["labeled", "validation", "pool"]
        assert "data.validation_share=0.3: share of the labelled images, 6 images" in reading.text()

    def test_by_the_split_s_seed(self, root: Path) -> None:
        first, same, other = (read(self.share(root), seed)[0].validation.ids for seed in (1, 1, 2))
        assert first == same != other
        assert read(self.share(root, split_seed=1), 7)[0].validation.ids == first

    def test_copies_stay_together(self, root: Path) -> None:
        for i in range(0, 20, 2):
            source = root / f"labeled/cat/{i}.png"
            (root / f"labeled/cat/copy{i}.png").write_bytes(source.read_bytes())
        problem, _ = read(self.share(root))
        assert not set(problem.labeled.digests()) & set(problem.validation.digests())
        assert Counter(problem.validation.labels.tolist()) == {0: 6, 1: 3}

    @given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0.01, 0.99), st.integers(0, 2**31))
    def test_rare_classes_are_on_both_sides(self, labels: list[int], share: float, seed: int) -> None:
        codes = np.array(labels, np.int64)
        stays, validates = shares.stratified(codes, [bytes([i]) for i in range(len(labels))], share, seed)
        assert sorted([*stays, *validates]) == list(range(len(labels)))
        for label, count in Counter(labels).items():
            chosen = int((codes[validates] == label).sum())
            assert chosen == min(max(round(share * count), 1), count - 1)


class TestNone:
    def test_images_of_no_class_are_rejected(self, root: Path) -> None:
        for i, image in enumerate(pictures(3, seed=44)):
            write_file(root / f"labeled/none/{i}.png", image)
        write_file(root / "validation/none/0.png", pictures(1, seed=45)[0])
        problem, reading = read(config(root, none_label="none"))
        assert problem.class_names == ("cat", "dog") and len(problem.labeled) == 20 and len(problem.validation) == 8
        assert problem.rejected is not None and len(problem.rejected) == 4
        assert np.array_equal(problem.rejected.array[:3], pictures(3, seed=44))
        assert "data.none_label=none: 4 images belong to none of the classes" in reading.text()

    def test_numbers_keep_their_names(self, root: Path) -> None:
        """The classes before and behind the one that is taken out are counted anew in both sets."""
        rows = {"labeled": [0, 1, 2, 0, 1, 2], "validation": [2, 2, 0, 1]}
        for seed, (part, labels) in enumerate(rows.items()):
            np.savez(root / f"{part}.npz", images=pictures(len(labels), seed=60 + seed)[..., 0], label=labels)
        files = {part: str(root / f"{part}.npz") for part in rows}
        problem, _ = read(config(root, none_label=1, **files))
        assert problem.class_names == ("0", "2")
        assert problem.labeled.labels.tolist() == [0, 1, 0, 1]
        assert problem.validation.labels.tolist() == [1, 1, 0]

    def test_no_such_label(self, root: Path) -> None:
        assert "no such class; did you mean 'dog'?" in refusal(config(root, none_label="dgo"))

    def test_with_a_share(self, root: Path) -> None:
        for i, image in enumerate(pictures(3, seed=44)):
            write_file(root / f"labeled/none/{i}.png", image)
        problem, _ = read(config(root, none_label="none", validation=None, validation_share=0.2))
        assert problem.rejected is not None and len(problem.rejected) == 3
        assert len(problem.labeled) + len(problem.validation) == 20


class TestSkip:
    def test_broken_ones_are_left_out_with_their_labels(self, root: Path) -> None:
        whole, _ = read(config(root))
        for name in ("labeled/cat/4.png", "labeled/dog/1.png", "pool/0.png"):
            (root / name).write_bytes(b"broken")
        problem, reading = read(config(root, on_error="skip"))
        gone = {"cat/4.png", "dog/1.png"}
        assert set(whole.labeled.ids) - set(problem.labeled.ids) == gone
        for name, pixels, label in zip(problem.labeled.ids, problem.labeled.array, problem.labeled.labels, strict=True):
            place = whole.labeled.ids.index(name)
            assert np.array_equal(pixels, whole.labeled.array[place]) and label == whole.labeled.labels[place]
        assert "0.png" not in problem.pool.ids and len(problem.pool) == 8
        assert [len(one.broken) for one in reading.sets] == [2, 0, 1]
        assert reading.sets[0].classes == {"cat": 9, "dog": 9}
        assert reading.as_json()["sets"][2]["broken"][0]["name"] == str(root / "pool/0.png")

    def test_the_first_image_may_be_broken(self, root: Path) -> None:
        (root / "labeled/cat/0.png").write_bytes(b"")
        assert len(read(config(root, on_error="skip"))[0].labeled) == 19

    def test_all_broken_is_refused(self, root: Path) -> None:
        for file in (root / "pool").iterdir():
            file.write_bytes(b"")
        assert "9 of 9 images cannot be read" in refusal(config(root, on_error="skip"))


class TestMemory:
    def test_too_large_a_size_is_refused_before_decoding(self, root: Path) -> None:
        line = refusal(config(root, image_size=100000))
        assert line.startswith("data.image_size=100000: 37 images of 100000x100000 pixels") and "370.0 GB" in line
        assert "of memory are free" in line

    def test_built_in_data(self) -> None:
        assert refusal(DataConfig(image_size=100000)).startswith("data.image_size=100000: 1,797 images")

    def test_large_images_as_stored(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory, "available", lambda: 1000)
        line = refusal(config(root))
        assert "37 images of 6x6 pixels and 1 channels are 1,332 bytes, but 1,000 bytes" in line
        assert "set data.image_size to resize all" in line

    def test_a_container_s_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert (memory.available() or 0) > 0
        monkeypatch.setattr(limits, "memory_left", lambda: 3)
        assert memory.available() == 3


class TestIds:
    def lists(self, root: Path, numbered: bool) -> dict[str, str]:
        made = {}
        for part, count in (("labeled", 4), ("validation", 4), ("pool", 4)):
            images = pictures(count, seed=len(part))
            for i, image in enumerate(images):
                write_file(root / part / f"x/{i}.png", image)
            names = [str(i) if numbered else f"{i + 5}" for i in range(count)]
            rows = [f"{name},x/{i}.png,{'ab'[i % 2]}" for i, name in enumerate(names)]
            (root / part / "list.csv").write_text("\n".join(["id,path,label", *rows]))
            made[part] = str(root / part / "list.csv")
        return made

    def test_row_numbers_belong_to_their_set(self, tmp_path: Path) -> None:
        problem, _ = read(config(tmp_path, **self.lists(tmp_path, numbered=True)))
        assert problem.pool.ids == problem.labeled.ids == ("0", "1", "2", "3")

    def test_other_ids_mean_the_same_everywhere(self, tmp_path: Path) -> None:
        line = refusal(config(tmp_path, **self.lists(tmp_path, numbered=False)))
        assert "4 of its ids are also in data.labeled (first: '5')" in line


def test_originals_of_lists_and_arrays(root: Path) -> None:
    (root / "list.csv").write_text("id,path\nfirst,pool/0.png\nsecond,pool/1.png\n")
    asked = config(root, pool=str(root / "list.csv"))
    found = list(originals.stored(asked, 0, ["second", "first"]))
    assert [one.content for one in found] == [(root / f"pool/{i}.png").read_bytes() for i in (1, 0)]
    assert [one.name for one in found] == ["1.png", "0.png"] and found[0].path == root / "pool/1.png"
    np.savez(root / "a.npz", images=pictures(3, seed=70)[..., 0])
    (only,) = originals.stored(config(root, pool=str(root / "a.npz")), 0, ["2"])
    assert only.name == "2.png" and only.content[:4] == b"\x89PNG"
    np.savez(root / "a.npz", embeddings=np.eye(3))
    with pytest.raises(ValueError, match="holds embeddings"):
        list(originals.stored(config(root, pool=str(root / "a.npz")), 0, ["2"]))
