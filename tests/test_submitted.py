"""A job's copy of its working directory: results that would be deleted with it are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from rambo_ray import submitted
from rambo_ray.cli import main
from rambo_ray.config import loading
from rambo_ray.errors import UserError
from rambo_ray.pipeline import claims

COPY = "session_2026-01-01_00-00-00_000000_1/runtime_resources/working_dir_files/_ray_pkg_0123456789abcdef"


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process in such a copy, of a Ray with a folder of its own."""
    folder = tmp_path / "ray_8000" / COPY
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("given", ["run", "./run", "runs/../run", "{copy}/run", "."])
def test_what_would_be_deleted_is_refused(copy: Path, given: str) -> None:
    with pytest.raises(UserError, match="--output .*: lies in the job's copy of its working directory, .* absolute"):
        submitted.refuse_copy("--output", given.format(copy=copy))


@pytest.mark.parametrize(
    "given", ["../../../../../run", "/mnt/run", "~/run", "/a/working_dir_files/b", "~nobody-here/x"]
)
def test_what_lasts_is_not(copy: Path, given: str) -> None:
    submitted.refuse_copy("--output", given)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--config", "digits", "--output", "run"],
        ["run", "--config", "digits", "output.dir=run"],
        ["collect", "--config", "digits", "--output", "run"],
        ["sweep", "--config", "digits", "--space", "lambda_ot", "--output", "run"],
        ["sweep", "--config", "digits", "--space", "lambda_ot", "--output", "/mnt/run", "--samples", "samples"],
        ["benchmark", "--experiment", "digits", "--output", "run"],
        ["backtest", "--config", "digits", "--output", "run"],
    ],
)
def test_every_command_refuses_it_before_anything_else(
    copy: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(arguments) == 2
    said = capsys.readouterr().err
    assert "lies in the job's copy" in said and said.count("\n") == 1
    assert not list(copy.iterdir())


def test_so_does_whoever_claims_it(copy: Path) -> None:
    with pytest.raises(UserError, match="lies in the job's copy"):
        claims.resolved("run")
    assert loading.parse({}).output.dir is None
