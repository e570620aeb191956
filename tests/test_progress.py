"""What a person sees of long work: counts, rates and times by a clock that the test turns."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.progress import Progress, Stages, duration


class Clock:
    """time.monotonic that stands still until it is turned; starts far from zero, as a machine's does."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def turn(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    turned = Clock()
    monkeypatch.setattr(time, "monotonic", turned)
    yield turned


def shown(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


class TestDuration:
    @pytest.mark.parametrize(
        ("seconds", "words"),
        [
            (0, "0.0 s"),
            (0.44, "0.4 s"),
            (9.94, "9.9 s"),
            (9.96, "10 s"),
            (12.4, "12 s"),
            (59.4, "59 s"),
            (59.6, "1 min 00 s"),
            (185, "3 min 05 s"),
            (3599.4, "59 min 59 s"),
            (3599.6, "1 h 00 min"),
            (7625, "2 h 07 min"),
            (360000, "100 h 00 min"),
        ],
    )
    def test_in_words(self, seconds: float, words: str) -> None:
        assert duration(seconds) == words

    @given(st.floats(0, 1e6))
    def test_no_more_than_the_last_unit_is_lost(self, seconds: float) -> None:
        words = duration(seconds)
        parts = re.findall(r"([\d.]+) (h|min|s)", words)
        assert " ".join(f"{number} {unit}" for number, unit in parts) == words
        found = sum(float(number) * {"h": 3600, "min": 60, "s": 1}[unit] for number, unit in parts)
        assert abs(found - seconds) <= {"h": 60, "min": 0.5 + 1e-6, "s": 0.5 + 1e-6}[parts[0][1]]
        assert all(float(number) < 60 for number, unit in parts if unit != "h")


class TestRates:
    def test_nothing_is_promised_before_there_is_a_rate(self, clock: Clock) -> None:
        progress = Progress("fit", 10, stream=io.StringIO())
        clock.turn(30)
        assert progress.line() == "fit: 0/10  0%"
        progress.advance()
        assert progress.line() == "fit: 1/10  10%"

    def test_rate_and_time_left_from_the_first_piece_on(self, clock: Clock) -> None:
        progress = Progress("fit", 10, stream=io.StringIO())
        clock.turn(100)  # processes start: no part of the rate
        progress.advance()
        clock.turn(8)
        progress.advance(4)
        assert progress.line() == "fit: 5/10  50%  0.50/s  10 s left"
        clock.turn(2)  # the same pieces in more time
        assert progress.line() == "fit: 5/10  50%  0.40/s  12 s left"

    def test_time_left_goes_by_weight(self, clock: Clock) -> None:
        progress = Progress("retrain", 4, unit=" subsets", total_weight=100, stream=io.StringIO())
        progress.advance(weight=10)
        clock.turn(10)
        progress.advance(weight=30)
        # 30 of weight in 10 s, 60 are left; by number it would be 2 pieces at 0.1/s.
        assert progress.line() == "retrain: 2/4 subsets  40% of the work  0.10/s  20 s left"

    def test_weightless_pieces_promise_nothing(self, clock: Clock) -> None:
        progress = Progress("retrain", 4, total_weight=8, stream=io.StringIO())
        progress.advance(weight=2)
        clock.turn(4)
        progress.advance(weight=0)
        assert progress.line() == "retrain: 2/4  25% of the work  0.25/s"

    def test_two_pieces_in_one_tick_of_the_clock(self, clock: Clock) -> None:
        progress = Progress("fit", 4, stream=io.StringIO())
        progress.advance()
        progress.advance()
        assert progress.line().endswith("  0.0 s left")

    def test_reach_counts_up_to_what_is_done_in_all(self, clock: Clock) -> None:
        progress = Progress("epochs", 100, stream=io.StringIO())
        progress.reach(60)  # what an earlier run finished comes with the first and makes no rate
        assert progress.line() == "epochs: 60/100  60%"
        clock.turn(5)
        progress.reach(70)
        progress.reach(70)
        assert progress.line() == "epochs: 70/100  70%  2.00/s  15 s left"

    def test_nothing_to_do_is_all_done(self, clock: Clock) -> None:
        stream = io.StringIO()
        progress = Progress("retrain", 0, stream=stream)
        assert progress.line() == "retrain: 0/0  100%"
        clock.turn(0.2)
        progress.close()
        assert shown(stream) == ["retrain: 0/0 in 0.2 s"]

    def test_what_was_tried_again_is_said_and_not_counted(self, clock: Clock) -> None:
        stream = io.StringIO()
        progress = Progress("retrain", 2, stream=stream)
        progress.fail()
        assert progress.line() == "retrain: 0/2  0%  1 tried again"
        progress.fail()
        clock.turn(4)
        progress.advance(2)
        progress.close()
        assert shown(stream) == ["retrain: 2/2 in 4.0 s (0.50/s), 2 tried again"]

    @given(st.lists(st.tuples(st.integers(0, 100), st.floats(0, 10)), min_size=1, max_size=20))
    def test_whatever_happens_it_can_be_said(self, pieces: list[tuple[int, float]]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            clock = Clock()
            patch.setattr(time, "monotonic", clock)
            weights = [weight for weight, _ in pieces]
            progress = Progress("x", len(pieces), total_weight=sum(weights), every_s=1, stream=io.StringIO())
            for i, (weight, seconds) in enumerate(pieces):
                clock.turn(seconds)
                progress.advance(weight=weight)
                assert progress.line().startswith(f"x: {i + 1}/{len(pieces)}  ")
            assert "  100%" in progress.line()


class TestInALog:
    def test_a_line_at_most_every_so_often(self, clock: Clock) -> None:
        stream = io.StringIO()
        progress = Progress("fit", 100, every_s=5, stream=stream)
        for _ in range(12):
            clock.turn(2)
            progress.advance()
        # 6, 12, 18 and 24 s: the first piece after 5 s and then again.
        assert [line.split("  ")[0] for line in shown(stream)] == [f"fit: {n}/100" for n in (3, 6, 9, 12)]
        assert "\r" not in stream.getvalue() and stream.getvalue().endswith("\n")

    def test_the_last_piece_is_left_to_the_closing_line(self, clock: Clock) -> None:
        stream = io.StringIO()
        progress = Progress("fit", 2, every_s=5, stream=stream)
        for _ in range(2):
            clock.turn(6)
            progress.advance()
        progress.close()
        assert shown(stream) == ["fit: 1/2  50%", "fit: 2/2 in 12 s (0.17/s)"]

    def test_work_that_stopped_early_says_how_far_it_came(self, clock: Clock) -> None:
        stream = io.StringIO()
        progress = Progress("fit", 10, every_s=5, stream=stream)
        clock.turn(4)
        progress.advance(2)
        progress.close()
        assert shown(stream) == ["fit: 2/10 in 4.0 s (0.50/s)"]

    def test_standard_output_unless_told(self, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
        Progress("fit", 0).close()
        stages = Stages()
        stages.say("hello")
        assert capsys.readouterr().out == "fit: 0/0 in 0.0 s\nhello\n"


class TestStages:
    def test_seconds_of_each_stage_in_order(self, clock: Clock) -> None:
        stream = io.StringIO()
        stages = Stages(stream=stream)
        clock.turn(50)  # before the first stage: counted nowhere
        for name, seconds in (("samples", 90.0), ("fit", 2.5), ("samples", 10.0)):
            stages.begin(name)
            clock.turn(seconds)
        stages.end()
        clock.turn(7)
        stages.end()  # nothing is under way: nothing happens
        assert stages.seconds == {"samples": 100.0, "fit": 2.5}
        assert list(stages.seconds) == ["samples", "fit"]
        assert shown(stream) == ["[samples: 1 min 30 s]", "[fit: 2.5 s]", "[samples: 10 s]"]

    def test_what_was_said_has_left_the_process(self, clock: Clock) -> None:
        # A job's log is a pipe: a line that stays in a buffer is seen when the run is over.
        left: list[str] = []

        class Buffered(io.StringIO):
            def flush(self) -> None:
                left.append(self.getvalue())

        stream = Buffered()
        stages = Stages(every_s=1, stream=stream)
        stages.say("hello")
        assert left[-1] == "hello\n"
        progress = stages.progress(9)
        clock.turn(2)
        progress.advance()
        assert left[-1] == stream.getvalue() != "hello\n"

    def test_a_stage_under_way_has_no_seconds_yet(self, clock: Clock) -> None:
        stages = Stages(stream=io.StringIO())
        stages.begin("fit")
        clock.turn(3)
        assert stages.seconds == {}

    def test_progress_is_that_of_the_current_stage(self, clock: Clock) -> None:
        stream = io.StringIO()
        stages = Stages(every_s=2, stream=stream)
        stages.begin("samples")
        progress = stages.progress(4, total_weight=40)
        for seconds, weight in ((1, 4), (1, 16)):
            clock.turn(seconds)
            progress.advance(weight=weight)
        stages.say("half of it")
        stages.begin("fit")
        stages.progress(1).close()
        assert shown(stream) == [
            "samples: 2/4  50% of the work  1.00/s  1.2 s left",
            "half of it",
            "[samples: 2.0 s]",
            "fit: 0/1 in 0.0 s",
        ]

    def test_progress_outside_a_stage(self, clock: Clock) -> None:
        stream = io.StringIO()
        Stages(stream=stream).progress(3).close()
        assert shown(stream) == [": 0/3 in 0.0 s"]
