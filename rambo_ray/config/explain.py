"""What is wrong with a YAML file, in one line: pydantic's first error as the key, the value, the rule, the remedy."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from rambo_ray.errors import nearest

LETTERS = 60  # of a value that is shown


def explain(error: ValidationError, root: type[BaseModel], separator: str = ": ") -> str:
    """The first of `error`'s mistakes in a file that `root` describes; `separator` stands between a key's parts."""
    details = error.errors(include_url=False)
    detail = details[0]
    path, owner = _walk(detail["loc"], root)
    key = separator.join(path)
    if detail["type"] in ("extra_forbidden", "invalid_key"):
        line = f"{key}: unknown key; {_known(path[-1], separator, root, owner)}"
    elif detail["type"] == "value_error":
        text = detail["msg"].removeprefix("Value error, ")
        # Checks of a whole section name their key themselves, in full.
        line = text if separator == "." else f"{key}: {text}"
    elif detail["type"] == "model_type":
        line = f"{key}={shown(detail['input'])}: is a section; write its keys below it"
    else:
        meaning = next(
            (owner.model_fields[part].description for part in path[::-1] if part in owner.model_fields), None
        )
        tail = f"; it is: {meaning}" if meaning else ""
        line = f"{key}={shown(detail['input'])}: {detail['msg'].removeprefix('Input ')}{tail}"
    if len(details) > 1:
        line += f" (and {len(details) - 1} more)"
    return " ".join(line.split())


def shown(value: object) -> str:
    """A value as a message shows it, not too long."""
    try:
        text = "null" if value is None else repr(value)
    except ValueError:  # of thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= LETTERS else text[: LETTERS - 3] + "..."


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every key of `model`: its dotted name, its default, its meaning; in the order of the sections."""
    for name, field in model.model_fields.items():
        inner = _model(field.annotation)
        if inner is not None:
            yield from keys_of(inner, f"{prefix}{name}.")
        else:
            # As YAML has it, which knows no tuples.
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            yield f"{prefix}{name}", default, field.description or ""


def _known(name: str, separator: str, root: type[BaseModel], owner: type[BaseModel]) -> str:
    """Which key may have been meant: of the whole file where keys are dotted, else of the section that holds it."""
    if separator != ".":
        return nearest(name, owner.model_fields)
    whole = [key for key, _, _ in keys_of(root)]
    elsewhere = [key for key in whole if key.rpartition(".")[2] == name.rpartition(".")[2]]
    if elsewhere:  # the right key in the wrong section
        return f"did you mean '{elsewhere[0]}'?"
    section = next((field for field, info in root.model_fields.items() if _model(info.annotation) is owner), None)
    if section is not None:
        return nearest(f"{section}.{name}", [key for key in whole if key.startswith(f"{section}.")])
    return nearest(name, root.model_fields)


def _walk(place: tuple[int | str, ...], root: type[BaseModel]) -> tuple[list[str], type[BaseModel]]:
    """A place in pydantic's words as the keys that a file has, and the model that the last of them belongs to.

    What pydantic adds to say which member of a union it tried ("int", "MethodEntry") is left out.
    """
    path: list[str] = []
    owner, current = root, [root]
    for part in place:
        models = [kind for kind in current if isinstance(kind, type) and issubclass(kind, BaseModel)]
        holder = next((model for model in models if part in model.model_fields), None)
        if holder is not None:
            owner, current = holder, _members(holder.model_fields[str(part)].annotation)
            path.append(str(part))
            continue
        items = [arg for kind in current if get_origin(kind) in (list, dict) for arg in _members(get_args(kind)[-1])]
        if isinstance(part, int) or any(get_origin(kind) is dict for kind in current):
            current = items or current
            path.append(str(part))
            continue
        if len(current) > 1 and part != place[-1] or _is_tag(str(part), current):
            current = [kind for kind in current if _is_tag(str(part), [kind])] or current
            continue
        path.append(str(part))  # an unknown key
        owner = models[0] if models else owner
    return path, owner


def _members(annotation: Any) -> list[Any]:
    """The types that an annotation allows, without Annotated and unions around them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [member for arg in get_args(annotation) for member in _members(arg)]
    return [annotation]


def _is_tag(part: str, kinds: list[Any]) -> bool:
    """Whether `part` is pydantic's name for one of the types."""
    names = [getattr(kind, "__name__", "") for kind in kinds]
    return part in names or part.startswith(("list[", "constrained-")) and any(get_origin(k) is list for k in kinds)


def _model(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
