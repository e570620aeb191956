"""What a run goes on with where sets could not be measured: they killed every worker that tried them.

Both members of a pair are left out with either; of the nested sets those that are left follow one another, so that the
interpolation between S_i and S_{i+1} is one between S_i and the next that was measured. Which sets are left depends on
which were not measured and on nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rambo_ray.config.schema import Config
from rambo_ray.errors import RunError
from rambo_ray.pipeline.plan import Measured, Samples
from rambo_ray.utility_model import quadratic
from rambo_ray.utility_model.objective import split_by_length
from rambo_ray.utility_samples.sampling import UtilitySample

_TOLD = 5  # quarantined sets that are named in lines, before the others are counted


@dataclass(frozen=True)
class Quarantined:
    """A set that was given up, and why."""

    sample: UtilitySample
    why: str

    def as_json(self) -> dict[str, Any]:
        """For metrics.json."""
        one = self.sample
        where = {"pair_id": one.pair_id, "iteration": one.iteration, "kind": one.kind, "size": one.size}
        return {"sample_id": one.sample_id, **where, "why": self.why}

    def __str__(self) -> str:
        return f"{_where(self.sample)}, {self.sample.size} images (sample {self.sample.sample_id}): {self.why}"


def leave_out(measured: Measured) -> Measured:
    """`measured` without its sets that have no measurement, and without what needs them."""
    nested_sets = tuple(s for s in measured.nested_sets if s.measurement is not None)
    starts = {s.iteration for s in nested_sets[:-1]}
    return replace(
        measured,
        offline=_whole_pairs(measured.offline),
        nested_sets=nested_sets,
        held_out=tuple(s for s in measured.held_out if s.measurement is not None),
        interpolation=tuple(s for s in _whole_pairs(measured.interpolation) if s.iteration in starts),
        rounds=_whole_pairs(measured.rounds),
    )


def check(config: Config, measured: Measured, wanted: int) -> None:
    """Raise RunError, with the numbers, where what is left of `wanted` pairs is too little to fit u_hat to."""
    if not wanted:
        return
    left = measured.num_pairs
    why = f"{left} of {wanted} are left, less than half" if 2 * left < wanted else None
    try:
        if config.utility_model.architecture == "quadratic":
            quadratic.check(len(measured.rounds))
        elif config.utility_model.bilevel and left:
            split_by_length(np.array([s.size for s in [*measured.offline[::2], *measured.rounds[::2]]]))
    except ValueError as error:
        why = f"{left} of {wanted} are left ({error})"
    if why is not None:
        raise RunError(
            f"too many pairs of sets could not be measured: {why}; free memory, or see what kills the workers, then "
            "run the same command again"
        )


def lines(quarantined: Sequence[Quarantined], tries: int, wanted: int, left: int) -> list[str]:
    """What is said of quarantined sets: how many, which, what the run goes on with. Nothing where there are none."""
    if not quarantined:
        return []
    many = len(quarantined) > 1
    told = [f"  {one}" for one in quarantined[:_TOLD]]
    if len(quarantined) > _TOLD:
        told.append(f"  and {len(quarantined) - _TOLD} more (metrics.json, collect.quarantined)")
    return [
        f"{len(quarantined)} {'sets' if many else 'set'} killed {'their workers' if many else 'its worker'} {tries} "
        f"times and {'are' if many else 'is'} left out (quarantined):",
        *told,
        f"  u_hat is fitted to {left} of {wanted} pairs; the same command tries {'them' if many else 'it'} again",
    ]


def _whole_pairs(samples: Samples) -> Samples:
    """Those of samples that stand in pairs, one after the other, whose pair was measured whole."""
    found: list[UtilitySample] = []
    for first, second in zip(samples[::2], samples[1::2], strict=True):
        if first.measurement is not None and second.measurement is not None:
            found += [first, second]
    return tuple(found)


def _where(sample: UtilitySample) -> str:
    if sample.kind == "interpolated":
        return f"interpolated pair {sample.pair_id}"
    if sample.pair_id >= 0:
        return f"pair {sample.pair_id}"
    return f"S_{sample.iteration}" if sample.iteration >= 0 else "held out"
