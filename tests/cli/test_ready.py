"""Ready files: what a name means, in a checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from rambo_ray.cli import ready
from rambo_ray.cli.ready import Kind
from rambo_ray.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package's folder, with a configuration, an experiment and two spaces of its own."""
    package = tmp_path / "site-packages" / "rambo_ray"
    for name in ("configs/small", "experiments/fig9", "spaces/lambda_ot", "spaces/batch_size"):
        file = package / "ready" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("seed: 0\n")
    monkeypatch.setattr(ready, "PACKAGE", package)
    return package


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_a_checkout_has_them_in_its_own_folders(elsewhere: Path) -> None:
    assert ready.configs() == ROOT / "jobs" / "configs"
    assert ready.experiments() == ROOT / "jobs" / "experiments"
    assert ready.spaces() == ROOT / "tune_configs"
    assert ready.file("config", "digits") == ROOT / "jobs" / "configs" / "digits.yaml"
    assert ready.file("space", "lambda_ot.yaml") == ROOT / "tune_configs" / "lambda_ot.yaml"
    assert list(ready.known("experiment")) == sorted(p.stem for p in (ROOT / "jobs" / "experiments").iterdir())


def test_a_wheel_has_them_beside_the_code(wheel: Path, elsewhere: Path) -> None:
    assert ready.configs() == wheel / "ready" / "configs"
    assert ready.experiments() == wheel / "ready" / "experiments"
    assert list(ready.known("space")) == ["batch_size", "lambda_ot"]
    assert ready.file("config", "small") == ready.file("config", "small.yaml") == wheel / "ready/configs/small.yaml"
    assert ready.file("experiment", "fig9") == wheel / "ready" / "experiments" / "fig9.yaml"


def test_nothing_given_stays_nothing() -> None:
    assert ready.file("config", None) is None


@pytest.mark.parametrize("name", ["digits", "digits.yaml", "./digits.yaml"])
def test_a_file_at_the_path_comes_first(name: str, elsewhere: Path) -> None:
    (elsewhere / name).write_text("seed: 1\n")
    assert ready.file("config", name) == Path(name)


def test_a_folder_of_that_name_does_not(elsewhere: Path) -> None:
    (elsewhere / "digits").mkdir()
    assert ready.file("config", "digits") == ROOT / "jobs" / "configs" / "digits.yaml"


@pytest.mark.parametrize("name", ["none/digits.yaml", "jobs/configs/none.yaml", "", "folder"])
def test_what_is_no_name_is_left_to_its_reader(name: str, elsewhere: Path) -> None:
    (elsewhere / "folder").mkdir()
    assert ready.file("config", name) == Path(name)


@pytest.mark.parametrize(
    ("kind", "name", "line"),
    [
        ("config", "fashon_mnist", "--config fashon_mnist: no such configuration; did you mean 'fashion_mnist'?"),
        ("config", "digit.yaml", "--config digit.yaml: No such file, and no ready configuration of that name; did you"),
        ("experiment", "tabel1", "--experiment tabel1: no such experiment; did you mean 'table1'?"),
        ("space", "lambdaot", "--space lambdaot: no such space; did you mean 'lambda_ot'?"),
        ("space", "x", "--space x: no such space; allowed: batch_size, budget_split, "),
    ],
)
def test_an_unknown_name_is_a_line_with_the_nearest(kind: Kind, name: str, line: str, elsewhere: Path) -> None:
    with pytest.raises(UserError) as error:
        ready.file(kind, name)
    said = str(error.value)
    assert said.startswith(line) and said.endswith("(or give the path of a YAML file)") and "\n" not in said
