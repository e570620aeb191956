"""Whose an output directory is: what may go on there, and what an earlier run has left that no longer belongs.

A selection never stands beside a configuration that it was not made by. What a finished run has made is moved to
`earlier/1`, `earlier/2`, ... before the new config.yaml is written: the selection first, and the copy of the old
config.yaml last, which says that the move is whole. Killed anywhere in between, the directory is that of the old
run, whole or unfinished, and the next claim goes on with the move.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from rambo_ray import files, locks, run_log, submitted
from rambo_ray.annotation import tenancy
from rambo_ray.annotation.answers import LABELS
from rambo_ray.annotation.record import ANNOTATIONS
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data.problem import Problem
from rambo_ray.errors import UserError
from rambo_ray.pipeline import rules

EARLIER = "earlier"
"""Below an output directory: what earlier runs have made there."""

CONFIG, SPACE = "config.yaml", "space.yaml"

# What a run or a sweep makes of its samples and fits, in the order in which it is moved away.
_MADE = ("selection.parquet", "selection.csv", "report.html", "metrics.json", "manifest.json", "data.json",
         "utility_model.safetensors", "utility_model.json",
         "best.yaml", "sweep.parquet", "sweep.csv")  # fmt: skip

# What is written before anything is computed.
_AT_THE_DOOR = (CONFIG, SPACE, "data.json", run_log.NAME)

# What a run may change and still go on in the same directory: nothing that its stored utility
# samples' trainings, or the split their positions refer to, depend on.
_MAY_DIFFER = ("cluster.", "output.", "acquisition.", "utility_model.", "utility_samples.num_", "utility_samples.otdd_")
_MAY_DIFFER_TOO = ("data.root", "data.download", "data.stream", "pretraining.num_interpolated", "classifier.kernels",
                   "utility_samples.repeats")  # fmt: skip
_MUST_AGREE = ("cluster.reproducible",)

# What may change and the selection stays what it is. A method's name only says what other keys are.
_SAME_SELECTION = ("cluster.", "output.", "data.root", "data.download", "method")


def resolved(folder: str | os.PathLike[str]) -> Path:
    """The directory that `--output` names. Raises UserError where there can be none, or where it would not last."""
    if not str(folder).strip():
        raise UserError("--output '': empty; give a directory")
    submitted.refuse_copy("--output", folder)
    try:
        path = Path(folder).expanduser().resolve()
        path.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # no such user's home, links in a circle; a null character
        raise _no_directory(folder, error) from error
    return path


def make(path: Path) -> None:
    """Make the directory if need be. Raises UserError where nothing can be written there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = files.temporary_name(path / CONFIG)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _no_directory(path, error) from error


def refuse_early(folder: str | os.PathLike[str]) -> None:
    """Raises UserError where a claim cannot succeed; looks only, and at once: reading the data may take minutes."""
    path = resolved(folder)
    try:
        there = next(each for each in (path, *path.parents) if each.exists())
    except OSError as error:
        raise _no_directory(folder, error) from error
    if not os.access(there, os.W_OK):
        number = errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES
        raise _no_directory(folder, OSError(number, os.strerror(number)))
    locks.refuse_held(path / locks.RUN)


def _no_directory(folder: str | os.PathLike[str], error: Exception) -> UserError:
    reason = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
    return UserError(f"--output {folder}: {reason}; give a directory you can write to")


def is_nobodys(path: Path) -> bool:
    """Whether a directory is empty, but for what a command killed at its very beginning has left."""
    return not path.is_dir() or all(each.name == locks.RUN or files.is_temporary(each) for each in path.iterdir())


def withdraw(path: Path) -> None:
    """Leave a directory in which nothing has been made yet as it was found, for the corrected command."""
    if all(each.name in (*_AT_THE_DOOR, locks.RUN) or files.is_temporary(each) for each in path.iterdir()):
        for name in _AT_THE_DOOR:
            (path / name).unlink(missing_ok=True)


def check(path: Path, config: Config, space: str | None, problem: Problem | None) -> bool:
    """Whether what was made in `path` no longer belongs there; False, too, where nothing was.

    Raises UserError where a run of `config`, or a sweep with `space`, may not go on; touches nothing.
    """
    try:
        holds_run, is_free = (path / CONFIG).is_file(), is_nobodys(path)
    except OSError as error:
        raise _no_directory(path, error) from error
    if not holds_run:
        if not is_free:
            raise UserError(f"--output {path}: not empty and not a run's directory; give another one")
        return False
    if (path / SPACE).is_file() != (space is not None):
        held, wanted = ("sweep", "run") if space is None else ("run", "sweep")
        raise UserError(f"--output {path}: holds a {held}, not a {wanted}; give another directory")
    try:
        earlier = loading.read_stored(path / CONFIG)
    except UserError as error:
        raise UserError(
            f"--output {path}: its config.yaml is not of this version ({error}); give another directory"
        ) from error
    if _only_claimed(path, earlier):
        return False
    if earlier.round != config.round:
        held = f"round {earlier.round.number}{_after(earlier)}, and this is round {config.round.number}"
        raise UserError(
            f"--output {path}: holds {held}{_after(config)}; every round has its own directory: give another"
        )
    differing = loading.differences(earlier, config)
    keys = [
        key for key in differing if not key.startswith(_MAY_DIFFER) and key not in _MAY_DIFFER_TOO or key in _MUST_AGREE
    ]
    if keys and keys != ["method"]:  # alone it only says what other keys are, and these agree
        first, second = (_shown(loading.flatten(each)[keys[0]]) for each in (earlier, config))
        raise UserError(
            f"--output {path}: holds a run with {keys[0]}={first}, this one has {second}; "
            "give another directory or the same value"
        )
    changed = [key for key in differing if not key.startswith(_SAME_SELECTION)]
    if space is not None and space != (path / SPACE).read_text(encoding="utf-8"):
        changed.append("--space")
    changed += _made_otherwise(path, config, problem)
    _check_answers(path, changed)
    return bool(changed)


def _only_claimed(path: Path, config: Config) -> bool:
    """Whether a run of `config` began in `path` and ended before anything was computed: the next may be another.

    A config.yaml that somebody has written there by hand is none that a run has left.
    """
    if (path / CONFIG).read_text(encoding="utf-8") != loading.dump(config):
        return False
    left = (each for each in path.rglob("*") if not each.is_dir() and not files.is_temporary(each))
    return all(each.parent == path and each.name in (*_AT_THE_DOOR, locks.RUN) for each in left)


def _made_otherwise(path: Path, config: Config, problem: Problem | None) -> list[str]:
    """What the run that has finished in `path` had otherwise beside its configuration: its pool, a user's code.

    Raises UserError where it was on other labelled images.
    """
    if not (path / "manifest.json").is_file():
        return []
    try:
        content = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        data, sources = content["data"], dict(content.get("own_sources", {}))
        labelled, pool, listed = data["fingerprint"], data["pool_fingerprint"], data.get("pool_files")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # of no use to anyone: it is written again
        return []
    now = rules.own_sources(config)
    values = loading.flatten(config)
    edited = [key for key in now if key in sources and sources[key] != now[key]]
    found = [f"the code of {key}={_shown(values[key])}" for key in edited]
    if problem is None:
        return found
    if labelled != problem.fingerprint:
        raise UserError(
            f"--output {path}: holds a finished run on other images, labelled or for validation; give another "
            f"directory (and, where its answers have joined the labelled images: --round 2 --after {path})"
        )
    if problem.streamed is not None:  # what is in it is known after a pass over it; an earlier version kept no list
        changed = listed is not None and listed != problem.streamed.fingerprint
    else:
        changed = pool != problem.given_fingerprint
    return [*found, "the pool"] if changed else found


def _check_answers(path: Path, changed: list[str]) -> None:
    """Raises UserError where people answer, or have answered, a choice that a run would make anew."""
    if not changed:
        return
    answered = next((name for name in (ANNOTATIONS, LABELS) if (path / name).is_file()), None)
    if answered is not None:
        raise UserError(
            f"--output {path}: {answered} answers its choice of images, and {changed[0]} may lead to another; give "
            "another directory"
        )
    tenancy.refuse_served(path)


def check_other(path: Path, mark: str, what: str) -> None:
    """Raises UserError where a directory is not that of a `what`, whose file `mark` is, nor free."""
    try:
        if (path / CONFIG).is_file():
            raise UserError(f"--output {path}: holds a run or a sweep, not a {what}; give another directory")
        if not (path / mark).is_file() and not is_nobodys(path):
            raise UserError(f"--output {path}: not empty and not a {what}'s directory; give another one")
    except OSError as error:
        raise _no_directory(path, error) from error


def retired(path: Path, made: Sequence[str] = _MADE, marks: Sequence[str] = (SPACE, CONFIG)) -> tuple[str, ...]:
    """Move what was made in `path` below `earlier/`, with copies of what it was made by; returns what to say of it.

    marks: the files that say by what it was made; the last of them is copied last.
    """
    there = [name for name in made if (path / name).is_file()]
    there += sorted(each.name for each in path.glob("*.png") if each.name not in there)
    begun = _unfinished(path, marks[-1])
    if not there and begun is None:
        return ()
    place = begun or path / EARLIER / str(max(_numbered(path), default=0) + 1)
    with files.writing(place):
        place.mkdir(parents=True, exist_ok=True)
        for name in there:
            os.replace(path / name, place / name)
        files.sync_folder(place)
        files.sync_folder(path)
    for name in marks:
        if (path / name).is_file():
            with files.replacing(place / name) as temporary:
                shutil.copyfile(path / name, temporary)
    return (f"what was made here before, by other settings or of another pool, is in {place}",)


def _numbered(path: Path) -> list[int]:
    folder = path / EARLIER
    return sorted(int(each.name) for each in folder.iterdir() if each.name.isdigit()) if folder.is_dir() else []


def _unfinished(path: Path, mark: str) -> Path | None:
    """Where an earlier claim was moving things to when it was killed."""
    numbers = _numbered(path)
    last = path / EARLIER / str(numbers[-1]) if numbers else None
    return last if last is not None and not (last / mark).is_file() else None


def _after(config: Config) -> str:
    return "" if config.round.after is None else f" after {config.round.after}"


def _shown(value: object) -> str:
    """A value as it is typed in an override, in one line."""
    return "null" if value is None else " ".join(str(value).split())
