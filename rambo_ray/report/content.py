"""What a run's page is made from, as plain data.

N images in the pool, B picked, G held-out sets, F numbers of evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rambo_ray.acquisition.greedy import Selection
from rambo_ray.acquisition.pool_view import PoolView
from rambo_ray.config.schema import Config
from rambo_ray.data.problem import Problem, Revealed
from rambo_ray.report import words
from rambo_ray.report.reading import Judgement
from rambo_ray.utility_model import evidence
from rambo_ray.utility_model.evidence import ComparedEvidence
from rambo_ray.utility_model.quadratic import QuadraticModel
from rambo_ray.utility_model.ranking import HeldOut
from rambo_ray.utility_samples.sampling import UtilitySample


@dataclass(frozen=True)
class ReportContent:
    """All that a report shows.

    metrics: what metrics.json holds; manifest: what manifest.json holds. revealed: None for a pool
    without known labels. margins: of f, [N]. samples: retrained and interpolated. history: one row
    per outer epoch of the fit, none for a regression. held_out: u_hat's scores and true utilities [G] of sets it
    was not fitted to, None where another strategy picked. u_hat: the quadratic one, None for the network. compared:
    mean evidence [F] of the picked images and of what they were picked from, None where none was gathered. view: a
    part of the pool as f sees it, None where nobody looked. folder: where the run's files are.
    """

    config: Config
    metrics: Mapping[str, Any]
    manifest: Mapping[str, Any]
    problem: Problem
    revealed: Revealed | None
    selection: Selection
    margins: np.ndarray
    samples: Sequence[UtilitySample] = ()
    history: Sequence[Mapping[str, float]] = ()
    held_out: HeldOut | None = None
    u_hat: QuadraticModel | None = None
    compared: ComparedEvidence | None = None
    view: PoolView | None = None
    folder: str = "DIR"

    @property
    def things(self) -> str:
        """What the things of the pool are called."""
        return words.things(self.metrics)

    @property
    def strategy(self) -> str | None:
        """Which other strategy picked the images; None where RAMBO did."""
        found: str | None = self.metrics.get("strategy")
        return found

    @property
    def followed(self) -> bool:
        """Whether the run took u_hat's word, and not the margin filter's alone."""
        return bool(self.metrics.get("u_hat_followed", True))

    @property
    def judgement(self) -> Judgement:
        """How u_hat did on held-out sets."""
        return Judgement.of(self.metrics, self.config)

    @property
    def evidence_names(self) -> list[str]:
        """What each of the F numbers of evidence is."""
        return evidence.names(self.problem.class_names, self.problem.rejected is not None)
