"""What a backtest advises: the method to run, and in which words.

The best of many estimates is flattered by its noise, so the method with the highest gain is not simply believed.
Of all methods that are not far behind it, the first in an order of preference is recommended, in the manner of the
one-standard-error rule of Breiman et al., "Classification and Regression Trees", 1984. The order is that of the true
gains on the development problems of docs/backtest.md, and there is one for pools whose classes are about as frequent
as each other and one for all others: what is worth choosing there is not the same. Random is as good where the best
of them is not ahead of it beyond the noise.

A played round is not the real purchase. On the development problems with even classes a difference of two methods
was off by `TRANSFER` of its standard errors (root mean square), which count only the noise of the rounds and images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rambo_ray.backtest.gains import Gain, Round, gain

RANDOM, BEFORE = "random", "before"

# Which of methods that are as good as each other to take: by their mean true gains on the development problems. Where
# classes are uneven, or some of the pool belongs to none, and where they are about even.
UNEVEN = ("rambo", "posterior_balance", "glister", "margin_m_balanced", "margin", "cluster_margin", "min_margin",
          "badge", "uncertainty_herding", "coreset", "least_confidence", "margin_m_random", "entropy", "typiclust",
          "probcover")  # fmt: skip
EVEN = ("margin_m_random", "uncertainty_herding", "margin_m_balanced", "badge", "min_margin", "posterior_balance",
        "rambo", "typiclust", "margin", "cluster_margin", "glister", "probcover", "coreset", "least_confidence",
        "entropy")  # fmt: skip

TRANSFER = 2.3  # see above
WITHIN = 2.5  # standard errors behind the best that are as good as it: what TRANSFER makes of one, rounded up
ALIKE = 0.01  # an accuracy: what is surely less ahead of random than this is as good as it

Kind = Literal["clear", "open", "equal"]


@dataclass(frozen=True)
class Standing:
    """A method: its mean accuracy, its gain over random, what it is behind the best, and seconds of a round."""

    method: str
    accuracy: float
    over_random: Gain
    behind: Gain
    seconds: float


@dataclass(frozen=True)
class Verdict:
    """standings: of all methods but random, the highest gain first; random: its mean accuracy, before: of f on S_0.

    kind: "clear": the recommended method is ahead of random beyond the noise, where classes are even also beyond what
    rounds and the real purchase differ by; "equal": the best method is not ahead of it, or surely by less than ALIKE;
    "open": the rounds cannot tell. recommended: "random" where equal.
    """

    standings: tuple[Standing, ...]
    random: float
    before: float
    recommended: str
    kind: Kind

    @property
    def best(self) -> Standing:
        """The method with the highest estimated gain."""
        return self.standings[0]

    def standing(self, method: str) -> Standing:
        """That of a method other than random."""
        return next(s for s in self.standings if s.method == method)

    @property
    def sentences(self) -> list[str]:
        """The advice in words, and how sure it is."""
        best = self.best
        found = [
            f"{best.method} is the best of {len(self.standings)} methods in {best.over_random.rounds} played rounds: "
            f"{points(best.over_random.mean)} over random, 95 % interval {interval(best.over_random)}."
        ]
        if self.kind == "equal":
            found.append(
                "Recommended: random. It is as good: no method is ahead of it by a point or more, as far as these "
                "labelled images can tell."
            )
            return found
        own = self.standing(self.recommended)
        if own.method == best.method:
            found.append(f"Recommended: {own.method}.")
        else:
            found.append(
                f"Recommended: {own.method}, at {points(own.over_random.mean)} over random "
                f"({interval(own.over_random)}): no further behind than the noise, and the more dependable choice."
            )
        if self.kind == "open":
            found.append(
                "The rounds do not tell it from random: random is as good as far as these labelled images can tell. "
                "More validation images would."
            )
        return found


def verdict(rounds: Sequence[Round], methods: Sequence[str], even: bool) -> Verdict:
    """What `rounds` say of `methods`, random aside; even: whether all of the pool is of classes about as frequent.

    Raises ValueError where no other was played.
    """
    order = EVEN if even else UNEVEN
    others = [method for method in methods if method != RANDOM]
    if not others:
        raise ValueError("methods: none beside random")

    def mean(method: str) -> float:
        return sum(float(r.of(method).mean()) for r in rounds) / len(rounds)

    def seconds(method: str) -> float:
        return sum(float(r.seconds[r.methods.index(method)]) for r in rounds) / len(rounds)

    gains = {method: gain(rounds, method, RANDOM) for method in others}
    ranked = sorted(others, key=lambda m: (-gains[m].mean, _place(m, order)))
    standings = tuple(Standing(m, mean(m), gains[m], gain(rounds, ranked[0], m), seconds(m)) for m in ranked)
    as_good = [s for s in standings if s.behind.mean <= WITHIN * s.behind.error or s.method == ranked[0]]
    chosen = min(as_good, key=lambda s: _place(s.method, order))
    if standings[0].over_random.mean <= 0 or standings[0].over_random.high < ALIKE:
        return Verdict(standings, mean(RANDOM), mean(BEFORE), RANDOM, "equal")
    own = chosen.over_random
    reach = (own.mean - own.low) * (TRANSFER if even else 1.0)
    kind: Kind = "clear" if own.mean > reach else "open"
    return Verdict(standings, mean(RANDOM), mean(BEFORE), chosen.method, kind)


def points(value: float) -> str:
    """A difference of accuracies in points: "+1.3 points"."""
    return f"{100 * value + 0.0:+.1f} points"


def interval(found: Gain) -> str:
    """Its 95 % interval in points: "+0.2 to +2.4"."""
    return f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"


def _place(method: str, order: Sequence[str]) -> tuple[int, str]:
    return (order.index(method) if method in order else len(order), method)
