"""RAMBO as a query strategy of scikit-activeml: what is labelled is S_0 and S_val, what is not is the pool.

    strategy = RamboQuery(validation_share=0.5, random_state=0)
    rows = strategy.query(X, y, batch_size=100)

RAMBO is made for one round of many labels, and a query takes from seconds to minutes: give it a large batch_size,
and `ray.init()` before a loop, so that not every query starts a Ray of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rambo_ray.api.rambo import Rambo
from rambo_ray.errors import UserError

try:
    from skactiveml.base import SingleAnnotatorPoolQueryStrategy
    from skactiveml.utils import MISSING_LABEL, is_labeled
except ImportError as error:
    raise ImportError("rambo_ray.adapters.skactiveml: needs scikit-activeml; pip install scikit-activeml") from error


class RamboQuery(SingleAnnotatorPoolQueryStrategy):  # type: ignore[misc]
    """Picks a batch with RAMBO.

    validation: (X, y) of a validation set; without one `validation_share` of the labelled samples of each class,
    drawn by random_state, is S_val, and the rest S_0. options: further keyword arguments of `Rambo`, such as
    {"classifier": "mlp", "overrides": {...}}; without a classifier it is what `Rambo` takes for the data (for
    samples of features the linear head).
    """

    def __init__(
        self,
        validation: tuple[Any, Any] | None = None,
        validation_share: float = 0.5,
        options: Mapping[str, Any] | None = None,
        missing_label: Any = MISSING_LABEL,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        super().__init__(missing_label=missing_label, random_state=random_state)
        self.validation = validation
        self.validation_share = validation_share
        self.options = options

    def query(
        self,
        X: Any,  # scikit-activeml's names
        y: Any,
        candidates: Any = None,
        batch_size: int = 1,
        return_utilities: bool = False,
    ) -> Any:
        """Which samples to label, [batch_size]: rows of X, or of `candidates` where these are samples.

        X: features [n_samples, D], or images as `rambo_ray.data.arrays` has them; y: labels, `missing_label` where
        there is none. With return_utilities also [batch_size, n]: of what is picked the larger numbers, in the
        order picked, of the others 1 - the classifier's margin; NaN where it is labelled, no candidate or picked
        before. Raises UserError, a ValueError, where the labelled samples do not suffice.
        """
        allowed = {"allow_nd": True, "dtype": None}
        X, y, candidates, batch_size, return_utilities = self._validate_data(
            X, y, candidates, batch_size, return_utilities, reset=True, check_X_dict=allowed
        )
        pool, mapping = self._transform_candidates(candidates, X, y)
        known = np.flatnonzero(is_labeled(y, missing_label=self.missing_label_))
        if len(known) < 2:
            raise UserError(f"y: {len(known)} of {len(y)} samples are labelled; RAMBO learns from some hundred of them")
        seed = int(self.random_state_.randint(2**31 - 1))
        classes, codes = np.unique(y[known], return_inverse=True)
        labeled, validation = self._divided(X[known], codes, classes, seed)
        picked = Rambo(batch_size, seed=seed, **{"quiet": True, **(self.options or {})}).select(
            labeled, validation, _numbers(pool), class_names=[_said(name) for name in classes.tolist()]
        )
        rows = picked.indices if mapping is None else np.asarray(mapping)[picked.indices]
        if not return_utilities:
            return rows
        utilities = np.full((len(picked), len(pool) if mapping is None else len(X)), np.nan)
        utilities[:, np.arange(len(pool)) if mapping is None else mapping] = 1.0 - picked.pool_margins
        for order, row in enumerate(rows):
            utilities[: order + 1, row] = 1.0 + len(picked) - order
            utilities[order + 1 :, row] = np.nan
        return rows, utilities

    def _divided(self, x: np.ndarray, codes: np.ndarray, classes: np.ndarray, seed: int) -> tuple[Any, Any]:
        """S_0 and S_val, of the labelled samples x with these codes."""
        if self.validation is not None:
            given, labels = self.validation
            code = {name: number for number, name in enumerate(classes.tolist())}
            unknown = [name for name in np.asarray(labels).tolist() if name not in code]
            if unknown:
                raise UserError(f"validation: label {unknown[0]!r} is not among the labelled samples' classes")
            own = np.array([code[name] for name in np.asarray(labels).tolist()], dtype=np.int64)
            return (_numbers(x), codes), (_numbers(np.asarray(given)), own)
        share = self.validation_share
        if not 0 < share < 1:
            raise UserError(f"validation_share={share}: must be between 0 and 1, or give validation=(X, y)")
        generator = np.random.default_rng(seed)
        held = np.zeros(len(codes), bool)
        for number in range(len(classes)):
            members = generator.permutation(np.flatnonzero(codes == number))
            # Of a class with a single sample S_0 gets it: f cannot learn what it has not seen.
            held[members[: min(round(share * len(members)), len(members) - 1)]] = True
        if not held.any():
            raise UserError(
                f"y: {len(codes)} labelled samples of {len(classes)} classes leave none to validate with; label more, "
                "or give validation=(X, y)"
            )
        return (_numbers(x[~held]), codes[~held]), (_numbers(x[held]), codes[held])


def _said(name: Any) -> str:
    """A class as it is written: missing labels are NaN there, which makes floats of whole numbers."""
    return str(int(name)) if isinstance(name, float) and name.is_integer() else str(name)


def _numbers(x: np.ndarray) -> np.ndarray:
    """Features as floats, since integers of two axes could be meant as pixels elsewhere; images as they are."""
    return x.astype(np.float32) if x.ndim == 2 else x
