"""Versions of the rules by which numbers come about, for the keys under which the numbers are kept.

Whoever changes a rule raises its RULE, and nothing that came about by the old one is found again. Keys were made
before some of these rules had a version: they are as if each of those were at 1, so a rule enters a key when it is
no longer there.
"""

from __future__ import annotations

from collections.abc import Iterable

from rambo_ray import otdd
from rambo_ray.acquisition import greedy
from rambo_ray.acquisition.baselines import own as own_strategies
from rambo_ray.classifier import networks, settings, zoo
from rambo_ray.config.schema import Config, is_estimator, is_head
from rambo_ray.config.sections import ESTIMATOR
from rambo_ray.embeddings import given
from rambo_ray.embeddings import networks as frozen
from rambo_ray.embeddings import own as own_features
from rambo_ray.own import names
from rambo_ray.utility_model import fitting, quadratic
from rambo_ray.utility_samples import mock_rounds

FIT, ACQUISITION, ROUNDS, TRAINING = "fit", "acquisition", "rounds", "training"
ALL = (FIT, ACQUISITION, ROUNDS, TRAINING)

# What each name stands for, read when it is asked for.
_MODULES = {
    FIT: {"fit": fitting, "quadratic": quadratic, "otdd": otdd},
    ACQUISITION: {"acquisition": greedy},
    ROUNDS: {"rounds": mock_rounds},
    TRAINING: {"training": settings, "embedding": frozen, "given": given},
}


def newer(groups: Iterable[str] = ALL) -> list[dict[str, int]]:
    """What a key gains by the rules that are no longer at 1: their versions; nothing where all still are."""
    versions = {name: module.RULE for group in groups for name, module in _MODULES[group].items()}
    changed = {name: version for name, version in sorted(versions.items()) if version != 1}
    return [changed] if changed else []


def own_sources(config: Config) -> dict[str, str]:
    """By what the code is known that a configuration's names stand for: digests of a user's source, versions of others.

    By key; empty where all of it is this package's. What was given in Python has its digest in its name.
    """
    name, found = config.classifier.name, {}
    if name.startswith(zoo.PREFIXES):
        found["classifier.name"] = zoo.source(name)
    elif is_estimator(name) or ":" in name:
        name = name.removeprefix(ESTIMATOR)
        if not name.startswith(names.GIVEN):
            found["classifier.name"] = names.find(name, "classifier.name", networks.NETWORKS).digest
    embedding = config.classifier.embedding
    if is_head(config.classifier.name) and own_features.is_own(embedding) and not embedding.startswith(names.GIVEN):
        found["classifier.embedding"] = own_features.known(embedding)[0]
    strategy = own_strategies.find(config.acquisition.strategy)
    if strategy is not None and not strategy.name.startswith(names.GIVEN):
        found["acquisition.strategy"] = strategy.digest
    return found
