"""The files of a run whose images another strategy than RAMBO picks: what there is without u_hat.

selection.parquet as of any run, its `utility` not a number; metrics.json with `strategy`, sizes, accuracies and
seconds; manifest.json and config.yaml as of any run. There is no u_hat. The page, report.html, is made by
`rambo_ray.report`, without what concerns u_hat.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from rambo_ray.config.schema import Config
from rambo_ray.data.problem import Problem, Revealed
from rambo_ray.progress import duration

FILES = {"selection": "selection.parquet", "report": "report.html"}


class Picks(Protocol):
    """F's accuracies without and with what a strategy picked, by the name of a set."""

    @property
    def before(self) -> Mapping[str, float]: ...
    @property
    def after(self) -> Mapping[str, float] | None: ...


def metrics(
    config: Config,
    problem: Problem,
    revealed: Revealed | None,
    picked: Picks,
    seconds: Mapping[str, float],
    total_s: float,
    cluster: str,
) -> dict[str, Any]:
    """What metrics.json holds."""
    ask = config.acquisition

    def accuracies(found: Mapping[str, float] | None) -> dict[str, float | None] | None:
        return None if found is None else {name: found.get(name) for name in ("validation", "test")}

    return {
        "strategy": ask.strategy,
        "content": "embeddings" if problem.of_vectors else "images",
        "sizes": {
            "k": len(problem.labeled),
            "validation": len(problem.validation),
            "pool": problem.num_pool,
            "test": len(revealed.test) if revealed is not None and revealed.test is not None else 0,
            "budget": ask.budget,
            "batch_size": ask.batch_size,
            "margin_pool": ask.margin_pool,
        },
        "copies": {
            "exact": problem.copies.exact if problem.copies is not None else 0,
            "near": problem.copies.near if problem.copies is not None else 0,
            "of_images": problem.copies.copied if problem.copies is not None else 0,
        },
        "accuracy_before": accuracies(picked.before),
        "accuracy_after": accuracies(picked.after),
        "seconds": {**seconds, "total": total_s},
        "cluster": cluster,
    }


def summary(content: Mapping[str, Any], config: Config, folder: Path) -> str:
    """What a person at the terminal is told at the end."""
    things = "items" if content.get("content") == "embeddings" else "images"
    lines = [
        "",
        f"{config.acquisition.budget} {things} picked by {content['strategy']} in "
        f"{duration(content['seconds']['total'])}",
    ]
    for name, said in (("validation", "accuracy on S_val"), ("test", "accuracy on test")):
        before, after = content["accuracy_before"][name], (content["accuracy_after"] or {}).get(name)
        if before is not None:
            change = "" if after is None else f" -> {after:.3f} ({100 * (after - before):+.1f} points)"
            lines.append(f"  {said:<18} {before:.3f}{change}")
    lines += [f"  {name:<18} {folder / file}" for name, file in FILES.items()]
    return "\n".join(lines)
