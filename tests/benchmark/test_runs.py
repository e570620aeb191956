"""Runs of a benchmark: what their ids depend on, and a file that survives crashes and neighbours."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from rambo_ray.benchmark.experiment import FILTERED, Method
from rambo_ray.benchmark.runs import BenchmarkRun, RunStore, run_id
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.errors import UserError

CELL = BenchmarkRun(
    "a" * 32, "digits", "rambo", 20, 1, accuracy=0.5, test_accuracy=math.nan, before=0.25, test_before=math.nan,
    ranking_accuracy=0.75, kendall_tau=-0.5, select_seconds=1.25, fit_seconds=1.0, sample_seconds=30.0,
    train_seconds=0.5, epochs=12,
)  # fmt: skip


def named(name: str) -> BenchmarkRun:
    return replace(CELL, run_id=name * 32)


def config(**values: object) -> Config:
    return loading.with_values(Config(), values)  # type: ignore[arg-type]


def of(kind: str, fingerprint: str = "f", settings: str = "r", **values: object) -> str:
    keys = {name.replace("__", "."): value for name, value in values.items()}
    return run_id(config(**keys), Method("any name", kind, {}), fingerprint, settings)


class TestId:
    def test_depends_on_what_the_numbers_depend_on(self) -> None:
        ids = [
            of("rambo"), of("rambo_shuffled"), of("rambo", "g"), of("rambo", settings="s"), of("rambo", seed=1),
            of("rambo", acquisition__budget=400), of("rambo", utility_model__lambda_ot=0.5),
            of("rambo", utility_samples__num_pairs=7), of("rambo", data__split_seed=0),
        ]  # fmt: skip
        assert len(set(ids)) == len(ids)

    def test_not_on_where_and_on_what_it_is_computed(self) -> None:
        assert of("rambo") == of("rambo", cluster__num_workers=7, data__root="/elsewhere", output__report_images=3)

    def test_not_on_the_name_it_has_in_an_experiment(self) -> None:
        one, other = (run_id(config(), Method(name, "badge", {}), "f", "r") for name in "xy")
        assert one == other

    def test_a_baseline_does_not_look_at_u_hat_or_the_filter(self) -> None:
        assert of("badge") == of("badge", utility_samples__num_pairs=7, utility_model__lambda_ot=0.0)
        assert of("badge") == of("badge", acquisition__margin_pool=700, acquisition__batch_size=10)
        assert of("badge") != of("badge", acquisition__budget=400)

    @pytest.mark.parametrize("kind", sorted(FILTERED))
    def test_a_control_looks_at_the_filter_but_not_at_u_hat(self, kind: str) -> None:
        assert of(kind) == of(kind, utility_samples__num_pairs=7, pretraining__k_1=20)
        assert of(kind) == of(kind, acquisition__candidates="partition", acquisition__draws=3)
        assert of(kind) != of(kind, acquisition__margin_pool=700)

    @pytest.mark.parametrize("kind", ["min_margin", "oracle_balanced", "uncertainty_herding"])
    def test_what_is_new_does_neither(self, kind: str) -> None:
        assert of(kind) == of(kind, acquisition__margin_pool=700, utility_model__lambda_ot=0.0)

    @pytest.mark.parametrize("kind", ["rambo", "badge", "margin_m_random"])
    def test_scenarios_are_runs_of_their_own(self, kind: str) -> None:
        ids = [of(kind), *(of(kind, data__scenario=name) for name in ("long_tail", "off_target", "duplicates"))]
        ids += [of(kind, data__scenario="long_tail", data__imbalance=20.0)]
        assert len(set(ids)) == 5

    def test_those_of_before_there_were_scenarios_are_what_they_were(self) -> None:
        paper = {"method": "paper", "data__name": "mnist"}
        assert of("badge", **paper) == "11185510de16fb735d2901c6da831de7"
        assert of("margin_m_random", **paper) == "0acda4d184745832c646e3fa9733ec3c"


class TestStore:
    def test_what_is_added_is_read_back(self, tmp_path: Path) -> None:
        store = RunStore(tmp_path / "new")
        store.add(named("a"))
        store.add(named("b"))
        again = RunStore(tmp_path / "new").runs
        assert list(again) == ["a" * 32, "b" * 32]
        assert str(again["b" * 32]) == str(named("b"))  # by text, since NaN is not equal to itself
        assert "NaN" not in (tmp_path / "new" / "cells.jsonl").read_text()

    def test_a_line_that_a_crash_cut_off_is_dropped(self, tmp_path: Path) -> None:
        RunStore(tmp_path).add(named("a"))
        path = tmp_path / "cells.jsonl"
        whole = path.read_bytes()
        for length in (1, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole + whole[:length])
            store = RunStore(tmp_path)
            assert list(store.runs) == ["a" * 32]
            store.add(named("b"))
            assert list(RunStore(tmp_path).runs) == ["a" * 32, "b" * 32]

    def test_two_runs_can_share_a_folder(self, tmp_path: Path) -> None:
        one = RunStore(tmp_path)
        one.add(named("a"))
        with (tmp_path / "cells.jsonl").open("a") as file:
            file.write('{"cut off')
        other = RunStore(tmp_path)
        other.add(named("b"))
        one.add(named("c"))
        other.add(named("d"))
        assert list(RunStore(tmp_path).runs) == [name * 32 for name in "abcd"]

    @pytest.mark.parametrize("line", ["[]", "{}", "no json", json.dumps({"cell_id": "a"})])
    def test_a_line_that_is_no_cell_is_named(self, tmp_path: Path, line: str) -> None:
        RunStore(tmp_path).add(CELL)
        with (tmp_path / "cells.jsonl").open("a") as file:
            file.write(line + "\n")
        with pytest.raises(UserError, match=r"cells.jsonl line 2: is no run of this version") as error:
            RunStore(tmp_path)
        assert "\n" not in str(error.value)

    def test_a_line_is_short_and_says_which_run_it_is(self, tmp_path: Path) -> None:
        RunStore(tmp_path).add(replace(CELL, accuracy=1 / 3, train_seconds=1 / 3))
        line = (tmp_path / "cells.jsonl").read_text()
        content = json.loads(line)
        assert len(line) < 500 and (content["data"], content["method"], content["budget"]) == ("digits", "rambo", 20)
        assert (content["accuracy"], content["train_seconds"]) == (0.333333, 0.33)
        assert set(content) == set(asdict(CELL)) - {"run_id"} | {"cell_id"}
