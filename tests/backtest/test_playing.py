"""Rounds played in one process, in a made world of vectors whose classes are as unequal as 30 to 1."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rambo_ray.backtest import folds
from rambo_ray.backtest.folds import Fold, Shares
from rambo_ray.backtest.gains import Round, gain
from rambo_ray.backtest.playing import Material, Play, plan_of, play
from rambo_ray.benchmark.experiment import Method
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data.problem import NONE, Problem
from rambo_ray.data.vectors import LabeledVectors, Vectors
from rambo_ray.pipeline import plan

K, D = 6, 8
MIX = np.array([30.0, 15.0, 8.0, 4.0, 2.0, 1.0]) / 60
BOUGHT = Shares().bought


def points(generator: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    corners = np.random.default_rng(7).normal(size=(K + 1, D)) * 1.3
    return (corners[labels] + generator.normal(size=(len(labels), D))).astype(np.float32)


def names(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{i}" for i in range(count))


def world(seed: int = 0, validation: int = 240, k: int = 60, rejected: int = 0) -> Material:
    """S_0 drawn by MIX, S_val even; f is a linear head on the vectors as they are."""
    generator = np.random.default_rng(seed)
    drawn = np.concatenate([np.arange(2), generator.choice(K, size=k - 2, p=MIX)])
    even = np.arange(validation) % K
    none = Vectors(points(generator, np.full(rejected, K)), names("r", rejected)) if rejected else None
    problem = Problem(
        LabeledVectors(points(generator, drawn), names("s", k), drawn),
        LabeledVectors(points(generator, even), names("v", validation), even),
        Vectors(points(generator, np.zeros(1, dtype=np.int64)), ("p0",)),
        tuple("abcdef"),
        (),
        (),
        none,
    )
    rule = replace(plan.training_settings(config(), problem), image_shape=(D, 1, 1))
    seen = problem.labeled.array
    return Material(problem, seen, problem.validation.array, seen[:0] if none is None else none.array, rule, 3000)


def config(*overrides: str) -> Config:
    small = ["classifier.name=linear", "utility_samples.num_pairs=20", "utility_samples.num_held_out=12",
             "utility_samples.evidence_folds=3", "acquisition.budget=200", "acquisition.margin_pool=400"]  # fmt: skip
    return loading.load(None, [*small, *overrides])


def fold_of(made: Material, number: int = 0) -> Fold:
    labels = made.problem.validation.labels
    return folds.draw(number, labels, len(made.rejected), len(made.labeled), MIX, Shares(), 0)


def played(made: Material, fold: Fold, *methods: str, draws: int = 3) -> dict[str, Play]:
    found = play(config(), made, fold, [Method(name, name, {}) for name in methods], BOUGHT, draws)
    return {one.method: one for one in found}


def test_a_round_is_played_by_every_method_and_by_f_alone() -> None:
    made = world()
    fold = fold_of(made)
    budget = plan_of(config(), made, fold, BOUGHT).config.acquisition.budget
    found = played(made, fold, "rambo", "random", "margin_m_random", "badge", "min_margin", "posterior_balance")
    assert list(found) == [
        "before", "rambo", "random", "margin_m_random", "badge", "min_margin", "posterior_balance"
    ]  # fmt: skip
    assert budget == int(BOUGHT * len(fold.pool))
    for name, one in found.items():
        assert one.right.shape == fold.judges.shape and one.seconds >= 0
        assert one.classes.sum() == pytest.approx(0 if name == "before" else budget)
        assert ((one.right >= 0) & (one.right <= 1)).all()
    assert set(np.unique(found["badge"].right)) <= {0.0, 1.0} and len(np.unique(found["random"].right)) > 2


def test_the_same_round_is_the_same_round() -> None:
    made = world()
    first, again = (played(made, fold_of(made), "rambo", "random") for _ in range(2))
    for name in first:
        assert first[name].right.tolist() == again[name].right.tolist()


def test_what_the_judges_know_changes_nobodys_picks() -> None:
    """The round's strategies have not seen them: with other labels only the verdict is another."""
    made = world()
    fold = fold_of(made)
    labels = made.problem.validation.labels.copy()
    labels[fold.judges] = (labels[fold.judges] + 1) % K
    validation = made.problem.validation
    other = LabeledVectors(validation.array.copy(), validation.ids, labels)
    told = replace(made, problem=replace(made.problem, validation=other))
    names_ = ("rambo", "random", "badge", "posterior_balance")
    one, two = played(made, fold, *names_), played(told, fold, *names_)
    for name in names_:
        assert one[name].classes.tolist() == two[name].classes.tolist()
        assert one[name].right.mean() > two[name].right.mean()


def test_on_a_long_tail_buying_even_classes_beats_random_and_the_rounds_say_so() -> None:
    made = world(validation=480)
    rounds = []
    for number in range(8):
        fold = fold_of(made, number)
        found = played(made, fold, "random", "posterior_balance")
        rounds.append(
            Round(
                number,
                fold.judges,
                tuple(found),
                np.array([one.right for one in found.values()]),
                np.array([one.classes for one in found.values()]),
                np.zeros(len(found)),
            )
        )
        rare = {name: one.classes[3:K].sum() for name, one in found.items()}
        assert rare["posterior_balance"] > rare["random"]
    balanced, bought = gain(rounds, "posterior_balance", "random"), gain(rounds, "random", "before")
    assert balanced.mean > 0.01 and balanced.ahead >= 6
    assert bought.low > 0  # labels help, whichever


def test_what_was_rejected_plays_and_teaches_nothing() -> None:
    made = world(rejected=40)
    fold = fold_of(made)
    pool = made.take(fold.pool)
    assert (pool.labels == NONE).sum() == 20 and len(fold.rejected) == 20
    found = played(made, fold, "rambo", "random", "margin_accepted")
    assert found["random"].classes[K] > 0
    assert found["margin_accepted"].classes[K] <= found["random"].classes[K]


def test_without_u_hat_nothing_is_retrained_for_it() -> None:
    made = world()
    fold = fold_of(made)
    alone, beside = played(made, fold, "badge"), played(made, fold, "badge", "rambo")
    assert alone["badge"].right.tolist() == beside["badge"].right.tolist()
