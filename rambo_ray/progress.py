"""Progress of long work, for a person at a terminal and for a log.

At a terminal one line is rewritten in place; elsewhere (a job's log, CI) a plain line appears
every few seconds and at the end. Both say how much is done, at what rate, and when it will end.
`Progress` shows one piece of long work, `Stages` the stages of a run, each with its own.
"""

from __future__ import annotations

import sys
import time
from typing import TextIO


def duration(seconds: float) -> str:
    """Seconds in words: "0.4 s", "12 s", "3 min 05 s", "2 h 07 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Progress:
    """Counts finished pieces of work of known total weight.

    The rate counts pieces; the time left goes by weight, since pieces differ (a subset of 200
    images trains many times longer than one of 20). Both are taken from the first finished piece
    on: what comes before is mostly the start of processes.
    """

    def __init__(
        self,
        label: str,
        total: int,
        *,
        unit: str = "",
        total_weight: float | None = None,
        every_s: float = 5.0,
        stream: TextIO | None = None,
    ) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.total_weight = float(total if total_weight is None else total_weight)
        self.of = "" if self.total_weight == total else " of the work"
        self.stream = sys.stdout if stream is None else stream
        self.in_place = self.stream.isatty()
        self.every_s = min(every_s, 0.5) if self.in_place else every_s
        self.done, self.weight, self.failures = 0, 0.0, 0
        self.started = self.last_shown = time.monotonic()
        self.first: tuple[float, int, float] | None = None  # when the first pieces were done, and how much
        self.width = 0

    def advance(self, count: int = 1, weight: float | None = None) -> None:
        """Count `count` finished pieces of together `weight` (default: `count`)."""
        self.done += count
        self.weight += count if weight is None else weight
        now = time.monotonic()
        if self.first is None:
            self.first = (now, self.done, self.weight)
        if now - self.last_shown >= self.every_s and self.done < self.total:
            self.last_shown = now
            self._show(self.line(), end=False)

    def reach(self, done: int) -> None:
        """Count up to `done` pieces in all; what an earlier run finished is counted with the first of them."""
        self.advance(done - self.done)

    def fail(self) -> None:
        """Count a piece that has to be tried again."""
        self.failures += 1

    def line(self) -> str:
        """What is shown now."""
        share = self.weight / self.total_weight if self.total_weight else 1.0
        text = f"{self.label}: {self.done}/{self.total}{self.unit}  {share:.0%}{self.of}"
        if self.first is not None and self.done > self.first[1]:
            elapsed = max(time.monotonic() - self.first[0], 1e-9)
            text += f"  {(self.done - self.first[1]) / elapsed:.2f}/s"
            weight_rate = (self.weight - self.first[2]) / elapsed
            if weight_rate > 0:
                text += f"  {duration((self.total_weight - self.weight) / weight_rate)} left"
        if self.failures:
            text += f"  {self.failures} tried again"
        return text

    def close(self) -> None:
        """Show the closing line: total, time taken, rate."""
        elapsed = max(time.monotonic() - self.started, 1e-9)
        text = f"{self.label}: {self.done}/{self.total}{self.unit} in {duration(elapsed)}"
        if self.done:
            text += f" ({self.done / elapsed:.2f}/s)"
        if self.failures:
            text += f", {self.failures} tried again"
        self._show(text, end=True)

    def _show(self, text: str, *, end: bool) -> None:
        if self.in_place:
            padded = text.ljust(self.width)
            self.width = len(text)
            self.stream.write("\r" + padded + ("\n" if end else ""))
        else:
            self.stream.write(text + "\n")
        self.stream.flush()


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
