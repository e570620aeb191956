"""What the shells complete: by bash itself, and of the others by what is in their scripts."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from rambo_ray.cli import completion, main, ready
from rambo_ray.cli.commands import COMMANDS
from rambo_ray.config import loading

SHELLS = ("bash", "zsh", "fish")
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "rambo.bash"
    path.write_text(completion.script("bash"))
    return path


def completed(bash: Path, folder: Path, *words: str) -> list[str]:
    """What bash offers for the last of `words`, which it has divided at `=`."""
    listed = " ".join(map(shlex.quote, ("rambo", *words)))
    set_up = f"source {bash}; COMP_WORDS=({listed}); COMP_CWORD={len(words)}"
    ask = f"{set_up}; _rambo_complete; printf '%s\\n' ${{COMPREPLY[@]}}"
    said = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, cwd=folder, check=True)
    return said.stdout.split()


@needs_bash
class TestBash:
    def test_commands(self, bash: Path, tmp_path: Path) -> None:
        assert set(completed(bash, tmp_path, "")) >= set(COMMANDS)
        assert completed(bash, tmp_path, "benc") == ["benchmark"]

    def test_options_of_a_command(self, bash: Path, tmp_path: Path) -> None:
        assert completed(bash, tmp_path, "run", "--o") == ["--output"]
        assert completed(bash, tmp_path, "sweep", "--or") == ["--oracle"]
        assert completed(bash, tmp_path, "run", "--or") == []

    def test_ready_names_and_files(self, bash: Path, tmp_path: Path) -> None:
        (tmp_path / "digits_of_mine.yaml").touch()
        found = completed(bash, tmp_path, "run", "--config", "digits")
        assert sorted(found) == ["digits", "digits_of_mine.yaml", "digits_smoke"]
        assert set(completed(bash, tmp_path, "sweep", "--space", "")) >= set(ready.known("space"))
        assert completed(bash, tmp_path, "benchmark", "--experiment", "ceil") == ["ceilings"]

    def test_keys_however_many_came_before(self, bash: Path, tmp_path: Path) -> None:
        assert completed(bash, tmp_path, "run", "acquisition.bud") == ["acquisition.budget="]
        before = ("run", "--config", "digits", "seed", "=", "1")
        assert completed(bash, tmp_path, *before, "acquisition.bud") == ["acquisition.budget="]

    def test_files_behind_a_key(self, bash: Path, tmp_path: Path) -> None:
        (tmp_path / "photos").mkdir()
        (tmp_path / "pool.npz").touch()
        assert sorted(completed(bash, tmp_path, "run", "data.pool", "=", "p")) == ["photos", "pool.npz"]
        assert sorted(completed(bash, tmp_path, "run", "data.pool", "=")) == ["photos", "pool.npz"]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_knows_commands_options_and_keys(shell: str) -> None:
    script = completion.script(shell)
    assert all(name in script for name in COMMANDS) and "log-json" in script
    assert all(f"{key}=" in script for key in loading.dotted_keys())
    assert all(name in script for name in ready.known("config"))


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shells_that_are_here_can_read_it(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    path = tmp_path / "script"
    path.write_text(completion.script(shell))
    subprocess.run([shell, "-n", str(path)], check=True)  # reads, and runs nothing


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["completion", "bash"]) == 0
    assert capsys.readouterr().out == completion.script("bash")
    assert main.main(["completion", "csh"]) == 2
    assert "invalid choice: 'csh'" in capsys.readouterr().err
