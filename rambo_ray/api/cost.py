"""What a run would cost, for a program: the stages of `rambo plan`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rambo_ray.pipeline.forecast import Stage
from rambo_ray.progress import duration
from rambo_ray.report import tables

if TYPE_CHECKING:
    import pandas

BACKTEST = "backtest"


@dataclass(frozen=True)
class Cost:
    """Expected cost of each stage of a run, in order, and last of a backtest before it where one was asked for.

    A stage has `name`, `pieces` (what it consists of), `worker_s` (seconds of one worker) and `wall_s` (seconds on
    the clock, with the workers there are). Iterating gives the stages.
    """

    stages: tuple[Stage, ...]

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages)

    def __len__(self) -> int:
        return len(self.stages)

    @property
    def run_seconds(self) -> float:
        """Seconds on the clock of the run, the backtest aside."""
        return sum(stage.wall_s for stage in self.stages if stage.name != BACKTEST)

    @property
    def backtest_seconds(self) -> float | None:
        """Seconds on the clock of the backtest; None where none was asked for."""
        return next((stage.wall_s for stage in self.stages if stage.name == BACKTEST), None)

    def to_pandas(self) -> pandas.DataFrame:
        """A row per stage. Raises ImportError where pandas is not installed."""
        import pandas

        return pandas.DataFrame([asdict(stage) for stage in self.stages])

    def __str__(self) -> str:
        head = ("stage", "pieces", "one worker", "on the clock")
        rows = [(s.name, s.pieces, duration(s.worker_s), duration(s.wall_s)) for s in self.stages]
        return tables.aligned([head, *rows], left=2)
