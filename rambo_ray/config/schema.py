"""The configuration of a run: one section per stage of the method, and what must agree between them.

The sections are in `rambo_ray.config.sections`, `data` and `growth`. Here are the whole, what a method decides, and
the checks: those across sections in `Config`; those that need the data (k, the pool's size) in `check_sizes`, which is
called as soon as the data's sizes are known and before any training. `rambo_ray.config.loading` reads YAML
and overrides.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, ModelWrapValidatorHandler, model_validator
from typing_extensions import Self

from rambo_ray.config.data import NEWER_KEYS, SCENARIO_KEYS, DataConfig
from rambo_ray.config.growth import STRATEGY_NAMES, AcquisitionConfig, PretrainingConfig
from rambo_ray.config.rounds import RoundConfig
from rambo_ray.config.section import Count, CountOrNone, CountOrZero, NonNegative, Repeats, Section, Seed
from rambo_ray.config.sections import (
    HEADS,
    ClassifierConfig,
    ClusterConfig,
    OutputConfig,
    UtilityModelConfig,
    UtilitySamplesConfig,
    is_estimator,
    is_head,
)

__all__ = [
    "HEADS",
    "METHODS",
    "NEWER_KEYS",
    "SCENARIO_KEYS",
    "STRATEGY_NAMES",
    "AcquisitionConfig",
    "ClassifierConfig",
    "ClusterConfig",
    "Config",
    "Count",
    "CountOrNone",
    "CountOrZero",
    "DataConfig",
    "NonNegative",
    "OutputConfig",
    "PretrainingConfig",
    "Repeats",
    "RoundConfig",
    "Section",
    "Seed",
    "UtilityModelConfig",
    "UtilitySamplesConfig",
    "check_sizes",
    "for_labels",
    "is_estimator",
    "is_head",
    "nested_sizes",
    "smallest_subset",
]

# Iterations of pretraining where its other sizes follow from k: those that k=200 has with the defaults.
_ITERATIONS = 3
# Rejection sampling of a pair from the powerset takes 1 / share draws on average.
_LEAST_SHARE = 1e-4

# What a method means for keys that are not set; a key that is set wins.
METHODS: dict[str, dict[str, dict[str, Any]]] = {
    "mock_rounds": {},  # the defaults above
    "paper": {
        "utility_samples": {"source": "subsets", "num_pairs": 500, "utility": "accuracy", "num_held_out": 20},
        "utility_model": {"architecture": "network", "fit_on": "pairs", "features": "auto"},
        "acquisition": {"candidates": "partition", "margin_pool": 2000},
    },
}


class Config(Section):
    """A whole run."""

    method: Literal["mock_rounds", "paper"] = Field(
        "mock_rounds",
        description="defaults of what is not set: mock_rounds: this package's scheme; paper: the paper's (source, "
        "num_pairs, utility, architecture, fit_on, features, candidates)",
    )
    seed: Seed = Field(0, description="every random decision follows from it")
    data: DataConfig = Field(default_factory=DataConfig)  # type: ignore[arg-type]
    classifier: ClassifierConfig = Field(default_factory=ClassifierConfig)  # type: ignore[arg-type]
    utility_samples: UtilitySamplesConfig = Field(default_factory=UtilitySamplesConfig)  # type: ignore[arg-type]
    utility_model: UtilityModelConfig = Field(default_factory=UtilityModelConfig)  # type: ignore[arg-type]
    pretraining: PretrainingConfig = Field(default_factory=PretrainingConfig)  # type: ignore[arg-type]
    acquisition: AcquisitionConfig = Field(default_factory=AcquisitionConfig)  # type: ignore[arg-type]
    round: RoundConfig = Field(default_factory=RoundConfig)  # type: ignore[arg-type]
    cluster: ClusterConfig = Field(default_factory=ClusterConfig)  # type: ignore[arg-type]
    output: OutputConfig = Field(default_factory=OutputConfig)  # type: ignore[arg-type]

    @model_validator(mode="wrap")
    @classmethod
    def _method(cls, content: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """The keys that `method` decides, where the content leaves them out; they do not count as set."""
        method = content.get("method") if isinstance(content, dict) else None
        if not isinstance(method, str) or method not in METHODS:  # the default's keys have their defaults already
            return handler(content)
        filled, decided = dict(content), {}
        for section, values in METHODS[method].items():
            given = filled.get(section, {})
            if isinstance(given, dict):  # anything else is reported where sections are checked
                filled[section] = {**values, **given}
                decided[section] = values.keys() - given.keys()
        made = handler(filled)
        for section, names in decided.items():
            getattr(made, section).unset(*names)
        return made

    @model_validator(mode="after")
    def _across(self) -> Config:
        self._u_hat()
        if self.classifier.name == "linear" and self.utility_samples.repeats > 1:
            raise ValueError(
                f"utility_samples.repeats={self.utility_samples.repeats}: classifier.name=linear is solved for, so "
                "that every training of a set ends at the same classifier; set utility_samples.repeats=1"
            )
        shards, workers = self.utility_model.shards, self.cluster.trainer_workers
        if shards % workers:
            raise ValueError(
                f"cluster.fit_workers={workers}: must divide utility_model.shards={shards}, so that sums do not "
                f"depend on the workers; set utility_model.shards={workers * max(1, shards // workers)}"
            )
        if self.cluster.reproducible == "any_x86":
            if self.classifier.precision == "bfloat16":
                raise ValueError(
                    "classifier.precision=bfloat16: CPUs differ in how they compute in it, and "
                    "cluster.reproducible=any_x86; set classifier.precision=float32"
                )
            if self.cluster.gpus_per_worker:
                raise ValueError(
                    f"cluster.gpus_per_worker={self.cluster.gpus_per_worker:g}: no GPU adds up as a CPU does, and "
                    "cluster.reproducible=any_x86; set cluster.gpus_per_worker=0"
                )
        if self.data.name != "own" and self.utility_samples.source != "mock_rounds":
            nested_sizes(self.pretraining, self.data.num_labeled)
        return self

    def _u_hat(self) -> None:
        """Sources, features, architectures and candidates that do not go together."""
        source, model = self.utility_samples.source, self.utility_model
        if model.features == "evidence" and source != "mock_rounds":
            raise ValueError(
                f"utility_model.features=evidence: every classifier has seen the images of S_0, so with "
                f"utility_samples.source={source} there is none; set utility_samples.source=mock_rounds or "
                "utility_model.features=auto, or all of the paper's by method=paper"
            )
        if model.architecture == "quadratic" and model.features != "evidence":
            raise ValueError(
                f"utility_model.architecture=quadratic: it is a function of the mean evidence, and "
                f"utility_model.features={model.features}; set utility_model.features=evidence or "
                "utility_model.architecture=network, or all of the paper's by method=paper"
            )
        if model.architecture == "quadratic" and model.fit_on == "pairs":
            raise ValueError(
                "utility_model.fit_on=pairs: the quadratic u_hat is a regression on every sample; set "
                "utility_model.fit_on=all or utility_model.architecture=network"
            )


def for_labels(pretraining: PretrainingConfig, k: int) -> PretrainingConfig:
    """`pretraining` for k labelled images: where k_1 is not set and its default is too large, a quarter of k.

    S_0 then grows to k in `_ITERATIONS`, as it does where k is that of the defaults, unless b or tau_1 is set.
    """
    if "k_1" in pretraining.model_fields_set or pretraining.k_1 < k:
        return pretraining
    k_1 = max(2, k // 4)
    changed = {"k_1": k_1}
    if pretraining.batch_size is None and pretraining.tau_1 is None and k_1 < k:
        changed["batch_size"] = -(-(k - k_1) // _ITERATIONS)
    return pretraining.model_copy(update=changed).unset(*changed)


def nested_sizes(pretraining: PretrainingConfig, k: int) -> list[int]:
    """Sizes of S_0, ..., S_tau_1 in Fig. 2 for k labelled images: k_1, k_1 + b, ..., k.

    The last s_i is smaller where b does not divide k - k_1. Raises ValueError where no such
    division exists.
    """
    pretraining = for_labels(pretraining, k)
    k_1, b, tau_1 = pretraining.k_1, pretraining.batch_size, pretraining.tau_1
    if k_1 >= k:
        remedy = "lower pretraining.k_1" if k_1 > 2 else "label more images, or set method=mock_rounds"
        raise ValueError(f"pretraining.k_1={k_1}: must be below k={k}, the number of labelled images; {remedy}")
    if b is None:
        b = -(-(k - k_1) // tau_1) if tau_1 is not None else min(50, k - k_1)
    steps = -(-(k - k_1) // b)
    if tau_1 is not None and tau_1 != steps:
        remedy = " or leave pretraining.batch_size out" if pretraining.batch_size is not None else ""
        raise ValueError(
            f"pretraining.tau_1={tau_1}: (k - k_1) / b = ({k} - {k_1}) / {b} makes {steps} iterations; "
            f"set pretraining.tau_1={steps}{remedy}"
        )
    return [min(k, k_1 + i * b) for i in range(steps + 1)]


def check_sizes(config: Config, *, num_labeled: int, num_pool: int, num_classes: int) -> int:
    """Check what depends on the data's sizes; returns the smallest subset size, images.

    Raises ValueError, in one line, for a budget beyond the pool, a k_1 beyond k, or subset sizes
    that leave nothing to draw.
    """
    if config.utility_samples.source != "mock_rounds":
        nested_sizes(config.pretraining, num_labeled)
    if config.acquisition.budget > num_pool:
        raise ValueError(
            f"acquisition.budget={config.acquisition.budget}: B must not exceed the pool's {num_pool} images; "
            "lower acquisition.budget"
        )
    min_size = smallest_subset(config, num_labeled=num_labeled, num_classes=num_classes)
    if config.utility_samples.source == "mock_rounds":
        return min_size
    if not 1 <= min_size < num_labeled:
        raise ValueError(
            f"utility_samples.min_size={min_size}: must be below k={num_labeled}; lower utility_samples.min_size"
        )
    if config.utility_samples.sizes == "powerset" and _powerset_share(num_labeled, min_size) < _LEAST_SHARE:
        raise ValueError(
            f"utility_samples.min_size={min_size}: random subsets of k={num_labeled} images have about "
            f"{num_labeled // 2}, hardly ever that many; lower it or set utility_samples.sizes=uniform"
        )
    return min_size


def smallest_subset(config: Config, *, num_labeled: int, num_classes: int) -> int:
    """Images of the smallest subset: as set, or twice the number of classes, but no more than half of S_0."""
    least = config.utility_samples.min_size
    return min(2 * num_classes, max(num_labeled // 2, 1)) if least is None else least


def _powerset_share(k: int, min_size: int) -> float:
    """Probability that two subsets uniform in 2^S_0 have one size d with min_size <= d < k."""
    return sum((math.comb(k, d) / 2**k) ** 2 for d in range(min_size, k))
