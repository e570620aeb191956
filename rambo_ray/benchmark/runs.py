"""Finished runs of benchmarks: one line of JSON each in `cells.jsonl`, appended as soon as it is done.

A run is known by the hash of everything its numbers depend on, so that several experiments share
runs, a rerun computes only what is missing, and hours of work travel to another machine as one
small text file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rambo_ray.benchmark.experiment import FILTERED, U_HAT, Method
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.errors import UserError
from rambo_ray.files import writing
from rambo_ray.pipeline import rules

# Raise it when the same configuration would give other numbers, beside the training's own RULE.
RULE = 1

FILE_NAMES = {"run_id": "cell_id"}  # where files call a field otherwise

# What a method that fits no u_hat does not look at, and what one that does not filter by margins either.
_OF_U_HAT = ("utility_samples.", "utility_model.", "pretraining.", "acquisition.candidates", "acquisition.temperatures",
             "acquisition.draws", "acquisition.caution")  # fmt: skip
_OF_THE_FILTER = ("acquisition.margin_pool", "acquisition.batch_size")


@dataclass(frozen=True)
class BenchmarkRun:
    """The numbers of one run, and words that say to a reader which one it is.

    accuracy, test_accuracy: of f trained on S_0 and the B images, fractions; before, test_before: of f
    on S_0 alone; NaN where there is no test split. ranking_accuracy, kendall_tau: of u_hat on held-out
    subsets, NaN for methods without one. seconds: of one thread, for the selection (for all budgets that
    share it), in it the fit of u_hat; for the utility samples it was fitted to; for the final training.
    """

    run_id: str
    data: str
    method: str
    budget: int
    seed: int
    accuracy: float
    test_accuracy: float
    before: float
    test_before: float
    ranking_accuracy: float
    kendall_tau: float
    select_seconds: float
    fit_seconds: float
    sample_seconds: float
    train_seconds: float
    epochs: int


@dataclass(frozen=True)
class Failure:
    """What became of a run that could not be finished."""

    where: str
    error: str


def run_id(config: Config, method: Method, fingerprint: str, settings: str) -> str:
    """Hash of all that a run's numbers depend on, 32 hexadecimal digits.

    config: the run's, its budget included; fingerprint: of S_0, S_val and the pool; settings: the
    identity of f's training rule.
    """
    kept = loading.relevant(config)
    if method.kind not in U_HAT:
        unseen = _OF_U_HAT if method.kind in FILTERED else (*_OF_U_HAT, *_OF_THE_FILTER)
        kept = {key: value for key, value in kept.items() if not key.startswith(unseen)}
    kind = method.kind if method.own is None else f"{method.kind} {method.own.digest}"
    seen = [rules.ACQUISITION] if method.kind in (*U_HAT, *FILTERED) else []
    seen += [rules.FIT, rules.ROUNDS] if method.kind in U_HAT else []
    content = json.dumps([RULE, kind, kept, fingerprint, settings, *rules.newer(seen)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


class RunStore:
    """All finished runs of a folder, by id."""

    def __init__(self, folder: Path) -> None:
        """Read `folder`/cells.jsonl; a last line that was cut off by a crash is dropped.

        Raises UserError for any other line that is no run.
        """
        self.path = folder / "cells.jsonl"
        self.runs: dict[str, BenchmarkRun] = {}
        self._cut: tuple[int, int] | None = None  # size of the file whose last line is cut off, and without that line
        if not self.path.is_file():
            return
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._cut = (len(content), whole)
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                run = _from_json(json.loads(line))
            except (ValueError, TypeError, KeyError) as error:
                raise UserError(
                    f"{self.path} line {number}: is no run of this version ({type(error).__name__}: {error}); remove "
                    "the line, or give another --output"
                ) from error
            self.runs[run.run_id] = run

    def add(self, run: BenchmarkRun) -> None:
        """Append a finished run; it is on the disk when this returns. Raises WriteError where that cannot be."""
        line = json.dumps(_to_json(run)).encode() + b"\n"
        with writing(self.path):
            self._append(line)
        self.runs[run.run_id] = run

    def _append(self, line: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab") as file:
            if self._cut is not None and file.tell() == self._cut[0]:
                file.truncate(self._cut[1])
            self._cut = None
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def _to_json(run: BenchmarkRun) -> dict[str, Any]:
    """Floats to what they mean (accuracies of at most 10^6 images, seconds), NaN as null."""
    shown: dict[str, Any] = {}
    for name, value in asdict(run).items():
        if isinstance(value, float):
            value = None if value != value else round(value, 2 if name.endswith("_seconds") else 6)
        shown[FILE_NAMES.get(name, name)] = value
    return shown


def _from_json(content: Mapping[str, Any]) -> BenchmarkRun:
    values: dict[str, Any] = {
        field.name: content[FILE_NAMES.get(field.name, field.name)] for field in fields(BenchmarkRun)
    }
    values.update({name: float("nan") for name, value in values.items() if value is None})
    return BenchmarkRun(**values)
