"""One trial of a sweep: a setting fitted, put to the test, and reduced to numbers.

What a trial starts from, its `PreparedProblem`, was measured before and is shared by all trials that differ
only in the settings of u_hat and of the acquisition. A trial costs the fits, the acquisitions and
one retraining per acquisition. It runs in one process and knows nothing of Ray: `fit` is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rambo_ray.config.schema import Config
from rambo_ray.pipeline.judging import AnyFit, AnyInput
from rambo_ray.pipeline.prepared import PreparedProblem, acquire_and_retrain

Epoch = Callable[[Mapping[str, float]], None]
# Told of every epoch, or, where nobody asks, None.
Fit = Callable[[AnyInput, Epoch | None], AnyFit]


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
    prepared: PreparedProblem,
    folds: Sequence[tuple[Config, PreparedProblem]],
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
    model = fit(prepared.fit_input(config), shown).model()
    ranking = prepared.ranking(model, config.seed)

    accuracies, gains = [], []
    for fold_config, fold in folds:
        fitted = fit(fold.fit_input(fold_config), None).model()
        accuracy = acquire_and_retrain(fold_config, fold, fitted, device)["validation"]
        accuracies.append(accuracy)
        gains.append(accuracy - fold.before["validation"])

    real = acquire_and_retrain(config, prepared, model, device) if oracle else {}
    return Score(
        simulated_accuracy=float(np.mean(accuracies)) if accuracies else nan,
        simulated_gain=float(np.mean(gains)) if gains else nan,
        ranking_accuracy=ranking.pairwise_accuracy,
        kendall_tau=ranking.kendall_tau,
        oracle_accuracy=real.get("validation", nan),
        oracle_test_accuracy=real.get("test", nan),
        epochs=epochs,
    )
