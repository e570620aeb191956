"""Competitors of a benchmark that train classifiers of their own, or look at the truth.

Published or simple rivals:

- `min_margin`: ten classifiers on bootstraps of S_0 (`baselines.min_margin`);
- `posterior_balance`: a classifier trained on S_0 and S_val says which images even out the classes;
- `margin_accepted`: RAMBO's filter and a random choice, among images that a classifier trained on S_0, S_val
  and what annotators have rejected takes for one of the classes.

Ceilings, which look at the answers before they buy them:

- `oracle_balanced`: equal numbers of each true class;
- `oracle_margin`: RAMBO's filter and a random choice without the images that belong to no class;
- `oracle_strategies`: step by step the best of what all strategies propose, by true retraining.

Each is a function of a prepared problem, whose seeds are made from (seed, "baseline", name, index).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from rambo_ray import seeds
from rambo_ray.acquisition import balance, controls, greedy
from rambo_ray.acquisition.baselines import STRATEGIES, StrategyInputs
from rambo_ray.acquisition.baselines.min_margin import BOOTSTRAPS, bootstrap, min_margin
from rambo_ray.classifier import prediction, training
from rambo_ray.classifier.networks import Classifier
from rambo_ray.classifier.probabilities import probabilities
from rambo_ray.classifier.training import TrainingSettings
from rambo_ray.config.schema import Config
from rambo_ray.data.problem import NONE, LabeledArrays
from rambo_ray.pipeline.prepared import PreparedProblem

PROPOSED_FROM = 5000  # images of the pool, at random, that the strategies of a step propose batches from

Rival = Callable[[PreparedProblem, Config, str], np.ndarray]


def of_bootstraps(prepared: PreparedProblem, config: Config, device: str) -> np.ndarray:
    """Positions [B] by `min_margin`."""

    def logits() -> Iterator[np.ndarray]:
        for index in range(BOOTSTRAPS):
            drawn = bootstrap(prepared.labeled.labels, _generator(config, "min_margin", index))
            part = LabeledArrays(prepared.labeled.inputs[drawn], prepared.labeled.labels[drawn])
            model = _train(part, prepared.training, _seed(config, "min_margin", index), device)
            yield prediction.predict(model, prepared.pool, prepared.training, device)[0]

    return min_margin(logits(), config.acquisition.budget)


def posterior_balance(prepared: PreparedProblem, config: Config, device: str) -> np.ndarray:
    """Positions [B] by `balance.posterior_balance` of the max(M, B) smallest margins; f of S_0 and S_val is the judge.

    Of the whole pool it would gain hardly more on long-tailed pools, and lose far more on clean ones.
    """
    ask = config.acquisition
    among = greedy.smallest_margins(prepared.margins, max(ask.margin_pool, ask.budget))
    p = _posterior(prepared, prepared.labeled, among, _seed(config, "posterior_balance"), device)
    return among[balance.posterior_balance(p, prepared.labeled.labels, ask.budget, np.arange(len(among)))]


def margin_accepted(prepared: PreparedProblem, config: Config, device: str) -> np.ndarray:
    """Positions [B] of `controls.margin_m_random` among the `accepted` images."""
    return _filtered(prepared, config, accepted(prepared, config, device))


def accepted(prepared: PreparedProblem, config: Config, device: str) -> np.ndarray:
    """Positions of the pool's images that a classifier with a class "none" takes for another, in order.

    It is trained on S_0, S_val and what was rejected. All images where nothing was rejected. At least B: where
    fewer are taken for a class, those come with them that are the least likely to be of none.
    """
    if not len(prepared.rejected):
        return np.arange(len(prepared.pool))
    known, none = _with_validation(prepared, prepared.labeled), prepared.training.num_classes
    joined = known.joined(prepared.rejected, np.full(len(prepared.rejected), none))
    settings = replace(prepared.training, num_classes=none + 1)
    model = _train(joined, settings, _seed(config, "margin_accepted"), device)
    logits, _ = prediction.predict(model, prepared.pool, settings, device)
    taken = np.flatnonzero(logits.argmax(axis=1) != none)
    if len(taken) >= config.acquisition.budget:
        return taken
    order = np.argsort(probabilities(logits)[:, none] + (logits.argmax(axis=1) == none), kind="stable")
    return np.sort(order[: config.acquisition.budget])


def oracle_balanced(prepared: PreparedProblem, config: Config, device: str) -> np.ndarray:
    """Positions [B] by `balance.oracle_balanced`."""
    return balance.oracle_balanced(prepared.revealed(), config.acquisition.budget, config.seed)


def oracle_margin(prepared: PreparedProblem, config: Config, device: str) -> np.ndarray:
    """Positions [B] of `controls.margin_m_random` among the images that belong to a class.

    Where they are fewer than B, those of none with the smallest margins come with them.
    """
    of_none = prepared.revealed() == NONE
    order = np.lexsort((prepared.margins, of_none))
    size = max(int(np.sum(~of_none)), config.acquisition.budget)
    return _filtered(prepared, config, np.sort(order[:size]))


def oracle_strategies(prepared: PreparedProblem, config: Config, device: str) -> np.ndarray:
    """Positions [B]: in each step, of one batch of b per strategy, that which truly makes f best on S_val.

    After each step f is the winner's, trained on S_0 and all that was answered so far, and the strategies see
    its outputs: those of `STRATEGIES` and `posterior_balance`. They propose from PROPOSED_FROM images of the pool,
    drawn anew in each step. Best is the accuracy, of equal ones the mean probability of the true class, of
    equal ones the first. It bounds what a choice between strategies could gain, not what any choice of images
    could.

    After the Best-of-Strategies Selector (2026, arXiv 2603.13109), which proposes a hundred batches by ten
    strategies, retrains the last layer on each and takes the best.
    """
    ask, name = config.acquisition, "oracle_strategies"
    final, answers = seeds.integer(config.seed, "final_classifier"), prepared.revealed()
    validation, current = prepared.sets["validation"], prepared.labeled
    model = training.from_arrays(prepared.classifier, prepared.training, device).model
    left, picked = np.arange(len(prepared.pool)), np.zeros(0, dtype=np.int64)
    for j, b in enumerate(greedy.step_sizes(ask.budget, ask.batch_size)):
        part = np.sort(_generator(config, name, j).permutation(left)[: max(PROPOSED_FROM, b)])
        inputs = _inputs(model, prepared, current, part, device)
        batches = [
            part[strategy(inputs, b, _generator(config, name, j, index))]
            for index, strategy in enumerate(STRATEGIES.values())
        ]
        p = _posterior(prepared, current, part, _seed(config, name, j), device)
        batches.append(part[balance.posterior_balance(p, current.labels, b, np.arange(len(part)))])
        found: list[tuple[tuple[float, float], np.ndarray, LabeledArrays, Classifier]] = []
        for batch in batches:
            joined = current.joined(prepared.pool[batch], answers[batch])
            trained = _train(joined, prepared.training, final, device)
            scores = prediction.evaluate(trained, validation.inputs, validation.labels, prepared.training)
            found.append(((scores.accuracy, scores.soft_accuracy), batch, joined, trained))
        _, batch, current, model = max(found, key=lambda proposal: proposal[0])
        picked = np.concatenate([picked, batch])
        left = np.setdiff1d(left, batch, assume_unique=True)
    return picked


RIVALS: dict[str, Rival] = {
    "min_margin": of_bootstraps,
    "posterior_balance": posterior_balance,
    "margin_accepted": margin_accepted,
    "oracle_balanced": oracle_balanced,
    "oracle_margin": oracle_margin,
    "oracle_strategies": oracle_strategies,
}


def _filtered(prepared: PreparedProblem, config: Config, among: np.ndarray) -> np.ndarray:
    """What `controls.margin_m_random` picks where the pool is the images at positions `among` alone."""
    return among[controls.margin_m_random(prepared.margins[among], config.acquisition, config.seed)]


def _with_validation(prepared: PreparedProblem, labeled: LabeledArrays) -> LabeledArrays:
    """`labeled` and then S_val."""
    validation = prepared.sets["validation"]
    return labeled.joined(validation.inputs, validation.labels)


def _posterior(
    prepared: PreparedProblem, labeled: LabeledArrays, part: np.ndarray, seed: int, device: str
) -> np.ndarray:
    """Probabilities [c, K] of the pool's images at `part` [c], by a classifier of `labeled` and S_val."""
    model = _train(_with_validation(prepared, labeled), prepared.training, seed, device)
    return probabilities(prediction.predict(model, prepared.pool[part], prepared.training, device)[0])


def _inputs(
    model: Classifier, prepared: PreparedProblem, current: LabeledArrays, part: np.ndarray, device: str
) -> StrategyInputs:
    """What strategies see of the pool's images at `part` and of the labelled ones `current`, by `model`."""
    validation = prepared.sets["validation"]

    def outputs(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return prediction.predict(model, images, prepared.training, device)

    return StrategyInputs.of(outputs(prepared.pool[part]), current, validation, outputs)


def _train(part: LabeledArrays, settings: TrainingSettings, seed: int, device: str) -> Classifier:
    return training.train(part.inputs, part.labels, settings, seed, device=device).model


def _seed(config: Config, name: str, *index: int) -> int:
    return seeds.integer(config.seed, "baseline", seeds.index_of(name), *index)


def _generator(config: Config, name: str, *index: int) -> np.random.Generator:
    return seeds.generator(config.seed, "baseline", seeds.index_of(name), *index)
