"""How a round is played with labelled images: who plays the pool, who is S_val in it, and who judges.

S_0 stays what it is. S_val is divided in three, alike in their classes, anew for each fold:

- the mock pool: thinned so that some classes are rarer in it than others, as they are in the real pool. Images that
  were rejected before take part, as they would be met in the pool;
- the played S_val: all that the strategies of that round may see of S_val, RAMBO's own mock rounds included;
- the judges, which nobody in that round has seen.

Copies of an image, exact and near, all take one part, that of the first, or methods would be judged by what they have
bought. The mock pool has each image once, as the real one does.

The classes' shares in the mock pool are in proportion to the square roots of those in the real one (`mix`). With the
same shares a mock pool of a few hundred images would hold one image of a class of which the real one holds a hundred,
and nobody could buy what it is worth to buy. With the roots the shortage is milder, so a round errs on random's side.

What counts images is scaled down: a round buys a share of its mock pool, in as many batches as the real one; M is
the same share of the pool, and at least twice the budget.

Letters: k images in S_0, V in S_val, R rejected, N in the pool, B the budget, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rambo_ray import seeds
from rambo_ray.config.schema import Config
from rambo_ray.errors import UserError
from rambo_ray.utility_samples.mock_rounds import parts

PARTS = 20  # S_val is dealt out in twentieths
SHORT = 0.15  # share of the mock pool that may be missing, of the classes that S_val has the fewest of
LEAST = 5  # images that a played round buys: with fewer there is nothing to tell methods apart by


@dataclass(frozen=True)
class Shares:
    """How S_val is divided, and which share of the mock pool is bought at most.

    The judges get what is left, one part of a whole number.
    """

    pool: float = 0.4
    validation: float = 0.35
    bought: float = 0.3


@dataclass(frozen=True)
class Fold:
    """Positions of one played round.

    pool, validation, judges: in S_val and then what was rejected, int64; `pool` in the order of the mock pool.
    rejected: of those rejected, the positions that the round knows as such. seed: of all that is drawn in it.
    """

    number: int
    pool: np.ndarray
    validation: np.ndarray
    judges: np.ndarray
    rejected: np.ndarray
    seed: int


def draw(
    number: int,
    labels: np.ndarray,
    rejected: int,
    k: int,
    mix: np.ndarray,
    shares: Shares,
    seed: int,
    same: np.ndarray | None = None,
) -> Fold:
    """Fold `number` of a problem with S_val's labels int64 [V], R = `rejected` images of no class, and k in S_0.

    mix [K]: shares of the classes among the pool's images that belong to one. R images were rejected while k were
    labelled, so that the mock pool holds R / k times as many of none as of classes, as far as half of R allows.
    same int64 [V + R]: the first of each image's copies, in S_val or among those rejected, itself where it has none.

    Raises UserError where copies leave a part of S_val empty.
    """
    generator = seeds.generator(seed, "backtest", 2, number)
    same = np.arange(len(labels) + rejected) if same is None else same
    first = same == np.arange(len(same))
    part = divided(labels, shares, number, seed)[same[: len(labels)]]
    counts = np.bincount(part, minlength=3)
    if not counts.all() and not first[: len(labels)].all():
        lacking = ("buy", "play with", "judge by")[counts.argmin()]
        raise UserError(
            f"data.validation: its {len(labels)} images are copies, exact or near, of {first[: len(labels)].sum()}, "
            f"which stay together, so that round {number + 1} has none to {lacking}; give more different validation "
            "images, or set acquisition.copies=keep"
        )
    playing = np.flatnonzero((part == 0) & first[: len(labels)])
    pool = playing[thinned(labels[playing], tempered(mix), generator)]
    order = generator.permutation(rejected) + len(labels)
    meets = np.isin(same, order[: -(-rejected // 2)])
    met = order[(meets & first)[order]]
    pool = np.concatenate([pool, met[: round(len(pool) * rejected / k)]])
    return Fold(
        number,
        generator.permutation(pool),
        np.flatnonzero(part == 1),
        np.flatnonzero(part == 2),
        np.sort(order[~meets[order]]),
        seeds.integer(seed, "backtest", 3, number),
    )


def tempered(mix: np.ndarray) -> np.ndarray:
    """The classes' shares [K] in a mock pool, of those in the real one."""
    roots: np.ndarray = np.sqrt(mix)
    return roots / roots.sum()


def divided(labels: np.ndarray, shares: Shares, number: int, seed: int) -> np.ndarray:
    """0, 1 or 2 for each of labels [V]: of the mock pool, the played S_val, the judges; alike in their classes.

    S_val is dealt out in PARTS once for several rounds, which the judges' place moves through, so that all images
    judge equally often. Roles alternate from part to part: a class of few images, which lie in parts one after the
    other, has some in each.
    """
    turns = round(1 / (1 - shares.pool - shares.validation))
    deal, turn = divmod(number, turns)
    part = parts(labels, PARTS, seeds.generator(seed, "backtest", 4, deal))
    role = np.full(PARTS, 2)
    others = np.flatnonzero(np.arange(PARTS) % turns != turn)
    steps = np.floor(np.arange(len(others) + 1) * shares.pool / (shares.pool + shares.validation) + 1e-9)
    role[others] = np.where(np.diff(steps) > 0, 0, 1)
    found: np.ndarray = role[part]
    return found


def thinned(labels: np.ndarray, mix: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Positions, in order, of as many of labels [n] as can be taken with the classes' shares `mix` [K].

    What is no whole number of images is rounded up or down at random, so that a class with half an image is
    there in half of the folds.
    """
    there = np.bincount(labels, minlength=len(mix))
    wanted = np.minimum(mix * size_of_pool(there, mix), there)
    counts = np.floor(wanted + generator.random(len(mix))).astype(np.int64)
    taken = [generator.permutation(np.flatnonzero(labels == c))[: counts[c]] for c in range(len(mix))]
    return np.sort(np.concatenate(taken))


def size_of_pool(there: np.ndarray, mix: np.ndarray) -> float:
    """How many images of the classes' shares `mix` [K] can be had of `there` [K] of each.

    The scarcest classes do not count, up to SHORT of the pool together: a class that S_val happens to lack must not
    leave a mock pool of nothing. They are then as many as there are.
    """
    lasts = there / mix
    order = np.argsort(lasts, kind="stable")
    skipped = int((np.cumsum(mix[order]) <= SHORT).sum())
    return float(lasts[order[min(skipped, len(mix) - 1)]])


def played(config: Config, pool: int, num_pool: int, bought: float, shrunk: float) -> Config:
    """The configuration of a round whose mock pool has `pool` images, the real one num_pool.

    bought: share of the mock pool that the round buys at most; shrunk: images of the played S_val to one of S_val.
    Raises UserError where nothing sensible is left.
    """
    ask, samples = config.acquisition, config.utility_samples
    budget = min(ask.budget, int(bought * pool))
    if budget < min(LEAST, ask.budget):
        raise UserError(
            f"data.validation: a round played with it has a mock pool of {pool} images and buys {budget}, at least "
            f"{LEAST} are needed; give more validation images, of the pool's common classes above all"
        )
    scale = budget / ask.budget
    b = min(max(1, round(ask.batch_size * scale)), budget)
    margin_pool = round(max(ask.margin_pool * pool / num_pool, 2 * budget))
    rounds = {
        name: max(2, round(value * shrunk))
        for name in ("min_round", "max_round")
        if (value := getattr(samples, name)) is not None
    }
    return config.model_copy(
        update={
            "acquisition": ask.model_copy(
                update={"budget": budget, "batch_size": b, "margin_pool": min(max(margin_pool, b), pool)}
            ),
            "utility_samples": samples.model_copy(update=rounds),
        }
    )
