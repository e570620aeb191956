"""Progress of long work: what is counted, and what is said of it.

`Progress` counts the pieces of one long work, `Stages` names the stages of a run, and a `Display` shows both. The one
here writes plain lines, for a job's log and for CI: how much is done, at what rate, and when it will end, every few
seconds and at the end. Those of `rambo_ray.displays` are for a terminal, for programs, and for silence.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from rambo_ray.run_log import LOG

_LOGGED_S = 60.0  # between two lines of the log on the same work


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


class Display:
    """Where a run is shown. This one shows nothing; the others show what they have a use for."""

    def pace(self, every_s: float) -> float:
        """Seconds between two looks at the same work, where someone wants a line every `every_s`."""
        return every_s

    def began(self, stage: str) -> None:
        """A stage begins."""

    def ended(self, stage: str, seconds: float) -> None:
        """A stage is over."""

    def opened(self, work: Progress) -> None:
        """Work begins to be counted."""

    def moved(self, work: Progress) -> None:
        """Some of it is done."""

    def closed(self, work: Progress) -> None:
        """It is over."""

    def said(self, line: str) -> None:
        """Something for the person who watches."""

    def failed(self, line: str) -> None:
        """Something went wrong that does not end the command."""

    def finished(self, text: str, path: Path | None, figures: Mapping[str, Any]) -> None:
        """The command is done: its summary, the path of what it made, if it is a file, and the summary's figures."""

    def close(self) -> None:
        """Nothing more comes."""


class Lines(Display):
    """Plain lines, each flushed: a job's log is a pipe, and a line in a buffer is seen when the run is over."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to `stream` (default: standard output)."""
        self.stream = sys.stdout if stream is None else stream

    def ended(self, stage: str, seconds: float) -> None:
        self.said(f"[{stage}: {duration(seconds)}]")

    def moved(self, work: Progress) -> None:
        self.said(work.line())

    def closed(self, work: Progress) -> None:
        self.said(work.closing_line())

    def said(self, line: str) -> None:
        self.stream.write(line + "\n")
        self.stream.flush()

    def failed(self, line: str) -> None:
        self.said(line)

    def finished(self, text: str, path: Path | None, figures: Mapping[str, Any]) -> None:
        self.said(text)


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
        display: Display | None = None,
    ) -> None:
        """Show it on `display`, by default as lines on `stream` (default: standard output), every `every_s` seconds."""
        self.label, self.total, self.unit = label, total, unit
        self.total_weight = float(total if total_weight is None else total_weight)
        self.of = "" if self.total_weight == total else " of the work"
        self.display = Lines(stream) if display is None else display
        self.every_s = self.display.pace(every_s)
        self.done, self.weight, self.failures = 0, 0.0, 0
        self.started = self.last_shown = self.last_logged = time.monotonic()
        self.first: tuple[float, int, float] | None = None  # when the first pieces were done, and how much
        self.display.opened(self)

    def advance(self, count: int = 1, weight: float | None = None) -> None:
        """Count `count` finished pieces of together `weight` (default: `count`)."""
        self.done += count
        self.weight += count if weight is None else weight
        now = time.monotonic()
        if self.first is None:
            self.first = (now, self.done, self.weight)
        if now - self.last_shown >= self.every_s and self.done < self.total:
            self.last_shown = now
            self.display.moved(self)
        if now - self.last_logged >= _LOGGED_S and self.done < self.total:
            self.last_logged = now
            LOG.info(self.line())

    def reach(self, done: int) -> None:
        """Count up to `done` pieces in all; what an earlier run finished is counted with the first of them."""
        self.advance(done - self.done)

    def fail(self) -> None:
        """Count a piece that has to be tried again."""
        self.failures += 1

    @property
    def share(self) -> float:
        """How much of the work is done, 0 to 1."""
        return self.weight / self.total_weight if self.total_weight else 1.0

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was opened."""
        return max(time.monotonic() - self.started, 1e-9)

    @property
    def rate(self) -> float | None:
        """Pieces per second since the first; None before there is one more."""
        since = self._since_first()
        return None if since is None else (self.done - since[1]) / since[0]

    @property
    def seconds_left(self) -> float | None:
        """Until all is done, by weight; None where nothing can be said yet."""
        since = self._since_first()
        if since is None or self.weight <= since[2]:
            return None
        return (self.total_weight - self.weight) * since[0] / (self.weight - since[2])

    def line(self) -> str:
        """How far it is."""
        text = f"{self.label}: {self.done}/{self.total}{self.unit}  {self.share:.0%}{self.of}"
        rate, left = self.rate, self.seconds_left
        if rate is not None:
            text += f"  {rate:.2f}/s"
        if left is not None:
            text += f"  {duration(left)} left"
        if self.failures:
            text += f"  {self.failures} tried again"
        return text

    def closing_line(self) -> str:
        """Total, time taken, rate."""
        elapsed = self.elapsed_s
        text = f"{self.label}: {self.done}/{self.total}{self.unit} in {duration(elapsed)}"
        if self.done:
            text += f" ({self.done / elapsed:.2f}/s)"
        if self.failures:
            text += f", {self.failures} tried again"
        return text

    def close(self) -> None:
        """The work is over."""
        LOG.info(self.closing_line())
        self.display.closed(self)

    def _since_first(self) -> tuple[float, int, float] | None:
        """Seconds since the first pieces, and how many and how much these were; None where no more are done."""
        if self.first is None or self.done <= self.first[1]:
            return None
        return max(time.monotonic() - self.first[0], 1e-9), self.first[1], self.first[2]


class Stages:
    """Names the stage a run is in, hands out its progress display, and keeps the seconds.

    As a context it closes its display, which a terminal's needs, however the run ends.
    """

    def __init__(self, *, every_s: float = 5.0, stream: TextIO | None = None, display: Display | None = None) -> None:
        """Show on `display`, by default as lines on `stream` (default: standard output), every `every_s` seconds."""
        self.display = Lines(stream) if display is None else display
        self.every_s = every_s
        self.seconds: dict[str, float] = {}
        self._name: str | None = None
        self._began = 0.0

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, *_: object) -> None:
        self.display.close()

    def begin(self, name: str) -> None:
        """End the stage before, if there is one, and begin `name`."""
        self.end()
        self._name, self._began = name, time.monotonic()
        LOG.info("%s begins", name)
        self.display.began(name)

    def end(self) -> None:
        """End the current stage."""
        if self._name is not None:
            taken = time.monotonic() - self._began
            self.seconds[self._name] = self.seconds.get(self._name, 0.0) + taken
            name, self._name = self._name, None
            LOG.info("%s: %s", name, duration(taken))
            self.display.ended(name, taken)

    def progress(self, total: int, total_weight: float | None = None, label: str | None = None) -> Progress:
        """A count of `total` pieces of work: of the current stage, or, under `label`, of several."""
        name = label if label is not None else self._name or ""
        return Progress(name, total, total_weight=total_weight, every_s=self.every_s, display=self.display)

    def say(self, line: str) -> None:
        """One line for the person who watches."""
        LOG.info(line)
        self.display.said(line)

    def fail(self, line: str) -> None:
        """One line on what failed without ending the command; it is said even where nothing else is."""
        LOG.error(line)
        self.display.failed(line)

    def finish(self, text: str, path: Path | None, figures: Mapping[str, Any]) -> None:
        """The summary at the command's end: for people, and as the path of what was made and the figures.

        path: None where the text itself is what the command makes.
        """
        LOG.info(text)
        self.display.finished(text, path, figures)
