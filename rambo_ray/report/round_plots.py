"""The plots of a run with mock rounds, drawn as `plots` draws.

One half of S_val plays the pool, then the other: the halves differ in what their rounds are worth on the average, as
another half judges. So they are told apart everywhere, and u_hat is judged within them.

G sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from rambo_ray.report.plots import (
    BACKGROUND,
    INK,
    LEARNED,
    LETTERS,
    MUTED,
    PALE,
    PICKED,
    SMALL,
    is_held_out,
    legend,
    new_figure,
    png,
)
from rambo_ray.utility_model.ranking import HeldOut
from rambo_ray.utility_samples.sampling import Utility, UtilitySample

# Of a half its marker and its blue.
HALVES = (("o", LEARNED), ("^", "#6fb1dd"))
MOST_KINDS = 16
JUDGED: Mapping[Utility, str] = {
    "accuracy": "accuracy, judging half",
    "soft_accuracy": "soft accuracy, judging half",
    "neg_val_loss": "negative loss, judging half (nats)",
}


def rounds_by_size(samples: Sequence[UtilitySample], k: int, utility: Utility, things: str = "images") -> bytes | None:
    """Utility of the mock rounds against |T|, the images each bought beside the k of S_0; those held out are hollow."""
    found = [s for s in samples if s.fold >= 0 and np.isfinite(s.utility)]
    if not found:
        return None
    figure, axes = new_figure(f"{things} bought, $|T|$", JUDGED[utility])
    for fold, (marker, color) in enumerate(HALVES):
        for held in (False, True):
            group = [s for s in found if s.fold == fold and is_held_out(s) == held]
            look = {"mfc": BACKGROUND, "mec": INK, "mew": 0.8} if held else {"color": color, "alpha": 0.75, "mew": 0}
            if group:
                label = None if held else f"{('first', 'second')[fold]} half plays"
                size, value = [s.size - k for s in group], [s.utility for s in group]
                axes.plot(size, value, marker, markersize=3.8, label=label, **look)  # type: ignore[arg-type]
    if any(map(is_held_out, found)):
        axes.plot([], [], "o", mfc=BACKGROUND, mec=INK, mew=0.8, markersize=3.8, label="held out")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes, 3)
    return png(figure)


def held_out_groups(held_out: HeldOut, utility: Utility, calibrated: bool) -> bytes | None:
    """u_hat's scores of held-out sets against what they turned out to be worth, each less the mean of its group.

    calibrated: whether scores are predicted utilities, so that a perfect u_hat's dots lie on the diagonal.
    """
    scores, utilities = (np.array(v, np.float64) for v in (held_out.scores, held_out.utilities))
    for group in set(held_out.groups):
        own = [other == group for other in held_out.groups]
        scores[own] -= scores[own].mean()
        utilities[own] -= utilities[own].mean()
    known = np.isfinite(scores) & np.isfinite(utilities)
    if not known.any() or not utilities[known].any():
        return None
    # Points of accuracy read better than fractions of one; nats stay nats.
    unit, times = ("nats", 1.0) if utility == "neg_val_loss" else ("points", 100.0)
    said = f"û: above the mean ({unit})" if calibrated else "û: above the mean (no unit)"
    figure, axes = new_figure(said, f"truly above the mean ({unit})")
    x, y = scores[known] * (times if calibrated else 1.0), utilities[known] * times
    if calibrated:
        low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
        axes.plot([low, high], [low, high], color=PALE, linewidth=1.2, zorder=0.5)
        # At the lower end, where dots are the fewest.
        axes.annotate(
            "as predicted", (low, low), (9, 0), textcoords="offset points", va="center", fontsize=SMALL, color=MUTED
        )
    axes.axhline(0.0, color=PALE, linewidth=0.8, zorder=0.4)
    axes.axvline(0.0, color=PALE, linewidth=0.8, zorder=0.4)
    axes.plot(x, y, "o", color=LEARNED, alpha=0.8, markersize=4.5, mew=0)
    return png(figure)


def winners(kinds: Sequence[str], offered: Sequence[str]) -> bytes | None:
    """Of which kind the batch was that each step took; `offered`: kinds to show although none of theirs won."""
    shown = list(dict.fromkeys([*offered, *kinds]))
    if not kinds or len(shown) > MOST_KINDS:
        return None
    figure, axes = new_figure("step j", "")
    axes.grid(axis="x", color="none")
    axes.plot(range(len(kinds)), [shown.index(kind) for kind in kinds], "o", color=PICKED, markersize=5.0, mew=0)
    axes.set_yticks(range(len(shown)), shown, fontsize=LETTERS if len(shown) <= 8 else SMALL)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(-0.6, len(kinds) - 0.4)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return png(figure)
