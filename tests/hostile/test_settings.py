"""Hostile configurations, numbers, networks and strategies, given to the command: each is refused in one line."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from torch import nn

from rambo_ray import Rambo
from rambo_ray.cli.main import main
from rambo_ray.errors import UserError

from ..data.written_images import pictures
from .world import OWN, SMALL, Hostile, called, check, copied, good, names, replaced

# Nine times nine times ... of a value, in the words of YAML.
LAUGHS = ["a: &a [1,1,1,1,1,1,1,1,1]"] + [
    f"{letter}: &{letter} [{','.join([f'*{before}'] * 9)}]" for before, letter in itertools.pairwise("abcdefghi")
]


def written(name: str, words: Any, text: str | bytes, command: Sequence[str] = ("run",)) -> Hostile:
    content = text if isinstance(text, bytes) else text.encode()
    return Hostile(name, words, lambda f: (f / "c.yaml").write_bytes(content), ("--config", "c.yaml"), command)


YAML = [
    written("an unknown key", "did you mean 'acquisition.budget'", "acquisition: {bugdet: 5}"),
    written("a word for a number", "acquisition.budget='five'", "acquisition: {budget: five}"),
    written("a key twice", "occurs twice", "seed: 1\nseed: 2"),
    written("20 000 levels", "levels deep", "a: " + "[" * 20_000),
    written("3 000 levels of blocks", "levels deep", "\n".join(" " * i + "a:" for i in range(400))),
    written("a billion laughs", "more than 10,000 values", "\n".join(LAUGHS)),
    written("laughs in one value", "more than 10,000 values", "seed: {" + ", ".join(LAUGHS) + "}"),
    written("itself inside itself", "stands inside itself", "seed: &a [*a]"),
    written("a call", "could not determine a constructor", "seed: !!python/object/apply:os.system ['touch pwned']"),
    written("a name of python's", "could not determine a constructor", "seed: !!python/name:os.system"),
    written("twenty megabytes", "more than 100,000 bytes", "#" * 20_000_000),
    written("300 000 keys", "more than 100,000 bytes", "".join(f"k{i}: {i}\n" for i in range(300_000))),
    written("10 000 digits", "must have at most 50", "seed: " + "9" * 10_000),
    written("sixty to the power of 5 000", "must have at most 50", "seed: " + "1:" * 5_000 + "1"),
    written("half a letter", "what is not UTF-8", 'data: {root: "\\ud800"}'),
    written("a null", "special characters are not allowed", b"seed: 1\0"),
    written("a null in words", "holds a null character", 'output: {dir: "a\\0b"}'),
    written("UTF-16", "not UTF-8 text", "seed: 1".encode("utf-16")),
    written("two documents", "expected a single document", "seed: 1\n---\nseed: 2"),
    written("a list for all", "holds a list", "- 1"),
    written("a list for a section", "data=[1]: is a section", "data: [1]"),
    written("a date", "seed=datetime.date", "seed: 2020-01-01"),
    written("no key", "unknown key", "null: 5"),
    Hostile("a pipe for a configuration", "a pipe or a device", lambda f: os.mkfifo(f / "c.yaml"),
            ("--config", "c.yaml"), ("run",)),
    Hostile("a folder for a configuration", "Is a directory", arguments=("--config", "pool"), command=("run",)),
    Hostile("a device for a configuration", "a pipe or a device", arguments=("--config", "/dev/zero"),
            command=("run",)),
    Hostile("an override that is not UTF-8", r"'data.pool=po\xffol': is not UTF-8",
            arguments=("data.pool=po\udcffol",)),
    Hostile("an output that is not UTF-8", r"'o\xffut': is not UTF-8", arguments=("--output", "o\udcffut")),
    Hostile("a key with a line break", "unknown key", arguments=("a\nb=1",)),
    Hostile("a command with a line break", r"r\nx: no such command", command=("r\nx",)),
    Hostile("a space with a billion points", "points, must be at most",
            lambda f: (f / "s.yaml").write_text("keys:\n" + "".join(
                f"  {key}: {{grid: [{', '.join(map(str, range(1, 1001)))}]}}\n" for key in (
                    "acquisition.budget", "utility_samples.num_pairs", "acquisition.margin_pool"))),
            ("--space", "s.yaml"), ("sweep",)),
]  # fmt: skip


def number(value: str, words: str) -> Hostile:
    key, _, given = value.partition("=")
    return Hostile(f"{key} {given}", (key, words), arguments=(value,))


HUGE = "1" + "0" * 30
NUMBERS = [
    number("acquisition.budget=.nan", "nan: should be a valid integer"),
    number("acquisition.budget=1e999", "inf: should be a valid integer"),
    number("acquisition.budget=-0", "greater than or equal to 1"),
    number("acquisition.budget=true", "True: should be a valid integer"),
    number("acquisition.budget=1.5", "1.5: should be a valid integer"),
    number("acquisition.budget=41", "must not exceed the pool's 40 images"),
    number("acquisition.margin_pool=0", "greater than or equal to 1"),
    number("acquisition.draws=99999999999999999999", "less than or equal to"),
    number("acquisition.temperatures=[.nan]", "finite"),
    number("classifier.learning_rate=.nan", "finite"),
    number("classifier.learning_rate=-0.0", "greater than 0"),
    number("data.num_labeled=0", "greater than or equal to 1"),
    number("data.image_size=5", "are too small"),
    number("data.image_size=65000", "of memory are free"),
    number("utility_samples.num_pairs=1000001", "less than or equal to 1000000"),
    *(number(f"{key}={HUGE}", "less than or equal to") for key in (
        "seed", "data.split_seed", "acquisition.budget", "acquisition.margin_pool", "data.image_size",
        "utility_samples.num_pairs", "utility_samples.num_held_out", "utility_samples.repeats",
        "utility_samples.evidence_folds", "utility_model.phi_width", "classifier.max_epochs", "cluster.num_workers",
        "cluster.threads_per_worker", "output.report_images",
    )),
]  # fmt: skip

# What a user's module may hold. The images are 6x6, grey, of 2 classes.
MODULE = """
import sys
import numpy as np
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, forward, embed=None):
        super().__init__()
        self.fc = nn.Linear(36, 2)
        self.forward = lambda x: forward(self, x)
        if embed:
            self.embed = embed
    def answer(self, x):
        return self.fc(x.flatten(1))

def boom(*_):
    raise RuntimeError("boom\\nbang")

def leaves(*_):
    sys.exit("bye")

def three_outputs(shape, classes): return nn.Sequential(nn.Flatten(), nn.Linear(36, classes + 1))
def raises_in_forward(shape, classes): return Net(boom)
def leaves_in_forward(shape, classes): return Net(leaves)
def raises_in_training(shape, classes): return Net(lambda net, x: boom() if net.training else net.answer(x))
def two_answers_in_training(shape, classes):
    return Net(lambda net, x: (net.answer(x), 1) if net.training else net.answer(x))
def not_a_number(shape, classes): return Net(lambda net, x: net.answer(x) * float("nan"))
def detached(shape, classes): return Net(lambda net, x: net.answer(x).detach())
def no_weights(shape, classes):
    net = nn.Flatten()
    net.forward = lambda x: x.flatten(1)[:, :2]
    net.embed = lambda x: x.flatten(1)
    return net
def frozen(shape, classes): return nn.Sequential(nn.Flatten(), nn.Linear(36, classes)).requires_grad_(False)
def of_doubles(shape, classes): return nn.Sequential(nn.Flatten(), nn.Linear(36, classes)).double()
def too_deep_for_its_images(shape, classes):
    return nn.Sequential(nn.Conv2d(1, 4, 5), nn.Conv2d(4, 4, 5), nn.Flatten(), nn.Linear(4, classes))
def embed_raises(shape, classes): return Net(lambda net, x: net.answer(x), boom)
not_callable = 5

class Estimator:
    def fit(self, x, y):
        self.classes_ = np.unique(y)
        return self
    def predict_proba(self, x): return np.full((len(x), 2), 0.5)
class FitRaises(Estimator):
    def fit(self, x, y): boom()
class NoClasses(Estimator):
    def fit(self, x, y): return self
class SevenClasses(Estimator):
    def predict_proba(self, x): return np.zeros((len(x), 7))
class NoNumbers(Estimator):
    def predict_proba(self, x): return np.full((len(x), 2), np.nan)
class NeverAsked(Estimator):
    def predict_proba(self, x): boom()

def features(pixels): return pixels.reshape(len(pixels), -1)[:, :5].astype("float32")
def features_of_all(pixels): return pixels.sum()
def endless_features(pixels): return np.full((len(pixels), 3), np.inf)
def no_arguments(): return 1
"""
NETS = {
    "three_outputs": "it must be [2, 2]", "boom": "RuntimeError: boom bang", "leaves": "SystemExit: bye",
    "raises_in_forward": "on zeros of shape", "leaves_in_forward": "SystemExit: bye",
    "raises_in_training": "a training step on 2 images raised RuntimeError",
    "two_answers_in_training": "a training step on 2 images raised", "not_a_number": "is not finite",
    "detached": "a training step on 2 images raised", "no_weights": "a training step on 2 images raised",
    "frozen": "a training step on 2 images raised", "of_doubles": "dtype", "too_deep_for_its_images": "on zeros of",
    "embed_raises": "boom bang", "not_callable": "something not callable", "no_such": "has no no_such",
}  # fmt: skip
ESTIMATORS = {
    "FitRaises": "boom bang", "NoClasses": "classes_", "SevenClasses": "must be probabilities [1, 2]",
    "NoNumbers": "not finite", "NeverAsked": "boom bang",
}  # fmt: skip
COUNTER = itertools.count()


def code(name: str, words: Any, *arguments: str, text: str = MODULE, command: Sequence[str] = ("run", *OWN, *SMALL)):
    """MODULE, or another text, under a name of its own, which stands in the arguments as {}."""
    module = f"hostile_code_{next(COUNTER)}"

    def spoil(folder: Path) -> None:
        (folder / f"{module}.py").write_text(text)
        sys.path.insert(0, str(folder))

    return Hostile(name, words, spoil, tuple(each.replace("{}", module) for each in arguments), command)


OF_FEATURES = ("classifier.embedding={}:features",)
CODE = [
    *(code(f"a network {name}", ("classifier.name=", words), f"classifier.name={{}}:{name}")
      for name, words in NETS.items()),
    *(code(f"an estimator {name}", ("classifier.name=", words), f"classifier.name=estimator:{{}}:{name}", *OF_FEATURES)
      for name, words in ESTIMATORS.items()),
    code("a module that raises", "importing", "classifier.name={}:x", text="raise RuntimeError('boom')"),
    code("a module that leaves", "SystemExit", "classifier.name={}:x", text="import sys\nsys.exit()"),
    code("a module that is none", "SyntaxError", "classifier.name={}:x", text="def x(:"),
    code("features of all", "must be numbers", "classifier.name=linear", "classifier.embedding={}:features_of_all"),
    code("endless features", "not finite", "classifier.name=linear", "classifier.embedding={}:endless_features"),
    code("a strategy without arguments", "acquisition.strategy=", "acquisition.strategy={}:no_arguments"),
    code("a strategy that is not there", "acquisition.strategy=", "acquisition.strategy={}:nowhere"),
    Hostile("a misspelt strategy", "did you mean 'random'", arguments=("acquisition.strategy=radnom",)),
    Hostile("a misspelt network", "did you mean 'mnist_net'", arguments=("classifier.name=mnistnet",)),
    Hostile("a network of nobody's", "No module named", arguments=("classifier.name=nowhere_at_all:net",)),
    Hostile("no network of torchvision's", "did you mean 'resnet18'",
            arguments=("classifier.name=torchvision:resnet81",)),
    Hostile("a function that is none", "it must take", arguments=("classifier.name=json:loads",)),
    code("an estimator without probabilities", "no predict_proba", "classifier.name=sklearn.linear_model:Lasso",
         *OF_FEATURES),
    Hostile("no features", "no such features", arguments=("classifier.name=linear", "classifier.embedding=x")),
]  # fmt: skip

# The same fault is found by every command that would train.
COMMANDS = {
    "run": (*OWN, *SMALL), "plan": (*OWN, *SMALL), "collect": (*OWN, *SMALL), "backtest": (*OWN, *SMALL),
    "benchmark": ("--experiment", "digits_smoke"),
    "sweep": ("--space", "s.yaml", "data.num_labeled=40", "data.num_validation=100"),
}  # fmt: skip


def sweeping(folder: Path) -> None:
    (folder / "s.yaml").write_text("keys:\n  acquisition.caution: {grid: [1.0, 4.0]}\nseeds: 1\n")


EVERYWHERE = [
    Hostile(f"{command} {what}", words, sweeping, (key,), (command, *arguments))
    for command, arguments in COMMANDS.items()
    for what, key, words in (
        ("a misspelt network", "classifier.name=mnistnet", "did you mean 'mnist_net'"),
        ("images too small", "data.image_size=5", "are too small"),
    )
]  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return good(tmp_path_factory.mktemp("good"))


@pytest.mark.parametrize("hostile", [*YAML, *NUMBERS, *CODE, *EVERYWHERE], ids=str)
def test_it_is_refused_in_one_line(
    hostile: Hostile, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(source, tmp_path)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    hostile.spoil(folder)
    before = names(folder)
    said = called(hostile.line, monkeypatch)
    check(hostile, folder, said, before)


def test_inspect_says_it_too(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copied(source, tmp_path)
    monkeypatch.chdir(folder)
    said = called(("inspect", *OWN, *SMALL, "data.image_size=5"), monkeypatch)
    assert said.code == 2 and said.err.count("\n") == 1 and "are too small" in said.err
    replaced(folder / "pool/3.png", b"")
    said = called(("inspect", *OWN, *SMALL, "classifier.name=mnistnet"), monkeypatch)
    assert said.code == 2 and "not a readable image" in said.err


def test_python_says_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray is started"))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    labels = np.arange(40) % 2

    def wrong(shape: tuple[int, int, int], classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(36, classes + 1))

    for keys, words in (
        ({"classifier": wrong}, "it must be [2, 2]"),
        ({"classifier": "mnistnet"}, "did you mean 'mnist_net'"),
        ({"overrides": {"data.image_size": 5}}, "are too small"),
        ({"overrides": {"acquisition.strategy": "os:nowhere"}}, "acquisition.strategy=os:nowhere: "),
        ({"output": "a\0b"}, "a null character"),
        ({"output": "a\udcff"}, "not UTF-8"),
        ({"seed": 2**70}, "less than or equal to"),
    ):
        with pytest.raises(UserError) as refused:
            asked = Rambo(**{"budget": 5, "output": "out", "quiet": True, **keys})  # type: ignore[arg-type]
            asked.select((pictures(40, seed=1), labels), (pictures(40, seed=2), labels), pictures(40, seed=3))
        assert words in str(refused.value) and not list(tmp_path.iterdir())
    for ids, words in (
        ([f"\udcff{i}" for i in range(40)], "must be UTF-8"),
        ([f"a\n{i}" for i in range(40)], "control character"),
        (["a" * 5_000, *map(str, range(39))], "at most 4,096 characters"),
    ):
        with pytest.raises(UserError, match=words):
            Rambo(budget=5, output="out").select(
                (pictures(40, seed=1), labels), (pictures(40, seed=2), labels), pictures(40, seed=3), ids=ids
            )
    assert not list(tmp_path.iterdir())


def test_a_run_that_failed_before_it_computed_does_not_block_the_corrected_one(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed or interrupted just then, with keys that must agree where something was computed."""
    folder = copied(source, tmp_path)
    monkeypatch.chdir(folder)

    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", interrupted)
    for keys in ((), ("seed=5", "classifier.max_epochs=3"), ("data.channels=3",)):
        line = ["run", *OWN, *SMALL, *keys, "cluster.address=auto", "--output", "out"]
        assert main(line) == 130 and "holds a run" not in capsys.readouterr().err
    assert "channels: 3" in (folder / "out/config.yaml").read_text()
