"""Where measurements go: one JSON file, whole at every moment, and a log beside it.

A machine with a GPU may be taken away at any second, so every measurement is on the disk before the
next one begins. Times are wall-clock seconds unless a key ends in another unit; memory is in MB of 1e6 bytes.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


class Record:
    """The file OUT/gpu.json: what was asked for, and a mapping of what was found per section."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path, self.log_path = folder / "gpu.json", folder / "gpu.log"

    def read(self) -> dict[str, Any]:
        """Everything so far; an empty record where there is none."""
        return json.loads(self.path.read_text()) if self.path.exists() else {"sections": {}}

    def write(self, content: Mapping[str, Any]) -> None:
        """Replace the file by `content`, or leave the old one whole."""
        temporary = self.path.with_suffix(".partial")
        temporary.write_text(json.dumps(plain(content), indent=1) + "\n")
        os.replace(temporary, self.path)

    def update(self, section: str, values: Mapping[str, Any]) -> None:
        """Add `values` to those of a section."""
        content = self.read()
        content["sections"].setdefault(section, {}).update(values)
        self.write(content)

    def log(self, line: str) -> None:
        """A line with its time into the log and onto the screen."""
        stamped = f"{time.strftime('%H:%M:%S')} {line}"
        print(stamped, flush=True)
        with self.log_path.open("a") as file:
            file.write(stamped + "\n")


@dataclass
class Section:
    """One section at work: what it may use, how long, and where it puts what it finds.

    device: "cuda" or "cpu"; smoke: sizes so small that a CPU is done in seconds; until: time.monotonic() at
    which its time is over; root: the folder with images (`name/train-*.parquet`), None where images are made.
    """

    name: str
    record: Record
    device: str
    smoke: bool
    until: float
    root: str | None
    values: dict[str, Any] = field(default_factory=dict)

    def put(self, key: str, value: Any) -> None:
        """Keep a measurement."""
        self.values[key] = value
        self.record.update(self.name, self.values)
        self.record.log(f"{self.name}: {key} = {json.dumps(plain(value))[:300]}")

    def add(self, key: str, row: Mapping[str, Any]) -> None:
        """Keep one row of a table."""
        self.values.setdefault(key, []).append(dict(row))
        self.record.update(self.name, self.values)
        told = ", ".join(f"{name} {_short(value)}" for name, value in row.items())
        self.record.log(f"{self.name}: {key}: {told}")

    def skip(self, what: str) -> None:
        """Say what was left out, and why."""
        self.values.setdefault("skipped", []).append(what)
        self.record.update(self.name, self.values)
        self.record.log(f"{self.name}: skipped {what}")

    @property
    def left(self) -> float:
        """Seconds of this section's time that are left."""
        return self.until - time.monotonic()

    def fits(self, seconds: float, what: str) -> bool:
        """Whether work of so many expected seconds still fits; where not, it is named as skipped."""
        if seconds <= self.left:
            return True
        self.skip(f"{what}: {seconds:.0f} s expected, {max(self.left, 0.0):.0f} s left")
        return False


def plain(value: Any) -> Any:
    """`value` as JSON knows it: numpy's numbers and arrays as Python's, what is not finite as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(plain(value))
