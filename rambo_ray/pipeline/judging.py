"""What u_hat is to a run: fitted in one of two forms, judged on held-out sets, and the judge of candidate batches.

The one place where the network (B.1) and the quadratic u_hat, and their two ways to look at a set, meet.

Letters: N images, F numbers of evidence, C candidates, as in `acquisition.greedy`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rambo_ray.acquisition import candidates, greedy, proposals
from rambo_ray.acquisition.baselines.inputs import StrategyInputs
from rambo_ray.acquisition.candidates import CandidateGenerator, Sloped
from rambo_ray.acquisition.greedy import Selection
from rambo_ray.config.schema import AcquisitionConfig, Config
from rambo_ray.pipeline.plan import mean_evidence
from rambo_ray.utility_model import ranking
from rambo_ray.utility_model.evidence import ComparedEvidence, EvidenceScale
from rambo_ray.utility_model.fitting import FitInput, FitResult
from rambo_ray.utility_model.network import UtilityModel
from rambo_ray.utility_model.quadratic import QuadraticFit, QuadraticInput, QuadraticModel
from rambo_ray.utility_model.ranking import HeldOut, RankingQuality
from rambo_ray.utility_samples.mock_rounds import MockPool
from rambo_ray.utility_samples.sampling import UtilitySample

AnyInput = FitInput | QuadraticInput
AnyFit = FitResult | QuadraticFit
AnyModel = UtilityModel | QuadraticModel

COMPARED = 500  # images of a kind that a report's means are taken over: a share of a tenth is known to 1.3 points


@dataclass(frozen=True)
class PoolEvidence:
    """Standardised evidence [N, F] of images of the pool, and what its numbers mean."""

    numbers: np.ndarray
    scale: EvidenceScale

    def posterior(self, num_classes: int) -> np.ndarray:
        """The second opinions' probabilities of the K classes, float64 [N, K]."""
        return self.scale.posterior(self.numbers, num_classes)

    def take(self, positions: np.ndarray) -> PoolEvidence:
        """That of the images at `positions`."""
        return PoolEvidence(self.numbers[positions], self.scale)


def compared(
    picked: np.ndarray, filtered: np.ndarray, pool: np.ndarray, of: Callable[[np.ndarray], PoolEvidence]
) -> ComparedEvidence:
    """Evidence of positions `picked`, `filtered` and those that stand for the whole `pool`, for the report.

    Of at most COMPARED images of each, evenly apart: `of`, which says what images' evidence is, takes time.
    """
    groups = [
        group[np.linspace(0, len(group) - 1, min(len(group), COMPARED)).round().astype(np.int64)]
        for group in (picked, filtered, pool)
    ]
    asked = np.unique(np.concatenate(groups))
    found = of(asked)
    numbers = found.numbers * found.scale.deviation + found.scale.mean
    return ComparedEvidence(*(numbers[np.searchsorted(asked, group)].mean(axis=0) for group in groups))


def held_out(
    samples: Sequence[UtilitySample], model: AnyModel, images: np.ndarray, pool: MockPool | None, of_evidence: bool
) -> HeldOut:
    """u_hat's scores and the true utilities of held-out sets.

    images: u_hat's inputs, as `plan.fit_input` has them; of_evidence: these are evidence, and stand for mock rounds'
    purchases alone. Of few images the same set can be drawn twice: it counts once, or u_hat would be taken for surer
    than it is.
    """
    samples = list({(s.fold, s.indices): s for s in samples}.values())
    if of_evidence:
        assert pool is not None
        subsets = [tuple(pool.bought(s).tolist()) for s in samples]
    else:
        subsets = [s.indices for s in samples]
    if not samples:
        scores = np.zeros(0)
    elif isinstance(model, QuadraticModel):
        scores = model.score(mean_evidence(subsets, images), np.array([len(s) for s in subsets], dtype=np.float64))
    else:
        scores = ranking.set_scores(model, images, subsets)
    return HeldOut(
        scores=scores,
        utilities=np.array([s.utility for s in samples], dtype=np.float64),
        groups=tuple((s.fold, s.size) for s in samples),
        sizes=tuple(len(s) for s in subsets),
    )


def follows_filter(config: Config, quality: RankingQuality) -> bool:
    """Whether u_hat ranks held-out mock rounds no better than chance, so that the run follows the margin filter.

    The paper's u_hat is always followed, as the paper does; so is one that nothing was held out to judge.
    """
    return config.utility_samples.source == "mock_rounds" and quality.subsets > 0 and not quality.beats_chance


def acquire(
    config: Config,
    margins: np.ndarray,
    judge: Sloped,
    evidence: PoolEvidence | None,
    inputs: Callable[[], StrategyInputs],
) -> Selection:
    """Lines 15 to 26 with the candidate batches that `config` wants; margins [N] of the pool.

    evidence [C] of the candidates, where there is any; inputs: what strategies propose batches by, of the candidates.
    """
    ask = config.acquisition

    def orders() -> dict[str, np.ndarray]:
        found = inputs()
        posterior = None if evidence is None else evidence.posterior(found.logits.shape[1])
        return proposals.orders(found, ask.budget, config.seed, posterior)

    return greedy.acquire(margins, judge, ask, config.seed, generator(ask, judge, orders))


def generator(
    ask: AcquisitionConfig, judge: Sloped, orders: Callable[[], Mapping[str, np.ndarray]]
) -> CandidateGenerator:
    """The candidate generator that `ask` wants; `orders` makes the strategies' own, rows of candidates."""
    if ask.candidates == "partition":
        return candidates.partition
    tilted = candidates.tilted(judge, ask.temperatures, ask.draws)
    if ask.candidates == "tilted":
        return tilted
    proposed = candidates.proposed(orders())
    return proposed if ask.candidates == "strategies" else candidates.mixed(tilted, proposed, candidates.partition)
