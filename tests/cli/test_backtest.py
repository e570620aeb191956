"""What is wrong with a backtest is said in one line before Ray starts, exit code 2, and nothing is written."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from rambo_ray.acquisition.baselines import STRATEGIES
from rambo_ray.benchmark.experiment import CEILINGS
from rambo_ray.benchmark.experiment import METHODS as BENCHMARKED
from rambo_ray.cli.backtest import METHODS, Asked, methods
from rambo_ray.cli.main import job
from rambo_ray.config.schema import STRATEGY_NAMES

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "jobs/configs/digits_smoke.yaml")
backtest, run, sweep, benchmark, costed = (
    partial(job, name) for name in ("backtest", "run", "sweep", "benchmark", "plan")
)


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("ray.init", started)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--folds", "1"], "--folds 1: must be 2 or more"),
        (["--folds", "x"], "invalid int value"),
        (["--methods", "bagde"], "--methods bagde: no such method; did you mean 'badge'?"),
        (["--methods", "random"], "nothing to compare it with"),
        (["--methods", "margin_accepted,badge"], "no images were rejected before"),
        (["acquisition.budget=1000"], "B must not exceed the pool's 300 images"),
        (["data.num_validation=8"], "give more validation images"),
        (["acquisition.stratgy=badge"], "did you mean 'acquisition.strategy'?"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "backtest"
    assert backtest(["--config", CONFIG, "--output", str(folder), *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and said in lines[0]
    assert not folder.exists()


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    assert backtest(["--config", CONFIG, "--output", str(tmp_path)]) == 2
    assert "holds a run or a sweep, not a backtest" in capsys.readouterr().err
    (tmp_path / "config.yaml").rename(tmp_path / "letter.txt")
    assert backtest(["--config", CONFIG, "--output", str(tmp_path)]) == 2
    assert "not empty and not a backtest's directory" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_strategy_that_there_is_not_is_refused_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--config", CONFIG, "--output", str(tmp_path / "x"), "acquisition.strategy=bagde"]) == 2
    assert "acquisition.strategy=bagde: no such strategy; did you mean 'badge'?" in capsys.readouterr().err
    space = ["--space", str(ROOT / "tune_configs/lambda_b_M.yaml")]
    assert sweep(["--config", CONFIG, *space, "--output", str(tmp_path / "x"), "acquisition.strategy=badge"]) == 2
    assert "a sweep tries settings of RAMBO" in capsys.readouterr().err
    asked = ["--experiment", "digits", "--output", str(tmp_path / "x"), "acquisition.strategy=badge"]
    assert benchmark(asked) == 2
    assert "an experiment's methods say who picks" in capsys.readouterr().err
    assert costed(["--config", CONFIG, "--folds", "-1"]) == 2
    assert "--folds -1: must not be negative" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_every_strategy_is_a_method_of_a_benchmark_and_none_looks_at_the_truth() -> None:
    assert set(STRATEGIES) < set(STRATEGY_NAMES) <= set(BENCHMARKED) - set(CEILINGS)
    assert set(METHODS) == set(STRATEGY_NAMES) - {"margin_accepted"}


def test_random_always_takes_part_and_each_once() -> None:
    assert methods(["badge", "rambo", "badge"]) == ("badge", "rambo", "random")
    assert methods(["random", "badge"]) == ("random", "badge") and methods(None) == METHODS


def test_the_command_that_carries_the_advice_out_names_the_strategy() -> None:
    asked = Asked(2, ("rambo",), None, "rambo backtest", "rambo run --output DIR a=1")
    assert asked.picks("rambo") == "rambo run --output DIR a=1"
    assert asked.picks("badge") == "rambo run --output DIR a=1 acquisition.strategy=badge"


def test_a_strategy_of_ones_own_is_known_by_where_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert methods(["numpy:arange"]) == ("numpy:arange", "random")
    assert run(["--config", CONFIG, "--output", str(tmp_path / "x"), "acquisition.strategy=numpy:arrange"]) == 2
    assert "numpy has no arrange; did you mean 'arange'?" in capsys.readouterr().err
    assert backtest(["--config", CONFIG, "--methods", "nowhere:at_all"]) == 2
    assert "importing nowhere raised ModuleNotFoundError" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
