"""What is said of u_hat's ranking: on the page and in the summary of a run, in words that agree with the numbers.

Chance is the band that `rambo_ray.utility_model.chance` finds: what 95 % of random scores stay within, ties and groups
as they are. Whether a run follows u_hat hangs on the same comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rambo_ray.config.schema import Config
from rambo_ray.report import words

Verdict = Literal["better", "worse", "same", "unknown"]
_SAID = {"better": "better than chance", "worse": "worse than chance", "same": "not told apart from chance"}


@dataclass(frozen=True)
class Judgement:
    """How u_hat did on `count` held-out sets of a kind, "mock rounds" or "subsets", and of these sizes.

    accuracy: share of comparable pairs in the right order, None where no two can be compared; chance: what 95 % of
    random scores stay within. gain, best_gain: how much more than the average the set is worth that u_hat ranks
    first, and the truly best one, in utility; fraction: whether that is a share of images, or else nats. followed:
    whether the run took u_hat's word; filtered: images that it chose from in a step. by_size: the accuracy of each
    size. pairs, tied: comparable pairs that differ in utility, and that do not; None of a run that did not count them.
    things: what the pool holds.
    """

    count: int
    kind: str
    sizes: tuple[int, ...]
    accuracy: float | None
    chance: tuple[float, float]
    gain: float | None
    best_gain: float | None
    fraction: bool
    followed: bool
    filtered: int
    by_size: tuple[tuple[int, float | None], ...] = ()
    pairs: int | None = None
    tied: int | None = None
    things: str = "images"

    @classmethod
    def of(cls, metrics: Mapping[str, Any], config: Config) -> Judgement:
        """Out of what metrics.json holds."""
        ranking, source = metrics["ranking"], config.utility_samples.source
        # A round is as large as what it buys, though the network's sets hold S_0, too.
        bought = source == "mock_rounds" and config.utility_model.features != "evidence"
        by_size = {
            int(size) - bought * int(metrics["sizes"]["k"]): number(share)
            for size, share in (ranking.get("held_out_by_size") or {}).items()
        }
        low, high = (number(limit) for limit in ranking.get("held_out_chance") or (None, None))
        accuracy = number(ranking.get("held_out_pairwise_accuracy"))
        known = accuracy is not None and low is not None and high is not None
        return cls(
            count=int(ranking.get("held_out_subsets") or 0),
            kind={"mock_rounds": "mock rounds", "subsets": "subsets", "both": "sets"}[source],
            sizes=tuple(sorted(by_size)),
            accuracy=accuracy if known else None,
            chance=(low or 0.0, high or 0.0),
            gain=number(ranking.get("held_out_gain")),
            best_gain=number(ranking.get("held_out_best_gain")),
            fraction=config.utility_samples.utility != "neg_val_loss",
            followed=bool(metrics.get("u_hat_followed", True)),
            filtered=min(config.acquisition.margin_pool, int(metrics["sizes"]["pool"]) - left_out(metrics)),
            by_size=tuple(sorted(by_size.items())),
            pairs=ranking.get("held_out_pairs"),
            tied=ranking.get("held_out_tied_pairs"),
            things=words.things(metrics),
        )

    @property
    def verdict(self) -> Verdict:
        """How u_hat stands to chance."""
        if self.accuracy is None:
            return "unknown"
        if self.accuracy > self.chance[1]:
            return "better"
        return "worse" if self.accuracy < self.chance[0] else "same"

    @property
    def shown(self) -> str:
        """The share of pairs in the right order, as it is printed."""
        return "–" if self.accuracy is None else self._percent(self.accuracy)

    def phrase(self) -> str:
        """The verdict in a few words."""
        if self.accuracy is None:
            return f"not judged: {self._why()}"
        said = f"{_SAID[self.verdict]}, which is {self._band()}"
        return f"{said}; {self.tied:,} of {self.pairs + self.tied:,} pairs tie" if self.pairs and self.tied else said

    def sentence(self, name: str = "û") -> str:
        """What u_hat, under this name, is worth, and what that means for the picked images."""
        batch = f"in each step a random batch of the {self.filtered:,} smallest margins"
        filtered = f"so the run follows the margin filter: {batch}"
        if self.accuracy is None:
            said = f"How well {name} ranks could not be judged: {self._why()}"
            return f"{said}." if self.followed else f"{said}, {filtered}."
        of = "pairs"
        if self.pairs and self.tied:
            of = "the one pair" if self.pairs == 1 else f"the {self.pairs:,} pairs"
            of += f" whose utilities differ ({self.tied:,} tie)"
        said = f"On {self.count} held-out {self._what()} {name} puts {self.shown} of {of} in the right order"
        if self.verdict == "better":
            return f"{said} (chance: {self._band()}){self._worth()}."
        verdict = _SAID[self.verdict]
        if self.verdict == "same" and self.chance[1] >= 1.0:
            verdict += ", by which all of so few may be right"
        meaning = f"expect no more from its choice than from any {self.things} of small margin"
        return f"{said}, {verdict} ({self._band()}){f': {meaning}' if self.followed else f', {filtered}'}."

    def _worth(self) -> str:
        """What u_hat's first choice is worth, in points of accuracy or nats."""
        if self.gain is None or self.best_gain is None:
            return ""
        one = self.kind.split()[-1].removesuffix("s")
        gain, best = (f"{abs(100 * v):.1f}" if self.fraction else f"{abs(v):.3f}" for v in (self.gain, self.best_gain))
        than = "less" if self.gain < 0 and float(gain) else "more"
        unit = "points" if self.fraction else "nats"
        return f"; the {one} it ranks first is worth {gain} {unit} {than} than the average, the best {best}"

    def _what(self) -> str:
        """What was held out, with its sizes: "mock rounds of 350 to 400 images"."""
        if not self.sizes:
            return self.kind
        several = f" to {self.sizes[-1]:,}" if len(self.sizes) > 1 else ""
        return f"{self.kind} of {self.sizes[0]:,}{several} {self.things}"

    def _why(self) -> str:
        if self.count < 2:
            return f"fewer than two {self.kind} were held out"
        if self.tied:
            return f"all held-out {self.kind} that can be compared are worth the same"
        return f"no two held-out {self.kind} can be compared"

    def _band(self) -> str:
        low, high = (self._percent(limit, unit="") for limit in self.chance)
        return f"{low} to {high} %"

    def _percent(self, share: float, unit: str = " %") -> str:
        """In percent, with as many decimals as tell the accuracy from the limits of chance."""
        wanted = {self.accuracy, *self.chance}
        decimals = next((d for d in (0, 1) if len({f"{100 * (v or 0.0):.{d}f}" for v in wanted}) == len(wanted)), 2)
        return f"{100 * share:.{decimals}f}{unit}"


def left_out(metrics: Mapping[str, Any]) -> int:
    """Images of the pool that are copies of others, and were not to be picked."""
    copies = metrics.get("copies") or {}
    return int(copies.get("exact", 0)) + int(copies.get("near", 0))


def number(value: Any) -> float | None:
    """`value` where it is a finite number."""
    return float(value) if value is not None and math.isfinite(value) else None


def signed(value: float, decimals: int = 1) -> str:
    """A number with its sign, as one writes it: "+1.2", "−0.3", "0.0"."""
    text = f"{value:+.{decimals}f}"
    return text.replace("-", "−") if float(text) else text[1:]
