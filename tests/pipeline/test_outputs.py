"""The output directory: whose it is, that files are whole or not there, and what is in them."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray import run_log
from rambo_ray.acquisition.greedy import Selection
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data.images import Images, LabeledImages
from rambo_ray.data.problem import Problem
from rambo_ray.errors import UserError
from rambo_ray.files import finite
from rambo_ray.pipeline import claims, outputs
from rambo_ray.pipeline.outputs import Output, manifest

from ..data.written_images import pictures

# A run may go on after these; after anything else its utility samples would be another problem's.
MAY_CHANGE = [
    "cluster.num_workers=3",
    "cluster.fit_workers=2",
    "output.report_images=4",
    "acquisition.budget=100",
    "utility_model.lambda_ot=0",
    "utility_samples.num_pairs=900",
    "utility_samples.num_held_out=5",
    "data.root=elsewhere",
    "data.download=false",
    "pretraining.num_interpolated=7",
    "utility_samples.repeats=2",
    "utility_samples.otdd_entreg=0.2",
    "utility_samples.otdd_solver=emd",
]
MAY_NOT = [
    "seed=1",
    "data.num_labeled=150",
    "data.split_seed=4",
    "data.pool_limit=90",
    "classifier.max_epochs=3",
    "classifier.precision=float32",
    "utility_samples.utility=neg_val_loss",
    "utility_samples.sizes=powerset",
    "pretraining.k_1=60",
    "pretraining.tau_1=3",
]


def claim(folder: str | Path, config: Config, space: str | None = None, problem: Problem | None = None) -> Output:
    """A claim that ends at once."""
    with Output.claim(folder, config, space, problem) as output:
        return output


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below `folder` but the log, with its bytes and the time it was last written."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != run_log.NAME]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def refused(folder: Path, config: Config) -> str:
    """The error of a claim; fails unless it is one line and nothing was touched."""
    before = contents(folder)
    with pytest.raises(UserError) as error:
        claim(folder, config)
    assert contents(folder) == before
    line = str(error.value)
    assert line.startswith(f"--output {folder.resolve()}: ") and line.splitlines() == [line]
    return line


class TestClaim:
    def test_a_new_directory_holds_the_configuration_and_the_log_and_nothing_else(self, tmp_path: Path) -> None:
        config = loading.load(None, ["seed=5", "output.dir='1e3'"])
        output = claim(tmp_path / "new" / "run", config)
        assert output.folder == tmp_path / "new" / "run"
        assert list(contents(tmp_path)) == ["new/run/config.yaml"]
        assert (output.folder / run_log.NAME).is_file()
        assert loading.load(output.folder / "config.yaml") == config

    def test_an_empty_directory_is_as_good_as_none(self, tmp_path: Path) -> None:
        claim(str(tmp_path), Config())
        assert list(contents(tmp_path)) == ["config.yaml"]

    def test_where_home_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        assert claim("~/run", Config()).folder == tmp_path / "run"

    def test_the_folder_does_not_move_with_the_working_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert claim("run", Config()).folder == tmp_path / "run"

    @pytest.mark.parametrize("override", [None, *MAY_CHANGE])
    def test_the_same_run_goes_on(self, tmp_path: Path, override: str | None) -> None:
        claim(tmp_path, Config())
        (tmp_path / "utility_samples").mkdir()
        (tmp_path / "utility_samples" / "part-1.parquet").write_bytes(b"kept")
        config = loading.load(None, [override] if override else [])
        claim(tmp_path, config)
        assert loading.load(tmp_path / "config.yaml") == config
        assert sorted(contents(tmp_path)) == ["config.yaml", "utility_samples/part-1.parquet"]
        assert contents(tmp_path)["utility_samples/part-1.parquet"][0] == b"kept"

    @pytest.mark.parametrize("override", MAY_NOT)
    def test_another_run_is_refused(self, tmp_path: Path, override: str) -> None:
        claim(tmp_path, Config())
        (tmp_path / "metrics.json").write_text("{}")
        line = refused(tmp_path, loading.load(None, [override]))
        key, _, value = override.partition("=")
        default = loading.flatten(Config())[key]
        held = "null" if default is None else default  # "the same value" has to be one that can be typed
        assert f"holds a run with {key}={held}, this one has {value}; " in line
        assert "give another directory or the same value" in line

    def test_every_key_is_decided_on(self) -> None:
        # A new section lands among those that may not change, until someone says that it may.
        free = {key for key in loading.dotted_keys() if key.startswith(claims._MAY_DIFFER)}
        sections = {key.partition(".")[0] for key in free}
        assert sections == {"cluster", "output", "acquisition", "utility_model", "utility_samples"}
        assert {key for key in free if key.startswith("utility_samples")} == {
            "utility_samples.num_pairs",
            "utility_samples.num_held_out",
            *(f"utility_samples.otdd_{name}" for name in ("method", "solver", "backend", "entreg")),
        }
        assert set(claims._MAY_DIFFER_TOO) <= set(loading.dotted_keys())  # no key that was renamed since

    @pytest.mark.parametrize("name", ["thesis.txt", ".hidden", "sub/config.yaml"])
    def test_someone_elses_directory_is_refused(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
        assert "not empty and not a run's directory" in refused(tmp_path, Config())

    @pytest.mark.parametrize("text", ["nothing: 1\n", "data: [\n", "seed: 0\nseed: 0\n", "- 1\n", "seed: '0'\n"])
    def test_a_configuration_of_another_program_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "config.yaml").write_text(text)
        assert "its config.yaml is not of this version (" in refused(tmp_path, Config())

    def test_a_value_of_two_lines_is_said_in_one(self, tmp_path: Path) -> None:
        own = ["data.name=own", "data.validation=b", "data.pool=c"]
        claim(tmp_path, loading.load(None, [*own, r'data.labeled="two\nlines"'])).write_text("metrics.json", "{}")
        line = refused(tmp_path, loading.load(None, [*own, "data.labeled=a"]))
        assert "holds a run with data.labeled=two lines, this one has a; " in line

    def test_a_path_that_leads_nowhere(self, tmp_path: Path) -> None:
        (tmp_path / "circle").symlink_to(tmp_path / "back")
        (tmp_path / "back").symlink_to(tmp_path / "circle")
        for folder in ("~no-such-user-at-all/run", tmp_path / "circle", tmp_path / ("x" * 300)):
            with pytest.raises(UserError) as error:
                claim(folder, Config())
            line = str(error.value)
            assert line.startswith(f"--output {folder}: ") and len(line.splitlines()) == 1
            assert line.endswith("; give a directory you can write to") and ": None" not in line
        assert contents(tmp_path) == {}

    @pytest.mark.parametrize("denied", ["is_file", "is_dir", "iterdir", "mkdir"])
    def test_where_one_may_not_look(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, denied: str) -> None:
        # By hand: to root, who runs tests in containers, nothing is denied.
        def deny(*_: object, **__: object) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr(Path, denied, deny)
        with pytest.raises(UserError, match="^--output .*: Permission denied; give a directory you can write to$"):
            claim(tmp_path, Config())
        monkeypatch.undo()
        assert contents(tmp_path) == {}

    def test_where_nothing_can_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        for folder in (tmp_path / "file", tmp_path / "file" / "run"):
            with pytest.raises(UserError, match=f"^--output {folder}: .*; give a directory you can write to$"):
                claim(folder, Config())
        assert list(contents(tmp_path)) == ["file"]


class TestRunsAndSweeps:
    def test_keep_to_directories_of_their_own(self, tmp_path: Path) -> None:
        config = loading.load(None)
        claim(tmp_path / "sweep", config, "keys: 1")
        assert (tmp_path / "sweep" / "space.yaml").read_text() == "keys: 1"
        with pytest.raises(UserError, match="holds a sweep, not a run"):
            claim(tmp_path / "sweep", config)
        claim(tmp_path / "run", config)
        with pytest.raises(UserError, match="holds a run, not a sweep"):
            claim(tmp_path / "run", config, "keys: 1")
        assert not (tmp_path / "run" / "space.yaml").exists()
        claim(tmp_path / "sweep", config, "keys: 2")
        assert (tmp_path / "sweep" / "space.yaml").read_text() == "keys: 2"


class TestWriting:
    def test_text_is_replaced_whole_and_nothing_stays_beside_it(self, tmp_path: Path) -> None:
        output = Output(tmp_path)
        for text in ("a long first text, héhé\n" * 50, "short\n"):
            path = output.write_text("report.html", text)
            assert path.read_text(encoding="utf-8") == text
        assert list(contents(tmp_path)) == ["report.html"]

    @pytest.mark.parametrize("what", ["text", "json", "selection"])
    def test_a_stop_before_the_renaming_leaves_the_old_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
    ) -> None:
        output = Output(tmp_path)

        def write(number: int) -> Path:
            if what == "text":
                return output.write_text("report.html", str(number))
            if what == "json":
                return output.write_json("metrics.json", {"number": number})
            return output.write_selection(selection(number), [f"image {i}" for i in range(20)])

        path = write(3)
        old, renamed = path.read_bytes(), []

        def stop(source: Path, target: Path) -> None:
            renamed.append(target)
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            write(4)
        assert renamed == [path] and path.read_bytes() == old

    def test_json_can_be_read_by_anyone(self, tmp_path: Path) -> None:
        content = {"tau": math.nan, "accuracy": np.float32(0.5), "names": ("é", None), "n": np.int64(3)}
        path = Output(tmp_path).write_json("metrics.json", content)

        def strict(constant: str) -> None:
            raise AssertionError(f"{constant} is not JSON")

        text = path.read_text(encoding="utf-8")
        found = json.loads(text, parse_constant=strict)
        assert found == {"tau": None, "accuracy": 0.5, "names": ["é", None], "n": 3}
        assert text.endswith("}\n") and "é" in text and list(found) == list(content)


def selection(count: int) -> Selection:
    index = np.array([7, 2, 19, 4, 11, 0][:count])
    return Selection(index, np.arange(count) // 2, np.linspace(0, 1, count), np.arange(count) / 3, (np.zeros(2),))


class TestSelection:
    def test_one_row_per_image_in_the_order_picked(self, tmp_path: Path) -> None:
        ids = [f"image {i}" for i in range(20)]
        path = Output(tmp_path).write_selection(selection(5), ids)
        assert path == tmp_path / "selection.parquet"
        assert sorted(contents(tmp_path)) == ["selection.csv", "selection.parquet"]
        table = pq.read_table(path)
        assert table.schema.equals(
            pa.schema(
                {
                    "id": pa.string(),
                    "pool_index": pa.int64(),
                    "order": pa.int32(),
                    "step": pa.int32(),
                    "margin": pa.float32(),
                    "utility": pa.float32(),
                }
            )
        )
        columns = table.to_pydict()
        assert columns["id"] == ["image 7", "image 2", "image 19", "image 4", "image 11"]
        assert columns["pool_index"] == [7, 2, 19, 4, 11]
        assert columns["order"] == [0, 1, 2, 3, 4] and columns["step"] == [0, 0, 1, 1, 2]
        assert columns["margin"] == [0, 0.25, 0.5, 0.75, 1]
        assert columns["utility"] == [float(np.float32(i / 3)) for i in range(5)]

    def test_the_csv_says_the_same(self, tmp_path: Path) -> None:
        ids = [*(f"image {i}" for i in range(20))]
        ids[7], ids[2], ids[19] = 'a "b", c', "007", "zwei\nZeilen ü"
        chosen = replace(selection(5), utility=np.full(5, math.nan))
        path = Output(tmp_path).write_selection(chosen, ids)
        with open(tmp_path / "selection.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        table = pq.read_table(path).to_pydict()
        assert list(rows[0]) == list(table) and [row["id"] for row in rows] == table["id"]
        for name in ("pool_index", "order", "step"):
            assert [int(row[name]) for row in rows] == table[name]
        assert [np.float32(row["margin"]) for row in rows] == table["margin"]
        assert {row["utility"] for row in rows} == {"nan"}

    def test_an_id_outside_the_pool_is_no_row(self, tmp_path: Path) -> None:
        with pytest.raises(IndexError):
            Output(tmp_path).write_selection(selection(5), [f"image {i}" for i in range(19)])
        assert contents(tmp_path) == {}


NUMBERS = st.one_of(st.floats(), st.floats(width=32).map(np.float32), st.integers(0, 9).map(np.int16), st.booleans())
JSON = st.recursive(
    st.one_of(NUMBERS, st.none(), st.text(max_size=3), st.integers()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner, inner), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


class TestFinite:
    @given(JSON)
    def test_whatever_it_holds_it_is_json(self, value: Any) -> None:
        found = finite(value)
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert finite(found) == found

    def test_only_what_json_cannot_hold_is_replaced(self) -> None:
        value = {"a": [1.5, math.inf, -math.inf, math.nan], "b": (np.float64("nan"), np.float32(2), True, "nan", None)}
        found = finite(value)
        assert found == {"a": [1.5, None, None, None], "b": [None, 2.0, True, "nan", None]}
        assert found["b"][2] is True and finite(np.bool_(True)) is True
        assert math.isinf(value["a"][1])  # the caller's own is left alone


def test_manifest_says_what_the_results_depend_on(tmp_path: Path) -> None:
    labeled, validation = (
        LabeledImages(pictures(4, seed), tuple(f"{seed}-{i}" for i in range(4)), np.array([0, 1, 0, 1]))
        for seed in (1, 2)
    )
    problem = Problem(labeled, validation, Images(pictures(3), ("a", "b", "c")), ("cat", "dog"), (0.5,), (0.5,))
    found = manifest(loading.load(None, ["seed=9"]), problem, "bfloat16")
    assert (found["seed"], found["precision"]) == (9, "bfloat16")
    assert found["data"]["fingerprint"] == problem.fingerprint != found["data"]["pool_fingerprint"]
    assert (found["data"]["classes"], found["data"]["image_shape"]) == (["cat", "dog"], list(problem.shape))
    assert set(found["versions"]) == set(outputs.PACKAGES)
    assert found["versions"]["numpy"] == np.__version__
    assert finite(found) == found  # it is written as JSON
    json.dumps(found, allow_nan=False)
