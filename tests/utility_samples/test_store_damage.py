"""A store whose files were damaged: what cannot be trusted is trained again and said, all else is kept."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rambo_ray.errors import RunError
from rambo_ray.utility_samples import parts
from rambo_ray.utility_samples.sampling import Training, Trainings
from rambo_ray.utility_samples.store import SCHEMA, SampleStore

from .test_store import measurement, names, places, rows, samples


def filled(folder: Path, batches: int = 3) -> tuple[SampleStore, list[Path]]:
    """A store of three pairs, a part for each."""
    store, drawn = SampleStore(folder, "accuracy"), samples(batches)
    made = [store.append(drawn[2 * i : 2 * i + 2]) for i in range(batches)]
    return store, [path for path in made if path is not None]


def earlier_form(path: Path, name: str = "part-0123456789abcdef.parquet") -> Path:
    """The same part as a version before checksums wrote it."""
    table = pq.read_table(path).drop_columns([field.name for field in parts.ORIGIN])
    path.unlink()
    pq.write_table(table, path.with_name(name))
    return path.with_name(name)


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    _, (path, *_) = filled(tmp_path)
    content = path.read_bytes()
    generator = np.random.default_rng(0)
    for at in generator.integers(0, len(content), 60).tolist():
        changed = bytearray(content)
        changed[at] ^= 1 << int(generator.integers(8))
        path.write_bytes(bytes(changed))
        with pytest.raises(parts.Damaged, match="checksum in its name"):
            parts.read(path, SCHEMA.names)
    path.write_bytes(content)
    assert parts.read(path, SCHEMA.names)[0].num_rows == 2


def test_pages_have_checksums_of_their_own(tmp_path: Path) -> None:
    """A part that was renamed has lost the hash of its bytes; a change of its values shows still."""
    _, (path, *_) = filled(tmp_path)
    content = path.read_bytes()
    value = np.float32(pq.read_table(path)["val_loss"][0].as_py()).tobytes()
    at = content.index(value)
    renamed = tmp_path / "part-mine.parquet"
    renamed.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with pytest.raises(parts.Damaged, match="CRC|checksum"):
        parts.read(renamed, SCHEMA.names)


@pytest.mark.parametrize("damage", ["emptied", "torn", "flipped", "text", "zeros"])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_damaged_part_is_set_aside_and_its_samples_alone_are_missing(
    tmp_path: Path, damage: str, earlier: bool
) -> None:
    store, (_, path, _) = filled(tmp_path)
    if earlier:
        path = earlier_form(path)
    content = path.read_bytes()
    spoilt = {
        "emptied": b"",
        "torn": content[: len(content) // 2],
        "flipped": content[:-20] + bytes([content[-20] ^ 255]) + content[-19:],
        "text": b"not a\nParquet file\n",
        "zeros": bytes(len(content)),
    }[damage]
    path.write_bytes(spoilt)
    found, drawn = SampleStore(tmp_path, "accuracy"), samples()
    assert places(found.missing(drawn)) == places(drawn[2:4]) and found.damaged == 1
    assert found.measured(drawn[:2]) == store.measured(drawn[:2])
    first, second = found.said
    assert first.startswith(f"{path} is damaged: ") and first.endswith(f"; set aside as {path.name}.damaged")
    assert "\n" not in first and len(first) < 2 * len(str(path)) + 200
    assert second == "their samples that this run needs are trained again; all others are kept"
    assert (tmp_path / f"{path.name}.damaged").read_bytes() == spoilt
    # They are measured again; the next run finds all of them and nothing to say.
    found.append(samples()[2:4])
    again = SampleStore(tmp_path, "accuracy")
    assert again.said == [] and again.missing(drawn) == [] and again.measurements == store.measurements


@pytest.mark.parametrize("broken", ["columns", "nulls", "words"])
def test_a_file_of_something_else_is_set_aside(tmp_path: Path, broken: str) -> None:
    _, (good, *_) = filled(tmp_path)
    table = pq.read_table(good)
    at = table.schema.get_field_index("epochs")
    column = {"columns": pa.nulls(2), "nulls": pa.nulls(2, pa.int32()), "words": pa.array(["many"] * 2)}[broken]
    path = tmp_path / "part-ffff.parquet"
    pq.write_table(table.set_column(at, "epoch" if broken == "columns" else "epochs", column), path)
    store = SampleStore(tmp_path, "accuracy")
    assert store.missing(samples()) == [] and len(store.said) == 2 and not path.exists()
    assert {"columns": "no column epochs", "nulls": "gaps", "words": "not a file"}[broken] in store.said[0]


def test_a_second_damage_of_one_name_keeps_the_first(tmp_path: Path) -> None:
    _, (path, *_) = filled(tmp_path)
    for content in (b"one", b"two"):
        path.write_bytes(content)
        SampleStore(tmp_path, "accuracy")
    assert (tmp_path / f"{path.name}.damaged").read_bytes() == b"one"
    assert (tmp_path / f"{path.name}.damaged1").read_bytes() == b"two"


def test_one_that_cannot_be_renamed_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, (path, *_) = filled(tmp_path)
    path.write_bytes(b"")

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "replace", refuse)
    store = SampleStore(tmp_path, "accuracy")
    assert store.said[0].endswith("it is empty; it cannot be renamed (Read-only file system) and is not read")
    assert len(store.missing(samples())) == 2 and path.exists()


def test_many_are_counted(tmp_path: Path) -> None:
    _, made = filled(tmp_path, 8)
    for path in made:
        path.write_bytes(b"")
    store = SampleStore(tmp_path, "accuracy")
    assert store.damaged == 8 and len(store.said) == 7 and store.said[5] == f"3 more files in {tmp_path} are damaged"


def test_what_belongs_to_another_run_is_left_as_it_is(tmp_path: Path) -> None:
    _, (path, *_) = filled(tmp_path / "one")
    path.write_bytes(b"")
    store = SampleStore(tmp_path / "two", "accuracy", tmp_path / "one")
    assert path.read_bytes() == b"" and store.said[0].endswith("it is empty; it is not read")
    assert len(store.missing(samples())) == 2


def test_a_part_that_may_not_be_read_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, (path, *_) = filled(tmp_path)

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(RunError, match="Permission denied; make it readable"):
        SampleStore(tmp_path, "accuracy")
    assert path.exists()


def test_a_sample_whose_scores_are_not_finite_is_refused_and_the_others_are_kept(tmp_path: Path) -> None:
    drawn = samples()
    bad = drawn[1].measured(dataclasses.replace(measurement(1), val_loss=math.nan), "accuracy")
    store = SampleStore(tmp_path, "accuracy")
    with pytest.raises(RunError) as error:
        store.append([drawn[0], bad, drawn[2]])
    line = str(error.value)
    assert line.startswith(f"sample {bad.sample_id} (pair 0, a set of {bad.size} images): its val_loss is nan; ")
    assert "\n" not in line
    for found in (store, SampleStore(tmp_path, "accuracy")):
        assert places(found.missing(drawn[:3])) == places([bad])


def test_poison_of_an_earlier_version_is_not_trusted(tmp_path: Path) -> None:
    """An interpolated set, stored as if it had been trained on: NaN, 0 epochs, and an OTDD."""
    store, (path, *_) = filled(tmp_path)
    table = pq.read_table(path)
    nan = pa.array([math.nan, table["accuracy"][1].as_py()], pa.float32())
    poisoned = table.set_column(table.schema.get_field_index("accuracy"), table.schema.field("accuracy"), nan)
    path.unlink()
    pq.write_table(poisoned, tmp_path / "part-0123456789abcdef.parquet")
    found, drawn = SampleStore(tmp_path, "accuracy"), samples()
    assert places(found.missing(drawn)) == places(drawn[:1]) and found.damaged == 0
    (line,) = found.said
    assert line.startswith("1 utility sample is trained again where needed: its accuracy is nan (sample ")
    assert drawn[0].sample_id in line
    found.append(samples()[:1])
    again = SampleStore(tmp_path, "accuracy")
    assert again.said == [] and again.missing(drawn) == [] and again.measurements == store.measurements


class TestOrigins:
    def origin(self, number: int, repeats: int) -> Trainings:
        own = tuple(Training(0.1 + r / 7, 0.2 + r / 11, 1 / 3 + r, r + 1, 10**10 + r, r / 9) for r in range(repeats))
        return Trainings(f"training {number}", "fingerprint", 2**40, "mnist_net 0123", own)

    def test_single_trainings_come_back_to_the_last_bit(self, tmp_path: Path) -> None:
        drawn = samples(2)
        origins = {s.sample_id: self.origin(i, i) for i, s in enumerate(drawn)}
        SampleStore(tmp_path, "accuracy").append(drawn, origins)
        store = SampleStore(tmp_path, "accuracy")
        assert store.trainings([f"training {i}" for i in range(9)]) == {o.training_id: o for o in origins.values()}
        assert store.trainings(["training 1"]) == {"training 1": self.origin(1, 1)}
        assert store.trainings([]) == {} and not store.has_earlier_rows

    def test_the_longest_counts(self, tmp_path: Path) -> None:
        drawn = samples(2)
        store = SampleStore(tmp_path, "accuracy")
        for sample, repeats in zip(drawn, (2, 3, 1), strict=False):
            store.append([sample], {sample.sample_id: self.origin(0, repeats)})
        assert len(store.trainings(["training 0"])["training 0"].trainings) == 3

    def test_another_place_of_a_sample_says_the_same(self, tmp_path: Path) -> None:
        (sample, *_), origin = samples(1), self.origin(0, 2)
        SampleStore(tmp_path / "one", "accuracy").append([sample], {sample.sample_id: origin})
        store = SampleStore(tmp_path / "two", "accuracy", tmp_path / "one")
        store.append(store.measured([sample, dataclasses.replace(sample, pair_id=8)]))
        for row in pq.read_table(next((tmp_path / "two").iterdir())).to_pylist():
            assert (row["training_id"], row["data"], row["seed"]) == ("training 0", "fingerprint", 2**40)
            assert [t["val_loss"] for t in row["trainings"]] == [1 / 3, 4 / 3]

    def test_rows_of_earlier_versions_are_read_and_told_apart(self, tmp_path: Path) -> None:
        store, made = filled(tmp_path)
        earlier_form(made[0])
        found = SampleStore(tmp_path, "accuracy")
        assert found.measurements == store.measurements and found.has_earlier_rows and found.said == []


class TestMerging:
    def grown(self, folder: Path, count: int) -> SampleStore:
        store = SampleStore(folder, "accuracy")
        for sample in samples(count // 2):
            store.append([sample])
        return store

    def test_many_small_parts_become_one_and_nothing_is_lost(self, tmp_path: Path) -> None:
        store, drawn = self.grown(tmp_path, 200), samples(100)
        assert len(names(tmp_path)) < parts.MERGE_AT + 1
        again = SampleStore(tmp_path, "accuracy")
        assert again.measurements == store.measurements and again.missing(drawn) == []
        assert rows(tmp_path) == sorted(places(drawn)) and again.append(drawn) is None

    def test_full_parts_are_never_written_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parts, "FULL_ROWS", 16)
        monkeypatch.setattr(parts, "MERGE_AT", 8)
        store, kept = SampleStore(tmp_path, "accuracy"), {}
        for sample in samples(60):
            store.append([sample])
            for path in tmp_path.iterdir():
                if pq.read_metadata(path).num_rows >= 16:
                    kept.setdefault(path, path.stat().st_mtime_ns)
        assert len(kept) >= 6 and all(path.stat().st_mtime_ns == at for path, at in kept.items())
        assert len(names(tmp_path)) <= len(kept) + 8
        assert rows(tmp_path) == sorted(places(samples(60)))

    def test_a_kill_between_the_merged_part_and_the_old_ones(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        drawn, removed = samples(40), 0

        def stop(self: Path, missing_ok: bool = False) -> None:
            nonlocal removed
            removed += 1
            if removed > 10:
                raise KeyboardInterrupt
            self.rename(self.with_suffix(".gone"))

        monkeypatch.setattr(Path, "unlink", stop)
        store = SampleStore(tmp_path, "accuracy")
        with pytest.raises(KeyboardInterrupt):
            for sample in drawn:
                store.append([sample])
        monkeypatch.undo()
        again = SampleStore(tmp_path, "accuracy")
        assert again.missing(drawn[: parts.MERGE_AT]) == []  # rows are there twice, and count once
        again.append(drawn)
        last = SampleStore(tmp_path, "accuracy")
        assert last.missing(drawn) == [] and set(rows(tmp_path)) == set(places(drawn))
        assert last.measurements == again.measurements

    def test_two_runs_in_one_folder_merge_beside_each_other(self, tmp_path: Path) -> None:
        one, other = self.grown(tmp_path, 60), SampleStore(tmp_path, "accuracy")
        drawn = samples(50)
        for first, second in zip(drawn[60:80], drawn[80:], strict=True):
            one.append([first])
            other.append([second])
        again = SampleStore(tmp_path, "accuracy")
        assert again.missing(drawn) == [] and again.said == []
        assert one.trainings(["nothing"]) == {}  # reads every part that there is now

    def test_origins_and_rows_of_earlier_versions_survive_it(self, tmp_path: Path) -> None:
        _, made = filled(tmp_path)
        earlier_form(made[0])
        store, drawn = SampleStore(tmp_path, "accuracy"), samples(40)
        origin = TestOrigins().origin(3, 2)
        store.append(drawn[6:7], {drawn[6].sample_id: origin})
        for sample in drawn[7:]:
            store.append([sample])
        again = SampleStore(tmp_path, "accuracy")
        assert again.trainings(["training 3"]) == {"training 3": origin} and again.has_earlier_rows
        assert again.missing(drawn) == [] and len(names(tmp_path)) < 30

    def test_columns_of_a_later_version_are_not_lost(self, tmp_path: Path) -> None:
        _, (path, *_) = filled(tmp_path)
        table = pq.read_table(path).append_column("mood", pa.array(["good", "bad"]))
        path.unlink()
        pq.write_table(table, tmp_path / "part-later.parquet")
        self.grown(tmp_path, 200)
        assert pq.read_table(tmp_path / "part-later.parquet")["mood"].to_pylist() == ["good", "bad"]

    def test_one_that_was_damaged_meanwhile_is_left_for_the_next_start(self, tmp_path: Path) -> None:
        store, made = filled(tmp_path)
        made[1].write_bytes(b"")
        for sample in samples(40)[6:]:
            store.append([sample])
        assert made[1].exists() and not made[0].exists()
        shutil.copytree(tmp_path, tmp_path.parent / "copy")
        assert places(SampleStore(tmp_path.parent / "copy", "accuracy").missing(samples(40))) == places(samples(2)[2:])
