"""The files of a run, and the check that an output directory belongs to the run that wants it.

    selection.parquet   id, pool_index, order, step, margin, utility: the images to annotate; also as selection.csv
    utility_samples/    see `rambo_ray.utility_samples.store`
    utility_model.*     see `rambo_ray.utility_model.network`
    metrics.json, config.yaml, manifest.json, report.html

Every file is written under a temporary name and renamed. `config.yaml` is written first: it is how
a later run knows whether it may continue here.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rambo_ray.acquisition.greedy import Selection
from rambo_ray.annotation.answers import LABELS
from rambo_ray.annotation.record import ANNOTATIONS
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data.problem import Problem
from rambo_ray.errors import UserError
from rambo_ray.files import finite, replacing, write_table

PACKAGES = ("rambo-ray", "ray", "torch", "torchvision", "numpy", "pyarrow", "POT", "scikit-learn", "safetensors")

# What a run may change and still go on in the same directory: nothing that its stored utility
# samples' trainings, or the split their positions refer to, depend on.
_MAY_DIFFER = ("cluster.", "output.", "acquisition.", "utility_model.", "utility_samples.num_", "utility_samples.otdd_")
_MAY_DIFFER_TOO = ("data.root", "data.download", "data.stream", "pretraining.num_interpolated", "classifier.kernels",
                   "utility_samples.repeats")  # fmt: skip
_MUST_AGREE = ("cluster.reproducible",)


@dataclass(frozen=True)
class Output:
    """An output directory."""

    folder: Path

    @classmethod
    def claim(
        cls,
        folder: str | os.PathLike[str],
        config: Config,
        space: str | None = None,
        problem: Problem | None = None,
    ) -> Output:
        """The directory for this run, made if need be, with its config.yaml; for a sweep also its space.yaml.

        Raises UserError where another run's or sweep's results are, a finished run on other data than `problem` or
        another choice that annotators have answered, or nothing can be written; nothing is touched then.
        """
        try:
            path = Path(folder).expanduser().resolve()
            known = path / "config.yaml"
            holds_run, holds_anything = known.is_file(), path.is_dir() and any(path.iterdir())
        except (OSError, RuntimeError) as error:  # RuntimeError: no such user's home, links in a circle
            reason = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
            raise UserError(f"--output {folder}: {reason}; give a directory you can write to") from error
        if holds_run:
            if (path / "space.yaml").is_file() != (space is not None):
                held, wanted = ("sweep", "run") if space is None else ("run", "sweep")
                raise UserError(f"--output {path}: holds a {held}, not a {wanted}; give another directory")
            try:
                earlier = loading.read_stored(known)
            except UserError as error:
                raise UserError(f"--output {path}: its config.yaml is not of this version ({error})") from error
            if earlier.round != config.round:
                held = f"round {earlier.round.number}{_after(earlier)}, and this is round {config.round.number}"
                raise UserError(
                    f"--output {path}: holds {held}{_after(config)}; every round has its own directory: give another"
                )
            keys = [
                key
                for key in loading.differences(earlier, config)
                if not key.startswith(_MAY_DIFFER) and key not in _MAY_DIFFER_TOO or key in _MUST_AGREE
            ]
            if keys and keys != ["method"]:  # alone it only says what other keys are, and these agree
                first, second = (_shown(loading.flatten(each)[keys[0]]) for each in (earlier, config))
                raise UserError(
                    f"--output {path}: holds a run with {keys[0]}={first}, this one has {second}; "
                    "give another directory or the same value"
                )
            _check_finished(path, earlier, config, problem)
        elif holds_anything:
            raise UserError(f"--output {path}: not empty and not a run's directory; give another one")
        output = cls(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            if space is not None:
                output.write_text("space.yaml", space)
            output.write_text("config.yaml", loading.dump(config))
        except OSError as error:
            raise UserError(f"--output {path}: {error.strerror}; give a directory you can write to") from error
        return output

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file into the directory, whole or not at all."""
        path = self.folder / name
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
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
        write_table(table, path)
        return path


def _check_finished(path: Path, earlier: Config, config: Config, problem: Problem | None) -> None:
    """Raise UserError where a run has finished that this one would put out of reach: its images, or its answers."""
    if problem is not None and (path / "manifest.json").is_file():
        data = json.loads((path / "manifest.json").read_text(encoding="utf-8")).get("data", {})
        if (data.get("fingerprint"), data.get("pool_fingerprint")) != (problem.fingerprint, problem.pool_fingerprint):
            raise UserError(
                f"--output {path}: holds a finished run on other images, which would be overwritten; give another "
                f"directory (and, where its answers have joined the labelled images: --round 2 --after {path})"
            )
    answered = next((name for name in (ANNOTATIONS, LABELS) if (path / name).is_file()), None)
    changed = [key for key in loading.differences(earlier, config) if not key.startswith(("cluster.", "output."))]
    if answered is not None and changed and changed != ["method"]:
        raise UserError(
            f"--output {path}: {answered} answers its choice of images, and {changed[0]} may lead to another; give "
            "another directory"
        )


def manifest(config: Config, problem: Problem, precision: str) -> dict[str, Any]:
    """What the results depend on besides the configuration: versions, data, machine, code."""
    return {
        "seed": config.seed,
        "keys_set": loading.keys_set(config),
        "data": {
            "name": config.data.name,
            "fingerprint": problem.fingerprint,
            "pool_fingerprint": problem.given_fingerprint,
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


def _after(config: Config) -> str:
    return "" if config.round.after is None else f" after {config.round.after}"


def _resolved(folder: str | None) -> str | None:
    return None if folder is None else str(Path(folder).expanduser().resolve())


def _shown(value: object) -> str:
    """A value as it is typed in an override, in one line."""
    return "null" if value is None else " ".join(str(value).split())


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
