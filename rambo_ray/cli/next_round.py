"""The configuration of a run of any round: a later one's is that of the round before, unless told otherwise."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rambo_ray import numerics
from rambo_ray.annotation import request, rounds
from rambo_ray.annotation.request import Request
from rambo_ray.cli import entry, ready
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.errors import UserError

_ONLY_LATER = {"round": "--round", "answers": "--answers"}


def configuration(parsed: argparse.Namespace) -> Config:
    """What `--config`, the overrides, and `--round`, `--after` and `--answers` say.

    Without --config a later round takes the configuration of the round before, but for its output directory; its data
    are always those. Raises UserError where they do not go together.
    """
    if parsed.after is None:
        for name, option in _ONLY_LATER.items():
            if (value := getattr(parsed, name)) not in (None, 1):
                raise UserError(f"{option} {value}: goes on from another round; give its directory: --after DIR")
        return entry.configuration(parsed)
    asked = request.read(parsed.after)
    content = _of_the_round_before(asked)
    if parsed.config is not None:
        content = loading.read_yaml(ready.file("config", parsed.config))
    number = asked.config.round.number + 1 if parsed.round is None else parsed.round
    said = {"number": number, "after": str(asked.folder.resolve()), "answers": parsed.answers or "annotations"}
    content = {**content, "data": rounds.expected(asked).data.model_dump(), "round": said}
    content["output"] = {**(content.get("output") or {}), "dir": None}
    config = loading.parse(loading.apply_overrides(content, parsed.overrides))
    rounds.before(config)
    numerics.settle(config.cluster.reproducible, restart=parsed.restart)
    return config


def _of_the_round_before(asked: Request) -> dict[str, Any]:
    """What was set of its configuration: defaults that followed from its data follow from the new ones anew."""
    content = asked.config.model_dump()
    known = json.loads((asked.folder / "manifest.json").read_text(encoding="utf-8")).get("keys_set")
    if known is None:  # an earlier version's: all counts as set
        return content
    return {
        section: {name: inner for name, inner in value.items() if f"{section}.{name}" in known}
        if isinstance(value, dict)
        else value
        for section, value in content.items()
        if isinstance(value, dict) or section in known
    }
