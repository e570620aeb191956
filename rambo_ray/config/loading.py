"""From a YAML file and `section.key=value` overrides to a checked `Config`, or one line of error.

Whatever is wrong is said in one line: the key, the value, the rule, and the nearest valid key or
what the key means. Nothing is coerced: `budget: "500"` is a string and an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from rambo_ray.config import safe_yaml
from rambo_ray.config.explain import explain, keys_of
from rambo_ray.config.schema import METHODS, NEWER_KEYS, SCENARIO_KEYS, Config, DataConfig, is_head
from rambo_ray.errors import UserError, nearest

# Utility samples or base classifiers depend on these: a new value means retraining.
_RETRAINING = ("data.", "classifier.", "utility_samples.", "pretraining.", "utility_model.features",
               "utility_model.imagenet_", "acquisition.copies", "acquisition.near_")  # fmt: skip

# No classifier but a head on embeddings looks at these; without them, what was computed before there were any stays.
_OF_ROUNDS = ("utility_samples.min_round", "utility_samples.max_round", "utility_samples.evidence_folds")
_OF_TILTED = ("acquisition.temperatures", "acquisition.draws")
_OF_COPIES = ("acquisition.copies", "acquisition.near_copies", "acquisition.near_distance")
_OF_HEADS = ("classifier.l2", "classifier.embedding", "classifier.components")


_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")


def read_yaml(path: str | Path, option: str = "--config") -> dict[str, Any]:
    """The mapping in a YAML file; raises UserError, which names the `option` it came by, where there is none."""
    content = safe_yaml.read(path, option)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{option} {path}: holds a {type(content).__name__}; write 'section:' and its keys below")
    return content


def apply_overrides(content: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`content` with each `section.key=value` set; values are read as YAML. Returns a new mapping.

    A section with nothing below it, as when all its lines are commented out, is an empty one.
    """
    sections = {name.partition(".")[0] for name in dotted_keys() if "." in name}
    result = {key: {} if value is None and key in sections else value for key, value in content.items()}
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in result.items()}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise UserError(
                f"{_brief(override)!r}: not an override; write section.key=value, such as acquisition.budget=500"
            )
        try:
            value = safe_yaml.parsed(text)
        except ValueError as error:
            raise UserError(f"{_brief(override)!r}: the value is not valid YAML ({error}); quote it") from error
        section, dot, name = key.partition(".")
        if dot:
            inner = result.setdefault(section, {})
            if not isinstance(inner, dict):
                raise UserError(f"{' '.join(key.split())}: unknown key; {nearest(key, dotted_keys())}")
            inner[name] = value
        else:
            result[section] = value
    return result


def _brief(override: str) -> str:
    return override if len(override) <= 120 else f"{override[:100]}..."


def parse(content: dict[str, Any]) -> Config:
    """A checked configuration; raises UserError, one line, for the first thing that is wrong."""
    _check_text(content, "")
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise UserError(explain(error, Config, separator=".")) from error


def _check_text(content: object, key: str) -> None:
    """Raise UserError for text that config.yaml could not hold, or that no file can be called."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            _check_text(name, str(name))
            _check_text(value, f"{key}.{name}" if key else str(name))
    elif isinstance(content, list | tuple):
        for value in content:
            _check_text(value, key)
    elif isinstance(content, str) and _UNWRITABLE.search(content) is not None:
        raise UserError(f"{key}={content}: holds a null character, or what is not UTF-8; rename what it names")


def load(path: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """The configuration in `path` (None: all defaults) with `overrides` applied."""
    return parse(apply_overrides(read_yaml(path) if path is not None else {}, overrides))


def read_stored(path: Path) -> Config:
    """The config.yaml that an earlier run wrote; before there was `method` there was only the paper's."""
    return parse({"method": "paper", **read_yaml(path)})


def dump(config: Config) -> str:
    """The whole configuration as YAML that `load` reads back to an equal one."""
    return yaml.dump(config.model_dump(), Dumper=safe_yaml.Dumper, sort_keys=False, allow_unicode=True)


def all_keys() -> Iterator[tuple[str, Any, str]]:
    """Every key: its dotted name, its default, its meaning; in the order of the sections."""
    return keys_of(Config)


def dotted_keys() -> list[str]:
    """The dotted names of all keys."""
    return [name for name, _, _ in all_keys()]


def differences(a: Config, b: Config) -> list[str]:
    """Dotted keys whose values differ between two configurations."""
    flat_a, flat_b = flatten(a), flatten(b)
    return [key for key in flat_a if flat_a[key] != flat_b[key]]


def flatten(config: Config) -> dict[str, Any]:
    """Every key's value by its dotted name."""
    flat: dict[str, Any] = {}
    for key, value in config.model_dump().items():
        if isinstance(value, dict):
            flat.update({f"{key}.{name}": inner for name, inner in value.items()})
        else:
            flat[key] = value
    return flat


def keys_set(config: Config) -> list[str]:
    """The dotted keys that somebody has set: all others have defaults, which may follow from the data."""
    content = config.model_dump(exclude_unset=True)
    found = []
    for key, value in content.items():
        found += [f"{key}.{name}" for name in value] if isinstance(value, dict) else [key]
    return found


def relevant(config: Config) -> dict[str, Any]:
    """The keys that can change a result beyond rounding, by their dotted names; with `any_x86`, rounding counts."""
    without = ["cluster.", "output.", "data.root", "data.download", "classifier.kernels", "classifier.embedding_cache"]
    without += [] if is_head(config.classifier.name) else _OF_HEADS
    scenario = config.data.scenario
    without += [f"data.{key}" for other, keys in SCENARIO_KEYS.items() if other != scenario for key in keys]
    if scenario == "clean":  # so that its runs keep the ids they had before there were others
        without.append("data.scenario")
    without += _unread(config)
    without += [
        f"data.{key}" for key in NEWER_KEYS if getattr(config.data, key) == DataConfig.model_fields[key].default
    ]
    if config.round.number == 1:  # a later round's data are its own
        without.append("round.")
    kept = {key: value for key, value in flatten(config).items() if not key.startswith(tuple(without))}
    if config.cluster.reproducible != "machine":
        kept["cluster.reproducible"] = config.cluster.reproducible
    return kept


def _unread(config: Config) -> list[str]:
    """Keys that nobody reads, and the newer keys where they say what was done before there were any."""
    samples, model, ask = config.utility_samples, config.utility_model, config.acquisition
    keys = ["method"]  # it only says what other keys are
    if ask.strategy == "rambo":
        keys.append("acquisition.strategy")
    if samples.source == "subsets":
        keys += ["utility_samples.source", *_OF_ROUNDS]
    if model.architecture == "network":
        keys.append("utility_model.architecture")
    if model.architecture == "network":
        keys.append("acquisition.caution")
    if model.fit_on == "pairs" or model.architecture == "quadratic":
        keys.append("utility_model.fit_on")
    if samples.otdd_backend == "builtin":
        keys.append("utility_samples.otdd_backend")
    if ask.near_copies == "off":  # what is left out of a pool shows in its fingerprint, too
        keys += [key for key in _OF_COPIES if key != "acquisition.copies" or ask.copies is None]
    if ask.candidates == "partition":
        keys.append("acquisition.candidates")
    if ask.candidates in ("partition", "strategies"):
        keys += _OF_TILTED
    return keys


def needs_retraining(key: str) -> bool:
    """Whether utility samples or base classifiers depend on a key of the configuration."""
    return key.startswith(_RETRAINING) and key != "classifier.embedding_cache"


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """`config` with the keys of `values`, by their dotted names, set; raises UserError as `parse`.

    Defaults that follow from other keys follow from the new ones.
    """
    content = config.model_dump(exclude_unset=True)
    if "method" in values:  # what the earlier method decided is decided anew
        for section, decided in METHODS["paper"].items():
            given = content.get(section, {})
            content[section] = {key: value for key, value in given.items() if key not in decided}
    return parse(with_keys(content, values))


def with_keys(content: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A file's content with the keys of `values`, by their dotted names, set; raises UserError for unknown ones."""
    known = dotted_keys()
    made = {section: dict(keys) if isinstance(keys, dict) else keys for section, keys in content.items()}
    for key, value in values.items():
        if key not in known:
            raise UserError(f"{key}: unknown key; {nearest(key, known)}")
        section, dot, name = key.partition(".")
        if not dot:
            made[key] = value
        elif isinstance(inner := made.get(section) or {}, dict):  # anything else is reported where sections are checked
            made[section] = {**inner, name: value}
    return made
