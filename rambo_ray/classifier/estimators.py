"""A scikit-learn estimator as f: a head on embeddings that has fit and predict_proba, fitted anew on every set.

`sklearn.linear_model:LogisticRegression` names a class, `estimator:package.module:name` a class or an object of
anybody's; what is given in Python is an object. Its settings are its own; random_state follows from the run's seed
wherever it has one, so that a training is a function of its set and seed.

Letters: n embeddings of D numbers, K classes.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import cloudpickle
import numpy as np
import torch
from torch import Tensor, nn

from rambo_ray.classifier.networks import Classifier
from rambo_ray.config.sections import ESTIMATOR
from rambo_ray.errors import UserError
from rambo_ray.own.names import RAISED, Own, find, in_one_line, loaded

KEY = "classifier.name"

# What a class gets at least: a tree may say 0, whose logarithm no loss could bear.
FLOOR = 1e-6


class EstimatorHead(Classifier):
    """A fitted estimator; logits are the logarithms of its probabilities, the embedding is what it was given.

    classes: the codes that its columns stand for. Of a set with one class there is no estimator: it is always that.
    """

    def __init__(self, estimator: Any, classes: np.ndarray, num_classes: int) -> None:
        super().__init__()
        self.estimator, self.classes, self.num_classes = estimator, classes, num_classes
        self.place = nn.Parameter(torch.zeros(1), requires_grad=False)  # where f is: who asks looks at its parameters

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        p = np.zeros((len(x), self.num_classes))
        if self.estimator is None:
            p[:, self.classes] = 1.0
        else:
            p[:, self.classes] = self._asked(x.cpu().numpy())
        return torch.log(torch.tensor(p).clamp(min=FLOOR)).float().to(x.device), x

    def _asked(self, x: np.ndarray) -> np.ndarray:
        """Probabilities [n, classes]. Raises UserError where the estimator refuses, or they are none."""
        made = f"{KEY}={type(self.estimator).__name__}: its predict_proba"
        try:
            found = np.asarray(self.estimator.predict_proba(x))
        except RAISED as error:  # what an estimator raises is not said anywhere
            raise UserError(f"{made} raised {in_one_line(error)} on {len(x)} embeddings; correct it") from error
        shape = (len(x), len(self.classes))
        if found.dtype.kind != "f" or found.shape != shape or not np.isfinite(found).all():
            said = "numbers that are not finite" if found.shape == shape and found.dtype.kind == "f" else found.dtype
            raise UserError(f"{made} gave {said} {list(found.shape)}; must be probabilities {list(shape)}, one a class")
        return found


def own(name: str) -> Own:
    """The user's estimator that a name means. Raises UserError, in one line, where it is none."""
    found = find(name.removeprefix(ESTIMATOR), KEY, (), "estimator")
    made = _fresh(name, found.pickled, 0)
    for method in ("fit", "predict_proba"):
        if not hasattr(made, method):
            raise UserError(
                f"{KEY}={name}: it has no {method}; take one that has, or wrap it in sklearn.calibration's "
                "CalibratedClassifierCV"
            )
    return found


def fit(x: Tensor, labels: np.ndarray, name: str, pickled: bytes, num_classes: int, seed: int) -> EstimatorHead:
    """The estimator fitted on embeddings float32 [n, D] and labels int64 [n], in eval mode.

    pickled: itself, where it was given in Python. Raises UserError where it refuses.
    """
    present = np.unique(labels)
    if len(present) < 2:
        return EstimatorHead(None, present, num_classes).eval()
    estimator = _fresh(name, pickled, seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of one that did not converge: each of hundreds of fits would say so
            estimator.fit(x.cpu().numpy(), labels)
        classes = np.asarray(estimator.classes_)
    except RAISED as error:  # what an estimator raises is not said anywhere
        raise UserError(
            f"{KEY}={name}: fitting it on {len(labels)} embeddings raised {in_one_line(error)}; correct it, or take "
            "another"
        ) from error
    return EstimatorHead(estimator, classes, num_classes).eval()


def packed(head: EstimatorHead) -> np.ndarray:
    """A fitted head as bytes uint8, for other processes of the run."""
    return np.frombuffer(cloudpickle.dumps(head), dtype=np.uint8)


def unpacked(content: np.ndarray) -> EstimatorHead:
    """The head that `packed` took apart."""
    head = cloudpickle.loads(content.tobytes())
    assert isinstance(head, EstimatorHead)
    return head


def _fresh(name: str, pickled: bytes, seed: int) -> Any:
    """The estimator as it is before a fit, with the seed wherever it takes one."""
    meant = loaded(name.removeprefix(ESTIMATOR), pickled, KEY, (), "estimator")
    try:
        made = meant() if isinstance(meant, type) or not hasattr(meant, "fit") else _copied(meant)
    except RAISED as error:
        raise UserError(f"{KEY}={name}: called without arguments it raised {in_one_line(error)}") from error
    if callable(getattr(made, "get_params", None)):
        seeded = {key for key in made.get_params(deep=True) if key.rpartition("__")[2] == "random_state"}
        made.set_params(**dict.fromkeys(seeded, seed % 2**32))
    return made


def _copied(estimator: Any) -> Any:
    from sklearn.base import clone

    return clone(estimator) if hasattr(estimator, "get_params") else copy.deepcopy(estimator)
