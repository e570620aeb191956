"""The stages of a run as a person sees them: a heading each, progress inside, and how long each took."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from rambo_ray.progress import Progress, duration


class Stages:
    """Names the stage a run is in, hands out its progress display, and keeps the seconds."""

    def __init__(self, *, every_s: float = 5.0, stream: TextIO | None = None) -> None:
        """Write to `stream` (default: standard output), a progress line every `every_s` seconds."""
        self.stream = sys.stdout if stream is None else stream
        self.every_s = every_s
        self.seconds: dict[str, float] = {}
        self._name: str | None = None
        self._began = 0.0

    def begin(self, name: str) -> None:
        """End the stage before, if there is one, and begin `name`."""
        self.end()
        self._name, self._began = name, time.monotonic()

    def end(self) -> None:
        """End the current stage."""
        if self._name is not None:
            taken = time.monotonic() - self._began
            self.seconds[self._name] = self.seconds.get(self._name, 0.0) + taken
            self.say(f"[{self._name}: {duration(taken)}]")
            self._name = None

    def progress(self, total: int, total_weight: float | None = None, label: str | None = None) -> Progress:
        """A display for `total` pieces of work: of the current stage, or, under `label`, of several."""
        name = label if label is not None else self._name or ""
        return Progress(name, total, total_weight=total_weight, every_s=self.every_s, stream=self.stream)

    def say(self, line: str) -> None:
        """One line for the person who watches."""
        self.stream.write(line + "\n")
        self.stream.flush()
