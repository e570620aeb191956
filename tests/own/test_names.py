"""The names of a user's code: imported where they can be, sent where they were only given."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from rambo_ray.errors import UserError
from rambo_ray.own import names


def at_the_top(shape: Any, classes: int) -> int:
    return classes


class TestGiven:
    def test_what_can_be_imported_is_named_after_its_module(self) -> None:
        from collections import OrderedDict

        assert names.given(OrderedDict) == "collections:OrderedDict"
        assert names.imported("collections:OrderedDict.fromkeys", "key") == OrderedDict.fromkeys

    def test_what_cannot_gets_a_name_of_its_source(self) -> None:
        def made(shape: Any, classes: int, scale: int = 2) -> int:
            return scale * classes

        name = names.given(made)
        assert name.startswith("given:made@") and names.given(made) == name
        own = names.find(name, "classifier.name")
        assert own.name == name and name.endswith(own.digest)
        assert names.loaded(own.name, own.pickled, "classifier.name")(None, 21) == 42
        assert names.given(lambda shape, classes: classes).startswith("given:lambda@")

    def test_two_of_one_name_are_two(self) -> None:
        def factory(width: int) -> Any:
            def made(shape: Any, classes: int) -> int:
                return width

            return made

        one, other = names.given(factory(3)), names.given(factory(4))
        assert one != other
        for name, width in ((one, 3), (other, 4)):
            assert names.loaded(name, names.find(name, "k").pickled, "k")(None, 0) == width

    def test_a_script_s_own_function_works_in_another_process(self, tmp_path: Path) -> None:
        script = tmp_path / "script.py"
        script.write_text(
            "import pickle, sys\nfrom rambo_ray.own import names\nFACTOR = 3\n"
            "def helper(n):\n    return FACTOR * n\n"
            "def make(shape, classes):\n    return helper(classes)\n"
            "name = names.given(make)\n"
            "sys.stdout.buffer.write(pickle.dumps(names.find(name, 'classifier.name')))\n"
        )
        root = str(Path(__file__).parents[2])
        done = subprocess.run(
            [sys.executable, str(script)], env={"PYTHONPATH": root, "PATH": ""}, capture_output=True, check=True
        )
        own = pickle.loads(done.stdout)
        assert own.name.startswith("given:make@")
        assert names.loaded(own.name, own.pickled, "classifier.name")((1, 8, 8), 5) == 15

    def test_what_cannot_be_sent_is_refused_in_a_line(self) -> None:
        lock = threading.Lock()

        def made(shape: Any, classes: int) -> Any:
            return lock

        with pytest.raises(UserError, match="made: cannot be sent to a worker.*write it as a function of a module"):
            names.given(made)

    def test_another_process_does_not_know_it(self) -> None:
        with pytest.raises(UserError, match="was given in Python, and not to this process"):
            names.find("given:somebody@0123456789abcdef", "classifier.name")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("linaer", "no such classifier; did you mean 'linear'?"),
        (":x", "no such classifier"),
        ("no_such_module:x", "importing no_such_module raised ModuleNotFoundError"),
        ("collections:OrderedDic", "collections has no OrderedDic; did you mean 'OrderedDict'?"),
        ("string:digits", "holds something not callable as digits"),
    ],
)
def test_a_name_that_means_nothing_is_one_line(name: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        names.find(name, "classifier.name", ["linear"])
    assert str(caught.value).startswith(f"classifier.name={name}: ") and words in str(caught.value)
    assert "\n" not in str(caught.value)
