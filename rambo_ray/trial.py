"""One trial of a sweep: a setting fitted, put to the test, and reduced to numbers.

What a trial starts from, its `Ground`, was measured before and is shared by all trials that differ
only in the settings of u_hat and of the acquisition. A trial costs the fits, the acquisitions and
one retraining per acquisition. It runs in one process and knows nothing of Ray: `fit` is handed in.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from rambo_ray import acquisition, features, prediction, seeds, training
from rambo_ray.baselines.evidence import Evidence
from rambo_ray.config import Config
from rambo_ray.evaluation import RankingQuality, judge
from rambo_ray.fitting import FitInput, FitResult
from rambo_ray.objective import Pairs
from rambo_ray.retraining import LabeledArrays
from rambo_ray.utility_model import UtilityModel

Epoch = Callable[[Mapping[str, float]], None]
Fit = Callable[[FitInput, Epoch], FitResult]


@dataclass(frozen=True)
class Ground:
    """S_0, S_val and a pool with everything measured of them that no setting of u_hat changes.

    images: u_hat's inputs of S_0; classifier: the base classifier f, with its `before` accuracies on
    `sets`; margins [N] of the pool by f; answers [N]: the pool's labels, None where nobody knows
    them or nobody may ask. held_out: subsets of S_0 with their true utilities. evidence: what
    strategies other than u_hat pick by, None where none will. sample_seconds: of one thread, for all
    trainings of utility samples.
    """

    labeled: LabeledArrays
    sets: Mapping[str, LabeledArrays]
    pool: np.ndarray
    answers: np.ndarray | None
    recipe: training.Recipe
    kind: features.Features
    imagenet_weights: str | None
    offline: Pairs
    prefixes: tuple[tuple[int, ...], ...]
    prefix_utilities: tuple[float, ...]
    interpolation: tuple[Pairs, ...]
    held_out: tuple[tuple[int, ...], ...]
    held_out_utilities: tuple[float, ...]
    images: np.ndarray
    classifier: training.Arrays
    before: Mapping[str, float]
    margins: np.ndarray
    evidence: Evidence | None = None
    sample_seconds: float = 0.0

    def revealed(self) -> np.ndarray:
        """The pool's labels, [N]; raises ValueError where nobody knows them or nobody may ask."""
        if self.answers is None:
            raise ValueError("this ground's pool has no labels to answer with")
        return self.answers

    def ranking(self, model: UtilityModel) -> RankingQuality:
        """How well u_hat ranks the held-out subsets."""
        return judge(model, self.images, self.held_out, self.held_out_utilities)[2]

    def fit_input(self, config: Config) -> FitInput:
        """What u_hat is fitted to under `config`."""
        return FitInput(
            self.images,
            self.offline,
            self.prefixes,
            self.prefix_utilities,
            self.interpolation,
            config.utility_model,
            config.seed,
        )


@dataclass(frozen=True)
class Score:
    """What a trial found, fractions in [0, 1]; NaN where it was not asked for.

    simulated_accuracy: on S_val after the folds' acquisitions, their mean; simulated_gain: the same
    minus the accuracy before. ranking_accuracy, kendall_tau: of u_hat on S_0's held-out subsets.
    oracle_accuracy, oracle_test_accuracy: on S_val and test after the real pool's acquisition,
    answered with labels that a real user does not have.
    """

    simulated_accuracy: float
    simulated_gain: float
    ranking_accuracy: float
    kendall_tau: float
    oracle_accuracy: float
    oracle_test_accuracy: float
    epochs: int


def objective(score: Score, simulated: float, ranking: float, oracle: bool) -> float:
    """What a sweep maximises: the weighted sum of simulated and ranking accuracy, or the oracle's on S_val.

    A term of weight 0 may be NaN.
    """
    if oracle:
        return score.oracle_accuracy
    terms = ((simulated, score.simulated_accuracy), (ranking, score.ranking_accuracy))
    return float(sum(weight * value for weight, value in terms if weight))


def evaluate(
    config: Config,
    ground: Ground,
    folds: Sequence[tuple[Config, Ground]],
    fit: Fit,
    *,
    oracle: bool,
    device: str = "cpu",
    report: Callable[[Mapping[str, float]], None] = lambda metrics: None,
) -> Score:
    """Evaluate one setting with one seed.

    `report` is told of every outer epoch of the fit to all of S_0: `epoch`, counted over all
    pretraining iterations, and `ranking`, u_hat's accuracy on D_val's retrained pairs.
    """
    epochs = 0

    def shown(metrics: Mapping[str, float]) -> None:
        nonlocal epochs
        epochs += 1
        report({"epoch": epochs, "ranking": metrics["val_ranking_accuracy"]})

    nan = float("nan")
    model = fit(ground.fit_input(config), shown).model()
    ranking = ground.ranking(model)

    accuracies, gains = [], []
    for fold_config, fold in folds:
        fitted = fit(fold.fit_input(fold_config), lambda metrics: None).model()
        accuracy = acquire_and_retrain(fold_config, fold, fitted, device)["validation"]
        accuracies.append(accuracy)
        gains.append(accuracy - fold.before["validation"])

    real = acquire_and_retrain(config, ground, model, device) if oracle else {}
    return Score(
        simulated_accuracy=float(np.mean(accuracies)) if accuracies else nan,
        simulated_gain=float(np.mean(gains)) if gains else nan,
        ranking_accuracy=ranking.pairwise_accuracy,
        kendall_tau=ranking.kendall_tau,
        oracle_accuracy=real.get("validation", nan),
        oracle_test_accuracy=real.get("test", nan),
        epochs=epochs,
    )


def acquire_and_retrain(config: Config, ground: Ground, model: UtilityModel, device: str) -> dict[str, float]:
    """Buy B images of the ground's pool with u_hat, have them answered, and train f: its accuracy on each set.

    Raises ValueError where the ground has no answers.
    """
    ground.revealed()
    picked = acquire(config, ground, model, device).pool_index
    return retrain(ground, picked, seeds.integer(config.seed, "final_classifier"), device).accuracy


@dataclass(frozen=True)
class Retrained:
    """f trained on S_0 and what was bought: its accuracy on each of the ground's sets, epochs, seconds."""

    accuracy: dict[str, float]
    epochs: int
    seconds: float


def retrain(ground: Ground, picked: np.ndarray, seed: int, device: str) -> Retrained:
    """Have the images at `picked` of the pool answered and train f from scratch on S_0 and them.

    Raises ValueError where the ground has no answers.
    """
    answers = ground.revealed()
    pixels = np.concatenate([ground.labeled.pixels, ground.pool[picked]])
    labels = np.concatenate([ground.labeled.labels, answers[picked]])
    trained = training.train(pixels, labels, ground.recipe, seed, device=device)
    accuracy = {
        name: prediction.evaluate(trained.model, part.pixels, part.labels, ground.recipe).accuracy
        for name, part in ground.sets.items()
    }
    return Retrained(accuracy, trained.epochs, trained.seconds)


def acquire(config: Config, ground: Ground, model: UtilityModel, device: str = "cpu") -> acquisition.Selection:
    """Lines 15 to 26 in this process: the same selection as the fanned-out one of `rambo.run`."""
    ask = config.acquisition
    count = acquisition.candidate_count(len(ground.margins), ask.margin_pool, ask.budget)
    ranked = acquisition.smallest_margins(ground.margins, count)
    encoder = features.Encoder(ground.kind, ground.recipe, config.utility_model, ground.imagenet_weights, model)
    encoded = encoder.encode(ground.pool[ranked], ground.classifier, device)
    own = encoder.encode(ground.labeled.pixels, ground.classifier, device)
    judge = copy.deepcopy(model).cpu().double()
    return acquisition.acquire(
        ground.margins,
        ranked,
        own.sum(axis=0, dtype=np.float64),
        len(own),
        encoded,
        partial(acquisition.score_batches, judge, encoded),
        budget=ask.budget,
        batch_size=ask.batch_size,
        margin_pool=ask.margin_pool,
        seed=config.seed,
    )
