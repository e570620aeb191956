"""Fills configuration.md with a table per section, made from the schema whenever the site is built."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from mkdocs.exceptions import PluginError

from rambo_ray.config.loading import all_keys
from rambo_ray.config.schema import Config

PAGE, PLACE = "configuration.md", "<!-- keys -->"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page with the tables in their place."""
    if page.file.src_uri != PAGE:
        return markdown
    if PLACE not in markdown:
        raise PluginError(f"{PAGE}: has no line {PLACE} for the tables of keys")
    return markdown.replace(PLACE, "\n".join(_tables()))


def _tables() -> list[str]:
    """A heading, the section's docstring and a row per key, section after section."""
    schema = Config.model_json_schema()
    lines, last = [], None
    for key, default, meaning in all_keys():
        section, dot, name = key.rpartition(".")
        if section != last or last is None:
            last = section
            said = (Config.model_fields[section].annotation if dot else Config).__doc__ or ""
            lines += ["", f"## {section or 'The whole run'}", "", html.escape(" ".join(said.split())), ""]
            lines += ["| key | values | default | meaning |", "|---|---|---|---|"]
        owner = schema["$defs"][Config.model_fields[section].annotation.__name__] if dot else schema
        cells = (f"`{key}`", _values(owner["properties"][name]), f"`{_shown(default)}`", _plain(meaning))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _values(said: Mapping[str, Any]) -> str:
    """What a key may be, in words, from its JSON schema."""
    if "anyOf" in said:
        return " or ".join(_values(each) for each in said["anyOf"])
    if "enum" in said:
        return ", ".join(f"`{_shown(value)}`" for value in said["enum"])
    if "const" in said:
        return f"`{_shown(said['const'])}`"
    if said["type"] == "array":
        return f"list of {_values(said['items'])}"
    kinds = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true`, `false`"}
    kinds["null"] = "`null`"
    bounds = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
    limits = [f"{sign}\u00a0{said[bound]:g}" for bound, sign in bounds if bound in said]
    return " ".join([kinds.get(said["type"], said["type"]), ", ".join(limits)]).strip()


def _shown(value: object) -> str:
    """A value as it is written in YAML."""
    words = {None: "null", True: "true", False: "false"}
    if isinstance(value, tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _plain(text: str) -> str:
    """Text in which nothing is Markdown or HTML."""
    escaped = html.escape(text, quote=False)
    for letter in "*|`":
        escaped = escaped.replace(letter, f"\\{letter}")
    return escaped
