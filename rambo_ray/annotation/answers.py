"""What annotators say of images, and `labels.jsonl`, the file in which `rambo label` keeps it.

A line is one JSON object in UTF-8 and says one thing that one annotator did:

    {"id": "cat/7.png", "label": "cat", "rejected": false, "skipped": false, "undo": false,
     "annotator": "mia", "at": "2026-11-27T10:22:01.500Z"}

    id         of the image, as selection.parquet has it
    label      the name of a class, or null
    rejected   true: the image belongs to none of the classes
    skipped    true: passed over, which is no answer
    undo       true: what this annotator said of this image before is taken back
    annotator  who; "" where nobody said
    at         when, ISO 8601 in UTC

Exactly one of a label, `rejected`, `skipped` and `undo` is there. Lines are only ever appended; a later line of an
annotator overrides the earlier ones of the same image. Other keys are passed over. A last line without its line
break was cut off while it was written: nobody was told that it is safe, so it counts for nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rambo_ray import files
from rambo_ray.data import places
from rambo_ray.errors import UserError

LABELS = "labels.jsonl"


@dataclass(frozen=True)
class Answer:
    """What one annotator did about the image `id`; raises ValueError unless it is exactly one thing."""

    id: str
    label: str | None
    annotator: str = ""
    at: str = ""
    rejected: bool = False
    skipped: bool = False
    undo: bool = False

    def __post_init__(self) -> None:
        said = (self.label is not None) + self.rejected + self.skipped + self.undo
        if said != 1:
            raise ValueError("must say exactly one of label, rejected, skipped and undo")

    @property
    def given(self) -> bool:
        """Whether it says what the image is: a class, or none of them."""
        return self.label is not None or self.rejected


@dataclass(frozen=True)
class Log:
    """All lines of a file, and its torn last line, None where it ends well."""

    answers: tuple[Answer, ...]
    torn: str | None = None


def now() -> str:
    """The time as `Answer.at` has it, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_line(answer: Answer) -> str:
    """The answer as a line of labels.jsonl, with its line break."""
    content = {
        "id": answer.id,
        "label": answer.label,
        "rejected": answer.rejected,
        "skipped": answer.skipped,
        "undo": answer.undo,
        "annotator": answer.annotator,
        "at": answer.at,
    }
    return json.dumps(content, ensure_ascii=False) + "\n"


def read(path: str | os.PathLike[str]) -> Log:
    """The answers in a labels.jsonl, in the order said.

    Raises UserError that names the line for any but the last that is none.
    """
    content = _bytes(path)
    whole = content.rfind(b"\n") + 1
    answers = []
    for number, line in enumerate(content[:whole].split(b"\n")[:-1], start=1):
        try:
            answers.append(_from_json(files.from_json(line)))
        except (ValueError, TypeError, KeyError) as error:
            reason = f"no key {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:120]
            raise UserError(f"{path} line {number}: is no answer ({reason}); correct or remove the line") from error
    return Log(tuple(answers), content[whole:].decode("utf-8", "replace") or None)


def standing(answers: Iterable[Answer]) -> list[Answer]:
    """The last word of each annotator on each image, in the order of first mention; what was taken back is gone."""
    last: dict[tuple[str, str], Answer] = {}
    for answer in answers:
        last[answer.annotator, answer.id] = answer
    return [answer for answer in last.values() if not answer.undo]


class Writer:
    """Appends answers to a labels.jsonl; several processes may do so at once.

    torn: the cut-off last line that was found and dropped, None where the file ended well.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open `path`, made if need be. Raises UserError where it cannot be written."""
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}; give a folder you can write to") from error
        self.torn: str | None = None
        folder = os.open(Path(path).absolute().parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # a new file's name is in its folder
        finally:
            os.close(folder)
        self._locked(lambda: None)

    def append(self, answer: Answer) -> None:
        """Write one answer; it is on the disk when this returns."""
        line = to_line(answer).encode()

        def write() -> None:
            if os.write(self._file, line) != len(line):
                raise OSError("the disk is full")
            os.fsync(self._file)

        self._locked(write)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _locked(self, work: Any) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            self._drop_torn()
            work()
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _drop_torn(self) -> None:
        """Under the lock nobody is in the middle of a line: one without its end is left by a crash."""
        size = os.fstat(self._file).st_size
        if size == 0 or os.pread(self._file, 1, size - 1) == b"\n":
            return
        content = os.pread(self._file, size, 0)
        whole = content.rfind(b"\n") + 1
        self.torn = content[whole:].decode("utf-8", "replace")
        os.ftruncate(self._file, whole)


def _bytes(path: str | os.PathLike[str]) -> bytes:
    try:
        return places.is_to_be_read(Path(path)).read_bytes()
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give the file of the annotators' answers") from error


def _from_json(content: Any) -> Answer:
    if not isinstance(content, dict):
        raise TypeError("not a JSON object")
    answer = {"label": None, "annotator": "", "at": "", "rejected": False, "skipped": False, "undo": False, **content}
    for name in ("id", "annotator", "at"):
        if not isinstance(answer[name], str):
            raise TypeError(f"{name} is no string")
    for name in ("rejected", "skipped", "undo"):
        if not isinstance(answer[name], bool):
            raise TypeError(f"{name} is neither true nor false")
    if not (answer["label"] is None or isinstance(answer["label"], str)):
        raise TypeError("label is no string")
    return Answer(**{name: answer[name] for name in ("id", "label", "annotator", "at", "rejected", "skipped", "undo")})
