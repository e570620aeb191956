"""What a backtest found, for a program and for a notebook."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rambo_ray.backtest import report
from rambo_ray.backtest.gains import Gain
from rambo_ray.backtest.report import Played
from rambo_ray.backtest.verdict import Kind, Verdict

if TYPE_CHECKING:
    import pandas

    from rambo_ray.cli.backtest import Found


@dataclass(frozen=True)
class Backtested:
    """Which method to pick by, and how sure that is.

    recommended: its name, "random" where none is ahead; kind: "clear", "open" or "equal"; sentences: the same in
    words. gains: over random, by method, with standard error and 95 % interval, as fractions of accuracy; accuracies:
    of f on the judges, by method, random and `before` (f on the labelled items alone) among them. played: how large a
    round was. folder: where the files are; None where they were not kept.
    """

    recommended: str
    kind: Kind
    sentences: tuple[str, ...]
    gains: Mapping[str, Gain]
    accuracies: Mapping[str, float]
    played: Played
    folder: Path | None
    _verdict: Verdict

    @classmethod
    def of(cls, found: Found, folder: Path | None) -> Backtested:
        """Out of a finished backtest."""
        own = found.verdict
        return cls(
            recommended=own.recommended,
            kind=own.kind,
            sentences=tuple(own.sentences),
            gains={s.method: s.over_random for s in own.standings},
            accuracies={**{s.method: s.accuracy for s in own.standings}, "random": own.random, "before": own.before},
            played=found.played,
            folder=folder,
            _verdict=own,
        )

    @property
    def overrides(self) -> dict[str, str]:
        """What `Rambo(overrides=...)` takes to pick the real items by the recommended method."""
        return {} if self.recommended == "rambo" else {"acquisition.strategy": self.recommended}

    def to_pandas(self) -> pandas.DataFrame:
        """A row per method, the highest gain first. Raises ImportError where pandas is not installed."""
        import pandas

        rows = [
            {
                "method": name,
                "accuracy": self.accuracies[name],
                "gain": gain.mean,
                "low": gain.low,
                "high": gain.high,
                "rounds": gain.rounds,
                "ahead": gain.ahead,
            }
            for name, gain in self.gains.items()
        ]
        return pandas.DataFrame(rows).set_index("method")

    def __str__(self) -> str:
        return "\n".join([report.brief(self._verdict), "", *self.sentences])

    def _repr_html_(self) -> str:
        said = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in self.sentences)
        return f"{said}<pre>{html.escape(report.brief(self._verdict))}</pre>"
