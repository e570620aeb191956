"""The names under which a user's code stands in a configuration, and the code that a name means.

`package.module:name` is imported wherever it is needed: it has to be importable on every node. What is given in
Python and cannot be imported by a name, as it was written in a notebook or a script, is `given:name@digest`: it
travels to the workers with the rest of the run, and another process does not know it.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import cloudpickle

from rambo_ray.errors import UserError, nearest
from rambo_ray.own.digest import digest

GIVEN = "given:"

# What code of a user's may raise: a script that is imported by mistake ends the process, as it thinks.
RAISED = (Exception, SystemExit)

_given: dict[str, Own] = {}


@dataclass(frozen=True)
class Own:
    """A user's callable: its name in a configuration, the digest of its source, and itself where it was given.

    pickled is b"" for what every node imports by the name.
    """

    name: str
    digest: str
    pickled: bytes = field(default=b"", repr=False)


def find(name: str, key: str, known: Iterable[str] = (), noun: str = "classifier") -> Own:
    """What `name` means as the value of a configuration's `key`; `known` are the names that are not the user's.

    Raises UserError, in one line, for what cannot be imported and for what was given to another process.
    """
    if name.startswith(GIVEN):
        if name not in _given:
            raise UserError(
                f"{key}={name}: was given in Python, and not to this process; give it there again, or write it into "
                "a module and name it package.module:name"
            )
        return _given[name]
    return Own(name, digest(imported(name, key, known, noun)))


def given(value: Any) -> str:
    """The name of a callable or object that was given in Python: that of its module, or one that it gets.

    Raises UserError for what could not be sent to a worker.
    """
    module, attribute = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if module and module != "__main__" and attribute and _is_there(value, module, attribute):
        return f"{module}:{attribute}"
    label = getattr(value, "__qualname__", type(value).__qualname__).replace("<", "").replace(">", "")
    try:
        pickled = cloudpickle.dumps(value)
        name = f"{GIVEN}{label.rpartition('.')[2]}@{digest(value)}"
    except Exception as error:  # what pickling raises is not said anywhere
        reason = " ".join(str(error).split())[:150]
        raise UserError(
            f"{label}: cannot be sent to a worker ({reason}); write it as a function of a module"
        ) from error
    _given[name] = Own(name, name.rpartition("@")[2], pickled)
    return name


def loaded(name: str, pickled: bytes, key: str, known: Iterable[str] = (), noun: str = "classifier") -> Any:
    """What a name means in this process; `pickled` is what was given, b"" for what is imported. Raises as `find`."""
    return _unpickled(pickled) if pickled else imported(name, key, known, noun)


def imported(name: str, key: str, known: Iterable[str] = (), noun: str = "classifier") -> Any:
    """The callable that "package.module:name" means; raises UserError where there is none."""
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        form = "factory" if noun == "classifier" else "function"
        raise UserError(
            f"{key}={name}: no such {noun}; {nearest(name, known)} or give package.module:{form} of your own"
        )
    try:
        module = importlib.import_module(module_name)
    except RAISED as error:
        raise UserError(
            f"{key}={name}: importing {module_name} raised {in_one_line(error)}; "
            "it must be importable on every node (PYTHONPATH or the job's working_dir)"
        ) from error
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not callable(found) and not hasattr(found, "fit"):
        callables = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        wrong = "has no" if found is None else "holds something not callable as"
        listed = nearest(attribute, callables) if callables else "it has no callable at all"
        raise UserError(f"{key}={name}: {module_name} {wrong} {attribute}; {listed}")
    return found


def in_one_line(error: BaseException) -> str:
    """An exception's type and the beginning of its message, without line breaks."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _is_there(value: Any, module: str, attribute: str) -> bool:
    found: Any = sys.modules.get(module)
    for part in attribute.split("."):
        found = getattr(found, part, None)
    return found is value


@functools.lru_cache(maxsize=8)
def _unpickled(pickled: bytes) -> Any:
    return cloudpickle.loads(pickled)
