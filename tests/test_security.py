"""What the package never does with data, models and settings: make objects, run commands, unpack where they say."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import rambo_ray

PACKAGE = Path(rambo_ray.__file__).parent

# Who may turn bytes into objects: what this run's own processes have sent each other, never what lies in a file.
OF_THIS_RUN = {("own/names.py", "cloudpickle.loads"), ("classifier/estimators.py", "cloudpickle.loads")}

NEVER = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "marshal.load", "marshal.loads", "shelve.open",
    "pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load", "cloudpickle.loads", "dill.load",
    "dill.loads", "joblib.load", "pandas.read_pickle", "pd.read_pickle", "yaml.unsafe_load", "yaml.full_load",
    "yaml.load_all", "yaml.unsafe_load_all", "torch.jit.load", "tempfile.mktemp", "shutil.unpack_archive",
}  # fmt: skip
# Of any object: what writes where an archive says.
NEVER_METHODS = {"extractall", "extract"}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a module: the dotted name of what is called, with imported names in full."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    meant = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            meant.update({alias.asname: alias.name for alias in node.names if alias.asname})
        elif isinstance(node, ast.ImportFrom):
            meant.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            first, dot, rest = name.partition(".")
            yield f"{meant.get(first, first)}{dot}{rest}", node


def keyword(call: ast.Call, name: str) -> object:
    """The constant that a keyword of a call has, None where it is none or not there."""
    return next((k.value.value for k in call.keywords if k.arg == name and isinstance(k.value, ast.Constant)), None)


def wrong(path: Path, where: str) -> list[str]:
    """What a module does that it must not."""
    found = []
    for name, call in calls(path):
        place = f"{where}:{call.lineno} {name}"
        if name in NEVER and (where, name) not in OF_THIS_RUN:
            found.append(place)
        elif name in ("numpy.load", "numpy.lib.format.read_array") and keyword(call, "allow_pickle") is not False:
            found.append(f"{place} without allow_pickle=False")
        elif name == "torch.load" and keyword(call, "weights_only") is not True:
            found.append(f"{place} without weights_only=True")
        elif name == "yaml.load" and (where, ast.unparse(call.args[1])) != ("config/safe_yaml.py", "Loader"):
            found.append(f"{place} without limits")
        elif name.startswith("subprocess.") and keyword(call, "shell") is not None:
            found.append(f"{place} by a shell")
        elif name.rpartition(".")[2] in NEVER_METHODS and "." in name:
            found.append(place)
        elif name in ("PIL.Image.open", "Image.open") and not any(k.arg == "formats" for k in call.keywords):
            found.append(f"{place} in any format")
    return found


def test_nothing_is_unpickled_run_or_unpacked() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 200
    assert [line for path in files for line in wrong(path, path.relative_to(PACKAGE).as_posix())] == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle\npickle.load(f)",
        "from pickle import loads as read\nread(b)",
        "import numpy as np\nnp.load(f)",
        "import numpy as np\nnp.load(f, allow_pickle=True)",
        "import torch\ntorch.load(f)",
        "import yaml\nyaml.load(t, yaml.SafeLoader)",
        "import subprocess\nsubprocess.run('x', shell=True)",
        "archive.extractall(folder)",
        "eval('1')",
        "from PIL import Image\nImage.open(f)",
        "import cloudpickle\ncloudpickle.loads(b)",
    ],
)
def test_it_would_be_seen(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text(text)
    assert wrong(tmp_path / "x.py", "x.py")
