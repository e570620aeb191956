"""Estimators of scikit-learn, and anybody's that look like them, as f."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from rambo_ray.classifier import prediction, training
from rambo_ray.classifier.estimators import FLOOR
from rambo_ray.classifier.settings import TrainingSettings
from rambo_ray.config.schema import ClassifierConfig
from rambo_ray.errors import UserError
from rambo_ray.own import names

WIDTH, CLASSES = 6, 4


def settings(name: str, **keys: Any) -> TrainingSettings:
    return TrainingSettings.from_config(
        ClassifierConfig(name=name, **keys),
        mean=(),
        std=(),
        image_shape=(WIDTH, 1, 1),
        num_classes=CLASSES,
        embedding="these",
    )


def given(estimator: Any) -> TrainingSettings:
    return settings(f"estimator:{names.given(estimator)}")


def clouds(count: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Four clouds that overlap a little."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    centres = np.random.default_rng(9).normal(size=(CLASSES, WIDTH)) * 2
    return (centres[labels] + generator.normal(size=(count, WIDTH))).astype(np.float32), labels


class Nearest:
    """An estimator that nobody's library has: the class of the nearest mean."""

    def __init__(self, sharpness: float = 1.0) -> None:
        self.sharpness = sharpness

    def fit(self, x: np.ndarray, y: np.ndarray) -> Nearest:
        self.classes_ = np.unique(y)
        self.means = np.stack([x[y == label].mean(0) for label in self.classes_])
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        distance = ((x[:, None] - self.means) ** 2).sum(2)
        p = np.exp(-self.sharpness * (distance - distance.min(1, keepdims=True)))
        return p / p.sum(1, keepdims=True)


class TestFitted:
    def test_it_says_what_the_estimator_alone_says(self) -> None:
        x, y = clouds()
        asked, _ = clouds(50, seed=1)
        trained = training.train(x, y, settings("sklearn.linear_model:LogisticRegression"), seed=3)
        alone = LogisticRegression().fit(x, y)
        logits, embeddings = prediction.predict(
            trained.model, asked, settings("sklearn.linear_model:LogisticRegression")
        )
        np.testing.assert_allclose(np.exp(logits), alone.predict_proba(asked), atol=2 * FLOOR)
        np.testing.assert_array_equal(embeddings, asked)
        assert trained.train_accuracy == alone.score(x, y) and trained.images_seen == len(x)

    @pytest.mark.parametrize(
        "estimator",
        [
            RandomForestClassifier(5),
            KNeighborsClassifier(3),
            make_pipeline(StandardScaler(), RandomForestClassifier(5)),
            Nearest(0.5),
        ],
        ids=["forest", "neighbours", "pipeline", "own"],
    )
    def test_a_training_is_a_function_of_its_set_and_seed(self, estimator: Any) -> None:
        x, y = clouds()
        own = pickle.loads(pickle.dumps(given(estimator)))  # as a worker gets it
        rows = np.arange(50)
        one, again, other = (training.train(x, y, own, seed, positions=rows) for seed in (2**40 + 1, 2**40 + 1, 8))
        first = prediction.predict(one.model, x, own)[0]
        np.testing.assert_array_equal(first, prediction.predict(again.model, x, own)[0])
        if "Forest" in repr(estimator):
            assert (first != prediction.predict(other.model, x, own)[0]).any()
        there = training.from_arrays(training.to_arrays(one), own)
        np.testing.assert_array_equal(first, prediction.predict(there.model, x, own)[0])
        assert np.isfinite(first).all() and prediction.evaluate(one.model, x, y, own).accuracy > 0.6

    def test_classes_that_a_set_lacks_keep_their_columns(self) -> None:
        x, y = clouds()
        rows = np.flatnonzero((y == 1) | (y == 3))
        own = given(KNeighborsClassifier(3))
        logits, _ = prediction.predict(training.train(x, y, own, 0, positions=rows).model, x, own)
        assert logits.shape == (80, CLASSES) and set(logits.argmax(1)) == {1, 3}
        np.testing.assert_allclose(logits[:, [0, 2]], np.log(FLOOR), rtol=1e-6)

    def test_a_set_of_one_class_is_always_that(self) -> None:
        x, y = clouds()
        own = given(LogisticRegression())
        trained = training.train(x, y, own, 0, positions=np.flatnonzero(y == 2))
        logits, _ = prediction.predict(training.from_arrays(training.to_arrays(trained), own).model, x, own)
        assert (logits.argmax(1) == 2).all()

    def test_the_object_that_was_given_is_left_alone(self) -> None:
        x, y = clouds()
        estimator = LogisticRegression()
        training.train(x, y, given(estimator), 0)
        assert not hasattr(estimator, "coef_") and estimator.random_state is None


class TestIdentity:
    def test_settings_of_the_object_count_and_those_of_networks_do_not(self) -> None:
        one, other = given(RandomForestClassifier(5)), given(RandomForestClassifier(6))
        assert one.identity() != other.identity() and one.identity() == given(RandomForestClassifier(5)).identity()
        name = "sklearn.linear_model:LogisticRegression"
        assert settings(name, learning_rate=0.5, l2=0.5, max_epochs=3).identity() == settings(name).identity()
        content = json.loads(settings(name).identity())
        assert content["embedding"] == "these" and "mean" not in content and content["precision"] == "float32"

    def test_another_name_for_the_same_thing(self) -> None:
        short, long = (settings(f"{way}sklearn.linear_model:LogisticRegression") for way in ("", "estimator:"))
        assert short.source == long.source


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sklearn.linear_model:LogisticRegresion", "did you mean 'LogisticRegression'?"),
        ("sklearn.svm:LinearSVC", "it has no predict_proba; take one that has, or wrap it"),
        ("sklearn.linear_model", "package.module:function of your own"),
        ("estimator:no_such_module:x", "importing no_such_module raised"),
        ("estimator:collections:OrderedDict", "it has no fit"),
        ("sklearn.ensemble:VotingClassifier", "called without arguments it raised TypeError"),
    ],
)
def test_refused_before_anything_is_computed(name: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        settings(name)
    assert str(caught.value).startswith("classifier.name=") and words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_without_probabilities_given_as_an_object() -> None:
    with pytest.raises(UserError, match="it has no predict_proba"):
        given(LinearSVC())


def test_what_it_refuses_is_a_line() -> None:
    x, y = clouds()
    with pytest.raises(UserError, match="fitting it on 80 embeddings raised InvalidParameterError"):
        training.train(x, y, given(KNeighborsClassifier(metric="no such")), 0)
    assert torch.get_num_threads() >= 1
