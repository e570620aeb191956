"""By what a callable of a user's is known: the text of it and of whatever of the user's it leads to.

A name alone would not do: who edits their network and runs again in the same directory must not be given what
the network before it had learned. So the digest is of the source of a function, of the methods of a class, of
functions and classes of the same package that these name, and of constants among their globals, defaults and
closures. Code of installed libraries is known by their version, and is not followed.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np

LENGTH = 16  # hexadecimal digits

_PLAIN = (int, float, complex, str, bytes, bool, type(None), type(Ellipsis))
# Of a class: what Python writes into it, which says nothing of what it does or differs between versions of Python.
_UNTOLD = {"__module__", "__dict__", "__weakref__", "__doc__", "__firstlineno__", "__static_attributes__",
           "__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__", "__qualname__",
           "__abstractmethods__", "_abc_impl", "__parameters__", "__orig_bases__", "__slotnames__"}  # fmt: skip


def digest(value: object) -> str:
    """LENGTH hexadecimal digits by which `value`, a callable or an object with methods, is known.

    The same in every process and on every machine that holds the same source.
    """
    told = hashlib.sha256()
    for part in _Walk().told(value):
        told.update(part.encode("utf-8", "backslashreplace"))
        told.update(b"\0")
    return told.hexdigest()[:LENGTH]


def is_library(module: str) -> bool:
    """Whether a module is Python's own or was installed, and so is known by its version."""
    top = module.partition(".")[0]
    if top == "__main__":
        return False
    if top in sys.builtin_module_names or top in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(module) or sys.modules.get(top), "__file__", None)
    return file is not None and any(parent in _places() for parent in Path(file).resolve().parents)


def version(module: str) -> str:
    """The version of the distribution that holds an installed module, or of Python."""
    top = module.partition(".")[0]
    found = getattr(sys.modules.get(top), "__version__", None)
    if isinstance(found, str):
        return found
    for name in _distributions().get(top, []):
        return metadata.version(name)
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


@functools.cache
def _places() -> frozenset[Path]:
    return frozenset(Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib"))


@functools.cache
def _distributions() -> Any:
    return metadata.packages_distributions()


class _Walk:
    """One walk from a callable through all that it leads to; what was told once is not told again."""

    def __init__(self) -> None:
        self.seen: dict[int, object] = {}  # the objects themselves, so that no id is used twice

    def told(self, value: object) -> Iterator[str]:
        """What there is to say of a value, in an order that is always the same."""
        if isinstance(value, _PLAIN):
            yield f"{type(value).__name__} {value!r}"
            return
        if id(value) in self.seen:
            yield "again"
            return
        self.seen[id(value)] = value
        if isinstance(value, functools.partial):
            yield "partial"
            yield from self.told(value.func)
            yield from self.told(value.args)
            yield from self.told(value.keywords)
        elif isinstance(value, types.MethodType):
            yield from self.told(value.__func__)
            yield from self.told(value.__self__)
        elif isinstance(value, types.FunctionType):
            yield from self._function(value)
        elif isinstance(value, type):
            yield from self._class(value)
        elif isinstance(value, types.ModuleType):
            yield from self._module(value)
        elif isinstance(value, staticmethod | classmethod):
            yield from self.told(value.__func__)
        elif isinstance(value, property):
            yield from self.told((value.fget, value.fset))
        else:
            yield from self._data(value)

    def _function(self, function: types.FunctionType) -> Iterator[str]:
        if is_library(function.__module__ or ""):
            yield _library(function)
            return
        function = inspect.unwrap(function)  # type: ignore[assignment]
        try:
            yield inspect.getsource(function)
        except (OSError, TypeError):  # typed where nobody kept the text
            yield from _bytecode(function.__code__)
        yield from self.told((function.__defaults__, function.__kwdefaults__))
        for cell in function.__closure__ or ():
            try:
                yield from self.told(cell.cell_contents)
            except ValueError:  # not filled yet
                yield "empty"
        for name in sorted(set(_names(function.__code__))):
            if name in function.__globals__:
                yield from self._followed(name, function.__globals__[name], function.__module__ or "")

    def _followed(self, name: str, value: object, module: str) -> Iterator[str]:
        """A global that a function names: of its own package, or a constant."""
        if isinstance(value, types.ModuleType):
            own = _top(value.__name__) == _top(module) and not is_library(value.__name__)
        elif isinstance(value, types.FunctionType | type):
            own = not is_library(value.__module__ or "") and _top(value.__module__ or "") in (_top(module), "__main__")
        else:
            own = _is_constant(value)
        if own:
            yield name
            yield from self.told(value)

    def _class(self, kind: type) -> Iterator[str]:
        if is_library(kind.__module__):
            yield _library(kind)
            return
        yield f"class {kind.__qualname__}"
        for base in kind.__bases__:
            yield from self.told(base)
        for name, member in sorted(vars(kind).items()):
            if name not in _UNTOLD and not isinstance(member, types.GetSetDescriptorType | types.MemberDescriptorType):
                yield name
                yield from self.told(member)

    def _module(self, module: types.ModuleType) -> Iterator[str]:
        if is_library(module.__name__):
            yield _library(module)
            return
        try:
            yield inspect.getsource(module)
        except (OSError, TypeError):
            yield module.__name__

    def _data(self, value: object) -> Iterator[str]:
        if isinstance(value, tuple | list):
            yield f"{type(value).__name__} {len(value)}"
            for item in value:
                yield from self.told(item)
        elif isinstance(value, dict):
            yield f"dict {len(value)}"
            for key, item in sorted(value.items(), key=lambda pair: repr(pair[0])):
                yield from self.told(key)
                yield from self.told(item)
        elif isinstance(value, set | frozenset):
            yield f"set {sorted(map(repr, value))}"
        elif isinstance(value, np.ndarray) and value.dtype != object:
            yield f"{value.dtype} {value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
        elif callable(getattr(value, "get_params", None)):  # an estimator: its settings, and not what it has learned
            yield from self.told(type(value))
            yield from self.told(value.get_params(deep=False))  # type: ignore[attr-defined]
        elif isinstance(getattr(value, "__dict__", None), dict) and not is_library(type(value).__module__):
            yield from self.told(type(value))
            yield from self.told(vars(value))
        else:
            yield f"{type(value).__module__}.{type(value).__qualname__}"
            yield hashlib.sha256(cloudpickle.dumps(value)).hexdigest()


def _names(code: types.CodeType) -> Iterator[str]:
    """Every name that code uses, with that of the functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _bytecode(code: types.CodeType) -> Iterator[str]:
    yield code.co_code.hex()
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _bytecode(constant)
        else:
            yield repr(constant)


def _is_constant(value: object) -> bool:
    if isinstance(value, tuple | list | frozenset | set):
        return all(map(_is_constant, value))
    if isinstance(value, dict):
        return all(map(_is_constant, value)) and all(map(_is_constant, value.values()))
    return isinstance(value, (*_PLAIN, np.ndarray))


def _library(value: Callable[..., Any] | types.ModuleType) -> str:
    if isinstance(value, types.ModuleType):
        return f"{value.__name__} {version(value.__name__)}"
    module = value.__module__ or ""
    return f"{module}.{getattr(value, '__qualname__', type(value).__name__)} {version(module)}"


def _top(module: str) -> str:
    return module.partition(".")[0]
