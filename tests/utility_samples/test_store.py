"""Utility samples on disk: nothing measured is lost, measured twice, or changed by a restart."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rambo_ray.utility_samples import parts
from rambo_ray.utility_samples.sampling import Measurement, UtilitySample, nested_samples, offline_pairs, sample_id
from rambo_ray.utility_samples.store import SCHEMA, SampleStore

MEANS = ("accuracy", "soft_accuracy", "val_loss")
REALS = (*MEANS, *(f"{name}_std" for name in MEANS), "otdd", "seconds")
FINITE = st.floats(-1e30, 1e30, allow_nan=False)


def measurement(number: int) -> Measurement:
    """Numbers that differ from sample to sample, hardly any of them a float32."""
    reals = {name: 0.1 * (i + 1) + number / 7 for i, name in enumerate(REALS)}
    return Measurement(**reals, epochs=number + 1, images_seen=10**10 + number)  # images_seen are beyond int32


def samples(num_pairs: int = 3, identity: str = "who") -> list[UtilitySample]:
    """Measured pairs; a set that is drawn twice has one measurement, as it is one content."""
    drawn = offline_pairs(num_pairs, 20, 4, "uniform", 0, identity)
    first: dict[str, int] = {}
    return [s.measured(measurement(first.setdefault(s.sample_id, i)), "accuracy") for i, s in enumerate(drawn)]


def places(of: list[UtilitySample]) -> list[tuple[str, int, int]]:
    return [(s.sample_id, s.pair_id, s.iteration) for s in of]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def rows(folder: Path) -> list[tuple[str, int, int]]:
    found = [row for path in folder.glob("part-*.parquet") for row in pq.read_table(path).to_pylist()]
    return sorted((row["sample_id"], row["pair_id"], row["iteration"]) for row in found)


def test_an_empty_store_makes_no_folder(tmp_path: Path) -> None:
    store = SampleStore(tmp_path / "not" / "there", "accuracy")
    assert places(store.missing(samples())) == places(samples())
    assert store.append([]) is None and store.measured([]) == []
    assert list(tmp_path.iterdir()) == []


def test_missing_is_what_no_file_holds_and_each_content_once(tmp_path: Path) -> None:
    store, drawn = SampleStore(tmp_path, "accuracy"), samples()
    store.append(drawn[1:3])
    wanted = [drawn[4], drawn[1], drawn[4], dataclasses.replace(drawn[4], pair_id=9), drawn[0]]
    assert places(store.missing(wanted)) == places([drawn[4], drawn[0]])
    assert places(store.missing(iter(drawn))) == places([drawn[0], *drawn[3:]])
    # Another identity is another measurement, even of the same images.
    assert len(store.missing(samples(identity="whom"))) == 6


def test_a_second_store_reads_what_the_first_wrote(tmp_path: Path) -> None:
    first, drawn = SampleStore(tmp_path, "accuracy"), samples()
    first.append(drawn[:2])
    first.append(drawn[2:])
    second = SampleStore(tmp_path, "accuracy")
    assert second.missing(drawn) == []
    assert second.measurements == first.measurements
    assert second.measured(drawn) == first.measured(drawn)
    assert second.append(drawn) is None  # nor is anything written again
    assert rows(tmp_path) == sorted(places(drawn))


def test_what_is_missing_is_not_made_up(tmp_path: Path) -> None:
    store, drawn = SampleStore(tmp_path, "accuracy"), samples()
    store.append(drawn[:1])
    with pytest.raises(KeyError, match=drawn[1].sample_id):
        store.measured(drawn[:2])


def test_measured_keeps_order_and_place(tmp_path: Path) -> None:
    store, drawn = SampleStore(tmp_path, "accuracy"), samples()
    store.append(drawn)
    wanted = [dataclasses.replace(s, measurement=None, utility=math.nan) for s in reversed(drawn)]
    found = store.measured(wanted)
    assert places(found) == places(wanted)
    assert [s.measurement.epochs for s in found if s.measurement] == [6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("which", "field", "sign"),
    [("accuracy", "accuracy", 1), ("soft_accuracy", "soft_accuracy", 1), ("neg_val_loss", "val_loss", -1)],
)
def test_the_utility_is_the_one_asked_for_now(tmp_path: Path, which: str, field: str, sign: int) -> None:
    # Written under one utility, read under another: measurements do not depend on it.
    drawn = samples()
    SampleStore(tmp_path, "accuracy").append(drawn)
    store = SampleStore(tmp_path, which)  # type: ignore[arg-type]
    for s in store.measured(drawn):
        assert s.utility == sign * getattr(store.measurements[s.sample_id], field)


class TestSameContentTwice:
    def test_two_pairs_share_one_measurement_and_have_a_row_each(self, tmp_path: Path) -> None:
        store, drawn = SampleStore(tmp_path, "accuracy"), samples()
        again = dataclasses.replace(drawn[0], pair_id=7)
        prefix = dataclasses.replace(drawn[0], pair_id=-1, iteration=2)
        store.append([drawn[0]])
        assert store.missing([again, prefix]) == []
        for other in (again, prefix):
            assert store.append(store.measured([other])) is not None
            assert store.append(store.measured([other])) is None
        assert rows(tmp_path) == sorted(places([drawn[0], again, prefix]))
        reread = SampleStore(tmp_path, "accuracy")
        assert len(reread.measurements) == 1
        assert reread.append(reread.measured([again, prefix, drawn[0]])) is None

    def test_twice_in_one_batch_is_one_row(self, tmp_path: Path) -> None:
        drawn = samples()
        SampleStore(tmp_path, "accuracy").append([drawn[0], drawn[1], drawn[0]])
        assert rows(tmp_path) == sorted(places(drawn[:2]))

    def test_a_prefix_and_a_pair_of_it_stay_apart(self, tmp_path: Path) -> None:
        prefix = nested_samples([5, 20], 0, "who")[0].measured(measurement(0), "accuracy")
        pair = dataclasses.replace(prefix, pair_id=0, iteration=-1)
        store = SampleStore(tmp_path, "accuracy")
        store.append([prefix])
        store.append([pair])
        assert rows(tmp_path) == sorted(places([prefix, pair])) and len(names(tmp_path)) == 2


class TestRuns:
    def test_which_command_trained_what(self, tmp_path: Path) -> None:
        drawn = samples(4)
        first = SampleStore(tmp_path / "one", "accuracy")
        first.run = "yesterday"
        first.append(drawn[:4])
        today = SampleStore(tmp_path / "one", "accuracy")
        today.append([*drawn[:6], dataclasses.replace(drawn[0], pair_id=77)])  # the last is another row of a known one
        assert today.run != "yesterday" and "rambo_ray" in today.run
        assert today.runs_of([*drawn[:6], drawn[0]]) == [
            {"run": today.run, "folder": None, "samples": 2},
            {"run": "yesterday", "folder": None, "samples": 4},
        ]
        later = SampleStore(tmp_path / "two", "accuracy", tmp_path / "one")
        later.run = "tomorrow"
        later.append(drawn)
        assert later.runs_of(drawn) == [
            {"run": today.run, "folder": str(tmp_path / "one"), "samples": 2},
            {"run": "tomorrow", "folder": None, "samples": 2},
            {"run": "yesterday", "folder": str(tmp_path / "one"), "samples": 4},
        ]

    def test_what_earlier_versions_trained_is_counted_without_a_name(self, tmp_path: Path) -> None:
        drawn = samples(2)
        path = SampleStore(tmp_path, "accuracy").append(drawn)
        assert path is not None
        pq.write_table(pq.read_table(path).drop_columns(["run"]), tmp_path / "part-0.parquet")
        path.unlink()
        store = SampleStore(tmp_path, "accuracy")
        assert store.runs_of(drawn[:3]) == [{"run": None, "folder": None, "samples": 3}] and store.runs_of([]) == []


class TestFiles:
    def test_one_file_a_batch_and_no_file_is_touched_again(self, tmp_path: Path) -> None:
        store, drawn = SampleStore(tmp_path, "accuracy"), samples()
        first = store.append(drawn[:2])
        assert first is not None and first.parent == tmp_path
        before = first.read_bytes()
        second = store.append(drawn)  # overlaps the first: only what is new is written
        assert second is not None and names(tmp_path) == sorted([first.name, second.name])
        assert first.read_bytes() == before
        assert pq.read_table(second).num_rows == 4

    def test_written_as_documented(self, tmp_path: Path) -> None:
        drawn = samples()
        path = SampleStore(tmp_path, "accuracy").append(drawn)
        table = pq.read_table(path)
        assert table.schema.equals(SCHEMA)
        assert table.column_names == [
            *("sample_id", "pair_id", "iteration", "kind", "indices", "size"),
            *MEANS,
            *("accuracy_std", "soft_accuracy_std", "val_loss_std"),
            *("utility", "otdd", "epochs", "passes", "seconds", "fold"),
            *("training_id", "data", "seed", "rule", "trainings", "run"),
        ]
        for row, s in zip(table.to_pylist(), drawn, strict=True):
            assert s.measurement is not None
            assert (row["kind"], row["indices"], row["size"]) == ("retrained", list(s.indices), s.size)
            assert (row["epochs"], row["passes"]) == (s.measurement.epochs, s.measurement.images_seen)
            assert row["utility"] == np.float32(s.measurement.accuracy)
            assert row["training_id"] is None and row["trainings"] is None

    @pytest.mark.parametrize("stopped_at", ["half the file", "the renaming"])
    def test_a_stop_while_writing_loses_that_batch_and_nothing_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_at: str
    ) -> None:
        store, drawn = SampleStore(tmp_path, "accuracy"), samples()
        store.append(drawn[:2])

        @contextmanager
        def stopped(path: Path, *, durable: bool) -> Iterator[Path]:
            temporary = path.with_name(f".{path.name}.half.tmp")
            yield temporary
            temporary.write_bytes(temporary.read_bytes()[:100])
            raise KeyboardInterrupt

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        if stopped_at == "half the file":
            monkeypatch.setattr(parts, "replacing", stopped)
        else:
            monkeypatch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            store.append(drawn)
        monkeypatch.undo()
        # Neither this store nor the next run's takes the batch for written, and both can go on.
        for later in (store, SampleStore(tmp_path, "accuracy")):
            assert places(later.missing(drawn)) == places(drawn[2:])
        assert store.append(drawn) is not None
        assert rows(tmp_path) == sorted(places(drawn))

    def test_what_a_killed_run_left_half_written_is_ignored(self, tmp_path: Path) -> None:
        store, drawn = SampleStore(tmp_path, "accuracy"), samples()
        path = store.append(drawn[:2])
        assert path is not None
        (tmp_path / f".{path.name}.4711.tmp").write_bytes(path.read_bytes()[:40])
        (tmp_path / ".part-0123456789abcdef.parquet.4712.tmp").write_bytes(b"")
        (tmp_path / "notes.txt").write_text("mine")
        reread = SampleStore(tmp_path, "accuracy")
        assert reread.measurements == store.measurements
        assert places(reread.missing(drawn)) == places(drawn[2:])

    def test_a_sample_that_was_never_measured_leaves_no_file(self, tmp_path: Path) -> None:
        # A file with such a row would stop every later run in this directory.
        unmeasured = offline_pairs(1, 20, 4, "uniform", 0, "who")
        store = SampleStore(tmp_path, "accuracy")
        with pytest.raises(TypeError):
            store.append(unmeasured)
        assert list(tmp_path.iterdir()) == []
        assert places(store.missing(unmeasured)) == places(unmeasured)


class TestFloat32:
    @given(st.lists(FINITE, min_size=8, max_size=8), st.integers(1, 2**31 - 1), st.integers(0, 2**62))
    @hypothesis_settings(max_examples=25)
    def test_a_run_and_its_resumption_compute_with_the_same_numbers(
        self, tmp_path_factory: pytest.TempPathFactory, reals: list[float], epochs: int, images_seen: int
    ) -> None:
        folder = tmp_path_factory.mktemp("store")
        exact = Measurement(**dict(zip(REALS, reals, strict=True)), epochs=epochs, images_seen=images_seen)
        sample = UtilitySample(sample_id([1, 2], ""), 0, -1, "retrained", (1, 2)).measured(exact, "neg_val_loss")
        running = SampleStore(folder, "neg_val_loss")
        running.append([sample])
        resumed = SampleStore(folder, "neg_val_loss")
        assert running.measured([sample]) == resumed.measured([sample])
        kept = running.measurements[sample.sample_id]
        assert kept == Measurement(
            **{name: float(np.float32(getattr(exact, name))) for name in REALS}, epochs=epochs, images_seen=images_seen
        )

    def test_what_is_rounded_once_is_not_rounded_again(self, tmp_path: Path) -> None:
        drawn = samples()
        first = SampleStore(tmp_path / "a", "accuracy")
        first.append(drawn)
        second = SampleStore(tmp_path / "b", "accuracy")
        second.append(first.measured(drawn))
        assert second.measurements == first.measurements
        assert first.measured(drawn)[1].measurement != drawn[1].measurement  # 1/7 is no float32

    def test_an_otdd_that_was_not_wanted_is_none(self, tmp_path: Path) -> None:
        drawn = samples(1)
        round_ = dataclasses.replace(measurement(0), otdd=math.nan)
        SampleStore(tmp_path, "accuracy").append([drawn[0].measured(round_, "accuracy")])
        found = SampleStore(tmp_path, "neg_val_loss").measured(drawn[:1])[0]
        assert found.measurement is not None and math.isnan(found.measurement.otdd)


class TestInterpolated:
    def interpolated(self, count: int) -> list[UtilitySample]:
        drawn = offline_pairs(count, 20, 4, "uniform", 3, "who")
        return [dataclasses.replace(s, kind="interpolated", iteration=0, utility=0.25 + s.pair_id) for s in drawn]

    def test_the_file_is_replaced(self, tmp_path: Path) -> None:
        store = SampleStore(tmp_path, "accuracy")
        assert store.write_interpolated(self.interpolated(5)) == store.write_interpolated(self.interpolated(2))
        assert names(tmp_path) == ["interpolated.parquet"]
        table = pq.read_table(tmp_path / "interpolated.parquet")
        assert table.schema.equals(SCHEMA)
        assert table["utility"].to_pylist() == [0.25, 0.25, 1.25, 1.25]
        assert table["accuracy"].to_pylist() == [None] * 4 and table["epochs"].to_pylist() == [None] * 4

    def test_they_are_never_taken_for_measured_ones(self, tmp_path: Path) -> None:
        store, drawn = SampleStore(tmp_path, "accuracy"), self.interpolated(2)
        store.write_interpolated(drawn)
        assert store.missing(drawn) == drawn
        assert SampleStore(tmp_path, "accuracy").missing(drawn) == drawn


def test_an_earlier_run_s_samples_count_and_are_written_where_they_are_used(tmp_path: Path) -> None:
    drawn = samples(4)
    SampleStore(tmp_path / "one", "accuracy").append(drawn)
    before = {path: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    store = SampleStore(tmp_path / "two", "accuracy", tmp_path / "one")
    wanted, others = drawn[:3], samples(2, "somebody else")
    assert store.reused([*wanted, *others, wanted[0]]) == 3
    assert places(store.missing([*wanted, *others])) == places(others)
    store.append(store.measured(wanted))
    assert rows(tmp_path / "two") == sorted(places(wanted))
    assert {path: path.read_bytes() for path in (tmp_path / "one").iterdir()} == before
    alone = SampleStore(tmp_path / "two", "accuracy")
    assert alone.reused(wanted) == 0 and alone.measurements == {
        s.sample_id: store.measurements[s.sample_id] for s in wanted
    }
