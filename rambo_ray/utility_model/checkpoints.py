"""Checkpoints of a fit on disk: found again by all that the fit depends on, and not taken on trust.

A fit has a folder, in it a folder for each outer epoch that is kept, in that the state (`fitting.State`) in torch's
format: a zip archive, whose checksums torch writes and does not look at. They are looked at here. Where a fit ran
under Ray Train its own list of the checkpoints is beside them; it is not written at once, so a kill may tear it.

A fit whose files are damaged is set aside as a whole, and fitted again to the same bits.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch

from rambo_ray import files
from rambo_ray.utility_model import fitting
from rambo_ray.utility_model.fitting import FitInput, FitResult, State
from rambo_ray.utility_model.quadratic import QuadraticInput

STATE = "state.pt"
LIST = "checkpoint_manager_snapshot.json"
"""Ray Train's list of the checkpoints."""


class Damaged(ValueError):
    """A checkpoint that is not what was written; the text says why."""


def identity(task: FitInput) -> str:
    """Hash of all that a fit depends on, hexadecimal."""
    rule = [fitting.RULE] if fitting.RULE != 1 else []  # fits from before there was one stay
    content = [task.config.model_dump(), task.seed, task.nested_sets, *rule]
    digest = hashlib.sha256(json.dumps(content).encode())
    digest.update(np.ascontiguousarray(task.images).tobytes())
    digest.update(np.asarray(task.nested_utilities, dtype=np.float64).tobytes())
    for pairs in (task.offline, *task.interpolation):
        digest.update(json.dumps([pairs.first, pairs.second]).encode())
        digest.update(pairs.utility.tobytes() + pairs.otdd.tobytes())
    return digest.hexdigest()


def name(task: FitInput) -> str:
    """The name of a fit's folder."""
    return f"fit-{identity(task)[:16]}"


def of_epoch(iteration: int, epoch: int) -> str:
    """The name of an outer epoch's folder in a fit's."""
    return f"iteration_{iteration + 1:02d}_epoch_{epoch:03d}"


def last(task: FitInput, folder: Path) -> Path:
    """Where the state is after which there is nothing more to compute."""
    return folder / of_epoch(len(task.interpolation) - 1, task.config.outer_epochs - 1) / STATE


def write(state: State, path: Path) -> None:
    """Write a state, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    files.make_folder(path.parent)
    with files.replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def read(path: Path, device: str = "cpu") -> State:
    """The state that `write` or torch wrote. Raises Damaged for another; FileNotFoundError where there is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
        if wrong is not None:
            raise Damaged(f"{path}: the checksum of {wrong} is another")
        state = torch.load(path, map_location=device, weights_only=True)
    except (FileNotFoundError, Damaged):
        raise
    except Exception as error:  # what a damaged archive raises is not said anywhere
        raise Damaged(f"{path}: {' '.join(str(error).split())[:120] or type(error).__name__}") from error
    if not isinstance(state, dict):
        raise Damaged(f"{path}: holds a {type(state).__name__}")
    return state


def finished(task: FitInput, folder: Path) -> FitResult | None:
    """What the last checkpoint of a whole fit holds: resuming from it leaves nothing to compute.

    None where there is none, or none that is whole.
    """
    try:
        return fitting.fit(task, resume_from=read(last(task, folder)))
    except (FileNotFoundError, Damaged):
        return None


def made(task: FitInput | QuadraticInput, storage: Path) -> str | None:
    """When a fit in `storage` was finished, ISO 8601 in UTC; None where it is not, or leaves nothing there."""
    if isinstance(task, QuadraticInput):
        return None
    try:
        written = last(task, storage / name(task)).stat().st_mtime
    except OSError:
        return None
    return datetime.fromtimestamp(written, timezone.utc).isoformat(timespec="seconds")


def mend(task: FitInput, folder: Path, say: Callable[[str], None]) -> None:
    """Set the fit in `folder` aside where its files are damaged, and say so: it is then fitted again."""
    try:
        check(task, folder)
    except Damaged as error:
        abandon(folder, str(error), say)


def abandon(folder: Path, why: str, say: Callable[[str], None]) -> None:
    """Set a fit aside, and say so."""
    aside = files.set_aside(folder)
    say(f"a checkpoint of the fit of u_hat is damaged ({why}); the fit is made again, and the files are {aside}")


def check(task: FitInput, folder: Path) -> None:
    """Raises Damaged where a fit cannot go on from what is in its folder.

    What Ray Train's list does not name was being written when a run was killed: it is no damage, and written again.
    """
    if (folder / LIST).is_file():
        listed = _listed(folder / LIST)
    else:
        whole = last(task, folder)
        listed = [whole.parent.name] if whole.is_file() else []
    for each in listed:
        try:
            read(folder / each / STATE)
        except FileNotFoundError as error:
            raise Damaged(f"{folder / each / STATE} is not there") from error


def _listed(path: Path) -> list[str]:
    """The names of the checkpoints in Ray Train's list."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = [str(each["checkpoint_dir_name"]) for each in content["checkpoint_results"]]
        latest = content["latest_checkpoint_result"]
        whole = (
            len(content["checkpoint_report_indices"]) == len(names)
            and isinstance(content["current_report_index"], int)
            and (latest is None or latest["checkpoint_dir_name"] in names)
            and all(Path(each).name == each for each in names)
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{path}: {' '.join(str(error).split())[:120]}") from error
    if not whole:
        raise Damaged(f"{path}: it contradicts itself")
    return names
