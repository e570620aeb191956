"""What a terminal, a program and someone who wants quiet see of the same run."""

from __future__ import annotations

import io
import json
import math
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from rambo_ray import displays
from rambo_ray.displays import JsonLines, Live, Quiet, chosen
from rambo_ray.progress import Lines, Stages

pty = pytest.importorskip("pty")  # there is none on Windows

# Two stages with pieces to count and one without, a stray print, and a summary; or an end in the middle.
PLAYED = """
import sys, time
from pathlib import Path
from rambo_ray.displays import chosen
from rambo_ray.progress import Stages

with Stages(display=chosen()) as stages:
    stages.say("RAMBO on [bold]digits[/bold]: 100 labelled")
    for name, count in (("evidence", 6), ("acquisition", 0), ("margins of the pool", 1042)):
        stages.begin(name)
        if count:
            work = stages.progress(count, 10.0 * count)
            for piece in range(count):
                time.sleep(0.6 / count)
                if piece == 3:
                    print("a stray print")
                    work.fail()
                work.advance(weight=10.0)
                if name == "evidence" and piece == 4 and len(sys.argv) > 1:
                    raise KeyboardInterrupt
            work.close()
        time.sleep(0.15)
    stages.end()
    stages.finish("\\n100 images picked\\n  report  here", Path("here"), {})
"""


def terminal(columns: int, *arguments: str, term: str = "xterm-256color") -> str:
    """Everything that PLAYED writes to a terminal of so many columns."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-c", PLAYED, *arguments], stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL,
        env={**environment, "TERM": term, "PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        written += part
    os.close(ours)
    process.wait(timeout=60)
    return written.decode()


def frames(written: str) -> list[str]:
    """What was drawn, erased pieces included, without what moves the cursor and colours."""
    drawn = re.split(r"\n|\x1b\[2K", written)
    return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", part).strip("\r ") for part in drawn]


def lines(written: str) -> list[str]:
    """What stays on the screen."""
    return [frames(line)[-1] for line in written.split("\n")]


class TestLive:
    @pytest.mark.parametrize("columns", [80, 140, 44])
    def test_a_bar_per_stage_live_and_then_for_good(self, columns: int) -> None:
        written = terminal(columns)
        shown = lines(written)
        over = [line for line in shown if line.startswith("✓")]
        names = ["✓ evidence ↻1", "✓ acquisition", "✓ margins of the pool ↻1"]
        assert [re.sub(r" {2,}.*", "", line) for line in over] == names
        live = [frame for frame in frames(written) if "left" in frame and frame[0] in "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"]
        assert live and max(map(len, frames(written))) <= columns
        if columns >= 80:
            assert "━" in over[0] and "6/6" in over[0] and re.search(r"1,042/1,042 +[\d,]+/s +\d\.\d s$", over[2])
            assert any(re.search(r"\d/6 +[\d.]+/s +\d\.\d s left$", line) for line in live)
        else:
            assert "100%" in over[0]

    def test_what_is_said_stands_whole_above_the_bars(self) -> None:
        shown = lines(terminal(80))
        assert shown[0] == "RAMBO on [bold]digits[/bold]: 100 labelled"
        assert shown.count("a stray print") == 2
        assert shown[-4:] == ["", "100 images picked", "report  here", ""]

    def test_what_is_over_is_drawn_no_more(self) -> None:
        drawn = frames(terminal(80))
        for name in ("evidence", "acquisition", "margins of the pool"):
            last = max(i for i, frame in enumerate(drawn) if frame.startswith(f"✓ {name}"))
            assert not any(name in frame for frame in drawn[last + 1 :])

    @pytest.mark.parametrize("arguments", [(), ("interrupted",)])
    def test_the_cursor_comes_back(self, arguments: tuple[str, ...]) -> None:
        written = terminal(80, *arguments)
        hidden, back = (written.rfind(f"\x1b[?25{letter}") for letter in "lh")
        assert 0 < hidden < back
        assert any(line.startswith("✗ evidence") for line in lines(written)) == bool(arguments)

    def test_a_terminal_that_cannot_move_its_cursor_gets_lines(self) -> None:
        written = terminal(80, term="dumb")
        assert "\x1b" not in written and "evidence: 6/6 in " in written and "[acquisition: " in written

    def test_work_of_several_stages_ends_with_its_count(self) -> None:
        """As in a benchmark, whose runs are counted over all waves, each a stage of the same name."""
        stream = io.StringIO()
        with Stages(display=Live(stream)) as stages:
            over = stages.progress(4, label="runs")
            for _ in range(2):
                stages.begin("fits")
                stages.begin("runs")
                over.advance(2)
                stages.end()
            over.close()
        shown = [line.split() for line in lines(stream.getvalue()) if line.startswith(("✓", "✗"))]
        assert [line[:2] for line in shown] == [["✓", "fits"], ["✓", "fits"], ["✓", "runs"]] and "4/4" in shown[2]


class TestChoice:
    def test_lines_where_nothing_is_drawn(self) -> None:
        assert type(chosen(stream=io.StringIO())) is Lines

    @pytest.mark.parametrize(("term", "drawn"), [("xterm", True), ("dumb", False), (None, False)])
    def test_a_terminal(self, term: str | None, drawn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        if term is None:
            monkeypatch.delenv("TERM", raising=False)
        else:
            monkeypatch.setenv("TERM", term)
        assert displays.is_terminal(Terminal()) is drawn
        assert type(chosen(stream=Terminal())) is (Live if drawn else Lines)
        assert type(chosen(quiet=True, stream=Terminal())) is Quiet
        assert type(chosen(log_json=True, stream=Terminal())) is JsonLines


def played(display: displays.Display) -> None:
    with Stages(every_s=0.0, display=display) as stages:
        stages.say("\nhello ü")
        stages.begin("evidence")
        work = stages.progress(3, 30.0)
        work.advance(weight=10.0)
        work.fail()
        work.advance(weight=10.0)
        work.close()
        stages.say("")
        stages.fail("failed: one of them")
        stages.begin("acquisition")
        stages.end()
        stages.finish("\n3 images picked\n  report  x", Path("out/selection.parquet"), {"tau": math.nan, "picked": 3})


class TestQuiet:
    def test_only_the_path_and_what_failed(self, capsys: pytest.CaptureFixture[str]) -> None:
        stream = io.StringIO()
        played(Quiet(stream))
        assert stream.getvalue() == "out/selection.parquet\n"
        assert capsys.readouterr().err == "failed: one of them\n"

    def test_a_command_that_makes_nothing_but_its_text_says_it(self) -> None:
        stream = io.StringIO()
        Stages(display=Quiet(stream)).finish("2 hours", None, {})
        assert stream.getvalue() == "2 hours\n"


class TestJson:
    def test_an_object_per_event(self) -> None:
        stream = io.StringIO()
        played(JsonLines(stream))

        def strict(name: str) -> float:
            raise AssertionError(f"{name} is no JSON")

        events = [json.loads(line, parse_constant=strict) for line in stream.getvalue().splitlines()]
        assert [event["event"] for event in events] == [
            "message", "begin", "progress", "progress", "progress", "error", "end", "begin", "end", "summary",
        ]  # fmt: skip
        assert events[0]["text"] == "hello ü" and events[1]["stage"] == "evidence"
        first, second, last = events[2:5]
        assert (first["done"], first["total"], first["rate"], first["seconds_left"]) == (1, 3, None, None)
        assert second["share"] == pytest.approx(2 / 3, abs=1e-4) and second["rate"] > 0 and second["tried_again"] == 1
        assert last["done"] == 2 and events[5]["text"] == "failed: one of them"
        assert events[6]["seconds"] >= 0
        assert events[-1] == {
            "time": events[-1]["time"], "event": "summary", "text": "3 images picked\n  report  x",
            "path": "out/selection.parquet", "figures": {"tau": None, "picked": 3},
        }  # fmt: skip
        times = [datetime.fromisoformat(event["time"]) for event in events]
        assert times == sorted(times) and times[0].utcoffset() is not None
