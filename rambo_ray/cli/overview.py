"""What `rambo --help` says: the things that people do, each with a line to copy, then every command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rambo_ray.cli.entry import Command


@dataclass(frozen=True)
class Task:
    """Something people do, and lines that do it."""

    title: str
    lines: tuple[str, ...]


TASKS = (
    Task(
        "Pick the images to annotate",
        (
            "rambo run --config digits --output runs/digits",
            "rambo run --output runs/mine data.name=own data.labeled=photos/labeled "
            "data.validation=photos/validation data.pool=photos/pool acquisition.budget=300",
        ),
    ),
    Task("See what that would cost", ("rambo plan --config fashion_mnist",)),
    Task(
        "Check the data first",
        ("rambo inspect data.name=own data.labeled=photos/labeled data.pool=photos/pool data.validation_share=0.3",),
    ),
    Task(
        "Learn whether it will beat random choice on your data",
        ("rambo backtest --output runs/backtest data.name=own data.labeled=photos/labeled data.pool=photos/pool",),
    ),
    Task(
        "Have the picked images labelled, and take the labels back",
        (
            "rambo label runs/mine",
            "rambo export runs/mine --to label-studio --output tasks.json",
            "rambo labels runs/mine",
        ),
    ),
)
_WIDTH = 80


def text(program: str, commands: Mapping[str, Command]) -> str:
    """The part of the help below its first lines; of the tasks those whose commands there are."""
    parts = []
    for task in TASKS:
        lines = [line for line in task.lines if line.split()[1] in commands]
        if lines:
            parts.append("\n".join([f"{task.title}:", *map(_broken, lines)]))
    width = max(map(len, commands))
    listed = "\n".join(f"  {name:<{width}}  {command.summary}" for name, command in commands.items())
    parts.append(f"commands:\n{listed}")
    parts.append(f"The options of a command: {program} COMMAND --help")
    return "\n\n".join(parts)


def _broken(line: str) -> str:
    """A shell line, indented, and continued by backslashes where it is longer than a terminal."""
    rows, row = [], "  "
    for word in line.split():
        if len(row) + len(word) + 3 > _WIDTH:
            rows.append(f"{row.rstrip()} \\")
            row = "      "
        row += f"{word} "
    return "\n".join([*rows, row.rstrip()])
