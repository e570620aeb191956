"""Other ways to show a run than plain lines: live bars at a terminal, objects for programs, next to nothing.

At a terminal rich draws the bars: it keeps the lines that are said above the live ones, also those that other
libraries print, follows the window's width and hides no cursor for good; tqdm's bars at several positions do none of
that. It is imported when a terminal is there to be drawn on, and not before.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rambo_ray.progress import Display, Lines, Progress, duration

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.spinner import Spinner

_LOOKS_S = 0.1  # between two looks at a work; the terminal is drawn as often
_NAME, _COUNT, _RATE, _TIME, _BAR = 23, 13, 11, 13, 30  # letters of the columns, of the bar at most
_NARROW = 62  # letters of a terminal below which there is room for name, share and time alone


def chosen(*, quiet: bool = False, log_json: bool = False, stream: TextIO | None = None) -> Display:
    """The display for who asked: by default live bars where `stream` (standard output) is a terminal, else lines."""
    stream = sys.stdout if stream is None else stream
    if quiet:
        return Quiet(stream)
    if log_json:
        return JsonLines(stream)
    return Live(stream) if is_terminal(stream) else Lines(stream)


def is_terminal(stream: TextIO) -> bool:
    """Whether lines on `stream` can be drawn anew."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


class Quiet(Display):
    """The path of what was made, at the end, and what failed on the way, on standard error."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def failed(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def finished(self, text: str, path: Path | None, figures: Mapping[str, Any]) -> None:
        print(text if path is None else path, file=self.stream, flush=True)


class JsonLines(Display):
    """One JSON object per line and event; `event` says which, `time` is UTC."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def began(self, stage: str) -> None:
        self._write("begin", stage=stage)

    def ended(self, stage: str, seconds: float) -> None:
        self._write("end", stage=stage, seconds=round(seconds, 3))

    def moved(self, work: Progress) -> None:
        self._count(work)

    def closed(self, work: Progress) -> None:
        self._count(work)

    def said(self, line: str) -> None:
        if line.strip():
            self._write("message", text=line.strip("\n"))

    def failed(self, line: str) -> None:
        self._write("error", text=line)

    def finished(self, text: str, path: Path | None, figures: Mapping[str, Any]) -> None:
        from rambo_ray.files import finite  # only here: it loads pyarrow, which an error at the door does not need

        self._write("summary", text=text.strip("\n"), path=None if path is None else str(path), figures=finite(figures))

    def error(self, text: str, code: int) -> None:
        """The command ends with this error and exit code."""
        self._write("error", text=text, code=code)

    def _count(self, work: Progress) -> None:
        numbers = {"share": work.share, "rate": work.rate, "seconds_left": work.seconds_left}
        self.counted(work.label, work.done, work.total, **numbers, tried_again=work.failures)

    def counted(
        self, stage: str, done: int, total: int | None, *, tried_again: int = 0, **numbers: float | None
    ) -> None:
        """How far something is; numbers: `share` done, `rate` in a second, `seconds_left`, None where not known."""
        rounded = {name: None if value is None else round(value, 4) for name, value in numbers.items()}
        self._write("progress", stage=stage, done=done, total=total, **rounded, tried_again=tried_again)

    def _write(self, event: str, **content: Any) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "event": event, **content}, ensure_ascii=False)
        self.stream.write(line + "\n")
        self.stream.flush()


@dataclass
class _Row:
    """A line of the live display: a stage, the count of its work once there is one, and when it began."""

    name: str
    began: float
    spinner: Spinner
    work: Progress | None = None
    stage: bool = True


class Live(Display):
    """A bar for each stage at a terminal: what is under way is drawn live, what is over stays above it."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        self.console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self.rows: dict[str, _Row] = {}
        self.live = RichLive(
            console=self.console, get_renderable=self._drawn, refresh_per_second=1 / _LOOKS_S, transient=True
        )

    def pace(self, every_s: float) -> float:
        return min(every_s, _LOOKS_S)

    def began(self, stage: str) -> None:
        if stage not in self.rows:  # else it is a part of what is counted under this name already
            self._row(stage)

    def ended(self, stage: str, seconds: float) -> None:
        if stage in self.rows and self.rows[stage].stage:
            self._over(stage, seconds)

    def opened(self, work: Progress) -> None:
        if work.label in self.rows:
            self.rows[work.label].work = work
        else:
            row = self._row(work.label)
            row.work, row.stage = work, False

    def closed(self, work: Progress) -> None:
        row = self.rows.get(work.label)
        if row is not None and not row.stage:  # a stage's row stays until the stage is over
            self._over(work.label, work.elapsed_s)

    def said(self, line: str) -> None:
        self.console.print(line, soft_wrap=True)

    def failed(self, line: str) -> None:
        self.console.print(line, soft_wrap=True, style="red")

    def finished(self, text: str, path: Path | None, figures: Mapping[str, Any]) -> None:
        self.close()
        self.said(text)

    def close(self) -> None:
        """Draw no more; what was under way is left unfinished above."""
        for name in list(self.rows):
            row = self.rows.pop(name)
            self.live.refresh()
            self.console.print(self._line(row, "✗", "red", duration(time.monotonic() - row.began)))
        self.live.stop()

    def _row(self, name: str) -> _Row:
        from rich.spinner import Spinner

        row = _Row(name, time.monotonic(), Spinner("dots", style="cyan"))
        self.rows[name] = row
        if not self.live.is_started:
            self.live.start()
        return row

    def _over(self, name: str, seconds: float) -> None:
        row = self.rows.pop(name, None)
        if row is not None:
            self.live.refresh()  # or it would be drawn once more, below its own last line
            self.console.print(self._line(row, "✓", "green", duration(seconds)))

    def _drawn(self) -> RenderableType:
        """What is under way; called by the thread that draws."""
        from rich.console import Group

        return Group(*(self._line(row) for row in tuple(self.rows.values())))

    def _line(self, row: _Row, mark: str | None = None, color: str = "", taken: str = "") -> RenderableType:
        """A row as it stands, or, with a mark and the time it took, as it ended."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        work, width = row.work, self.console.width
        wide = width >= _NARROW
        share = None if work is None else min(max(work.share, 0.0), 1.0)
        if mark is None:
            left = None if work is None else work.seconds_left
            taken = duration(time.monotonic() - row.began) if left is None else f"{duration(left)} left"
            shown: RenderableType = row.spinner
        else:
            shown = Text(mark, style=color)
        count = "" if work is None else f"{work.done:,}/{work.total:,}" if wide else f"{share:.0%}"
        rate = None if work is None else work.rate if mark is None else work.done / work.elapsed_s
        pace = "" if not rate else f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.2f}/s"
        table = Table.grid(padding=(0, 1, 0, 0))
        name = Text(row.name, overflow="ellipsis", no_wrap=True)
        if work is not None and work.failures:
            name.append(f" ↻{work.failures}", style="yellow")  # tried again
        cells: list[RenderableType] = [shown, name]
        table.add_column(width=1)
        table.add_column(width=_NAME if wide else max(8, width - 5 - _TIME - 4))
        if wide:
            bar = max(1, min(_BAR, width - _NAME - _COUNT - _RATE - _TIME - 7))
            table.add_column(width=bar)
            if share is None and mark is not None:
                cells.append("")
            else:
                cells.append(ProgressBar(1.0, share or 0.0, width=bar, pulse=share is None))
        table.add_column(width=_COUNT if wide else 5, justify="right", no_wrap=True)
        cells.append(Text(count))
        if wide:
            table.add_column(width=_RATE, justify="right", no_wrap=True)
            cells.append(Text(pace, style="dim"))
        table.add_column(width=_TIME, justify="right", no_wrap=True)
        cells.append(Text(taken))
        table.add_row(*cells)
        return table
