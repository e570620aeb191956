"""The files of a run, and the check that an output directory belongs to the run that wants it.

    selection.parquet   id, pool_index, order, step, margin, utility: the images to annotate; also as selection.csv
    utility_samples/    see `rambo_ray.utility_samples.store`
    utility_model.*     see `rambo_ray.utility_model.network`
    metrics.json, config.yaml, manifest.json, report.html, run.log

Every file is written under a temporary name and renamed. `config.yaml` is written first: it is how
a later run knows whether it may continue here (`claims`). Then come manifest.json, which says on which data, and the
selection as soon as it is made; what may fail, as drawing a report may, comes after it.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rambo_ray import files, locks, run_log
from rambo_ray.acquisition.greedy import Selection
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data.problem import Problem
from rambo_ray.errors import UserError
from rambo_ray.files import finite
from rambo_ray.locks import Lock
from rambo_ray.pipeline import claims, rules

PACKAGES = ("rambo-ray", "ray", "torch", "torchvision", "numpy", "pyarrow", "POT", "scikit-learn", "safetensors")

# Keeps a selection, whose positions are those in the pool of the problem, with which part of it came from which run.
Keep = Callable[[Problem, Selection, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Output:
    """An output directory. lock: that this process holds it by; None: nobody else can be there."""

    folder: Path
    lock: Lock | None = None
    said: tuple[str, ...] = ()

    @classmethod
    @contextmanager
    def claim(
        cls,
        folder: str | os.PathLike[str],
        config: Config,
        space: str | None = None,
        problem: Problem | None = None,
    ) -> Iterator[Output]:
        """The directory for this run, made if need be, with its config.yaml; for a sweep also its space.yaml.

        It is this run's alone until the block ends. `said` of it is what there is to say of a run before.
        Raises UserError where another run's or sweep's results are, a finished run on other images than `problem` or
        another choice that annotators have answered, another process is at work or nothing can be written; nothing is
        touched then, and nothing is left of it where the block raises one before anything is made.
        """
        path = claims.resolved(folder)
        claims.check(path, config, space, problem)
        claims.make(path)
        with locks.held(path / locks.RUN) as lock:
            outdated = claims.check(path, config, space, problem)  # whoever was here meanwhile has gone
            untouched = claims.is_nobodys(path)
            files.remove_leftovers(path)
            output = cls(path, lock, claims.retired(path) if outdated else ())
            if space is not None:
                output.write_text(claims.SPACE, space)
            output.write_text(claims.CONFIG, loading.dump(config))
            try:
                with run_log.kept(path):
                    yield output
            except UserError:  # as by a cluster that cannot hold what was asked for
                if untouched:
                    claims.withdraw(path)
                raise

    @classmethod
    @contextmanager
    def other(cls, folder: Path, mark: str, text: str, what: str, made: Sequence[str]) -> Iterator[Output]:
        """The directory of something that is neither a run nor a sweep, likewise.

        mark: its file in place of config.yaml, which holds `text`; made: what is moved away where it held another.
        Raises UserError where something else is, another process is at work, or nothing can be written.
        """
        path = claims.resolved(folder)
        claims.check_other(path, mark, what)
        claims.make(path)
        with locks.held(path / locks.RUN) as lock:
            claims.check_other(path, mark, what)
            files.remove_leftovers(path)
            outdated = (path / mark).is_file() and (path / mark).read_text(encoding="utf-8") != text
            output = cls(path, lock, claims.retired(path, made, [mark]) if outdated else ())
            output.write_text(mark, text)
            with run_log.kept(path):
                yield output

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file into the directory, whole or not at all."""
        return self.write_bytes(name, text.encode("utf-8"))

    def write_bytes(self, name: str, content: bytes) -> Path:
        """Write a file into the directory, whole or not at all.

        Raises WriteError, in one line, where the system does not let it, RunError where the directory is another
        process's by now.
        """
        path = self.folder / name
        self._check()
        with files.replacing(path) as temporary:
            temporary.write_bytes(content)
        return path

    def write_json(self, name: str, content: Mapping[str, Any]) -> Path:
        """Write a JSON file; NaN and infinities become null, since JSON has none."""
        return self.write_text(name, json.dumps(finite(content), indent=2, ensure_ascii=False) + "\n")

    def write_selection(self, selection: Selection, ids: Sequence[str], positions: np.ndarray | None = None) -> Path:
        """Write selection.parquet and selection.csv: one row per image to annotate, in the order picked.

        positions: of the images that `selection` counts in the whole pool; None: they are the whole pool.
        """
        places = selection.pool_index if positions is None else positions[selection.pool_index]
        count = len(selection.pool_index)
        table = pa.table(
            {
                "id": pa.array([ids[i] for i in selection.pool_index], pa.string()),
                "pool_index": pa.array(places, pa.int64()),
                "order": pa.array(np.arange(count), pa.int32()),
                "step": pa.array(selection.step, pa.int32()),
                "margin": pa.array(selection.margin, pa.float32()),
                "utility": pa.array(selection.utility, pa.float32()),
            }
        )
        path = self.folder / "selection.parquet"
        self._check()
        files.write_table(table, path)
        return path

    def _check(self) -> None:
        if self.lock is not None:
            self.lock.check()


def manifest(config: Config, problem: Problem, precision: str) -> dict[str, Any]:
    """What the results depend on besides the configuration: versions, data, machine, code."""
    return {
        "seed": config.seed,
        "keys_set": loading.keys_set(config),
        "own_sources": rules.own_sources(config),
        "data": {
            "name": config.data.name,
            "fingerprint": problem.fingerprint,
            "pool_fingerprint": problem.given_fingerprint,
            **({} if problem.streamed is None else {"pool_files": problem.streamed.fingerprint}),
            "classes": list(problem.class_names),
            ("vector_shape" if problem.of_vectors else "image_shape"): list(problem.shape),
        },
        "round": {"number": config.round.number, "after": _resolved(config.round.after)},
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "precision": precision,
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _resolved(folder: str | None) -> str | None:
    return None if folder is None else str(Path(folder).expanduser().resolve())


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # not installed as a distribution: run from a source folder
        return None


def _git_revision() -> str | None:
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
