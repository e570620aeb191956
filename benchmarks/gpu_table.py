"""What `on_gpu.sh` measured as Markdown tables, for the documentation.

    python benchmarks/gpu_table.py results/gpu.json [--section NAME ...]

A section becomes a heading, a table of its single values, and a table for each list of rows; what was skipped or
failed is said. Units are in the keys (`_s`, `_mb`, `_ms`, `_us`), explained in `benchmarks/gpu/`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HEADINGS = {
    "device": "The machine",
    "equality": "Stack and single model, GPU and CPU",
    "mnist_rates": "Models per second, MnistNet",
    "mnist_pairs": "500 pairs, MNIST",
    "resnet_rates": "Models per second, ResNet-18",
    "cifar_pairs": "500 pairs, CIFAR-10",
    "whole_run": "A whole run, the paper's method",
    "mock_rounds": "A whole run, mock rounds",
    "pool": "The pass over the pool",
    "u_hat": "The fit of û",
    "steps": "Where a training step goes",
    "otdd": "The OTDD",
    "ray": "A whole run on Ray",
}
_STATE = ("status", "seconds", "share_s", "error", "skipped")


def rendered(content: Mapping[str, Any], only: Sequence[str] | None = None) -> str:
    """Markdown of a gpu.json, of all its sections or those named."""
    where = content["sections"].get("device", {}).get("gpu", {}).get("name", content.get("device", "unknown"))
    parts = [f"Measured on {where} with torch {content.get('torch')}, {content.get('began', '')[:10]}."]
    if content.get("smoke"):
        parts.append("A smoke run: sizes are tiny, and figures mean nothing.")
    for name, found in content["sections"].items():
        if only is None or name in only:
            parts += _section(name, found)
    return "\n\n".join(parts) + "\n"


def _section(name: str, found: Mapping[str, Any]) -> list[str]:
    parts = [f"## {HEADINGS.get(name, name)}"]
    status, seconds = found.get("status", "cut off"), found.get("seconds")
    if status != "ok":
        error = str(found.get("error", "")).strip().splitlines()
        parts.append(f"This section ended as *{status}*" + (f": `{error[-1]}`." if error else "."))
    single: dict[str, Any] = {}
    tables: list[str] = []
    for key, value in found.items():
        if key in _STATE:
            continue
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            tables += _rows(key, value)
        else:
            single |= _flat(key, value)
    if seconds is not None:
        single["seconds of the section"] = seconds
    if single:
        parts.append(table(["what", "value"], [[key, number(value)] for key, value in single.items()]))
    parts += tables
    if found.get("skipped"):
        parts.append("Left out: " + "; ".join(found["skipped"]) + ".")
    return parts


def _rows(key: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table of rows, and one for each list inside a row."""
    columns = list(dict.fromkeys(name for row in rows for name, value in row.items() if not isinstance(value, list)))
    parts = [f"`{key}`", table(columns, [[number(row.get(name, "")) for name in columns] for row in rows])]
    for row in rows:
        for name, value in row.items():
            if isinstance(value, list) and value and isinstance(value[0], Mapping):
                of = ", ".join(str(row[c]) for c in columns[:3] if isinstance(row.get(c), (str, int)))
                parts += _rows(f"{name} of {of}", value)
    return parts


def _flat(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {name: item for inner, one in value.items() for name, item in _flat(f"{key}.{inner}", one).items()}
    return {key: value}


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |" for line in lines)


def number(value: Any) -> str:
    """A value with three significant digits, or four for what is larger; text and whole numbers as they are."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, list):
        return ", ".join(number(item) for item in value)
    return "–" if value is None or value == "nan" else str(value)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="gpu.json")
    parser.add_argument("--section", nargs="+", help="only these sections")
    arguments = parser.parse_args()
    print(rendered(json.loads(arguments.file.read_text()), arguments.section), end="")


if __name__ == "__main__":
    main()
