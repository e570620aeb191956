"""RAMBO in scikit-activeml's own loop, beside its margin sampling: one large round on digits.

pip install scikit-activeml
python examples/scikit_activeml_loop.py
"""

from __future__ import annotations

import numpy as np
from skactiveml.classifier import SklearnClassifier
from skactiveml.pool import UncertaintySampling
from skactiveml.utils import MISSING_LABEL
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from rambo_ray.adapters.skactiveml import RamboQuery

QUICK = {"utility_samples.num_pairs": 40, "utility_samples.num_held_out": 20}
START, BATCH, ROUNDS = 200, 60, 1


def main() -> dict[str, list[float]]:
    x, truth = load_digits(return_X_y=True)
    train, test = np.arange(1200), np.arange(1200, len(x))
    scores = {}
    for name, strategy in {
        "margin": UncertaintySampling(method="margin_sampling", random_state=0),
        "RAMBO": RamboQuery(validation_share=0.5, options={"overrides": QUICK}, random_state=0),
    }.items():
        y = np.full(len(train), MISSING_LABEL)
        y[:START] = truth[:START]
        classifier = SklearnClassifier(LogisticRegression(max_iter=500), classes=np.unique(truth), random_state=0)
        classifier.fit(x[train], y)
        scores[name] = [classifier.score(x[test], truth[test])]
        for _ in range(ROUNDS):
            asked = {"clf": classifier} if name == "margin" else {}
            rows = strategy.query(x[train], y, batch_size=BATCH, **asked)
            y[rows] = truth[rows]  # the annotators answer
            classifier.fit(x[train], y)
            scores[name].append(classifier.score(x[test], truth[test]))
        print(f"{name:<8}", " -> ".join(f"{score:.3f}" for score in scores[name]))
    return scores


if __name__ == "__main__":
    main()
