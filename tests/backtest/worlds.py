"""Made rounds in which the truth about each method is known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rambo_ray.backtest.gains import Round


def played(
    accuracies: Mapping[str, float],
    *,
    rounds: int = 12,
    images: int = 400,
    judging: float = 0.25,
    seed: int = 0,
    of_images: float = 0.8,
    of_rounds: float = 0.0,
) -> list[Round]:
    """Rounds in which method m knows a judge with a probability of accuracies[m], on average.

    of_images: how far an image that one method knows is known to the others (0 to 1), and from round to round;
    of_rounds: how much a method's accuracy moves from round to round, a standard deviation.
    """
    generator = np.random.default_rng(seed)
    hardness = generator.random(images)
    own = {name: generator.random(images) for name in accuracies}  # what a method finds hard in every round
    found = []
    for number in range(rounds):
        judges = np.sort(generator.permutation(images)[: round(judging * images)])
        right = []
        for name, accuracy in accuracies.items():
            moved = accuracy + of_rounds * generator.normal()
            draw = generator.random(len(judges))
            kind = generator.random(len(judges))
            level = np.where(kind < of_images, hardness[judges], np.where(kind < 0.9, own[name][judges], draw))
            right.append((level < moved).astype(np.float64))
        names = tuple(accuracies)
        found.append(Round(number, judges, names, np.array(right), np.zeros((len(names), 3)), np.ones(len(names))))
    return found
