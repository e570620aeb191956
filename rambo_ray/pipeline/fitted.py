"""Defaults that fit the data: what nobody has set follows from k, V, the pool and B.

The defaults of the configuration suit some hundred labelled images, a thousand validation images and a pool of
thousands. Where the data are fewer, a default that cannot be, or would draw the same few sets again and again, gives
way to one that can. A default that can stays, so that what ran before runs as before; a key that is set stays, too, and
is refused where it cannot be.

Letters: k, V, R, N images that are labelled, of S_val, rejected, in the pool; K classes; P pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from rambo_ray.config.schema import AcquisitionConfig, Config, Section, for_labels, smallest_subset
from rambo_ray.config.sections import UtilitySamplesConfig
from rambo_ray.data import memory
from rambo_ray.data.problem import Problem
from rambo_ray.utility_model.quadratic import CROSS_VALIDATION
from rambo_ray.utility_samples import mock_rounds
from rambo_ray.utility_samples.sampling import held_out_size

# There must be this many times as many different sets as are drawn: else the same ones would be drawn too often.
_FEWER = 2
_FEWEST_PAIRS = CROSS_VALIDATION  # fewer than this no u_hat can be fitted to
_MANY = 10**9
_SET_BYTES, _PLACE_BYTES = 300, 8  # of a set in memory, measured, and of each image in it: half of S_0 on average


@dataclass(frozen=True)
class Sizes:
    """How many images a problem has of each kind, and how many classes; pool: only those that can be picked."""

    labeled: int
    validation: int
    rejected: int
    pool: int
    classes: int

    @classmethod
    def of(cls, problem: Problem, pool: int | None = None) -> Sizes:
        """Those of `problem`; pool: images that can be picked, by default all."""
        return cls(
            labeled=len(problem.labeled),
            validation=len(problem.validation),
            rejected=0 if problem.rejected is None else len(problem.rejected),
            pool=problem.num_left if pool is None else pool,
            classes=len(problem.class_names),
        )

    @property
    def playing(self) -> tuple[int, int]:
        """Images of each half of S_val and what was rejected, the smaller half first."""
        both = self.validation + self.rejected
        return both // 2, both - both // 2


class Fitted(NamedTuple):
    """A configuration whose defaults fit, and a line per key that was changed: what it is now, and why."""

    config: Config
    said: tuple[str, ...]


def fit(config: Config, sizes: Sizes) -> Fitted:
    """`config` with defaults that fit data of these sizes.

    What is changed still does not count as set, so that a configuration made from this one is fitted anew. Raises
    ValueError, in one line, for set sizes of mock rounds that cannot be, and UserError for more sets than memory holds.
    """
    fitting = _Fitting(config, sizes)
    fitting.budget()
    fitting.margin_pool()
    fitting.batch()
    if config.utility_samples.source != "mock_rounds":
        fitting.nested_sets()
    fitting.samples()
    _check_memory(fitting.config.utility_samples, sizes)
    return Fitted(fitting.config, tuple(fitting.said))


def _check_memory(samples: UtilitySamplesConfig, sizes: Sizes) -> None:
    """Raise UserError where the sets that are to be drawn do not fit into memory: drawing them takes long."""
    sets = (2 * samples.num_pairs + samples.num_held_out) * (2 if samples.source == "both" else 1)
    key = "num_pairs" if 2 * samples.num_pairs >= samples.num_held_out else "num_held_out"
    memory.check_bytes(
        sets * (_SET_BYTES + _PLACE_BYTES * sizes.labeled // 2),
        f"utility_samples.{key}={getattr(samples, key)}: {sets:,} sets of images",
        f"lower utility_samples.{key}",
        "take {} or more",
    )


class _Fitting:
    """A configuration on its way to one that fits, and what was said on it."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        self.config, self.sizes = config, sizes
        self.said: list[str] = []

    def budget(self) -> None:
        """B: half of a pool that holds fewer images than the default's."""
        ask, pool = self.config.acquisition, self.sizes.pool
        if not _is_set(ask, "budget") and ask.budget > pool:
            why = f"half of the pool: its {pool} images are fewer than the default's {ask.budget}; set what you can buy"
            self._change("acquisition", why, budget=max(1, pool // 2))

    def margin_pool(self) -> None:
        """M: half of a small pool, so that margins filter there too, and 2 B at least, so that there is a choice.

        A benchmark's runs have M in their ids, and keep it.
        """
        ask, pool = self.config.acquisition, self.sizes.pool
        kept = min(pool, max(-(-pool // 2), 2 * ask.budget))
        if self.config.data.name == "own" and not _is_set(ask, "margin_pool") and kept < ask.margin_pool:
            why = "the smaller half of the pool's margins"
            if kept > -(-pool // 2):
                why = "the whole pool, as 2 B are no fewer" if kept == pool else "2 B, so that there is a choice"
            self._change("acquisition", why, margin_pool=kept)

    def batch(self) -> None:
        """b: no larger than B, which may have changed since the configuration was read, or than M."""
        ask, default = self.config.acquisition, AcquisitionConfig.model_fields["batch_size"].default
        b = min(default, ask.budget, ask.margin_pool)
        if not _is_set(ask, "batch_size") and b < default:
            limit = "acquisition.budget (B)" if b == ask.budget else "acquisition.margin_pool (M)"
            self._change("acquisition", f"no more than {limit}; the default is {default}", batch_size=b)

    def nested_sets(self) -> None:
        """k_1 and the pretraining's b."""
        grown, k = for_labels(self.config.pretraining, self.sizes.labeled), self.sizes.labeled
        if grown != self.config.pretraining:
            why = f"S_0 has {k} images, no more than the default of k_1, {self.config.pretraining.k_1}"
            self._change("pretraining", why, k_1=grown.k_1, batch_size=grown.batch_size)

    def samples(self) -> None:
        """As many parts of S_val, pairs and held-out sets as there are images and different sets for."""
        samples, validation = self.config.utility_samples, self.sizes.validation
        parts = samples.evidence_folds if samples.source != "subsets" else 0
        if not _is_set(samples, "evidence_folds") and parts > validation > 1:
            self._change("utility_samples", f"S_val has {validation} images", evidence_folds=validation)
        sets, held_out = _different(self.config, self.sizes)
        kind = {"mock_rounds": "mock rounds", "subsets": "subsets of S_0", "both": "sets of a kind"}[samples.source]
        pairs = max(_FEWEST_PAIRS, sets // (2 * _FEWER))
        if not _is_set(samples, "num_pairs") and pairs < samples.num_pairs:
            self._change("utility_samples", f"there are only {sets} different {kind} to draw", num_pairs=pairs)
        if not _is_set(samples, "num_held_out") and held_out < samples.num_held_out:
            why = f"there are only {held_out} different {kind} to hold out"
            self._change("utility_samples", why, num_held_out=held_out)

    def _change(self, section: str, why: str, **values: int | None) -> None:
        """Give keys of a section other defaults, and say so."""
        part = getattr(self.config, section).model_copy(update=values).unset(*values)
        made = self.config.model_copy(update={section: part})
        self.config = made if _is_set(self.config, section) else made.unset(section)
        shown = ", ".join(f"{section}.{name}={value}" for name, value in values.items() if value is not None)
        self.said.append(f"{shown}: {why}")


def _is_set(section: Section, name: str) -> bool:
    return name in section.model_fields_set


def _different(config: Config, sizes: Sizes) -> tuple[int, int]:
    """How many different sets there are to draw pairs from, and how many to hold out; of both sources, the fewer."""
    samples, found = config.utility_samples, []
    if samples.source != "mock_rounds":
        k = sizes.labeled
        least = smallest_subset(config, num_labeled=k, num_classes=sizes.classes)
        found.append((_subsets(k, least, k - 1), _subsets(k, held_out_size(k), held_out_size(k))))
    if samples.source != "subsets":
        low, high = mock_rounds.round_sizes(samples, sizes.validation, sizes.playing[0])
        longer = set(mock_rounds.held_out_sizes(high, sizes.playing[0]))
        drawn = sum(_subsets(half, low, high) for half in sizes.playing)
        found.append((drawn, sum(_subsets(half, size, size) for half in sizes.playing for size in longer)))
    return min(pairs for pairs, _ in found), min(held_out for _, held_out in found)


def _subsets(count: int, low: int, high: int) -> int:
    """How many subsets of low to high images `count` images have; no more than _MANY are counted."""
    total = 0
    for size in range(low, high + 1):
        total += math.comb(count, size)
        if total > _MANY:
            break
    return total
