"""Competitors that train classifiers of their own or look at the truth, on a small pool with junk in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from rambo_ray.acquisition import balance, controls, greedy
from rambo_ray.acquisition.baselines import STRATEGIES, StrategyInputs
from rambo_ray.acquisition.baselines.min_margin import BOOTSTRAPS
from rambo_ray.benchmark import methods, rivals
from rambo_ray.benchmark.experiment import CEILINGS, CONTROLS, METHODS, TRAINED, Method
from rambo_ray.classifier import prediction, training
from rambo_ray.classifier.probabilities import probabilities
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data import datasets
from rambo_ray.data.problem import NONE, LabeledArrays
from rambo_ray.pipeline import plan
from rambo_ray.pipeline.prepared import PreparedProblem, retrain
from rambo_ray.utility_model.fitting import FitInput, FitResult

KEYS = ("classifier.precision=float32", "classifier.max_epochs=6", "acquisition.budget=20", "acquisition.batch_size=8",
        "acquisition.margin_pool=40", "data.pool_limit=160", "data.num_validation=60")  # fmt: skip


def asked(*keys: str) -> Config:
    return loading.load(Path(__file__).parents[2] / "jobs/configs/digits_smoke.yaml", [*KEYS, *keys])


def prepared_of(config: Config) -> PreparedProblem:
    """What the cluster prepares for strategies, made here; nothing for u_hat."""
    problem, revealed = datasets.load(config.data, config.seed)
    assert revealed is not None
    settings = plan.training_settings(config, problem)
    labeled, validation = LabeledArrays.of(problem.labeled), LabeledArrays.of(problem.validation)
    base = training.train(labeled.inputs, labeled.labels, settings, 5)
    outputs = [
        prediction.predict(base.model, part, settings)
        for part in (problem.pool.pixels, labeled.inputs, validation.inputs)
    ]
    (logits, embeddings), (z, e), (z_val, e_val) = outputs
    inputs = StrategyInputs(logits, embeddings, e, z, labeled.labels, e_val, z_val, validation.labels)
    rejected = problem.pool.pixels[:0] if problem.rejected is None else problem.rejected.pixels
    parts = dict.fromkeys(field.name for field in fields(PreparedProblem))  # u_hat's are not made
    parts |= {
        "labeled": labeled, "sets": {"validation": validation}, "pool": problem.pool.pixels, "rejected": rejected,
        "answers": revealed.pool_labels, "training": settings, "classifier": training.to_arrays(base),
        "before": {}, "margins": prediction.margins(logits), "strategy_inputs": inputs,
    }  # fmt: skip
    return PreparedProblem(**parts)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def junk() -> PreparedProblem:
    return prepared_of(asked("data.scenario=off_target"))


@pytest.fixture(scope="module")
def clean() -> PreparedProblem:
    return prepared_of(asked())


def nobody(task: FitInput) -> FitResult:
    raise AssertionError("no u_hat is fitted here")


def test_all_of_them_are_methods() -> None:
    assert set(rivals.RIVALS) == {*TRAINED, *CONTROLS, *CEILINGS} - {"margin_m_random", "margin_m_balanced", "oracle"}
    assert set(rivals.RIVALS) < set(METHODS)


@pytest.mark.parametrize("kind", sorted(rivals.RIVALS))
def test_b_different_images_the_same_for_a_seed(kind: str, junk: PreparedProblem) -> None:
    config = asked("data.scenario=off_target")
    positions, ranking, _ = methods.pick(junk, Method("a name", kind, {}), config, nobody, "cpu")
    again = rivals.RIVALS[kind](junk, config, "cpu")
    assert positions.tolist() == again.tolist() and len(np.unique(positions)) == 20 and np.isnan(ranking.kendall_tau)
    other = rivals.RIVALS[kind](junk, asked("data.scenario=off_target", "seed=1"), "cpu")
    assert positions.tolist() != other.tolist()


class TestMinMargin:
    def test_is_of_ten_bootstraps(self, clean: PreparedProblem, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[int] = []
        train = rivals._train

        def counted(part: LabeledArrays, *rest: object) -> object:
            seen.append(len(np.unique(part.inputs.reshape(len(part.inputs), -1), axis=0)))
            return train(part, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(rivals, "_train", counted)
        rivals.of_bootstraps(clean, asked(), "cpu")
        assert len(seen) == BOOTSTRAPS and all(15 < different < 35 for different in seen)


class TestPosteriorBalance:
    def test_of_the_smallest_margins_by_a_classifier_that_saw_s_val(self, clean: PreparedProblem) -> None:
        config, name = asked(), "posterior_balance"
        validation = clean.sets["validation"]
        both = clean.labeled.joined(validation.inputs, validation.labels)
        model = rivals._train(both, clean.training, rivals._seed(config, name), "cpu")
        among = np.argsort(clean.margins, kind="stable")[:40]
        p = probabilities(prediction.predict(model, clean.pool[among], clean.training)[0])
        expected = among[balance.posterior_balance(p, clean.labeled.labels, 20, np.arange(40))]
        assert rivals.posterior_balance(clean, config, "cpu").tolist() == expected.tolist()


class TestAccepted:
    def test_nothing_rejected_means_margin_m_random(self, clean: PreparedProblem) -> None:
        config = asked()
        expected = controls.margin_m_random(clean.margins, config.acquisition, config.seed)
        assert rivals.margin_accepted(clean, config, "cpu").tolist() == expected.tolist()
        assert rivals.oracle_margin(clean, config, "cpu").tolist() == expected.tolist()

    def test_what_is_accepted_holds_less_junk_than_the_pool(self, junk: PreparedProblem) -> None:
        config = asked("data.scenario=off_target", "classifier.max_epochs=40")
        junk = replace(junk, training=replace(junk.training, max_epochs=40))
        taken = rivals.accepted(junk, config, "cpu")
        assert 20 <= len(taken) < 160 and (np.diff(taken) > 0).all()
        answers = junk.revealed()
        assert np.mean(answers[taken] == NONE) < np.mean(answers == NONE) - 0.1
        assert set(rivals.margin_accepted(junk, config, "cpu").tolist()) <= set(taken.tolist())

    def test_never_fewer_than_b(self, junk: PreparedProblem) -> None:
        many = replace(junk, rejected=np.concatenate([junk.rejected] * 40))
        config = asked("data.scenario=off_target", "acquisition.budget=150")
        assert len(rivals.accepted(many, config, "cpu")) >= 150


class TestOracleMargin:
    def test_buys_no_junk_until_nothing_else_is_left(self, junk: PreparedProblem) -> None:
        answers, config = junk.revealed(), asked("data.scenario=off_target")
        assert (answers[rivals.oracle_margin(junk, config, "cpu")] != NONE).all()
        count = int((answers != NONE).sum())
        more = asked("data.scenario=off_target", f"acquisition.budget={count + 5}", "acquisition.margin_pool=160")
        picked = rivals.oracle_margin(junk, more, "cpu")
        assert (answers[picked] == NONE).sum() == 5
        left = np.setdiff1d(np.flatnonzero(answers == NONE), picked)
        assert junk.margins[picked[answers[picked] == NONE]].max() <= junk.margins[left].min()


class TestOracleStrategies:
    def test_takes_in_each_step_what_truly_is_best_on_s_val(
        self, junk: PreparedProblem, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = asked("data.scenario=off_target")
        answers = junk.revealed()
        asked_of: list[int] = []

        def none(inputs: StrategyInputs, budget: int, generator: np.random.Generator) -> np.ndarray:
            asked_of.append(len(inputs.labels))
            return np.arange(budget)

        monkeypatch.setattr(rivals, "STRATEGIES", {"first": none, "random": STRATEGIES["random"]})
        found: list[tuple[int, float]] = []
        evaluate: Callable[..., prediction.Scores] = prediction.evaluate

        def noted(*given: object) -> prediction.Scores:
            scores = evaluate(*given)
            found.append((len(found), scores.accuracy))
            return scores

        monkeypatch.setattr(rivals.prediction, "evaluate", noted)
        picked = rivals.oracle_strategies(junk, config, "cpu")
        assert len(found) == 3 * 3 and len(picked) == 20  # these two and posterior_balance, steps of 8, 8 and 4
        # Each step starts from all that was answered before, without what belonged to no class.
        known = [40 + int((answers[picked[:n]] != NONE).sum()) for n in (0, 8, 16)]
        assert asked_of == known
        # The winner of the last step is what the benchmark then trains: the same accuracy on S_val.
        best = max(accuracy for _, accuracy in found[-3:])
        final = rivals.seeds.integer(config.seed, "final_classifier")
        assert retrain(junk, picked, final, "cpu").accuracy["validation"] == best

    def test_steps_are_those_of_the_acquisition(self) -> None:
        assert greedy.step_sizes(20, 8) == [8, 8, 4]


class TestHeads:
    """The same on frozen embeddings, where f is a linear head: points about the corners of a simplex."""

    @pytest.fixture(scope="class")
    def heads(self, junk: PreparedProblem) -> PreparedProblem:
        rng = np.random.default_rng(4)

        def near(labels: np.ndarray) -> np.ndarray:
            corners = np.eye(8)[np.where(labels == NONE, 7, labels)]
            return (3 * corners + 0.5 * rng.normal(size=corners.shape)).astype(np.float32)

        settings = replace(junk.training, classifier="linear", image_shape=(8, 1, 1), l2=0.05, embedding="made up")
        labeled = LabeledArrays(near(junk.labeled.labels), junk.labeled.labels)
        validation = junk.sets["validation"]
        base = training.train(labeled.inputs, labeled.labels, settings, 0)
        pool = near(junk.revealed())
        logits, _ = prediction.predict(base.model, pool, settings)
        return replace(
            junk, labeled=labeled, sets={"validation": LabeledArrays(near(validation.labels), validation.labels)},
            pool=pool, rejected=near(np.full(30, NONE)), training=settings, classifier=training.to_arrays(base),
            margins=prediction.margins(logits),
        )  # fmt: skip

    @pytest.mark.parametrize("kind", sorted(rivals.RIVALS))
    def test_b_different_images(self, kind: str, heads: PreparedProblem) -> None:
        picked = rivals.RIVALS[kind](heads, asked("data.scenario=off_target"), "cpu")
        assert len(set(picked.tolist())) == 20

    def test_junk_that_is_easily_told_is_not_bought(self, heads: PreparedProblem) -> None:
        taken = rivals.accepted(heads, asked("data.scenario=off_target"), "cpu")
        assert np.mean(heads.revealed()[taken] == NONE) < 0.05 < np.mean(heads.revealed() == NONE)


def test_a_selection_of_junk_alone_leaves_f_as_it_was(junk: PreparedProblem) -> None:
    picked = np.flatnonzero(junk.revealed() == NONE)[:20]
    seed = 5  # of the base classifier
    before = prediction.evaluate(
        training.from_arrays(junk.classifier, junk.training).model, *part(junk.sets["validation"]), junk.training
    )
    assert retrain(junk, picked, seed, "cpu").accuracy["validation"] == before.accuracy


def part(images: LabeledArrays) -> tuple[np.ndarray, np.ndarray]:
    return images.inputs, images.labels
