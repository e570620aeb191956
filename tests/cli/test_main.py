"""The program `rambo` and the files of `jobs/`: who runs what, under which name, and how soon they answer."""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import rambo_ray
from rambo_ray import ends
from rambo_ray.benchmark import experiment
from rambo_ray.cli import commands, entry, main, overview, ready
from rambo_ray.cli.commands import COMMANDS
from rambo_ray.errors import RunError

ROOT = Path(__file__).parents[2]

# What takes long to load, and nobody needs who asks for help or misspells a command.
HEAVY = {
    "numpy", "torch", "ray", "matplotlib", "scipy", "pyarrow", "sklearn", "optuna", "pandas", "rich", "shtab", "PIL",
}  # fmt: skip
ASKING = f"""
import contextlib, io, sys
from rambo_ray.cli import main
code = 0
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    try:
        code = main.main(sys.argv[1:])
    except SystemExit as ended:
        code = ended.code
print(code, *sorted({HEAVY} & set(sys.modules)))
"""


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, argparse.Namespace]]:
    """What was called, in place of the commands' work; each returns 0."""
    called: list[tuple[str, argparse.Namespace]] = []

    class Work:
        def __init__(self, module: str) -> None:
            self.module = module

        def called(self, parsed: argparse.Namespace) -> int:
            called.append((self.module, parsed))
            return 0

    monkeypatch.setattr(entry, "import_module", Work)
    return called


# What a cluster has nothing to do with, and `ray job submit` neither. jobs/inspect.py would also hide the standard
# library's `inspect` from every job, as Python looks for modules beside a script first.
LOCAL = {"completion", "inspect"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_work_and_its_file(name: str) -> None:
    command = COMMANDS[name]
    assert command.name == name and callable(import_module(command.module).called)
    if name not in LOCAL:
        assert f'job("{name}")' in (ROOT / "jobs" / f"{name}.py").read_text()


def test_the_first_argument_names_the_command(work: list[tuple[str, argparse.Namespace]]) -> None:
    arguments = ["seed=1", "--config", "digits", "data.root=x", "--output", "out", "acquisition.budget=5"]
    assert main.main(["collect", *arguments]) == main.job("run", arguments) == 0
    (one, collect), (other, run) = work
    assert (one, other) == ("rambo_ray.cli.collect", "rambo_ray.cli.run")
    assert (collect.program, run.program) == ("rambo collect", "run.py")
    for parsed in (collect, run):  # overrides may stand anywhere
        assert (parsed.config, parsed.output) == ("digits", "out")
        assert parsed.overrides == ["seed=1", "data.root=x", "acquisition.budget=5"]


def test_the_process_arguments_are_the_default(
    work: list[tuple[str, argparse.Namespace]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends, "heed", lambda: None)  # this process is pytest's
    monkeypatch.setattr(sys, "argv", ["rambo", "run", "--dry-run"])
    assert main.main() == 0 and work[0][1].dry_run
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--budgets", "5,10"])
    assert main.job("benchmark") == 0 and work[1][1].budgets == [5, 10]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        ([], 2),
        (["rnu"], 2),
        (["run", "--help"], 0),
        (["run", "--keys"], 0),
        (["sweep", "--help"], 0),
        (["collect", "--help"], 0),
        (["benchmark", "--help"], 0),
        (["export", "--help"], 0),
        (["benchmark", "--buget", "5"], 2),
    ],
)
def test_nothing_heavy_is_loaded_to_answer_a_question(arguments: list[str], code: int) -> None:
    answered = subprocess.run(
        [sys.executable, "-c", ASKING, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answered.stdout.split() == [str(code)], "loaded what takes long"


def test_importing_rambo_loads_nothing_that_takes_seconds() -> None:
    """Nor does making one: a notebook's first cell, and what fails in it, should be there at once."""
    ask = (
        "import sys; from rambo_ray import Rambo; Rambo(budget=5)\n"
        "print(*sorted({'torch', 'ray', 'pandas', 'sklearn', 'matplotlib', 'optuna'} & set(sys.modules)))"
    )
    answered = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answered.stdout.split() == []


def test_the_program_alone_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("usage: rambo COMMAND")
    assert all(f"  {name} " in shown and command.summary in shown for name, command in COMMANDS.items())


def test_the_help_shows_what_people_do() -> None:
    """Of every task whose command there is; each line can be copied, and fits an old terminal."""
    shown = overview.text("rambo", COMMANDS)
    assert max(map(len, shown.splitlines())) <= 80
    for task in overview.TASKS:
        lines = [line for line in task.lines if line.split()[1] in COMMANDS]
        assert (f"{task.title}:" in shown) == bool(lines)
        for line in lines:
            assert line.split() == [word for word in line.split() if word in shown]
            program, name, *arguments = line.split()
            COMMANDS[name].parser(f"{program} {name}").parse_intermixed_args(arguments)  # or a UserError
    only = {"run": COMMANDS["run"]}
    assert "rambo label" not in overview.text("rambo", only) and "  run  Pick" in overview.text("rambo", only)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_help_fits_an_old_terminal(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main.main([name, "--help"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"rambo {rambo_ray.__version__}\n"


def test_help_names_the_program_and_the_ready_files(capsys: pytest.CaptureFixture[str]) -> None:
    for program, call in (("rambo sweep", main.main), ("sweep.py", lambda given: main.job("sweep", given[1:]))):
        with pytest.raises(SystemExit) as ended:
            call(["sweep", "--help"])
        shown = " ".join(capsys.readouterr().out.split())
        assert ended.value.code == 0 and shown.startswith(f"usage: {program} [-h]")
        assert all(name in shown for kind in ("config", "space") for name in ready.known(kind))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["rnu"], "rambo: error: rnu: no such command; did you mean 'run'?"),
        (["x"], f"rambo: error: x: no such command; allowed: {', '.join(sorted(COMMANDS))}"),
        (["--config", "x"], "rambo: error: --config: no option of rambo itself; name a command first (run, "),
        (["run", "--confg", "x"], "rambo run: error: unrecognized arguments: --confg"),
        (
            ["run", "--config", "digit"],
            "rambo run: error: --config digit: no such configuration; did you mean 'digits'?",
        ),
        (["export", "x"], "rambo export: error: the following arguments are required: --to, --output; see rambo exp"),
        (["export", "x", "--to", "csv", "--output", "y"], "rambo export: error: x: no such folder; give the --output "),
        (["run", "--config", "a/b.yaml"], "rambo run: error: --config a/b.yaml: No such file or directory; give the"),
        (["collect", "seed=1"], "rambo collect: error: the following arguments are required: --output; see rambo coll"),
        (["sweep", "--output", "x", "--space", "lambda"], "rambo sweep: error: --space lambda: no such space; "),
        (["benchmark", "--budgets", "5o"], "rambo benchmark: error: argument --budgets: invalid budgets such as"),
        (["benchmark", "--output", "x"], "rambo benchmark: error: --experiment: is needed; see rambo benchmark --help"),
    ],
)
def test_an_error_is_a_line_under_the_programs_name(
    arguments: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(line) and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_job_file_speaks_under_its_own_name(tmp_path: Path) -> None:
    """As it is called from anywhere; what needs Ray is in the cluster's tests."""
    said = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "benchmark.py"), "--buget"],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert said.returncode == 2
    assert said.stderr == "benchmark.py: error: unrecognized arguments: --buget; see benchmark.py --help\n"


def test_all_keys_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.job("run", ["--keys"])
    lines = capsys.readouterr().out.splitlines()
    assert ended.value.code == 0 and lines[0] == "method=mock_rounds"
    assert lines[2:4] == ["seed=0", "    every random decision follows from it"]
    assert any(line.startswith("acquisition.budget=") for line in lines)


def test_a_reader_that_leaves_the_keys_sees_no_traceback() -> None:
    """As `rambo run --keys | head -1`."""
    ask = "import sys; from rambo_ray.cli.main import main; sys.exit(main())"
    with subprocess.Popen(
        [sys.executable, "-c", ask, "run", "--keys"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (RunError("it fell over"), 1, "failed: it fell over"),
        (KeyboardInterrupt(), 130, "interrupted; the same command"),
    ],
)
def test_how_a_command_that_cannot_finish_ends(
    raised: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Work:
        def __init__(self, module: str) -> None: ...

        def called(self, parsed: argparse.Namespace) -> int:
            raise raised

    monkeypatch.setattr(entry, "import_module", Work)
    assert main.main(["run"]) == code
    assert capsys.readouterr().err.startswith(f"rambo run: {said}")


def test_an_experiments_panels_find_the_ready_configurations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = experiment.load(ready.file("experiment", "digits_smoke"), ready.configs())
    assert made.name == "digits_smoke" and made.panels[0].config.data.name == "digits"


def test_a_command_more_is_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    more = entry.Command("explain", "Say why.", lambda parser: parser.config_option(), "nowhere")
    monkeypatch.setitem(commands.COMMANDS, "explain", more)
    assert main.main(["explan"]) == 2
    assert capsys.readouterr().err == "rambo: error: explan: no such command; did you mean 'explain'?\n"
